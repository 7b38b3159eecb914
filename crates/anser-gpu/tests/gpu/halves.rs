//! Numbers that are too large for halves, wherever products multiply halves: the same results as in floats, never others.
//!
//! Matrices and vectors of a tiny model are multiplied by powers of two which a later part of the model undoes, so that one kind of
//! number inside becomes too large for halves while the logits stay in range. Where the device has cooperative matrices, its own
//! kernels are tried; where it has none, plain arithmetic stands in for them.

use crate::harness::{Executor, device, fixture};
use anser_format::{DType, ModelFile, quant::dequantize};
use anser_gpu::{DrawOptions, Drawer, DrawnFor, Gpu, GpuOptions, Seeds};
use anser_model::cases::nmse;
use anser_model::{Plan, Sequence, Step};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::sync::Arc;

/// A kind of number that becomes `2^log2` times as large: by the endings of the names of what is multiplied, and the power.
struct Kind {
    name: &'static str,
    log2: i32,
    scales: &'static [(&'static str, i32)],
}

const KINDS: [Kind; 8] = [
    Kind { name: "relu squared", log2: 7, scales: &[("ffn.key.weight", 1), ("ffn.value.weight", -2)] },
    Kind {
        name: "inputs of the feed-forward layer",
        log2: 18,
        scales: &[("ln2.weight", 1), ("ln2.bias", 1), ("ffn.key.weight", -1)],
    },
    Kind {
        name: "inputs of the attention",
        log2: 18,
        scales: &[
            ("ln1.weight", 1),
            ("ln1.bias", 1),
            ("att.receptance.weight", -1),
            ("att.key.weight", -1),
            ("att.value.weight", -1),
            ("att.w1", -1),
            ("att.a1", -1),
            ("att.v1", -1),
            ("att.g1", -1),
        ],
    },
    Kind { name: "gated outputs", log2: 22, scales: &[("att.g2", 1), ("att.output.weight", -1)] },
    Kind { name: "inner rows of a low-rank pair", log2: 22, scales: &[("att.a1", 1), ("att.a2", -1)] },
    Kind { name: "values and their weights", log2: 24, scales: &[("att.value.weight", 1), ("att.r_k", -1)] },
    Kind { name: "weights of keys and of relu", log2: 24, scales: &[("ffn.key.weight", 1), ("ffn.value.weight", -2)] },
    Kind { name: "hidden rows", log2: 20, scales: &[("ln_out.weight", 1), ("ln_out.bias", 1), ("head.weight", -1)] },
];

/// The plan of a tiny model whose numbers of `kind` are so large.
fn scaled(kind: &Kind) -> Arc<Plan> {
    let source = ModelFile::open(fixture("tiny-v7.st")).unwrap();
    let bytes_of = |tensor: &anser_format::TensorView| -> (Dtype, Vec<u8>) {
        let power = kind.scales.iter().find(|(end, _)| tensor.name.ends_with(end)).map(|&(_, power)| power);
        match power {
            None => (if tensor.dtype == DType::F16 { Dtype::F16 } else { Dtype::F32 }, tensor.bytes.to_vec()),
            Some(power) => {
                let mut numbers = vec![0.0; tensor.shape.iter().product()];
                dequantize(tensor.dtype, tensor.bytes, &mut numbers);
                let factor = 2f32.powi(power * kind.log2);
                (Dtype::F32, numbers.iter().flat_map(|x| (x * factor).to_le_bytes()).collect())
            }
        }
    };
    let tensors: Vec<_> = source
        .tensors()
        .filter_map(|info| info.view())
        .map(|tensor| (tensor.name, tensor.shape.to_vec(), bytes_of(&tensor)))
        .collect();
    let found = |end| tensors.iter().any(|(name, ..)| name.ends_with(end));
    assert!(kind.scales.iter().all(|(end, _)| found(end)), "{}: a tensor is missing", kind.name);
    let views = tensors
        .iter()
        .map(|(name, shape, (dtype, bytes))| (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    let bytes = safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
    Arc::new(anser_model::load(&ModelFile::from_bytes(kind.name, bytes).unwrap()).unwrap().1)
}

fn halves() -> GpuOptions {
    GpuOptions { plain_matrices: true, ..GpuOptions::default() }
}

fn tokens(n: usize, start: u32) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 31 + i * 7 + start) % 300).collect()
}

/// f32 sums in another order; halves, where the numbers fit, lose 2⁻²² of the squares in each product.
const BOUND: f64 = 1e-4;

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    let error = nmse(found, expected);
    assert!(error <= BOUND, "{what}: nmse {error:e} > {BOUND:e}");
}

/// Reads two sequences side by side: first without asking for anything, then with the last tokens' logits. Then one of them goes on
/// by itself. Returns all logits and the states.
fn read(executor: &mut Executor, plan: &Plan) -> Vec<Vec<f32>> {
    let slots = [executor.create_state(), executor.create_state()];
    let mut read = vec![];
    for (turn, outputs) in [(0, &[][..]), (1, &[18, 39][..])] {
        let both = [tokens(19, 5 + turn), tokens(21, 70 + turn)].concat();
        let sequences = [Sequence { slot: slots[0], n_tokens: 19 }, Sequence { slot: slots[1], n_tokens: 21 }];
        let logits = [plan.logits.unwrap()];
        let reads = if outputs.is_empty() { &[][..] } else { &logits };
        read.extend(executor.step(&Step { tokens: &both, sequences: &sequences, outputs, reads, inputs: &[] }));
    }
    let more = tokens(130, 9);
    let sequences = [Sequence { slot: slots[1], n_tokens: 130 }];
    // Every token's logits, then the hidden row of one of the first tokens only.
    let all: Vec<u32> = (0..130).collect();
    for (outputs, wanted) in [(&all[..], plan.logits), (&[3][..], plan.hidden)] {
        let reads = [wanted.unwrap()];
        read.extend(executor.step(&Step { tokens: &more, sequences: &sequences, outputs, reads: &reads, inputs: &[] }));
    }
    read.extend(slots.map(|slot| executor.read_state(slot)));
    read
}

#[test]
fn prompts_are_read_as_in_floats() {
    for kind in &KINDS {
        let plan = scaled(kind);
        let expected = read(&mut Executor::reference(&plan), &plan);
        // Without fusion, other kernels bring inputs into halves.
        let unfused = (kind.name == KINDS[0].name).then_some(GpuOptions { no_fusion: true, ..halves() });
        for options in [halves()].into_iter().chain(unfused) {
            let found = read(&mut Executor::gpu(&plan, options), &plan);
            assert_eq!(found.len(), expected.len());
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_close(&format!("{}, result {i}, {options:?}", kind.name), found, expected);
            }
        }
    }
}

/// Reads `tokens` in a slot; the last one's logits.
fn feed(gpu: &mut Gpu, slot: usize, tokens: &[u32]) -> Vec<f32> {
    let sequences = [Sequence { slot, n_tokens: tokens.len() }];
    let (outputs, reads) = ([tokens.len() as u32 - 1], [gpu.plan().logits.unwrap()]);
    gpu.step(&Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] })
        .unwrap()
        .swap_remove(0)
}

/// A token drawn from logits in halves has the largest one in floats, or one that is smaller by what halves lose: 1e-3 of the
/// logits' differences of about 1, some times the 1.6e-4 that was seen.
fn assert_most_likely(token: u32, logits: &[f32]) {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let found = logits[token as usize];
    assert!(found >= most - 1e-3, "token {token} has the logit {found}, another one {most}");
}

#[test]
fn sequences_that_draw_halt_before_the_token_that_is_too_large() {
    // So large that it is too much for some tokens and not for others.
    let kind = Kind { name: "relu squared, in part", log2: 6, scales: &[("ffn.key.weight", 1)] };
    let plan = scaled(&kind);
    let mut gpu = Gpu::new(plan.clone(), &device(), halves()).unwrap();
    let prompts: Vec<Vec<u32>> = (0..16).map(|i| tokens(4, 11 * i)).collect();
    let options =
        || DrawOptions { greedy: true, temperature: 1.0, top_p: 1.0, penalty_decay: 1.0, ..DrawOptions::default() };
    // Few tokens are read in floats: what one by one gives is the truth.
    let slots: Vec<usize> = prompts.iter().map(|_| gpu.create_state().unwrap()).collect();
    let logits: Vec<Vec<f32>> =
        slots.iter().zip(&prompts).map(|(&slot, prompt)| feed(&mut gpu, slot, prompt)).collect();
    let argmax = |logits: &[f32]| {
        (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap() as u32
    };
    let mut last: Vec<u32> = logits.iter().map(|logits| argmax(logits)).collect();
    let (mut n_halted, mut n_drawn) = (0, 0);
    for goes_on in [true, true, false, true] {
        let before: Vec<Vec<f32>> = slots.iter().map(|&slot| gpu.read_state(slot).unwrap()).collect();
        let drawer =
            |(&slot, &token): (&usize, &u32)| Drawer { slot, token, options: options(), seeds: Seeds::new(|| 0) };
        let drawers = slots.iter().zip(&last).map(drawer).collect();
        let mut drawing = gpu.start_drawing(drawers).unwrap().expect("the embeddings can be decoded on a device");
        let drawn = gpu.draw(&mut drawing, goes_on).unwrap();
        // What has halted stays so, whatever the others do.
        let second = gpu.draw(&mut drawing, goes_on).unwrap();
        assert!(drawn.iter().all(|&drawn| drawn != DrawnFor::Nothing));
        let stays = |(first, second): (&DrawnFor, &DrawnFor)| first.token().is_some() || *second == DrawnFor::Nothing;
        assert!(drawn.iter().zip(&second).all(stays));
        gpu.finish_drawing(drawing).unwrap();
        for (i, &slot) in slots.iter().enumerate() {
            let copy = gpu.create_state().unwrap();
            gpu.write_state(copy, &before[i]).unwrap();
            let logits = feed(&mut gpu, copy, &[last[i]]);
            match (drawn[i].token(), second[i].token()) {
                (None, _) => {
                    n_halted += 1;
                    assert!(gpu.read_state(slot).unwrap() == before[i], "sequence {i} has read a token");
                    feed(&mut gpu, slot, &[last[i]]);
                    last[i] = argmax(&logits);
                }
                (Some(token), None) => {
                    assert_most_likely(token, &logits);
                    assert_close(
                        "the state before the second token",
                        &gpu.read_state(slot).unwrap(),
                        &gpu.read_state(copy).unwrap(),
                    );
                    last[i] = token;
                }
                (Some(token), Some(next)) => {
                    n_drawn += 1;
                    assert_most_likely(token, &logits);
                    let logits = feed(&mut gpu, copy, &[token]);
                    assert_most_likely(next, &logits);
                    assert_close("the state", &gpu.read_state(slot).unwrap(), &gpu.read_state(copy).unwrap());
                    last[i] = next;
                }
            }
            gpu.drop_state(copy);
        }
    }
    assert!(n_drawn > 0 && n_halted > 0, "{n_drawn} drew, {n_halted} halted");
}
