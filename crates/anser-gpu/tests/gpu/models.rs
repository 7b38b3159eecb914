//! Whole tiny models, fed in many ways, against the CPU's plain loops.

use crate::harness::{Executor, feature_sets, load, pairs_of_features};
use anser_gpu::GpuOptions;
use anser_model::cases::nmse;
use anser_model::{Plan, Sequence, Step};
use std::sync::Arc;

/// f32 arithmetic in another order: 1e-12 is measured, 1e-6 is asked for. Activations of 8 bits lose 2e-5 (squared, of
/// the squares) in each of a dozen products one after another, and those of 16 bits less.
pub(crate) fn bound(options: GpuOptions) -> f64 {
    if options.exact { 1e-6 } else { 5e-4 }
}

const MODELS: [&str; 4] = ["tiny-v7.st", "tiny-v7mini-f16.gguf", "tiny-v7c256-q4_0.gguf", "tiny-v7n32.st"];

/// `n` token ids of the tiny models' vocabulary of 300.
fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 31 + i * 7 + 5) % 300).collect()
}

/// All tokens' logits and the final state, fed in chunks of `chunk`.
fn feed(executor: &mut Executor, plan: &Plan, tokens: &[u32], chunk: usize) -> (Vec<f32>, Vec<f32>) {
    let slot = executor.create_state();
    let mut logits = vec![];
    for tokens in tokens.chunks(chunk) {
        let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
        let sequences = [Sequence { slot, n_tokens: tokens.len() }];
        let reads = [plan.logits.unwrap()];
        let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        logits.extend(executor.step(&step).swap_remove(0));
    }
    (logits, executor.read_state(slot))
}

fn assert_close(what: &str, actual: &[f32], expected: &[f32], bound: f64) {
    let error = nmse(actual, expected);
    assert!(error <= bound, "{what}: nmse {error:e} > {bound:e}");
}

#[test]
fn chunks_of_any_size_equal_the_reference() {
    for file in MODELS {
        let plan = load(file);
        let tokens = tokens(41);
        let (logits, state) = feed(&mut Executor::reference(&plan), &plan, &tokens, 64);
        let unfused = GpuOptions { no_fusion: true, ..GpuOptions::default() };
        for options in pairs_of_features().into_iter().chain([unfused, GpuOptions { exact: true, ..unfused }]) {
            let mut gpu = Executor::gpu(&plan, options);
            for chunk in [1, 7, 33, 64] {
                let (gpu_logits, gpu_state) = feed(&mut gpu, &plan, &tokens, chunk);
                let at = format!("{file} in chunks of {chunk}, {options:?}");
                assert_close(&format!("{at}: logits"), &gpu_logits, &logits, bound(options));
                assert_close(&format!("{at}: state"), &gpu_state, &state, bound(options));
            }
        }
    }
}

/// Matrices, embedding and head of the types with codebooks, all seven in one file: the device decodes the very numbers.
#[test]
fn types_with_codebooks_equal_the_reference() {
    let plan = load("../unpacked/formats/quant/q7-codebooks.gguf");
    let tokens: Vec<u32> = tokens(41).into_iter().map(|token| token % 96).collect();
    let (logits, state) = feed(&mut Executor::reference(&plan), &plan, &tokens, 64);
    for options in [GpuOptions::default(), GpuOptions { exact: true, ..GpuOptions::default() }] {
        let mut gpu = Executor::gpu(&plan, options);
        for chunk in [1, 7, 64] {
            let (gpu_logits, gpu_state) = feed(&mut gpu, &plan, &tokens, chunk);
            let at = format!("in chunks of {chunk}, {options:?}");
            assert_close(&format!("{at}: logits"), &gpu_logits, &logits, bound(options));
            assert_close(&format!("{at}: state"), &gpu_state, &state, bound(options));
        }
    }
}

#[test]
fn sequences_of_different_lengths_in_one_step_equal_them_apart() {
    let plan = load("tiny-v7.st");
    let all = tokens(60);
    let sequences: [&[u32]; 5] = [&all[..3], &all[3..4], &all[4..30], &all[30..32], &all[32..60]];
    let mut reference = Executor::reference(&plan);
    let apart: Vec<_> = sequences.iter().map(|tokens| feed(&mut reference, &plan, tokens, 64)).collect();

    let options = GpuOptions::default();
    let mut gpu = Executor::gpu(&plan, options);
    let slots: Vec<usize> = sequences.iter().map(|_| gpu.create_state()).collect();
    let order = [2, 0, 3, 4, 1]; // another one than the slots were made in
    let in_order: Vec<u32> = order.iter().flat_map(|&i| sequences[i]).copied().collect();
    let table: Vec<_> = order.iter().map(|&i| Sequence { slot: slots[i], n_tokens: sequences[i].len() }).collect();
    let outputs: Vec<u32> = (0..in_order.len() as u32).collect();
    let reads = [plan.logits.unwrap()];
    let step = Step { tokens: &in_order, sequences: &table, outputs: &outputs, reads: &reads, inputs: &[] };
    let together = gpu.step(&step).swap_remove(0);

    let mut start = 0;
    for &i in &order {
        let (logits, state) = &apart[i];
        assert_close(&format!("sequence {i}: logits"), &together[start..start + logits.len()], logits, bound(options));
        assert_close(&format!("sequence {i}: state"), &gpu.read_state(slots[i]), state, bound(options));
        start += logits.len();
    }
}

/// The logits of the last token of `tokens`.
fn last_logits(executor: &mut Executor, plan: &Plan, slot: usize, tokens: &[u32]) -> Vec<f32> {
    let sequences = [Sequence { slot, n_tokens: tokens.len() }];
    let (outputs, reads) = ([tokens.len() as u32 - 1], [plan.logits.unwrap()]);
    let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
    executor.step(&step).swap_remove(0)
}

#[test]
fn states_move_between_executors_and_slots() {
    let plan = load("tiny-v7.st");
    let options = GpuOptions::default();
    let (tokens, bound) = (tokens(12), bound(options));
    let mut cpu = Executor::reference(&plan);
    let whole = cpu.create_state();
    let expected = last_logits(&mut cpu, &plan, whole, &tokens);

    // CPU, then GPU, then CPU again
    let mut gpu = Executor::gpu(&plan, options);
    let (a, b) = (cpu.create_state(), gpu.create_state());
    last_logits(&mut cpu, &plan, a, &tokens[..5]);
    gpu.write_state(b, &cpu.read_state(a));
    last_logits(&mut gpu, &plan, b, &tokens[5..8]);
    cpu.write_state(a, &gpu.read_state(b));
    assert_close("back on the CPU", &last_logits(&mut cpu, &plan, a, &tokens[8..]), &expected, bound);

    // a copy goes on by itself, whatever the slot held and wherever its halves are
    let copy = gpu.create_state();
    last_logits(&mut gpu, &plan, copy, &tokens[..2]);
    let Executor::Gpu(inner) = &mut gpu else { unreachable!() };
    inner.copy_state(b, copy).unwrap();
    let before = gpu.read_state(b);
    assert_eq!(gpu.read_state(copy), before);
    assert_close("the copy", &last_logits(&mut gpu, &plan, copy, &tokens[8..]), &expected, bound);
    assert_eq!(gpu.read_state(b), before, "the source stays");
}

#[test]
fn slots_are_independent_and_fresh_again_after_reuse() {
    let plan = load("tiny-v7mini-f16.gguf");
    let mut gpu = Executor::gpu(&plan, GpuOptions::default());
    let tokens = tokens(6);
    let slots: Vec<usize> = (0..9).map(|_| gpu.create_state()).collect();
    let first = last_logits(&mut gpu, &plan, slots[0], &tokens);
    last_logits(&mut gpu, &plan, slots[7], &tokens[1..]);
    assert_eq!(gpu.read_state(slots[3]), vec![0.0; plan.state.len()]);
    assert_eq!(last_logits(&mut gpu, &plan, slots[8], &tokens), first);

    let Executor::Gpu(inner) = &mut gpu else { unreachable!() };
    inner.drop_state(slots[7]);
    assert_eq!(inner.create_state().unwrap(), slots[7]);
    assert_eq!(gpu.read_state(slots[7]), vec![0.0; plan.state.len()]);
    assert_eq!(last_logits(&mut gpu, &plan, slots[7], &tokens), first);
}

#[test]
fn matrices_split_by_rows_change_nothing() {
    for file in ["tiny-v7.st", "tiny-v7c256-q4_0.gguf"] {
        let plan = load(file);
        let tokens = tokens(20);
        let (logits, state) = feed(&mut Executor::reference(&plan), &plan, &tokens, 64);
        let options = GpuOptions { max_binding_n_bytes: Some(70_000), ..GpuOptions::default() };
        for (options, chunk) in [(options, 1), (GpuOptions { exact: true, ..options }, 1), (options, 20)] {
            let mut gpu = Executor::gpu(&plan, options);
            let (gpu_logits, gpu_state) = feed(&mut gpu, &plan, &tokens, chunk);
            assert_close(&format!("{file}: logits"), &gpu_logits, &logits, bound(options));
            assert_close(&format!("{file}: state"), &gpu_state, &state, bound(options));
        }
    }
}

/// Activations become 8 bits at the same places whether a kernel of its own rounds them or the one that makes them: only
/// numbers at the edge between two steps of 1/127 may fall on either side.
#[test]
fn fusing_changes_no_rounding() {
    let plan = load("tiny-v7c256-q4_0.gguf");
    let tokens = tokens(12);
    let mut fused = Executor::gpu(&plan, GpuOptions::default());
    let mut unfused = Executor::gpu(&plan, GpuOptions { no_fusion: true, ..GpuOptions::default() });
    for chunk in [1, 6] {
        let (logits, state) = feed(&mut fused, &plan, &tokens, chunk);
        let (expected_logits, expected_state) = feed(&mut unfused, &plan, &tokens, chunk);
        assert_close(&format!("chunks of {chunk}: logits"), &logits, &expected_logits, 2e-6);
        assert_close(&format!("chunks of {chunk}: state"), &state, &expected_state, 2e-6);
    }
}

#[test]
fn every_value_can_be_read() {
    for (file, lengths) in [("tiny-v7n32.st", [2, 7]), ("tiny-v7c256-q4_0.gguf", [1, 2])] {
        check_every_value(&load(file), lengths);
    }
}

fn check_every_value(plan: &Arc<Plan>, lengths: [usize; 2]) {
    let n_tokens: usize = lengths.iter().sum();
    let tokens = tokens(n_tokens);
    let outputs = [lengths[0] as u32 - 1, n_tokens as u32 - 1];
    let reads: Vec<_> = plan.nodes.iter().flat_map(|n| n.op.outputs()).collect();
    let run = |executor: &mut Executor| {
        let sequences = lengths.map(|n_tokens| Sequence { slot: executor.create_state(), n_tokens });
        let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        executor.step(&step)
    };
    let expected = run(&mut Executor::reference(plan));
    let actual = run(&mut Executor::gpu(plan, GpuOptions::default()));
    for ((&id, actual), expected) in reads.iter().zip(&actual).zip(&expected) {
        assert_close(&plan.value(id).name, actual, expected, bound(GpuOptions::default()));
    }
}

/// Few and many of them: kernels of their heads have other shapes then.
#[test]
fn sequences_of_one_token_each_equal_them_apart() {
    for (file, n_sequences) in MODELS.into_iter().flat_map(|file| [(file, 5), (file, 20)]) {
        let plan = load(file);
        let tokens = tokens(3 * n_sequences);
        let run = |executor: &mut Executor| {
            let slots: Vec<usize> = (0..n_sequences).map(|_| executor.create_state()).collect();
            let outputs: Vec<u32> = (0..n_sequences as u32).collect();
            let mut logits = vec![];
            for tokens in tokens.chunks(n_sequences) {
                let sequences: Vec<_> = slots.iter().map(|&slot| Sequence { slot, n_tokens: 1 }).collect();
                let reads = [plan.logits.unwrap(), plan.residuals[0]];
                let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
                logits.extend(executor.step(&step).concat());
            }
            (logits, slots.iter().flat_map(|&slot| executor.read_state(slot)).collect::<Vec<_>>())
        };
        let (logits, states) = run(&mut Executor::reference(&plan));
        for options in pairs_of_features() {
            let (gpu_logits, gpu_states) = run(&mut Executor::gpu(&plan, options));
            let what = |what| format!("{file}, {n_sequences} sequences, {options:?}: {what}");
            assert_close(&what("logits"), &gpu_logits, &logits, bound(options));
            assert_close(&what("states"), &gpu_states, &states, bound(options));
        }
    }
}

#[test]
fn a_step_without_reads_only_advances_the_state() {
    let plan = load("tiny-v7mini-f16.gguf");
    let tokens = tokens(5);
    let run = |executor: &mut Executor| {
        let slot = executor.create_state();
        let sequences = [Sequence { slot, n_tokens: 5 }];
        let results = executor.step(&Step { tokens: &tokens, sequences: &sequences, ..Step::default() });
        assert_eq!(results, Vec::<Vec<f32>>::new());
        executor.read_state(slot)
    };
    let expected = run(&mut Executor::reference(&plan));
    assert_close("state", &run(&mut Executor::gpu(&plan, GpuOptions::default())), &expected, 1e-4);
}

/// A plan shared by the tests of refusals.
pub(crate) fn mini() -> Arc<Plan> {
    load("tiny-v7mini-f16.gguf")
}

/// A model of every version, in vocabularies of 64 to 280 tokens.
const VERSIONS: [&str; 11] = [
    "m4.pth",
    "m50.pth",
    "m51.st",
    "m52.pth",
    "m6.pth",
    "gguf/m6-rescale2.gguf",
    "m7a.pth",
    "hf/rwkv7-hf-n32",
    "gguf/rwkv6qwen2.gguf",
    "gguf/arwkv7.gguf",
    "gguf/arwkv7-nogate.gguf",
];

fn load_version(file: &str) -> Arc<Plan> {
    load(&format!("../unpacked/formats/{file}"))
}

#[test]
fn every_version_equals_the_reference() {
    // One more file of RWKV-6, whose five low-rank pairs lie side by side in a matrix.
    for file in VERSIONS.into_iter().chain(["hf/fla-v6"]) {
        let plan = load_version(file);
        let tokens: Vec<u32> = tokens(41).into_iter().map(|id| id % plan.n_vocab as u32).collect();
        let (logits, state) = feed(&mut Executor::reference(&plan), &plan, &tokens, 64);
        // The most and the fewest features, exact and not.
        for options in feature_sets().into_iter().step_by(3) {
            let mut gpu = Executor::gpu(&plan, options);
            let chunks: &[usize] = if options.exact { &[1, 7, 64] } else { &[1] };
            for &chunk in chunks {
                let (gpu_logits, gpu_state) = feed(&mut gpu, &plan, &tokens, chunk);
                let at = format!("{file} in chunks of {chunk}, {options:?}");
                assert_close(&format!("{at}: logits"), &gpu_logits, &logits, bound(options));
                assert_close(&format!("{at}: state"), &gpu_state, &state, bound(options));
            }
        }
    }
}

/// Sequences of several lengths in one step, in another order than their slots, and then of one token each, equal each of them alone.
#[test]
fn sequences_of_every_version_side_by_side_equal_them_apart() {
    let lengths = [3, 1, 9];
    let exact = GpuOptions { exact: true, ..GpuOptions::default() };
    for (file, options) in VERSIONS.into_iter().flat_map(|file| [(file, exact), (file, GpuOptions::default())]) {
        let plan = load_version(file);
        let tokens: Vec<u32> = tokens(16).into_iter().map(|id| id % plan.n_vocab as u32).collect();
        let (all, lasts) = tokens.split_at(13);
        let (first, rest) = all.split_at(lengths[0]);
        let (second, third) = rest.split_at(lengths[1]);
        let texts = [first, second, third];

        let mut gpu = Executor::gpu(&plan, options);
        let slots = texts.map(|_| gpu.create_state());
        let order = [2, 0, 1];
        let reads = [plan.logits.unwrap()];
        let together: Vec<u32> = order.iter().flat_map(|&i| texts[i]).copied().collect();
        let sequences = order.map(|i| Sequence { slot: slots[i], n_tokens: lengths[i] });
        let outputs = [8, 11, 12]; // the last token of each
        gpu.step(&Step { tokens: &together, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] });
        let sequences = order.map(|i| Sequence { slot: slots[i], n_tokens: 1 });
        let next = order.map(|i| lasts[i]);
        let outputs = [0, 1, 2];
        let step = Step { tokens: &next, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        let logits = gpu.step(&step).swap_remove(0);

        for (at, i) in order.into_iter().enumerate() {
            let text = [texts[i], &lasts[i..i + 1]].concat();
            let (expected, state) = feed(&mut Executor::reference(&plan), &plan, &text, 64);
            let expected = &expected[expected.len() - plan.n_vocab..];
            let what = |what| format!("{file}, sequence {i}, {options:?}: {what}");
            let logits = &logits[at * plan.n_vocab..][..plan.n_vocab];
            assert_close(&what("logits"), logits, expected, bound(options));
            assert_close(&what("state"), &gpu.read_state(slots[i]), &state, bound(options));
        }
    }
}
