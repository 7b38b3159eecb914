//! `anser compare`: its object, its table and its picture.

use crate::harness::{fixture, run};
use std::ffi::OsString;

fn arguments(models: [&str; 2], options: &[&str]) -> Vec<OsString> {
    let models = models.map(|model| if model == "demo" { model.into() } else { fixture(model).into_os_string() });
    let text = ["--file".into(), fixture("expected/perplexity.txt").into_os_string()];
    let options = options.iter().map(|&option| option.into());
    ["compare".into()].into_iter().chain(models).chain(text).chain(options).collect()
}

const SHORT: [&str; 4] = ["--chunk", "60", "--chunks", "2"];

#[test]
fn a_quantized_model_beside_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("errors.svg");
    let models = ["unpacked/demo-f16.gguf", "unpacked/demo-q4_k_m.gguf"];
    let options = [&SHORT[..], &["--json", "--exact", "--plot", plot.to_str().unwrap()]].concat();
    let report = run(&arguments(models, &options)).json();
    assert_eq!(report["n_compared"], 118);
    let kl = |which: &str| report["kl"][which].as_f64().unwrap();
    assert!(kl("mean") > 0.0 && kl("median") <= kl("p99") && kl("p99") <= kl("max"), "{report}");
    let weights = report["weights"].as_array().unwrap();
    let key = weights.iter().find(|weight| weight["name"] == "blocks.2.ffn.key.weight").unwrap();
    assert_eq!((&key["type_a"], &key["type_b"], &key["shape"]), (&"F16".into(), &"Q4_K".into(), &[1024, 256].into()));
    assert!(key["relative_error"].as_f64().unwrap() > 0.01);
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains(">ffn.key.weight</text>") && svg.contains("demo-q4_k_m.gguf beside demo-f16.gguf"), "{svg}");

    let table = run(&arguments(models, &SHORT)).text();
    assert!(table.contains("KL divergence") && table.contains("ffn.key.weight"), "{table}");
    // A model beside itself.
    let report = run(&arguments(["demo", "demo"], &[&SHORT[..], &["--json"]].concat())).json();
    assert_eq!((&report["kl"]["max"], &report["same_top"]), (&0.0.into(), &1.0.into()));
    assert_eq!(report["a"]["perplexity"], report["b"]["perplexity"]);
}

#[test]
fn what_cannot_be_compared_is_told() {
    let model = "unpacked/formats/gguf/rwkv6qwen2.gguf";
    let told = run(&arguments(["demo", model], &SHORT)).failure(1);
    assert!(told.contains("rwkv6qwen2.gguf"), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("m.gguf");
    std::fs::copy(fixture("tiny/tiny-v7mini-f16.gguf"), &copy).unwrap();
    let copy = copy.to_str().unwrap();
    let text = fixture("expected/perplexity.txt");
    let told = run(&["compare", "demo", copy, "--file", text.to_str().unwrap(), "--plot", copy]).failure(1);
    assert!(told.contains("that is read"), "{told}");
}
