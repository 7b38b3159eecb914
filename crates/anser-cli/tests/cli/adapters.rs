//! `--lora`, `anser convert --lora`, heads of `anser embed`, and `anser rerank`.

use crate::harness::{fixture, floats, run, run_with};
use serde_json::{Value, json};
use std::ffi::OsString;

fn formats(name: &str) -> OsString {
    fixture("unpacked/formats").join(name).into()
}

fn arguments(before: &[&str], model: OsString, after: &[&str]) -> Vec<OsString> {
    let own = |texts: &[&str]| texts.iter().map(|&text| OsString::from(text)).collect::<Vec<_>>();
    [own(before), vec!["-m".into(), model], own(after)].concat()
}

/// The logits of all 80 tokens, by id.
fn logits(model: OsString, after: &[&str]) -> Vec<f64> {
    let after = [&["--tokens", "1,2,3,50,79", "--top", "80", "--exact"], after].concat();
    let top = run(&arguments(&["logits"], model, &after)).json()["top"].clone();
    let mut pairs: Vec<(u32, f64)> = serde_json::from_value(top).unwrap();
    pairs.sort_by_key(|&(id, _)| id);
    assert_eq!(pairs.len(), 80);
    pairs.into_iter().map(|(_, logit)| logit).collect()
}

fn max_abs(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_converted_model_with_an_adapter_is_the_model_with_it_at_load() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = formats("tuned/f7-lora-vectors.pth").into_string().unwrap();
    let (whole, half) = (format!("{adapter}:alpha=12"), format!("{adapter}:alpha=12:0.5"));
    let base = || formats("gguf/f7-f16.gguf");
    let merged = logits(base(), &["--lora", &whole]);
    assert!(max_abs(&merged, &logits(base(), &[])) > 0.1, "the adapter changes the logits");
    let twice = logits(base(), &["--lora", &half, "--lora", &format!("{adapter}:alpha=12:0")]);
    assert!(max_abs(&twice, &logits(base(), &["--lora", &half])) < 1e-4, "a scale of 0 changes nothing");
    for (name, more) in [("out.gguf", &["--vocab", "none"][..]), ("out.st", &[])] {
        let output = folder.path().join(name);
        let mut convert: Vec<OsString> =
            vec!["convert".into(), base(), output.clone().into(), "--lora".into(), whole.clone().into()];
        convert.extend(more.iter().map(OsString::from));
        assert_eq!(run(&convert).text(), "");
        // web-rwkv's layout has vectors in F16.
        let error = max_abs(&logits(output.into(), &[]), &merged);
        assert!(error < 0.01, "{name}: {error}");
    }
    let output: OsString = folder.path().join("beside.gguf").into();
    let beside = format!("{whole}:beside");
    let convert = ["convert".into(), base(), output, "--lora".into(), beside.into(), "--vocab".into(), "none".into()];
    let failed = run(&convert).failure(2);
    assert!(failed.contains("leave :beside out"), "{failed}");
    let failed = run(&arguments(&["logits"], base(), &["--tokens", "1", "--lora", &adapter])).failure(1);
    assert!(failed.contains("f7-lora-vectors.pth") && failed.contains("alpha=A"), "{failed}");
    let failed = run(&arguments(&["logits"], base(), &["--tokens", "1", "--lora", "x:alpha=y"])).failure(2);
    assert!(failed.contains("alpha=y"), "{failed}");
}

#[test]
fn documents_are_ranked_and_embedded_by_heads() {
    let folder = tempfile::tempdir().unwrap();
    let model = || formats("emb/e7-emb.pth");
    let reranker = formats("emb/e7-reranker.pth").into_string().unwrap();
    let rank = ["--reranker", &reranker, "--query", "Where do foxes live?"];
    let documents = ["Foxes live in the hills.", "17 + 26 = 43", "A dog"];
    let lines = |text: String| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let found = lines(run(&arguments(&["rerank"], model(), &[&rank, &["--json"][..], &documents].concat())).text());
    assert_eq!(found.len(), 3);
    assert!(found.windows(2).all(|pair| pair[0]["relevance_score"].as_f64() >= pair[1]["relevance_score"].as_f64()));
    for row in &found {
        assert_eq!(row["document"], documents[row["index"].as_u64().unwrap() as usize]);
        let score = 1.0 / (1.0 + (-row["logit"].as_f64().unwrap()).exp());
        assert!((row["relevance_score"].as_f64().unwrap() - score).abs() < 1e-6, "{row}");
    }
    // The same documents as lines of a file, texts and objects, with one of the arguments.
    let file = folder.path().join("documents.jsonl");
    std::fs::write(&file, format!("{}\n\n{}\n", json!(documents[0]), json!({"text": documents[1]}))).unwrap();
    let from_file = [&rank[..], &["--json", "--documents", file.to_str().unwrap(), documents[2]]].concat();
    assert_eq!(lines(run(&arguments(&["rerank"], model(), &from_file)).text()), found);
    let table = run(&arguments(&["rerank"], model(), &[&rank, &["--top-n", "1"][..], &documents].concat())).text();
    let best = found[0]["document"].as_str().unwrap();
    assert!(table.starts_with("1\t0.") && table.ends_with(&format!("\t{best}\n")), "{table:?}");
    let broken =
        run_with(&arguments(&["rerank"], model(), &[&rank[..], &["--documents", "-"]].concat()), b"{\"a\": 1}");
    assert!(broken.failure(1).contains("line 1"));

    let embed =
        |more: &[&str]| floats(&run(&arguments(&["embed", "--exact"], model(), &[more, &["foxes"]].concat())).json());
    let retr = embed(&[]);
    assert_eq!(embed(&["--head", "retr"]), retr);
    assert_ne!(embed(&["--head", "sts"]), retr);
    assert_eq!(embed(&["--head", "none"]), embed(&["--pooling", "eos-mean"]));
    let failed = run(&arguments(&["embed"], model(), &["--pooling", "last", "--head", "cls", "x"])).failure(2);
    assert!(failed.contains("head"), "{failed}");
    let failed = run(&arguments(&["generate"], model(), &["x"])).failure(2);
    assert!(failed.contains("no logits"), "{failed}");
}
