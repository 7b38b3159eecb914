//! `anser quantize --size` and `--target-kl`: files within their bounds, and nearer to the model than llama-quantize's mixes.

use crate::harness::{fixture, run};
use serde_json::Value;
use std::ffi::OsString;
use std::path::Path;

fn arguments(out: &Path, options: &[&str]) -> Vec<OsString> {
    let fixed = ["quantize".into(), fixture("unpacked/demo-f16.gguf").into_os_string(), out.into(), "--json".into()];
    fixed.into_iter().chain(options.iter().map(|&option| option.into())).collect()
}

/// Mean divergence of a file from the model, on the first pieces of the held-out text.
fn divergence(model: &Path) -> f64 {
    let text = fixture("expected/perplexity.txt");
    let arguments: [OsString; 10] = [
        "compare".into(),
        fixture("unpacked/demo-f16.gguf").into(),
        model.into(),
        "--file".into(),
        text.into(),
        "--json".into(),
        "--exact".into(),
        "--chunk=64".into(),
        "--chunks=3".into(),
        "--device=cpu".into(),
    ];
    run(&arguments).json()["kl"]["mean"].as_f64().unwrap()
}

fn n_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// A text unlike the held-out one in all but its kind.
const CALIBRATION: &str = "Once upon a time there was a small fox who lived near the river. One day the fox found a red ball in the grass.\n\n\
    User: What is 17 + 26?\n\nAssistant: 17 + 26 is 43.\n\nUser: Tell me a story about a bear.\n\nAssistant: Once there was a bear.\n\n";

#[test]
fn a_mix_of_its_own_is_nearer_to_the_model_at_the_same_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = path("text.txt");
    std::fs::write(&text, CALIBRATION).unwrap();
    let theirs = fixture("unpacked/demo-q4_k_m.gguf");
    let size = n_bytes(&theirs).to_string();
    let a = path("a.gguf");
    let options = ["--size", &size, "--calibrate", text.to_str().unwrap(), "--calibrate-tokens", "16"];
    let report = run(&arguments(&a, &options)).json();
    assert_eq!(report["n_bytes"], n_bytes(&a));
    assert!(n_bytes(&a) <= n_bytes(&theirs), "{} beside {size}", n_bytes(&a));
    assert!(report["measured_kl"].as_f64().unwrap() > 0.0 && report["expected_kl"].as_f64().unwrap() > 0.0);
    let (ours, theirs) = (divergence(&a), divergence(&theirs));
    assert!(ours < theirs, "{ours} beside {theirs}");
}

#[test]
fn without_a_text_a_mix_is_within_its_size_and_the_same_in_every_run() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a.gguf", "b.gguf"].map(|name| folder.path().join(name));
    let report = run(&arguments(&a, &["--size", "26M"])).json();
    assert_eq!((&report["measured_kl"], &report["n_bytes"]), (&Value::Null, &n_bytes(&a).into()));
    assert!(n_bytes(&a) <= 26 << 20);
    assert_eq!(run(&arguments(&b, &["--size", "26M"])).json(), report);
    assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
}

/// The target is what another mix was measured to have: that one fits in its size, so that as few bytes reach the target.
#[test]
fn a_target_is_reached_by_measurement() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (model, text) = (fixture("tiny/tiny-v7mini-f16.gguf"), path("text.txt"));
    std::fs::write(&text, CALIBRATION).unwrap();
    let mix = |out: &Path, option: String| {
        let fixed = ["quantize".into(), model.clone().into_os_string(), out.into(), "--json".into(), option.into()];
        let text = ["--calibrate".into(), text.clone().into_os_string()];
        run(&fixed.into_iter().chain(text).collect::<Vec<OsString>>()).json()
    };
    let kl = |report: &Value| report["measured_kl"].as_f64().unwrap();
    let [of_size, of_target, none] = ["size.gguf", "target.gguf", "none.gguf"].map(path);
    let size = n_bytes(&model) * 55 / 100;
    let expected = mix(&of_size, format!("--size={size}"));
    let target = kl(&expected);
    assert!(target > 0.0 && n_bytes(&of_size) <= size, "{expected}");
    let found = mix(&of_target, format!("--target-kl={target}"));
    assert!(kl(&found) <= target && kl(&found) > 0.5 * target, "{found} for {target}");
    // Sums of single costs are not quite what whole mixes cost.
    assert!(n_bytes(&of_target) <= size * 103 / 100, "{} beside {size}", n_bytes(&of_target));
    // A target that only the source itself reaches.
    assert_eq!(kl(&mix(&none, "--target-kl=1e-12".into())), 0.0);
}

#[test]
fn mixes_that_cannot_be_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    for (code, options, words) in [
        (2, &["--size", "1M"][..], "the smallest file"),
        (2, &["--size", "0"], "--size"),
        (2, &["--size", "30M", "--type", "Q4_K_M"], "--type"),
        (2, &["--target-kl", "0.1"], "--calibrate"),
        (2, &["--size", "30M", "--tensor", "output.weight=Q8_0"], "--tensor"),
        (1, &["--size", "30M", "--calibrate", "/no/such.txt"], "/no/such.txt"),
        (2, &[], "--type"),
    ] {
        let told = run(&arguments(&out, options)).failure(code);
        assert!(told.contains(words), "{words:?} is not in: {told}");
        assert!(!out.exists(), "{options:?}");
    }
    // What is quantized already is refused.
    let input = fixture("unpacked/demo-q4_k_m.gguf");
    let told = run(&["quantize".as_ref(), input.as_os_str(), out.as_os_str(), "--size=20M".as_ref()]).failure(1);
    assert!(told.contains("--allow-requantize"), "{told}");
}
