//! The demo model's files, and the values that independent implementations computed with it.

use anser::{Model, Options};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// File types of the demo model, as `expected.json` names them.
pub(crate) const TYPES: [&str; 5] = ["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"];

/// A file of the demo model.
pub(crate) fn demo_path(name: &str) -> PathBuf {
    let dir = if name == "demo-q8_0.gguf" { "models" } else { "fixtures/unpacked" };
    let path = root().join(dir).join(name);
    assert!(path.exists(), "{name} is not unpacked: run `python3 fixtures/unpack.py fixtures/unpacked` first");
    path
}

pub(crate) fn demo(name: &str) -> Model {
    Model::load(demo_path(name), &Options::default()).unwrap()
}

/// Values of `fixtures/expected/expected.json`.
#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) ppl: HashMap<String, Ppl>,
    pub(crate) prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
pub(crate) struct Ppl {
    pub(crate) perplexity: f64,
}

#[derive(Deserialize)]
pub(crate) struct Prompt {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) feed: Vec<u32>,
    #[serde(flatten)]
    pub(crate) oracles: HashMap<String, Oracle>,
}

#[derive(Deserialize)]
pub(crate) struct Oracle {
    pub(crate) top: Top,
    pub(crate) greedy: Vec<u32>,
}

#[derive(Deserialize)]
pub(crate) struct Top {
    pub(crate) ids: Vec<u32>,
    pub(crate) values: Vec<f32>,
}

pub(crate) static EXPECTED: LazyLock<Expected> = LazyLock::new(|| {
    let json = std::fs::read(root().join("fixtures/expected/expected.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
});

pub(crate) fn prompt(name: &str) -> &'static Prompt {
    EXPECTED.prompts.iter().find(|p| p.name == name).unwrap()
}

static VECTORS: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(root().join("fixtures/expected/vectors.safetensors")).unwrap());

static HIDDEN: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(root().join("fixtures/expected/hidden.safetensors")).unwrap());

fn bytes(file: &[u8], name: &str) -> Vec<[u8; 4]> {
    let file = SafeTensors::deserialize(file).unwrap();
    file.tensor(name).unwrap().data().chunks_exact(4).map(|b| b.try_into().unwrap()).collect()
}

/// A tensor of `vectors.safetensors`.
pub(crate) fn vector(name: &str) -> Vec<f32> {
    bytes(&VECTORS, name).into_iter().map(f32::from_le_bytes).collect()
}

/// A tensor of `hidden.safetensors`: rows of the F16 model in float64.
pub(crate) fn hidden(name: &str) -> Vec<f32> {
    bytes(&HIDDEN, name).into_iter().map(f32::from_le_bytes).collect()
}

/// The 4,822 tokens that the demo model was trained on; all other logits are 0.
pub(crate) fn trained_ids() -> Vec<usize> {
    let file = SafeTensors::deserialize(&VECTORS).unwrap();
    let view = file.tensor("trained_ids").unwrap();
    let width = view.data().len() / view.shape()[0];
    view.data().chunks_exact(width).map(|b| u32::from_le_bytes(b[..4].try_into().unwrap()) as usize).collect()
}

pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.unwrap().0 as u32
}
