//! `anser inspect`

use crate::harness::{fixture, run};
use serde_json::Value;

fn inspect(file: &str, more: &[&str]) -> crate::harness::Ran {
    let path = fixture(file);
    run(&[&["inspect", path.to_str().unwrap()], more].concat())
}

/// What a version computes, operation by operation: a change of the architecture shows as a difference of this file. To
/// accept one: `anser inspect fixtures/tiny/tiny-v7.st --plan > crates/anser-cli/tests/snapshots/tiny-v7.plan.txt`
#[test]
fn plan_is_that_of_the_snapshot() {
    let plan = inspect("tiny/tiny-v7.st", &["--plan"]).text();
    let snapshot = include_str!("../snapshots/tiny-v7.plan.txt");
    for (n, (found, expected)) in plan.lines().zip(snapshot.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", n + 1);
    }
    assert_eq!(plan.lines().count(), snapshot.lines().count());
    assert_eq!(inspect("tiny/tiny-v7.st", &["--plan", "--json"]).json()["plan"], plan);
}

#[test]
fn sizes_are_those_the_file_was_made_with() {
    for (name, file) in [
        ("tiny-v7", "tiny/tiny-v7.st"),
        ("tiny-v7mini", "tiny/tiny-v7mini-f16.gguf"),
        ("tiny-v7n32", "tiny/tiny-v7n32.st"),
    ] {
        let made: Value =
            serde_json::from_slice(&std::fs::read(fixture(&format!("tiny/{name}.json"))).unwrap()).unwrap();
        let found = inspect(file, &["--json"]).json();
        for size in ["n_layer", "n_embd", "n_head", "head_size", "n_ffn", "n_vocab"] {
            assert_eq!(found["model"][size], made[size], "{name} {size}");
        }
        let n = |size: &str| made[size].as_u64().unwrap();
        let state = n("n_layer") * n("n_embd") * (n("head_size") + 2) * 4;
        assert_eq!(found["model"]["state_n_bytes"], state, "{name}: L·(H·N·N + 2·C) numbers of f32");
    }
}

#[test]
fn tensors_and_types_are_those_of_the_safetensors_crate() {
    let found = inspect("tiny/tiny-v7.st", &["--json", "--tensors"]).json();
    let bytes = std::fs::read(fixture("tiny/tiny-v7.st")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let listed = found["tensors"].as_array().unwrap();
    assert_eq!((listed.len(), &found["n_tensors"]), (tensors.len(), &tensors.len().into()));
    for line in listed {
        let truth = tensors.tensor(line["name"].as_str().unwrap()).unwrap();
        assert_eq!(line["shape"], serde_json::json!(truth.shape()));
        assert_eq!(line["n_bytes"], truth.data().len());
    }
    let n_bytes: usize = tensors.iter().map(|(_, t)| t.data().len()).sum();
    let types = serde_json::json!([{ "dtype": "F16", "n_tensors": tensors.len(), "n_elements": n_bytes / 2, "n_bytes": n_bytes }]);
    assert_eq!(found["dtypes"], types);
    assert_eq!(found["n_bytes"], bytes.len());
}

#[test]
fn the_same_model_has_the_same_fingerprint_in_every_format() {
    let of = |file| inspect(file, &["--json"]).json()["model"]["fingerprint"].clone();
    assert_eq!(of("tiny/tiny-v7mini.st"), of("tiny/tiny-v7mini-f16.gguf"));
    assert_eq!(of("tiny/tiny-v7mini.st"), of("tiny/tiny-v7mini.pth"));
    assert_eq!(of("tiny/tiny-v7mini.st"), of("tiny/tiny-v7mini.blink.safetensors"));
    assert_ne!(of("tiny/tiny-v7.st"), of("tiny/tiny-v7n32.st"));
}

#[test]
fn long_metadata_is_abbreviated() {
    let found = run(&["inspect", "demo", "--json"]).json();
    assert_eq!(found["metadata"]["general.architecture"], "rwkv7");
    assert_eq!(found["metadata"]["rwkv7.attention.layer_norm_epsilon"], 1e-5);
    assert_eq!(found["metadata"]["tokenizer.ggml.tokens"]["n"], 65536);
    assert_eq!(found["metadata"]["tokenizer.ggml.tokens"]["first"].as_array().unwrap().len(), 8);
    let listing = run(&["inspect", "demo"]).text();
    assert!(listing.contains("general.architecture = \"rwkv7\"") && listing.len() < 4000, "{listing}");
}

#[test]
fn files_that_are_no_models_say_what_they_are() {
    assert!(inspect("README.md", &[]).failure(1).contains("README.md"));
    assert!(inspect("tiny", &[]).failure(1).contains("models in it"));
    assert!(inspect("tokenizer", &[]).failure(1).contains("there is no model.safetensors"));
    // A readable file that holds no model is shown, with the reason; it has no plan.
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state.safetensors");
    let state = state.to_str().unwrap();
    run(&["state", "--text", "a", "--out", state]).quiet();
    let listing = run(&["inspect", state]).text();
    assert!(listing.contains("cannot run    not an RWKV model") && listing.contains("anser-state"), "{listing}");
    assert!(run(&["inspect", state, "--json"]).json()["problem"].as_str().unwrap().contains("not an RWKV model"));
    assert!(run(&["inspect", state, "--plan"]).failure(1).contains("not an RWKV model"));
}

#[test]
fn containers_and_dialects_are_named() {
    let of = |file: &str| inspect(file, &["--json"]).json();
    let cases = [
        ("pth/torch-bf16.pth", "PyTorch (zip)", "BlinkDL"),
        ("pth/torch-f16-legacy.pth", "PyTorch (before version 1.6)", "BlinkDL"),
        ("m7.safetensors", "safetensors", "BlinkDL"),
        ("hf/fla", "safetensors", "Hugging Face, flash-linear-attention"),
        ("hf/fla-v6", "safetensors", "Hugging Face, flash-linear-attention"),
        ("hf/rwkv7-hf-sharded", "safetensors", "Hugging Face, flash-linear-attention"),
        ("hf/transformers-linear", "safetensors", "Hugging Face, model.embeddings.weight"),
        ("gguf/f7-f16.gguf", "GGUF version 3", "llama.cpp"),
    ];
    for (file, format, dialect) in cases {
        let found = of(&format!("unpacked/formats/{file}"));
        assert_eq!(
            (found["format"].as_str(), found["model"]["dialect"].as_str()),
            (Some(format), Some(dialect)),
            "{file}"
        );
    }
    assert_eq!(of("unpacked/formats/hf/fla")["metadata"]["config.model_type"], "rwkv7");
}
