//! Sequences that draw their own tokens against steps whose tokens the host draws: the same tokens, and the same bits of
//! states and logits, whatever ran ahead.

use crate::harness::{device, feature_sets, load};
use anser_gpu::{DrawOptions, Drawing, Gpu, GpuOptions, Shares};
use anser_model::{Plan, Sequence, Step};
use std::sync::Arc;

const PROMPT: [u32; 4] = [5, 250, 17, 99];

fn greedy() -> DrawOptions {
    DrawOptions { greedy: true, temperature: 1.0, top_p: 1.0, penalty_decay: 1.0, ..DrawOptions::default() }
}

/// Reads `tokens` and returns the last one's logits.
fn feed(gpu: &mut Gpu, slot: usize, tokens: &[u32]) -> Vec<f32> {
    let sequences = [Sequence { slot, n_tokens: tokens.len() }];
    let (outputs, reads) = ([tokens.len() as u32 - 1], [gpu.plan().logits.unwrap()]);
    let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
    gpu.step(&step).unwrap().swap_remove(0)
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.unwrap().0 as u32
}

/// What a sequence has drawn, and where it stands: the last token is not read.
#[derive(Debug, PartialEq)]
struct Outcome {
    tokens: Vec<u32>,
    logits: Vec<f32>,
    state: Vec<f32>,
}

fn on_the_host(gpu: &mut Gpu, prompt: &[u32], n: usize) -> Outcome {
    let slot = gpu.create_state().unwrap();
    let mut logits = feed(gpu, slot, prompt);
    let mut tokens = vec![argmax(&logits)];
    while tokens.len() < n {
        logits = feed(gpu, slot, &tokens[tokens.len() - 1..]);
        tokens.push(argmax(&logits));
    }
    let state = gpu.read_state(slot).unwrap();
    gpu.drop_state(slot);
    Outcome { tokens, logits, state }
}

fn start(gpu: &mut Gpu, prompt: &[u32]) -> (usize, Vec<u32>, Drawing) {
    let slot = gpu.create_state().unwrap();
    let first = argmax(&feed(gpu, slot, prompt));
    let drawing = gpu.start_drawing(slot, first, &greedy(), Shares::new(|| 1.0)).unwrap();
    (slot, vec![first], drawing.expect("this model's embeddings can be decoded on a device"))
}

fn finish(gpu: &mut Gpu, slot: usize, tokens: Vec<u32>, drawing: Drawing) -> Outcome {
    let logits = gpu.finish_drawing(drawing).unwrap();
    Outcome { tokens, logits, state: gpu.read_state(slot).unwrap() }
}

/// The last step ahead is always one too many.
fn on_the_device(gpu: &mut Gpu, prompt: &[u32], n: usize) -> Outcome {
    let (slot, mut tokens, mut drawing) = start(gpu, prompt);
    while tokens.len() < n {
        tokens.push(gpu.draw(&mut drawing, true).unwrap().unwrap());
    }
    let outcome = finish(gpu, slot, tokens, drawing);
    gpu.drop_state(slot);
    outcome
}

fn open(plan: &Arc<Plan>, options: GpuOptions) -> Gpu {
    Gpu::new(plan.clone(), &device(), options).unwrap()
}

#[test]
fn tokens_states_and_logits_are_those_of_the_host() {
    // Bindings that hold two states, and the embedding table (of Q4_0: no smaller than a state) in two parts.
    let models = [
        ("tiny-v7.st", 100_000),
        ("tiny-v7mini-f16.gguf", 33_000),
        ("tiny-v7c256-q4_0.gguf", 132_000),
        ("tiny-v7n32.st", 40_000),
    ];
    for (file, max_binding_n_bytes) in models {
        let plan = load(file);
        let unfused = GpuOptions { no_fusion: true, ..GpuOptions::default() };
        let split = GpuOptions { max_binding_n_bytes: Some(max_binding_n_bytes), ..GpuOptions::default() };
        for options in feature_sets().into_iter().chain([unfused, split]) {
            let mut gpu = open(&plan, options);
            let expected = on_the_host(&mut gpu, &PROMPT, 9);
            assert_eq!(on_the_device(&mut gpu, &PROMPT, 9), expected, "{file}, {options:?}");
        }
    }
}

#[test]
fn a_step_ahead_that_nobody_wants_has_not_happened() {
    let plan = load("tiny-v7.st");
    let mut gpu = open(&plan, GpuOptions::default());
    let expected = on_the_host(&mut gpu, &PROMPT, 12);
    for n_first in [1, 2, 5, 6] {
        let (slot, mut tokens, mut drawing) = start(&mut gpu, &PROMPT);
        while tokens.len() < n_first {
            tokens.push(gpu.draw(&mut drawing, true).unwrap().unwrap());
        }
        gpu.finish_drawing(drawing).unwrap();
        // The sequence goes on by itself, as a copy, and where it is restored.
        let (copy, restored) = (gpu.create_state().unwrap(), gpu.create_state().unwrap());
        gpu.copy_state(slot, copy).unwrap();
        let state = gpu.read_state(slot).unwrap();
        gpu.write_state(restored, &state).unwrap();
        for slot in [slot, copy, restored] {
            let mut tokens = tokens.clone();
            while tokens.len() < 12 {
                let logits = feed(&mut gpu, slot, &tokens[tokens.len() - 1..]);
                tokens.push(argmax(&logits));
            }
            assert_eq!(tokens, expected.tokens, "after {n_first}");
            assert_eq!(gpu.read_state(slot).unwrap(), expected.state, "after {n_first}");
            gpu.drop_state(slot);
        }
    }
}

#[test]
fn sequences_that_draw_leave_their_neighbours_alone() {
    let plan = load("tiny-v7mini-f16.gguf");
    let mut gpu = open(&plan, GpuOptions::default());
    let prompts: [&[u32]; 2] = [&PROMPT, &PROMPT[..2]];
    let expected = prompts.map(|prompt| on_the_host(&mut gpu, prompt, 8));
    let by_itself = gpu.create_state().unwrap();
    let others: Vec<u32> = (0..20).collect();
    let of_others = feed(&mut gpu, by_itself, &others);
    gpu.drop_state(by_itself);

    let neighbour = gpu.create_state().unwrap();
    let mut running = prompts.map(|prompt| start(&mut gpu, prompt));
    let mut read = 0;
    for round in 0..7 {
        for (_, tokens, drawing) in &mut running {
            tokens.push(gpu.draw(drawing, round < 6).unwrap().unwrap());
            // Steps of other sizes, and slots that come and go, replace the buffers that were bound.
            feed(&mut gpu, neighbour, &others[read..read + 1]);
            read += 1;
        }
        if round == 3 {
            let more: Vec<usize> = (0..5).map(|_| gpu.create_state().unwrap()).collect();
            feed(&mut gpu, more[4], &[1; 12]);
            more.into_iter().for_each(|slot| gpu.drop_state(slot));
        }
    }
    for ((slot, tokens, drawing), expected) in running.into_iter().zip(expected) {
        assert_eq!(finish(&mut gpu, slot, tokens, drawing), expected);
    }
    let mut last = vec![];
    others[read..].iter().for_each(|&token| last = feed(&mut gpu, neighbour, &[token]));
    let error = anser_model::cases::nmse(&last, &of_others);
    assert!(error <= crate::models::bound(GpuOptions::default()), "the neighbour: nmse {error:e}");
}

#[test]
fn only_sequences_that_exist_draw() {
    let plan = load("tiny-v7mini-f16.gguf");
    let mut gpu = open(&plan, GpuOptions::default());
    let slot = gpu.create_state().unwrap();
    assert!(gpu.start_drawing(slot + 1, 5, &greedy(), Shares::new(|| 1.0)).is_err());
    assert!(gpu.start_drawing(slot, 300, &greedy(), Shares::new(|| 1.0)).is_err());
    // One that has drawn nothing has no logits.
    let drawing = gpu.start_drawing(slot, 5, &greedy(), Shares::new(|| 1.0)).unwrap().unwrap();
    assert_eq!(gpu.finish_drawing(drawing).unwrap(), Vec::<f32>::new());
    assert_eq!(gpu.read_state(slot).unwrap(), vec![0.0; plan.state.len()]);

    // Where there is no room for a spare state, the host draws.
    let small = GpuOptions { max_binding_n_bytes: Some(20_000), ..GpuOptions::default() };
    let mut gpu = open(&plan, small);
    let slot = gpu.create_state().unwrap();
    assert!(gpu.start_drawing(slot, 5, &greedy(), Shares::new(|| 1.0)).unwrap().is_none());
    assert_eq!(feed(&mut gpu, slot, &[5]).len(), 300);
}
