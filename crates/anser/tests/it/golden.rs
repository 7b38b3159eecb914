//! The demo model against package `rwkv` on torch (`pip`) and, for every quantized type, against the same code on the
//! dequantized weights (`dequant-TYPE`).

use crate::fixtures::{EXPECTED, Oracle, TYPES, argmax, demo, demo_path, prompt, trained_ids, vector};
use anser::{EmbedOptions, Model, Pooling, Session, Want, Which};
use anser_cpu::{Cpu, Mode};
use anser_model::cases::nmse;
use anser_model::{Sequence, Step};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The bounds on the error of the last token's logits by the threaded executor.
pub(crate) struct Bounds {
    /// The bound on the NMSE of all logits. F32 sums in another order give 1e-12. Int8 activations (one scale per 32)
    /// have an error of about 1/256 of the largest of 32, which gives 1e-5 to 3e-4 after six layers.
    pub(crate) nmse: f64,
    /// The bound on the error of one logit. Logits have a standard deviation of 4 to 5.7.
    pub(crate) max_abs: f32,
}

pub(crate) fn bounds(file_type: &str) -> Bounds {
    match file_type {
        "f16" => Bounds { nmse: 1e-6, max_abs: 0.01 },
        _ => Bounds { nmse: 1e-3, max_abs: 0.75 },
    }
}

pub(crate) fn max_abs(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

pub(crate) fn pick(logits: &[f32], ids: impl IntoIterator<Item = usize>) -> Vec<f32> {
    ids.into_iter().map(|id| logits[id]).collect()
}

#[test]
fn reference_logits_equal_torch_on_every_type() {
    let ids = trained_ids();
    std::thread::scope(|scope| {
        for file in
            ["demo.st", "demo-f16.gguf", "demo-q8_0.gguf", "demo-q6_k.gguf", "demo-q5_k_m.gguf", "demo-q4_k_m.gguf"]
        {
            let ids = &ids;
            scope.spawn(move || {
                let file_type = file.strip_prefix("demo-").and_then(|f| f.strip_suffix(".gguf")).unwrap_or("f16");
                let model = anser_format::ModelFile::open(demo_path(file)).unwrap();
                let plan = Arc::new(anser_model::load(&model).unwrap().1);
                let options = anser_cpu::Options { mode: Mode::Reference, ..Default::default() };
                let mut cpu = Cpu::new(plan.clone(), options).unwrap();
                for name in ["story", "mail"] {
                    let tokens = &prompt(name).feed;
                    let sequences = [Sequence { slot: cpu.create_state(), n_tokens: tokens.len() }];
                    let reads = [plan.logits.unwrap()];
                    let outputs = [tokens.len() as u32 - 1];
                    let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
                    let logits = cpu.step(&step).unwrap().swap_remove(0);
                    let expected = vector(&format!("{file_type}.dequant.logits.{name}"));
                    let error = nmse(&pick(&logits, ids.iter().copied()), &expected);
                    assert!(error <= 1e-9, "{file} {name}: nmse {error:e}");
                    let untrained = logits.iter().enumerate().filter(|(id, _)| !ids.contains(id));
                    assert!(untrained.map(|(_, x)| x.abs()).fold(0.0, f32::max) <= 1e-6, "{file} {name}");
                }
            });
        }
    });
}

#[test]
fn logits_of_every_prompt_and_type_are_within_bounds() {
    for file_type in TYPES {
        let model = demo(&format!("demo-{file_type}.gguf"));
        let bounds = bounds(file_type);
        for prompt in &EXPECTED.prompts {
            let mut session = model.session().unwrap();
            session.feed(&prompt.feed).unwrap();
            let top = &prompt.oracles[&format!("dequant-{file_type}")].top;
            let logits = pick(session.logits(), top.ids.iter().map(|&id| id as usize));
            let error = max_abs(&logits, &top.values);
            assert!(error <= bounds.max_abs, "{file_type} {}: top logits differ by {error}", prompt.name);
        }
        for name in ["story", "mail", "long-600"] {
            let mut session = model.session().unwrap();
            session.feed(&prompt(name).feed).unwrap();
            let logits = pick(session.logits(), trained_ids());
            let error = nmse(&logits, &vector(&format!("{file_type}.dequant.logits.{name}")));
            assert!(error <= bounds.nmse, "{file_type} {name}: nmse {error:e}");
        }
    }
}

#[test]
fn safetensors_and_gguf_of_the_same_numbers_give_the_same_logits() {
    for name in ["story", "mail", "long-600"] {
        let mut session = demo("demo.st").session().unwrap();
        session.feed(&prompt(name).feed).unwrap();
        let error = nmse(session.logits(), &vector(&format!("logits.{name}")));
        assert!(error <= bounds("f16").nmse, "{name}: nmse {error:e}");
    }
}

/// Greedy continuation; checks that the first token that differs from the oracle's was a near tie.
pub(crate) fn check_greedy(session: &mut Session, oracle: &Oracle, tie: f32, at: &str) {
    for (step, &expected) in oracle.greedy.iter().enumerate() {
        let logits = session.logits();
        let token = argmax(logits);
        if token != expected {
            let gap = logits[token as usize] - logits[expected as usize];
            assert!(gap <= tie, "{at}: step {step} gives {token}, not {expected}, by {gap}");
            return;
        }
        session.feed(&[token]).unwrap();
    }
}

#[test]
fn greedy_continuations_follow_the_oracle() {
    for file_type in TYPES {
        let model = demo(&format!("demo-{file_type}.gguf"));
        for prompt in &EXPECTED.prompts {
            let mut session = model.session().unwrap();
            session.feed(&prompt.feed).unwrap();
            // F16 is exact: all 48 tokens. Else both logits of a tie may be off by the stated error.
            let tie = if file_type == "f16" { 0.0 } else { 2.0 * bounds(file_type).max_abs };
            let oracle = &prompt.oracles[&format!("dequant-{file_type}")];
            check_greedy(&mut session, oracle, tie, &format!("{file_type} {}", prompt.name));
        }
    }
}

#[test]
fn prompts_encode_to_the_official_ids() {
    let model = Model::embedded(&Default::default()).unwrap();
    for prompt in &EXPECTED.prompts {
        assert_eq!(model.encode(&prompt.text).unwrap(), prompt.ids, "{}", prompt.name);
    }
}

#[test]
fn states_and_hidden_rows_equal_torch() {
    let model = demo("demo-f16.gguf");
    let bound = bounds("f16").nmse;
    let mut session = model.session().unwrap();
    session.feed(&prompt("chat-memory").feed).unwrap();
    let state = session.state().unwrap();
    for (part, oracle) in [("att_shift", "att_x"), ("wkv", "wkv"), ("ffn_shift", "ffn_x")] {
        let layer = |l| vector(&format!("state.chat-memory.{l}.{oracle}"));
        let expected: Vec<f32> = (0..model.config().n_layer).flat_map(layer).collect();
        let error = nmse(state.part(part).unwrap(), &expected);
        assert!(error <= bound, "{part}: nmse {error:e}");
    }
    for name in ["story", "chat", "mail", "long-600"] {
        let tokens = &prompt(name).feed;
        let embed = |pooling| model.embed(tokens, &EmbedOptions { pooling, ..EmbedOptions::default() }).unwrap();
        // llama.cpp rounds activations to f16 before every product.
        let error = nmse(&embed(Pooling::Last), &vector(&format!("f16.llama.hidden_last.{name}")));
        assert!(error <= 1e-5, "{name}: nmse {error:e} to llama.cpp's hidden row");

        let mut session = model.session().unwrap();
        let want = Want { hidden: Which::Last, logits: Which::None };
        let mut row = |&token| session.feed_for(&[token], want, |_, _| ControlFlow::Continue(())).unwrap().hidden;
        let rows: Vec<Vec<f32>> = tokens.iter().map(&mut row).collect();
        let mean = |i| rows.iter().map(|row| f64::from(row[i])).sum::<f64>() / rows.len() as f64;
        let mean: Vec<f32> = (0..model.config().n_embd).map(|i| mean(i) as f32).collect();
        let error = nmse(&embed(Pooling::Mean), &mean);
        assert!(error <= 1e-10, "{name}: nmse {error:e} to the mean of rows read one by one");
    }
}

/// The trained rows of the head outnumber the hidden row's elements, so that only one hidden row gives torch's logits.
#[test]
fn the_head_times_the_hidden_row_gives_the_logits_of_torch() {
    let model = demo("demo-f16.gguf");
    let plan = model.plan();
    let head = plan.weights.iter().find(|w| w.name() == "head.weight").unwrap();
    let mut weights = vec![0.0; model.config().n_embd];
    for name in ["story", "mail", "long-600"] {
        let hidden = model.embed(&prompt(name).feed, &EmbedOptions::default()).unwrap();
        let mut dot = |id: usize| {
            anser_format::quant::dequantize(head.dtype(), head.row(id), &mut weights);
            weights.iter().zip(&hidden).map(|(&w, &h)| f64::from(w) * f64::from(h)).sum::<f64>() as f32
        };
        let logits: Vec<f32> = trained_ids().into_iter().map(&mut dot).collect();
        let error = nmse(&logits, &pick(&vector(&format!("logits.{name}")), trained_ids()));
        assert!(error <= 1e-9, "{name}: nmse {error:e}");
    }
}

#[test]
fn perplexity_is_within_half_a_percent_on_every_type() {
    let text = std::fs::read(crate::fixtures::root().join("fixtures/expected/perplexity.txt")).unwrap();
    for file_type in TYPES {
        let model = demo(&format!("demo-{file_type}.gguf"));
        let tokens = &model.encode(&text).unwrap()[..4000];
        let result = model.perplexity(tokens, |_, _| ControlFlow::Continue(())).unwrap();
        let expected = EXPECTED.ppl[&format!("dequant-{file_type}")].perplexity;
        let relative = (result.perplexity() / expected - 1.0).abs();
        assert!(relative <= 0.005, "{file_type}: {} instead of {expected}", result.perplexity());
        if file_type == "f16" {
            let error = max_abs(&result.nll, &vector("perplexity.nll"));
            assert!(error <= 2e-3, "f16: a token's nll is off by {error}");
        }
    }
}

#[test]
fn chunk_sizes_give_the_same_logits() {
    // A sum in another order may differ in its last bit, and where such a sum is then rounded to int8, by one step of it:
    // 1/254 of the largest of 32 activations.
    for (file, bound) in [("demo-f16.gguf", 1e-10), ("demo-q4_k_m.gguf", 1e-4)] {
        let model = demo(file);
        let tokens = &prompt("long-600").feed;
        let logits = |chunk| {
            let mut session = model.session().unwrap();
            session.feed_chunked(tokens, Want::LOGITS, chunk, |_, _| ControlFlow::Continue(())).unwrap().logits
        };
        let expected = logits(1);
        for chunk in [7, 64, 256] {
            let error = nmse(&logits(chunk), &expected);
            assert!(error <= bound, "{file}: chunks of {chunk}: nmse {error:e}");
        }
    }
}

#[test]
fn every_row_is_handed_back_in_order() {
    let model = demo("demo-f16.gguf");
    let tokens = &prompt("mail").feed;
    let want = Want { logits: Which::All, hidden: Which::All };
    let all = |chunk| {
        let mut session = model.session().unwrap();
        session.feed_chunked(tokens, want, chunk, |_, _| ControlFlow::Continue(())).unwrap()
    };
    let (one, seven) = (all(1), all(7));
    assert_eq!(one.logits.len(), tokens.len() * model.config().n_vocab);
    assert!(nmse(&seven.logits, &one.logits) <= 1e-10);
    assert!(nmse(&seven.hidden, &one.hidden) <= 1e-10);
    let last = &one.hidden[one.hidden.len() - model.config().n_embd..];
    assert!(nmse(last, &vector("f16.llama.hidden_last.mail")) <= 1e-5);
}
