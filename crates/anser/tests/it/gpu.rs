//! The demo model on a GPU: the same oracles as on the CPU, and both devices with each other's states.
//!
//! Runs on the first adapter, Mesa's software one where there is no other; without any it fails.

use crate::fixtures::{EXPECTED, TYPES, argmax, demo, demo_path, prompt, trained_ids, vector};
use crate::generations::{one_by_one, side_by_side};
use crate::golden::{bounds, check_greedy, max_abs, pick};
use anser::{Device, EmbedOptions, GenerateOptions, Layer, Model, Options, Pooling, PrefixCache, SamplerOptions, Want};
use anser::{FinishReason, Sampler, SamplerOrder, Session};
use anser_model::cases::nmse;
use std::ops::ControlFlow;

/// The bound on the NMSE of logits. Tiles of matrix products round activations to f16 (11 bits: 1e-7 per product, up to
/// 1e-5 after six layers), and products of few tokens with quantized weights to 8 bits (see `golden::bounds` for the
/// same rounding on the CPU).
const NMSE: f64 = 1e-4;
/// The bound on the error of one logit if activations are f32 and only the order of sums differs. Logits have a
/// standard deviation of 4 to 5.7.
const MAX_ABS_EXACT: f32 = 1e-2;
/// The bound on the error of one logit if activations are rounded to f16.
const MAX_ABS_HALF: f32 = 0.1;

fn gpu() -> Options {
    Options { device: "gpu:0".parse::<Device>().unwrap(), ..Options::default() }
}

#[test]
fn exact_logits_follow_the_oracle_closely() {
    for file_type in ["q8_0", "q4_k_m"] {
        let options = Options { exact: true, ..gpu() };
        let model = Model::load(demo_path(&format!("demo-{file_type}.gguf")), &options).unwrap();
        for prompt in &EXPECTED.prompts {
            let mut session = model.session().unwrap();
            // A few tokens by mat-vecs, the others by tiles.
            let (head, tail) = prompt.feed.split_at(prompt.feed.len().min(5));
            session.feed(head).unwrap();
            session.feed(tail).unwrap();
            let top = &prompt.oracles[&format!("dequant-{file_type}")].top;
            let error = max_abs(&pick(session.logits(), top.ids.iter().map(|&id| id as usize)), &top.values);
            assert!(error <= MAX_ABS_EXACT, "{file_type} {}: top logits differ by {error}", prompt.name);
        }
    }
}

fn demo_on_gpu(name: &str) -> Model {
    Model::load(demo_path(name), &gpu()).expect("a GPU or Mesa's software adapter (scripts/test installs it)")
}

#[test]
fn logits_and_greedy_text_follow_the_oracle_on_every_type() {
    for file_type in TYPES {
        let model = demo_on_gpu(&format!("demo-{file_type}.gguf"));
        let max_abs_bound = if file_type == "f16" { MAX_ABS_HALF } else { bounds(file_type).max_abs };
        for name in ["story", "mail", "long-600"] {
            let mut session = model.session().unwrap();
            session.feed(&prompt(name).feed).unwrap();
            let logits = pick(session.logits(), trained_ids());
            let error = nmse(&logits, &vector(&format!("{file_type}.dequant.logits.{name}")));
            assert!(error <= NMSE, "{file_type} {name}: nmse {error:e}");
        }
        for (i, prompt) in EXPECTED.prompts.iter().enumerate() {
            let oracle = &prompt.oracles[&format!("dequant-{file_type}")];
            let mut session = model.session().unwrap();
            session.feed(&prompt.feed).unwrap();
            let top = pick(session.logits(), oracle.top.ids.iter().map(|&id| id as usize));
            let error = max_abs(&top, &oracle.top.values);
            assert!(error <= max_abs_bound, "{file_type} {}: top logits differ by {error}", prompt.name);
            // A software adapter needs 10 to 40 ms a token: all texts for F16, every fourth for the others.
            if file_type == "f16" || i % 4 == 0 {
                let tie = if file_type == "f16" { 0.0 } else { 2.0 * max_abs_bound };
                check_greedy(&mut session, oracle, tie, &format!("{file_type} {}", prompt.name));
            }
        }
    }
}

#[test]
fn both_devices_write_the_same_text() {
    let sampler = SamplerOptions::greedy();
    let options = GenerateOptions { sampler, max_tokens: 48, ..GenerateOptions::default() };
    let text = |options_of_model: &Options| {
        let model = Model::embedded(options_of_model).unwrap();
        model.session().unwrap().generate_text("Once upon a time", &options).unwrap().text().unwrap()
    };
    // In 8 bits each device rounds in its own way, and texts part at the first near tie.
    let cpu = Options { device: Device::Cpu, exact: true, ..Options::default() };
    assert_eq!(text(&Options { exact: true, ..gpu() }), text(&cpu));
}

#[test]
fn states_move_between_devices() {
    let (cpu, gpu) = (demo("demo-f16.gguf"), demo_on_gpu("demo-f16.gguf"));
    let (head, tail) = prompt("mail").feed.split_at(50);
    let mut expected = cpu.session().unwrap();
    expected.feed(&prompt("mail").feed).unwrap();
    for (first, second) in [(&cpu, &gpu), (&gpu, &cpu)] {
        let mut session = first.session().unwrap();
        session.feed(head).unwrap();
        let state = session.state().unwrap();
        let mut same = second.session().unwrap();
        same.feed(head).unwrap();
        let error = nmse(same.state().unwrap().data(), state.data());
        assert!(error <= NMSE, "states: nmse {error:e}");
        let mut session = second.session().unwrap();
        session.restore(&state).unwrap();
        session.feed(tail).unwrap();
        let error = nmse(session.logits(), expected.logits());
        assert!(error <= NMSE, "nmse {error:e}");
    }
}

#[test]
fn chunks_forks_and_restored_states_go_on_as_one() {
    let model = demo_on_gpu("demo-q4_k_m.gguf");
    let tokens = &prompt("long-600").feed[..300];
    let logits = |chunk| {
        let mut session = model.session().unwrap();
        session.feed_chunked(tokens, Want::LOGITS, chunk, |_, _| ControlFlow::Continue(())).unwrap().logits
    };
    let expected = logits(300);
    for chunk in [7, 64] {
        let error = nmse(&logits(chunk), &expected);
        assert!(error <= NMSE, "chunks of {chunk}: nmse {error:e}");
    }
    let mut session = model.session().unwrap();
    session.feed(&tokens[..290]).unwrap();
    let state = session.state().unwrap();
    let mut fork = session.fork().unwrap();
    session.feed(&tokens[290..]).unwrap();
    let (expected, state_after) = (session.logits().to_vec(), session.state().unwrap());
    fork.feed(&tokens[290..]).unwrap();
    assert_eq!(fork.logits(), expected);
    assert_eq!(fork.state().unwrap(), state_after);
    session.restore(&state).unwrap();
    session.feed(&tokens[290..]).unwrap();
    assert_eq!(session.logits(), expected);

    // The state passes through a file, and through caches in main memory and on the device.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.safetensors");
    let mut session = model.session().unwrap();
    session.feed(&tokens[..290]).unwrap();
    session.save_state(&path).unwrap();
    let mut loaded = model.session().unwrap();
    loaded.load_state(&path).unwrap();
    loaded.feed(&tokens[290..]).unwrap();
    assert_eq!(loaded.logits(), expected);
    for mut cache in [PrefixCache::new(&model, 1 << 24), PrefixCache::on_device(&model, 1 << 24)] {
        cache.insert(&tokens[..290], &mut session).unwrap();
        let (mut session, n_reused) = cache.read(tokens).unwrap();
        assert_eq!((n_reused, session.logits()), (290, &expected[..]));
        assert_eq!(session.state().unwrap(), state_after);
    }
}

#[test]
fn embeddings_in_a_batch_equal_those_of_the_cpu() {
    let (cpu, gpu) = (demo("demo-f16.gguf"), demo_on_gpu("demo-f16.gguf"));
    let texts: Vec<Vec<u32>> = EXPECTED.prompts.iter().map(|p| p.ids.clone()).collect();
    let cases = [
        (Pooling::Last, Layer::Final),
        (Pooling::Mean, Layer::Final),
        (Pooling::MeanOf(45), Layer::Final),
        (Pooling::Last, Layer::Residual(3)),
    ];
    for (pooling, layer) in cases {
        let options = EmbedOptions { pooling, layer, normalize: false, ..EmbedOptions::default() };
        let error = nmse(&gpu.embed_batch(&texts, &options).unwrap(), &cpu.embed_batch(&texts, &options).unwrap());
        assert!(error <= NMSE, "{options:?}: nmse {error:e}");
    }
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens, ..GenerateOptions::default() }
}

/// Checks that `session` has the same bits as a session that has read the prompt and then, one by one, all of `tokens`
/// but the last `pending` ones.
fn assert_stands_after(session: &mut Session, prompt: &[u32], tokens: &[u32], pending: usize, at: &str) {
    let (read, unread) = tokens.split_at(tokens.len() - pending);
    assert_eq!(session.pending(), unread, "{at}");
    assert_eq!(session.n_tokens(), prompt.len() + read.len(), "{at}");
    let mut expected = session.model().session().unwrap();
    expected.feed(prompt).unwrap();
    read.iter().for_each(|&token| expected.feed(&[token]).unwrap());
    assert_eq!(session.logits(), expected.logits(), "{at}");
    unread.iter().for_each(|&token| expected.feed(&[token]).unwrap());
    let mut fork = session.fork().unwrap();
    assert_eq!(session.state().unwrap(), expected.state().unwrap(), "{at}");
    assert_eq!(fork.state().unwrap(), expected.state().unwrap(), "{at}");
}

#[test]
fn a_generation_leaves_the_session_after_its_last_token_however_it_ends() {
    const N: usize = 48;
    for file in ["demo-f16.gguf", "demo-q4_k_m.gguf"] {
        let model = demo_on_gpu(file);
        let prompt = model.encode("Once upon a time").unwrap();
        let mut session = model.session().unwrap();
        let mut generation = session.generate(&prompt, &greedy(N)).unwrap();
        let whole = generation.text().unwrap();
        let tokens = generation.tokens().to_vec();
        assert_eq!((tokens.len(), generation.finish_reason()), (N, Some(FinishReason::Length)));
        drop(generation);
        assert_stands_after(&mut session, &prompt, &tokens, 1, "as many as asked for");

        // The host draws the same tokens.
        let mut by_host = model.session().unwrap();
        by_host.feed(&prompt).unwrap();
        for &token in &tokens {
            assert_eq!(argmax(by_host.logits()), token, "{file}");
            by_host.feed(&[token]).unwrap();
        }

        // A token that is not among those before it, where the device is already a step ahead.
        let at = (20..N).find(|&at| !tokens[..at].contains(&tokens[at])).expect("a new token among so many");
        let mut session = model.session().unwrap();
        let options = GenerateOptions { stop_tokens: Some(vec![tokens[at]]), ..greedy(N) };
        let mut generation = session.generate(&prompt, &options).unwrap();
        generation.text().unwrap();
        assert_eq!(generation.finish_reason(), Some(FinishReason::StopToken(tokens[at])));
        drop(generation);
        assert_stands_after(&mut session, &prompt, &tokens[..at], 0, "a stop token");

        let stop: String = whole[whole.len() / 2..].split_inclusive(' ').skip(1).take(2).collect();
        let mut session = model.session().unwrap();
        let options = GenerateOptions { stop: vec![stop], ..greedy(N) };
        let mut generation = session.generate(&prompt, &options).unwrap();
        generation.text().unwrap();
        assert_eq!(generation.finish_reason(), Some(FinishReason::StopText(0)));
        let n = generation.tokens().len();
        drop(generation);
        assert_stands_after(&mut session, &prompt, &tokens[..n], 1, "a stop text");

        for n_pieces in [1, 2, 3, 10] {
            for cancels in [false, true] {
                let mut session = model.session().unwrap();
                let options = greedy(N);
                let mut generation = session.generate(&prompt, &options).unwrap();
                for _ in 0..n_pieces {
                    generation.next().unwrap().unwrap();
                }
                if cancels {
                    options.cancel.cancel();
                    assert!(generation.all(|piece| piece.is_ok()));
                    assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
                }
                let n = generation.tokens().len();
                drop(generation);
                assert_stands_after(&mut session, &prompt, &tokens[..n], 1, "left early");
                // The session continues as if it had never stopped.
                let mut rest = session.generate(&[], &greedy(N - n)).unwrap();
                rest.text().unwrap();
                assert_eq!([&tokens[..n], rest.tokens()].concat(), tokens, "{file} after {n}");
            }
        }
    }
}

#[test]
fn a_gpu_draws_the_tokens_that_the_host_would_draw() {
    const N: usize = 40;
    let model = demo_on_gpu("demo-f16.gguf");
    let prompt = model.encode("Once upon a time").unwrap();
    let common = SamplerOptions { order: SamplerOrder::Common, top_k: 20, ..SamplerOptions::plain() };
    for sampler in [SamplerOptions::default(), SamplerOptions::thinking(), SamplerOptions::plain(), common] {
        let sampler = SamplerOptions { seed: Some(11), ..sampler };
        let options = GenerateOptions {
            sampler: sampler.clone(),
            max_tokens: N,
            stop_tokens: Some(vec![]),
            ..GenerateOptions::default()
        };
        let mut session = model.session().unwrap();
        let mut generation = session.generate(&prompt, &options).unwrap();
        generation.text().unwrap();
        let tokens = generation.tokens().to_vec();
        drop(generation);

        let mut by_host = model.session().unwrap();
        by_host.feed(&prompt).unwrap();
        let mut drawn = Sampler::new(sampler.clone(), anser::sampler::uncounted_tokens(model.tokenizer().unwrap()));
        for (i, &token) in tokens.iter().enumerate() {
            assert_eq!(drawn.sample(by_host.logits()).unwrap(), token, "token {i}, {sampler:?}");
            drawn.accept(token);
            by_host.feed(&[token]).unwrap();
        }
        assert_eq!(tokens.len(), N);
    }
}

#[test]
fn texts_side_by_side_are_those_of_one_by_one() {
    /// The bound between steps of one token and of several, which sum in another order.
    const NMSE_EXACT: f64 = 1e-9;
    // In 8 bits texts part at the first near tie.
    let options = Options { exact: true, ..gpu() };
    let model = Model::load(demo_path("demo-q8_0.gguf"), &options).unwrap();
    let named = ["story", "mail", "emoji", "record", "chinese", "code", "chat"];
    let prompts: Vec<&[u32]> = named.iter().map(|name| &prompt(name).feed[..]).collect();
    let sampled = |sampler, seed, max_tokens| GenerateOptions {
        sampler: SamplerOptions { seed: Some(seed), ..sampler },
        max_tokens,
        ..GenerateOptions::default()
    };
    let common = SamplerOptions { order: SamplerOrder::Common, top_k: 20, ..SamplerOptions::plain() };
    let on_device = vec![
        greedy(40),
        sampled(SamplerOptions::default(), 1, 12),
        sampled(SamplerOptions::thinking(), 2, 40),
        greedy(1),
        sampled(SamplerOptions::plain(), 3, 20),
        sampled(common, 4, 9),
        greedy(13),
    ];
    // Only the host draws by typical-p.
    let typical = SamplerOptions { typical_p: 0.9, ..SamplerOptions::plain() };
    let on_host = [&on_device[..6], &[sampled(typical, 5, 13)]].concat();
    for options in [on_device, on_host] {
        let (expected, mut expected_sessions) = one_by_one(&model, &prompts, &options);
        let (found, mut sessions) = side_by_side(&model, &prompts, &options);
        assert_eq!(found, expected);
        for ((session, expected), name) in sessions.iter_mut().zip(&mut expected_sessions).zip(named) {
            let error = nmse(session.logits(), expected.logits());
            assert!(error <= NMSE_EXACT, "{name}: logits differ by nmse {error:e}");
            let error = nmse(session.state().unwrap().data(), expected.state().unwrap().data());
            assert!(error <= NMSE_EXACT, "{name}: states differ by nmse {error:e}");
        }
    }
}
