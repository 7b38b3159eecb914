//! The trained demo model against the values of package `rwkv` (torch, fp32): what rounding activations to 8 bits costs,
//! in logits and in perplexity, for the model as it is built in (Q8_0).

use anser_cpu::{Cpu, Mode, Options};
use anser_format::ModelFile;
use anser_model::cases::nmse;
use anser_model::{Plan, Sequence, Step};
use safetensors::SafeTensors;
use std::path::PathBuf;
use std::sync::Arc;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn load() -> Arc<Plan> {
    let file = ModelFile::open(repository().join("models/demo-q8_0.gguf")).unwrap();
    Arc::new(anser_model::load(&file).unwrap().1)
}

fn expected_json() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(repository().join("fixtures/expected/expected.json")).unwrap()).unwrap()
}

/// The logits of the last token.
fn logits(plan: &Arc<Plan>, mode: Mode, tokens: &[u32]) -> Vec<f32> {
    let mut cpu = Cpu::new(plan.clone(), Options { mode, ..Options::default() }).unwrap();
    let slot = cpu.create_state();
    let sequences = [Sequence { slot, n_tokens: tokens.len() }];
    let (outputs, reads) = ([tokens.len() as u32 - 1], [plan.logits.unwrap()]);
    cpu.step(&Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] }).unwrap().remove(0)
}

#[test]
fn logits_agree_with_the_dequantized_weights() {
    let plan = load();
    let json = expected_json();
    let bytes = std::fs::read(repository().join("fixtures/expected/vectors.safetensors")).unwrap();
    let vectors = SafeTensors::deserialize(&bytes).unwrap();
    let trained: Vec<usize> = match vectors.tensor("trained_ids").unwrap() {
        t if t.data().len() == t.shape()[0] * 8 => {
            t.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as usize).collect()
        }
        t => t.data().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as usize).collect(),
    };
    for name in ["story", "mail", "long-600"] {
        let prompts = json["prompts"].as_array().unwrap();
        let prompt = prompts.iter().find(|p| p["name"] == name).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(prompt["feed"].clone()).unwrap();
        let tensor = vectors.tensor(&format!("q8_0.dequant.logits.{name}")).unwrap();
        let expected: Vec<f32> = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        // Exact differs from torch by the order of sums; 8 bits cost a little more where the logits are sharp.
        for (mode, bound) in [(Mode::Exact, 1e-9), (Mode::Fast, 1e-3)] {
            let all = logits(&plan, mode, &tokens);
            let actual: Vec<f32> = trained.iter().map(|&id| all[id]).collect();
            let error = nmse(&actual, &expected);
            println!("{name} {mode:?}: nmse {error:.2e}");
            assert!(error <= bound, "{name} {mode:?}: nmse {error:e}");
        }
    }
}
