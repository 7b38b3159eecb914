//! Tiny random models against the values of package `rwkv` (torch, fp32) and, for quantized weights, of a float64
//! forward pass over the dequantized numbers: logits of every token and states, in both modes, whole and in pieces.

use anser_cpu::{Cpu, Mode, Options};
use anser_format::ModelFile;
use anser_model::cases::nmse;
use anser_model::{Plan, Sequence, Step};
use safetensors::SafeTensors;
use std::path::PathBuf;
use std::sync::Arc;

/// The bound for f32 sums in another order than torch's; measured were 1e-12 and less.
const REFERENCE: f64 = 1e-9;
const FAST: f64 = 1e-6;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny").join(name)
}

fn load(name: &str) -> Arc<Plan> {
    let file = ModelFile::open(fixture(name)).unwrap();
    Arc::new(anser_model::load(&file).unwrap().1)
}

/// The file's tensors as f32, by name.
struct Expected(Vec<u8>);

impl Expected {
    fn open(name: &str) -> Expected {
        Expected(std::fs::read(fixture(name)).unwrap())
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let bytes = file.tensor(name).unwrap().data();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

fn prompts(model: &str) -> Vec<Vec<u32>> {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture(&format!("{model}.json"))).unwrap()).unwrap();
    serde_json::from_value(json["prompts"].clone()).unwrap()
}

/// The logits of all tokens and the final state, after feeding the tokens in chunks of `chunk`.
fn run(plan: &Arc<Plan>, options: Options, tokens: &[u32], chunk: usize) -> (Vec<f32>, Vec<f32>) {
    let mut cpu = Cpu::new(plan.clone(), options).unwrap();
    let slot = cpu.create_state();
    let mut logits = vec![];
    for tokens in tokens.chunks(chunk) {
        let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
        let sequences = [Sequence { slot, n_tokens: tokens.len() }];
        let reads = [plan.logits.unwrap()];
        let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        logits.extend(cpu.step(&step).unwrap().swap_remove(0));
    }
    (logits, cpu.state(slot).unwrap().to_vec())
}

/// The oracle's state tensors (per layer: att shift, S, ffn shift) in the order of the plan's layout.
fn expected_state(plan: &Plan, expected: &Expected, prompt: usize) -> Vec<f32> {
    let n_parts = plan.state.parts.len();
    let part = |part| (0..plan.state.n_layer).map(move |layer| layer * n_parts + part);
    (0..n_parts).flat_map(part).flat_map(|i| expected.get(&format!("p{prompt}.state.{i}"))).collect()
}

#[test]
fn models_agree_with_torch() {
    let files = ["tiny-v7.st", "tiny-v7mini.st", "tiny-v7mini-f16.gguf", "tiny-v7n32.st"];
    for file in files {
        let model = file.strip_suffix(".st").unwrap_or("tiny-v7mini");
        let plan = load(file);
        let expected = Expected::open(&format!("{model}.expected.safetensors"));
        for (mode, bound) in [(Mode::Reference, REFERENCE), (Mode::Fast, FAST)] {
            for (i, tokens) in prompts(model).iter().enumerate() {
                for chunk in [1, 7, 64] {
                    let (logits, state) = run(&plan, Options { mode, ..Options::default() }, tokens, chunk);
                    let last = &logits[logits.len() - plan.n_vocab..];
                    let at = format!("{file} {mode:?} prompt {i} in chunks of {chunk}");
                    assert!(nmse(last, &expected.get(&format!("p{i}.logits"))) <= bound, "{at}: logits");
                    assert!(nmse(&state, &expected_state(&plan, &expected, i)) <= bound, "{at}: state");
                    if i == 1 {
                        assert!(nmse(&logits, &expected.get("p1.all_logits")) <= bound, "{at}: all logits");
                    }
                }
            }
        }
    }
}

#[test]
fn quantized_model_agrees_with_its_dequantized_weights() {
    let plan = load("tiny-v7c256-q4_0.gguf");
    let file = Expected::open("tiny-v7c256.llama.safetensors");
    for (mode, bound) in [(Mode::Reference, REFERENCE), (Mode::Exact, FAST), (Mode::Fast, 1e-3)] {
        for (i, tokens) in prompts("tiny-v7c256").iter().enumerate() {
            let (logits, _) = run(&plan, Options { mode, ..Options::default() }, tokens, 64);
            let last = &logits[logits.len() - plan.n_vocab..];
            let error = nmse(last, &file.get(&format!("q4_0.p{i}.dequant_logits")));
            assert!(error <= bound, "{mode:?} prompt {i}: nmse {error:e}");
        }
    }
}

#[test]
fn sequences_of_different_lengths_in_one_step_equal_them_apart() {
    let plan = load("tiny-v7.st");
    let sequences: [&[u32]; 4] = [&[5, 9, 200], &[7], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], &[299, 299]];
    // The plain loops, one sequence after the other: the kernels of a step, and so the order of their sums, depend on how
    // many tokens it has.
    let plain = Options { mode: Mode::Reference, ..Options::default() };
    let apart: Vec<_> = sequences.iter().map(|tokens| run(&plan, plain, tokens, 64)).collect();

    let mut cpu = Cpu::new(plan.clone(), Options::default()).unwrap();
    let slots: Vec<usize> = sequences.iter().map(|_| cpu.create_state()).collect();
    let tokens = sequences.concat();
    // The sequences of the step come in another order than their slots were made.
    let order = [2, 0, 3, 1];
    let tokens_in_order: Vec<u32> = order.iter().flat_map(|&i| sequences[i]).copied().collect();
    let table: Vec<_> = order.iter().map(|&i| Sequence { slot: slots[i], n_tokens: sequences[i].len() }).collect();
    let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
    let reads = [plan.logits.unwrap()];
    let step = Step { tokens: &tokens_in_order, sequences: &table, outputs: &outputs, reads: &reads, inputs: &[] };
    let together = cpu.step(&step).unwrap().swap_remove(0);

    let mut start = 0;
    for &i in &order {
        let (logits, state) = &apart[i];
        let error = nmse(&together[start..start + logits.len()], logits);
        assert!(error <= REFERENCE, "sequence {i}: logits, nmse {error:e}");
        let error = nmse(cpu.state(slots[i]).unwrap(), state);
        assert!(error <= REFERENCE, "sequence {i}: state, nmse {error:e}");
        start += logits.len();
    }
}

#[test]
fn a_refused_step_leaves_the_states_alone() {
    let plan = load("tiny-v7mini.st");
    let mut cpu = Cpu::new(plan.clone(), Options::default()).unwrap();
    let slot = cpu.create_state();
    let one = [Sequence { slot, n_tokens: 1 }];
    cpu.step(&Step { tokens: &[3], sequences: &one, ..Step::default() }).unwrap();
    let before = cpu.state(slot).unwrap().to_vec();
    let twice = [Sequence { slot, n_tokens: 1 }; 2];
    let unknown = [Sequence { slot: 9, n_tokens: 1 }];
    let refused = [
        Step { tokens: &[300], sequences: &one, ..Step::default() },
        Step { tokens: &[u32::MAX], sequences: &one, ..Step::default() },
        Step { tokens: &[], sequences: &[], ..Step::default() },
        Step { tokens: &[1, 2], sequences: &one, ..Step::default() },
        Step { tokens: &[1, 2], sequences: &twice, ..Step::default() },
        Step { tokens: &[1], sequences: &unknown, ..Step::default() },
        Step { tokens: &[1], sequences: &one, outputs: &[1], ..Step::default() },
    ];
    for step in refused {
        assert!(cpu.step(&step).is_err(), "{step:?}");
        assert_eq!(cpu.state(slot).unwrap(), before);
    }
}

/// The memory of freed states is used again, and its contents are cleared.
#[test]
fn a_new_state_is_zero_where_another_was() {
    let plan = load("tiny-v7mini.st");
    let mut cpu = Cpu::new(plan, Options::default()).unwrap();
    let (first, second) = (cpu.create_state(), cpu.create_state());
    let both = [first, second].map(|slot| Sequence { slot, n_tokens: 2 });
    cpu.step(&Step { tokens: &[3, 1, 4, 1], sequences: &both, ..Step::default() }).unwrap();
    let kept = cpu.state(second).unwrap().to_vec();
    assert!(cpu.state(first).unwrap().iter().any(|&x| x != 0.0));
    cpu.drop_state(first);
    cpu.drop_state(first);
    assert!(cpu.state(first).is_none());
    let (again, new) = (cpu.create_state(), cpu.create_state());
    assert_eq!(again, first);
    for slot in [again, new] {
        assert!(cpu.state(slot).unwrap().iter().all(|&x| x == 0.0));
    }
    assert_eq!(cpu.state(second).unwrap(), kept);
}
