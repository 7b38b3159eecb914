//! Texts generated side by side are those generated one by one.

use crate::fixtures::{EXPECTED, demo_path, prompt};
use anser::{
    CancelToken, Error, FinishReason, GenerateOptions, Generations, Model, Options, SamplerOptions, SamplerOrder,
    Session,
};

/// A file of the demo model, computed in floats: steps of one token and of several round differently, and with activations in 8
/// bits that is enough for texts to part at the first near tie.
fn demo(name: &str) -> Model {
    let options = Options { exact: true, ..Options::default() };
    Model::load(demo_path(name), &options).unwrap()
}

/// The end of a generation, and the position of its session after it.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    text: String,
    pub(crate) tokens: Vec<u32>,
    pub(crate) end: Option<FinishReason>,
    pending: Vec<u32>,
    n_tokens: usize,
}

impl Outcome {
    pub(crate) fn new(text: String, tokens: &[u32], end: Option<FinishReason>, session: &Session) -> Outcome {
        let (pending, n_tokens) = (session.pending().to_vec(), session.n_tokens());
        Outcome { text, tokens: tokens.to_vec(), end, pending, n_tokens }
    }
}

/// Generates the texts one by one; returns the outcomes, and the sessions after them.
pub(crate) fn one_by_one(
    model: &Model,
    prompts: &[&[u32]],
    options: &[GenerateOptions],
) -> (Vec<Outcome>, Vec<Session>) {
    let one = |(prompt, options): (&&[u32], &GenerateOptions)| {
        let mut session = model.session().unwrap();
        let mut generation = session.generate(prompt, options).unwrap();
        let text = generation.text().unwrap();
        let (tokens, end) = (generation.tokens().to_vec(), generation.finish_reason());
        drop(generation);
        (Outcome::new(text, &tokens, end, &session), session)
    };
    prompts.iter().zip(options).map(one).unzip()
}

fn sessions(model: &Model, n: usize) -> Vec<Session> {
    (0..n).map(|_| model.session().unwrap()).collect()
}

fn feeds<'a>(sessions: &'a mut [Session], prompts: &[&'a [u32]]) -> Vec<(&'a mut Session, &'a [u32])> {
    sessions.iter_mut().zip(prompts.iter().copied()).collect()
}

/// Generates the texts side by side; returns the outcomes, and the sessions after them.
pub(crate) fn side_by_side(
    model: &Model,
    prompts: &[&[u32]],
    options: &[GenerateOptions],
) -> (Vec<Outcome>, Vec<Session>) {
    let mut sessions = sessions(model, prompts.len());
    let mut feeds = feeds(&mut sessions, prompts);
    let mut generations = model.generate_batch(&mut feeds, options).unwrap();
    let texts = generations.texts().unwrap();
    let found: Vec<_> =
        (0..texts.len()).map(|i| (generations.tokens(i).to_vec(), generations.finish_reason(i))).collect();
    drop(generations);
    let outcome = |((text, (tokens, end)), session): ((String, (Vec<u32>, _)), &Session)| {
        Outcome::new(text, &tokens, end, session)
    };
    (texts.into_iter().zip(found).zip(&sessions).map(outcome).collect(), sessions)
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens, ..GenerateOptions::default() }
}

/// Prompts of 1 to 106 tokens, and none.
fn prompts() -> Vec<&'static [u32]> {
    let texts = EXPECTED.prompts.iter().filter(|p| p.name != "long-600");
    texts.map(|p| &p.feed[..]).chain([&[][..]]).collect()
}

#[test]
fn greedy_texts_are_those_of_one_by_one() {
    for file in ["demo-f16.gguf", "demo-q8_0.gguf"] {
        let model = demo(file);
        let prompts = prompts();
        let lengths = [40, 3, 25, 0, 12, 1, 40, 9, 2, 17, 33, 8];
        let options: Vec<GenerateOptions> = lengths.into_iter().map(greedy).collect();
        let (expected, _) = one_by_one(&model, &prompts, &options);
        assert!(expected.iter().zip(lengths).all(|(o, n)| o.tokens.len() <= n && o.text.len() >= n.min(1)));
        assert_eq!(side_by_side(&model, &prompts, &options).0, expected, "{file}");
    }
}

#[test]
fn every_text_has_its_own_sampler_and_its_own_end() {
    let model = demo("demo-q8_0.gguf");
    let story = &prompt("story").feed[..4];
    let samplers = [
        SamplerOptions::default(),
        SamplerOptions::thinking(),
        SamplerOptions::plain(),
        SamplerOptions { order: SamplerOrder::Common, top_k: 20, ..SamplerOptions::plain() },
        SamplerOptions { typical_p: 0.9, repetition_penalty: 1.2, ..SamplerOptions::plain() },
        SamplerOptions::greedy(),
    ];
    let seeded = |(sampler, seed): (SamplerOptions, u64)| GenerateOptions {
        sampler: SamplerOptions { seed: Some(seed), ..sampler },
        max_tokens: 30,
        ..GenerateOptions::default()
    };
    let mut options: Vec<GenerateOptions> = samplers.into_iter().zip(5..).map(seeded).collect();
    let whole = one_by_one(&model, &[story], &options[5..]).0.remove(0);
    let at = (8..20).find(|&at| !whole.tokens[..at].contains(&whole.tokens[at])).unwrap();
    let stop: String = whole.text[whole.text.len() / 2..].split_inclusive(' ').skip(1).take(2).collect();
    let cancelled = CancelToken::default();
    cancelled.cancel();
    options.extend([
        GenerateOptions { stop_tokens: Some(vec![whole.tokens[at]]), ..greedy(30) },
        GenerateOptions { stop: vec!["never".into(), stop], ..greedy(30) },
        GenerateOptions { cancel: cancelled, ..greedy(30) },
    ]);
    let prompts = vec![story; options.len()];
    let (found, _) = side_by_side(&model, &prompts, &options);
    // One that is cancelled before its prompt is read cannot be told alone.
    let (mut expected, _) = one_by_one(&model, &prompts[..8], &options);
    let reasons: Vec<FinishReason> = found[5..].iter().filter_map(|outcome| outcome.end).collect();
    let stopped = [FinishReason::StopToken(whole.tokens[at]), FinishReason::StopText(1)];
    assert_eq!(reasons, [&[FinishReason::Length], &stopped[..], &[FinishReason::Cancelled]].concat());
    let (text, tokens, pending) = (String::new(), vec![], vec![]);
    let n_tokens = story.len();
    expected.push(Outcome { text, tokens, end: Some(FinishReason::Cancelled), pending, n_tokens });
    assert_eq!(found, expected);
}

#[test]
fn pieces_come_as_they_are_drawn_and_sessions_go_on() {
    let model = demo("demo-f16.gguf");
    let prompts = [&prompt("story").feed[..], &prompt("mail").feed];
    let options = [greedy(30), greedy(30)];
    let (expected, _) = one_by_one(&model, &prompts, &options);
    for n_pieces in [0, 1, 4, 7] {
        let mut sessions = sessions(&model, 2);
        let mut parts = [String::new(), String::new()];
        let mut n_drawn = [0; 2];
        {
            let mut feeds = feeds(&mut sessions, &prompts);
            // One set of options serves all prompts.
            let mut generations = model.generate_batch(&mut feeds, &options[..1]).unwrap();
            for _ in 0..n_pieces {
                let (index, piece) = generations.next().unwrap().unwrap();
                assert!(!piece.text.is_empty());
                parts[index] += &piece.text;
            }
            (0..2).for_each(|i| n_drawn[i] = generations.tokens(i).len());
            assert_eq!((generations.finish_reason(1), generations.finish_reason(2)), (None, None));
            assert_eq!(generations.tokens(2), &[0; 0]);
        }
        // Left early, each goes on by itself after the last token drawn for it.
        for ((session, expected), n) in sessions.iter_mut().zip(&expected).zip(n_drawn) {
            assert_eq!(session.pending(), &expected.tokens[..n][n.saturating_sub(1)..]);
            let mut rest = session.generate(&[], &greedy(30 - n)).unwrap();
            rest.text().unwrap();
            assert_eq!([&expected.tokens[..n], rest.tokens()].concat(), expected.tokens);
        }
        assert!(parts.iter().zip(&expected).all(|(part, expected)| expected.text.starts_with(part)));
    }
}

#[test]
fn what_cannot_be_generated_is_refused_before_anything_is_read() {
    let model = demo("demo-q8_0.gguf");
    let story = &prompt("story").feed[..];
    let refused = |model: &Model, sessions: &mut [Session], prompts: &[&[u32]], options: &[GenerateOptions]| {
        let mut feeds = feeds(sessions, prompts);
        let refused: Result<Generations, Error> = model.generate_batch(&mut feeds, options);
        refused.map(drop).unwrap_err().to_string()
    };
    let mut two = sessions(&model, 2);
    let message = refused(&model, &mut two, &[story, story], &[greedy(1), greedy(1), greedy(1)]);
    assert!(message.contains("one for each of 2 prompts, found 3"), "{message}");
    assert!(refused(&model, &mut two, &[story, &[1, 65536]], &[greedy(1)]).contains("65536"));
    let bad = GenerateOptions { stop: vec![String::new()], ..greedy(1) };
    assert!(refused(&model, &mut two, &[story, story], &[greedy(1), bad]).contains("stop"));
    let hot = SamplerOptions { temperature: -1.0, ..SamplerOptions::greedy() };
    let bad = GenerateOptions { sampler: hot, ..greedy(1) };
    assert!(refused(&model, &mut two, &[story, story], &[greedy(1), bad]).contains("temperature"));
    let other = demo("demo-f16.gguf");
    assert!(refused(&other, &mut two, &[story, story], &[greedy(1)]).contains("demo-q8_0.gguf"));
    let cancel = CancelToken::default();
    cancel.cancel();
    // The device may run a step ahead of the caller.
    let long = vec![1; 3000];
    let options = GenerateOptions { cancel, ..greedy(1) };
    assert!(matches!(
        model.generate_batch(&mut feeds(&mut sessions(&model, 2), &[&long, story]), &[options]),
        Err(Error::Cancelled)
    ));
    assert!(two.iter().all(|session| session.is_fresh() && session.n_tokens() == 0));
    assert_eq!(model.generate_batch(&mut [], &[]).unwrap().texts().unwrap(), Vec::<String>::new());
}

/// Programs move all of these between threads.
#[test]
fn sessions_and_generations_may_be_sent_and_shared() {
    fn check<T: Send + Sync>() {}
    check::<anser::Model>();
    check::<anser::Session>();
    check::<anser::Generation<'static>>();
    check::<anser::Generations<'static>>();
}
