//! Sequences that draw their own tokens against steps whose tokens the host draws: the same tokens, and the same bits of
//! states and logits, whatever ran ahead.

use crate::harness::{device, load, pairs_of_features};
use anser_gpu::{DrawOptions, Drawer, Drawing, DrawnFor, Gpu, GpuOptions, Seeds};
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

/// Reads one token of every sequence in one step and returns their logits.
fn feed_side_by_side(gpu: &mut Gpu, slots: &[usize], tokens: &[u32]) -> Vec<Vec<f32>> {
    let sequences: Vec<Sequence> = slots.iter().map(|&slot| Sequence { slot, n_tokens: 1 }).collect();
    let (outputs, reads): (Vec<u32>, _) = ((0..slots.len() as u32).collect(), [gpu.plan().logits.unwrap()]);
    let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
    let logits = gpu.step(&step).unwrap().swap_remove(0);
    logits.chunks_exact(logits.len() / slots.len()).map(<[f32]>::to_vec).collect()
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.unwrap().0 as u32
}

/// What a sequence has drawn, and where it stands: the last token is not read.
#[derive(Debug, Clone, PartialEq)]
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

fn drawer(slot: usize, token: u32) -> Drawer {
    Drawer { slot, token, options: greedy(), seeds: Seeds::new(|| 0) }
}

/// Lets sequences draw that have read their prompts; with their first tokens.
fn start_all(gpu: &mut Gpu, prompts: &[&[u32]]) -> (Vec<usize>, Vec<u32>, Drawing) {
    let slots: Vec<usize> = prompts.iter().map(|_| gpu.create_state().unwrap()).collect();
    let first: Vec<u32> = slots.iter().zip(prompts).map(|(&slot, prompt)| argmax(&feed(gpu, slot, prompt))).collect();
    let drawers = slots.iter().zip(&first).map(|(&slot, &token)| drawer(slot, token)).collect();
    let drawing = gpu.start_drawing(drawers).unwrap();
    (slots, first, drawing.expect("this model's embeddings can be decoded on a device"))
}

fn start(gpu: &mut Gpu, prompt: &[u32]) -> (usize, Vec<u32>, Drawing) {
    let (slots, first, drawing) = start_all(gpu, &[prompt]);
    (slots[0], first, drawing)
}

fn draw_one(gpu: &mut Gpu, drawing: &mut Drawing, goes_on: bool) -> u32 {
    gpu.draw(drawing, goes_on).unwrap()[0].token().unwrap()
}

fn finish(gpu: &mut Gpu, slot: usize, tokens: Vec<u32>, drawing: Drawing) -> Outcome {
    let logits = gpu.finish_drawing(drawing).unwrap().swap_remove(0);
    Outcome { tokens, logits, state: gpu.read_state(slot).unwrap() }
}

/// The last step ahead is always one too many.
fn on_the_device(gpu: &mut Gpu, prompt: &[u32], n: usize) -> Outcome {
    let (slot, mut tokens, mut drawing) = start(gpu, prompt);
    while tokens.len() < n {
        tokens.push(draw_one(gpu, &mut drawing, true));
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
        for options in pairs_of_features().into_iter().chain([unfused, split]) {
            let mut gpu = open(&plan, options);
            let expected = on_the_host(&mut gpu, &PROMPT, 9);
            assert_eq!(on_the_device(&mut gpu, &PROMPT, 9), expected, "{file}, {options:?}");
        }
    }
}

#[test]
fn a_step_ahead_that_is_not_asked_for_has_not_happened() {
    let plan = load("tiny-v7.st");
    let mut gpu = open(&plan, GpuOptions::default());
    let expected = on_the_host(&mut gpu, &PROMPT, 12);
    for n_first in [1, 2, 5, 6] {
        let (slot, mut tokens, mut drawing) = start(&mut gpu, &PROMPT);
        while tokens.len() < n_first {
            tokens.push(draw_one(&mut gpu, &mut drawing, true));
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
            tokens.push(draw_one(&mut gpu, drawing, round < 6));
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

/// How each of `prompts` stands after 1 to `n` tokens, in steps that all of them read.
fn side_by_side_on_the_host(gpu: &mut Gpu, prompts: &[&[u32]], n: usize) -> Vec<Vec<Outcome>> {
    let slots: Vec<usize> = prompts.iter().map(|_| gpu.create_state().unwrap()).collect();
    let mut logits: Vec<Vec<f32>> = slots.iter().zip(prompts).map(|(&slot, prompt)| feed(gpu, slot, prompt)).collect();
    let mut outcomes: Vec<Vec<Outcome>> = vec![vec![]; prompts.len()];
    for _ in 0..n {
        let mut last = vec![];
        for ((outcomes, &slot), logits) in outcomes.iter_mut().zip(&slots).zip(&logits) {
            let mut tokens = outcomes.last().map_or(vec![], |outcome| outcome.tokens.clone());
            tokens.push(argmax(logits));
            last.extend(tokens.last());
            outcomes.push(Outcome { tokens, logits: logits.clone(), state: gpu.read_state(slot).unwrap() });
        }
        logits = feed_side_by_side(gpu, &slots, &last);
    }
    slots.into_iter().for_each(|slot| gpu.drop_state(slot));
    outcomes
}

#[test]
fn sequences_side_by_side_leave_one_by_one() {
    const N: usize = 8;
    /// After how many tokens each leaves; the others stay to the end.
    const LEAVES: [usize; 6] = [5, 3, 5, 7, 2, 6];
    let text: Vec<u32> = (0..40).map(|i| (i * 37 + 5) % 300).collect();
    for file in ["tiny-v7.st", "tiny-v7mini-f16.gguf", "tiny-v7c256-q4_0.gguf"] {
        let plan = load(file);
        // By mat-vecs, and by tiles.
        for (n_sequences, exact) in [(3, false), (3, true), (12, false), (12, true)] {
            let mut gpu = open(&plan, GpuOptions { exact, ..GpuOptions::default() });
            let prompts: Vec<&[u32]> = (0..n_sequences).map(|i| &text[i..2 * i + 3]).collect();
            let expected = side_by_side_on_the_host(&mut gpu, &prompts, N);

            let (slots, first, mut drawing) = start_all(&mut gpu, &prompts);
            let mut found: Vec<Vec<u32>> = first.into_iter().map(|token| vec![token]).collect();
            let leaves = |i: usize| LEAVES.get(i).copied().unwrap_or(N);
            let neighbour = gpu.create_state().unwrap();
            let mut at_rest = vec![];
            for n in 2..=N {
                let tokens = gpu.draw(&mut drawing, true).unwrap();
                for (i, drawn) in tokens.into_iter().enumerate() {
                    let token = drawn.token();
                    assert_eq!(token.is_some(), n <= leaves(i), "{file}: {i} of {n_sequences}, token {n}");
                    found[i].extend(token);
                }
                let leaving: Vec<usize> = (0..n_sequences).filter(|&i| leaves(i) == n && n < N).collect();
                let logits = gpu.leave_drawing(&mut drawing, &leaving).unwrap();
                for (&i, logits) in leaving.iter().zip(logits) {
                    let state = gpu.read_state(slots[i]).unwrap();
                    let outcome = Outcome { tokens: found[i].clone(), logits, state };
                    assert_eq!(outcome, expected[i][n - 1], "{file}: {i} of {n_sequences} after {n}");
                    // Its slot may be given away, and written to.
                    let mut slot = slots[i];
                    if i % 2 == 1 {
                        gpu.drop_state(slot);
                        slot = gpu.create_state().unwrap();
                        feed(&mut gpu, slot, &text[..n]);
                    }
                    at_rest.push((slot, gpu.read_state(slot).unwrap()));
                }
                if n == 4 {
                    feed(&mut gpu, neighbour, &text);
                }
            }
            let staying: Vec<usize> = (0..n_sequences).filter(|&i| leaves(i) == N).collect();
            let logits = gpu.finish_drawing(drawing).unwrap();
            assert_eq!(logits.len(), staying.len());
            for (slot, state) in at_rest {
                assert_eq!(gpu.read_state(slot).unwrap(), state, "{file}: slot {slot}, whose sequence has left");
            }
            for (i, logits) in staying.into_iter().zip(logits) {
                let state = gpu.read_state(slots[i]).unwrap();
                let outcome = Outcome { tokens: found[i].clone(), logits, state };
                assert_eq!(outcome, expected[i][N - 1], "{file}: {i} of {n_sequences} at the end");
            }
        }
    }
}

/// Draws with `seed` as every random number from all tokens, with a bias that other sequences do not have.
fn sampled(seed: u32) -> (DrawOptions, Seeds) {
    let logit_bias = vec![(7, 3.0), (11, -2.0)];
    let options = DrawOptions { greedy: false, presence_penalty: 0.7, logit_bias, ..greedy() };
    (options, Seeds::new(move || seed))
}

/// What a drawing of one sequence draws.
fn alone(gpu: &mut Gpu, prompt: &[u32], sampler: (DrawOptions, Seeds), n: usize) -> Outcome {
    let slot = gpu.create_state().unwrap();
    let mut tokens = vec![argmax(&feed(gpu, slot, prompt))];
    let (options, seeds) = sampler;
    let drawer = Drawer { slot, token: tokens[0], options, seeds };
    let mut drawing = gpu.start_drawing(vec![drawer]).unwrap().unwrap();
    while tokens.len() < n {
        tokens.push(draw_one(gpu, &mut drawing, true));
    }
    let outcome = finish(gpu, slot, tokens, drawing);
    gpu.drop_state(slot);
    outcome
}

/// Sequences come and go in a drawing of three rows, each from its own prompt, greedy and sampled ones in turn. Each has the tokens
/// that it has alone, and its state and logits at the end, whatever had its row before.
#[test]
fn sequences_take_over_the_rows_of_those_that_have_left() {
    let text: Vec<u32> = (0..60).map(|i| (i * 37 + 5) % 300).collect();
    let plan = load("tiny-v7.st");
    for goes_on in [true, false] {
        let mut gpu = open(&plan, GpuOptions { exact: true, ..GpuOptions::default() });
        let lengths = [4, 9, 6, 3, 12, 5, 7, 8, 3];
        let prompt = |i: usize| &text[i..2 * i + 3];
        let sampler = |i: usize| match i % 3 {
            2 => sampled(i as u32),
            _ => (greedy(), Seeds::new(|| 0)),
        };
        let expected: Vec<Outcome> =
            lengths.iter().enumerate().map(|(i, &n)| alone(&mut gpu, prompt(i), sampler(i), n)).collect();

        let begin = |gpu: &mut Gpu, i: usize| {
            let slot = gpu.create_state().unwrap();
            let first = argmax(&feed(gpu, slot, prompt(i)));
            let (options, seeds) = sampler(i);
            (slot, vec![first], Drawer { slot, token: first, options, seeds })
        };
        let (slot, tokens, drawer) = begin(&mut gpu, 0);
        let mut drawing = gpu.start_drawing_with_room(vec![drawer], 3).unwrap().unwrap();
        // For each row: the sequence, its slot and its tokens.
        let mut rows = [Some((0, slot, tokens)), None, None];
        let (mut next, mut n_done) = (1, 0);
        while n_done < lengths.len() {
            while next < lengths.len() && rows.iter().any(Option::is_none) {
                let (slot, tokens, drawer) = begin(&mut gpu, next);
                let at = gpu.join_drawing(&mut drawing, drawer).unwrap().expect("a row is free");
                assert!(rows[at].is_none(), "row {at} is taken");
                rows[at] = Some((next, slot, tokens));
                next += 1;
            }
            let drawn = gpu.draw(&mut drawing, goes_on).unwrap();
            for (row, drawn) in rows.iter_mut().zip(drawn) {
                match (row, drawn) {
                    (Some((_, _, tokens)), DrawnFor::Token(token)) => tokens.push(token),
                    // It has joined while the device was a step ahead.
                    (Some((i, _, tokens)), DrawnFor::Nothing) => {
                        assert!(goes_on && tokens.len() == 1, "sequence {i} after {} tokens", tokens.len());
                    }
                    (None, DrawnFor::Nothing) => {}
                    (row, drawn) => panic!("{row:?}: {drawn:?}"),
                }
            }
            for (at, row) in rows.iter_mut().enumerate() {
                let Some((i, slot, tokens)) = row.take_if(|(i, _, tokens)| tokens.len() == lengths[*i]) else {
                    continue;
                };
                let logits = gpu.leave_drawing(&mut drawing, &[at]).unwrap().swap_remove(0);
                let state = gpu.read_state(slot).unwrap();
                gpu.drop_state(slot);
                let Outcome { tokens: expected_tokens, logits: expected_logits, state: expected_state } = &expected[i];
                assert_eq!(&tokens, expected_tokens, "sequence {i}");
                // Steps of one and of three tokens sum in another order.
                for (what, found, expected) in [("logits", &logits, expected_logits), ("state", &state, expected_state)]
                {
                    let error = anser_model::cases::nmse(found, expected);
                    assert!(error <= 1e-9, "{what} of sequence {i}: nmse {error:e}");
                }
                n_done += 1;
            }
        }
    }
}

/// A row that was taken over has the logits of the sequence before it until the new one has drawn a token; they are not handed out.
#[test]
fn a_sequence_that_has_drawn_nothing_gets_no_logits_of_another() {
    let mut gpu = open(&load("tiny-v7mini-f16.gguf"), GpuOptions::default());
    let (slots, _, mut drawing) = start_all(&mut gpu, &[&PROMPT, &PROMPT[..2]]);
    gpu.draw(&mut drawing, true).unwrap();
    assert_eq!(gpu.leave_drawing(&mut drawing, &[1]).unwrap()[0].len(), 300);
    let slot = gpu.create_state().unwrap();
    assert!(gpu.join_drawing(&mut drawing, drawer(slots[0], 5)).is_err(), "its sequence draws already");
    assert!(gpu.join_drawing(&mut drawing, drawer(slot, 300)).is_err(), "there is no such token");
    assert_eq!(gpu.join_drawing(&mut drawing, drawer(slot, 5)).unwrap(), Some(1));
    let other = gpu.create_state().unwrap();
    assert_eq!(gpu.join_drawing(&mut drawing, drawer(other, 5)).unwrap(), None, "both rows are taken");
    // The step ahead was submitted before it joined.
    let drawn = gpu.draw(&mut drawing, true).unwrap();
    assert!(drawn[0].token().is_some() && drawn[1] == DrawnFor::Nothing, "{drawn:?}");
    assert_eq!(gpu.leave_drawing(&mut drawing, &[1]).unwrap(), [Vec::<f32>::new()]);
    assert_eq!(gpu.read_state(slot).unwrap(), vec![0.0; gpu.plan().state.len()]);
    drawing.forget(0);
    assert!(gpu.draw(&mut drawing, false).unwrap().iter().all(|&drawn| drawn == DrawnFor::Nothing));
    assert!(gpu.finish_drawing(drawing).unwrap().is_empty());
}

#[test]
fn only_sequences_that_exist_draw() {
    let plan = load("tiny-v7mini-f16.gguf");
    let mut gpu = open(&plan, GpuOptions::default());
    let slot = gpu.create_state().unwrap();
    assert!(gpu.start_drawing(vec![drawer(slot + 1, 5)]).is_err());
    assert!(gpu.start_drawing(vec![drawer(slot, 300)]).is_err());
    assert!(gpu.start_drawing(vec![drawer(slot, 5), drawer(slot, 5)]).is_err());
    assert!(gpu.start_drawing(vec![]).is_err());
    // One that has drawn nothing has no logits.
    let drawing = gpu.start_drawing(vec![drawer(slot, 5)]).unwrap().unwrap();
    assert_eq!(gpu.finish_drawing(drawing).unwrap(), [Vec::<f32>::new()]);
    assert_eq!(gpu.read_state(slot).unwrap(), vec![0.0; plan.state.len()]);

    // Where there is no room for a spare state, the host draws.
    let small = GpuOptions { max_binding_n_bytes: Some(20_000), ..GpuOptions::default() };
    let mut gpu = open(&plan, small);
    let slot = gpu.create_state().unwrap();
    assert!(gpu.start_drawing(vec![drawer(slot, 5)]).unwrap().is_none());
    assert_eq!(feed(&mut gpu, slot, &[5]).len(), 300);
}
