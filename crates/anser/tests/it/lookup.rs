//! Texts whose tokens are proposed by looking up what followed before are those of single steps.

use crate::fixtures::demo_path;
use anser::{
    Device, FinishReason, GenerateOptions, Grammar, Likelihood, Model, Options, RowEventKind, RowTask, Rows,
    SamplerOptions,
};

/// Computed in floats, so that steps of one token and of several round alike but for near ties.
fn demo() -> Model {
    let device = "cpu".parse::<Device>().unwrap();
    Model::load(demo_path("demo-q8_0.gguf"), &Options { device, exact: true, ..Options::default() }).unwrap()
}

/// What a text has told, and the steps that it took.
#[derive(Debug, PartialEq)]
struct Told {
    text: String,
    tokens: Vec<u32>,
    likelihoods: Vec<Likelihood>,
    end: Option<FinishReason>,
    /// The tokens that a second text has, which goes on from the session that the first one left.
    next: Vec<u32>,
}

/// The text that follows `prompt`, and the number of steps.
fn generate(
    model: &Model,
    prompt: &str,
    options: &GenerateOptions,
    lookup: bool,
    n_top: Option<usize>,
) -> (Told, usize) {
    let prompt = model.encode(prompt).unwrap();
    let mut rows = Rows::new(model);
    let options = GenerateOptions { lookup, ..options.clone() };
    let row = rows.join(model.session().unwrap(), &prompt, &RowTask::Generate { options, n_top }).unwrap();
    let mut told = Told { text: String::new(), tokens: vec![], likelihoods: vec![], end: None, next: vec![] };
    let mut n_steps = 0;
    while rows.n_going() > 0 {
        n_steps += 1;
        for event in rows.step(usize::MAX).unwrap() {
            match event.kind {
                RowEventKind::Text(piece) => told.text += &piece.text,
                RowEventKind::Token(drawn) => {
                    told.tokens.push(drawn.id);
                    told.likelihoods.extend(drawn.likelihood);
                }
                RowEventKind::Ended(end) => assert_eq!(told.end.replace(end), None),
                RowEventKind::Failed(error) => panic!("{error}"),
                RowEventKind::PromptRead | RowEventKind::Scored(_) => {}
            }
        }
    }
    assert_eq!(rows.tokens(row), told.tokens);
    let mut session = rows.leave(row).unwrap().unwrap();
    let greedy = GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens: 6, ..GenerateOptions::default() };
    let mut next = session.generate(&[], &greedy).unwrap();
    next.text().unwrap();
    told.next = next.tokens().to_vec();
    (told, n_steps)
}

const LINES: &str = "1: the ferry left the harbour at nine.\n2: the ferry left the harbour at nine.\n3: the ferry left the harbour at nine.\n4:";

#[test]
fn texts_are_those_of_single_steps() {
    let model = demo();
    let sampled = |seed| SamplerOptions { seed: Some(seed), temperature: 0.5, ..SamplerOptions::default() };
    let free = GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens: 40, ..GenerateOptions::default() };
    let grammar = Some(Grammar::regex("( [a-z.]+){1,12}\n").unwrap());
    let all = [
        free.clone(),
        GenerateOptions { sampler: sampled(1), ..free.clone() },
        GenerateOptions { sampler: sampled(2), max_tokens: 7, ..free.clone() },
        GenerateOptions { stop: vec!["harbour".into()], ..free.clone() },
        GenerateOptions { stop: vec!["at n".into()], sampler: sampled(3), ..free.clone() },
        GenerateOptions { stop_tokens: Some(model.encode(" nine").unwrap()), ..free.clone() },
        GenerateOptions { grammar: grammar.clone(), ..free.clone() },
        GenerateOptions { grammar, sampler: sampled(4), ..free.clone() },
        GenerateOptions { max_tokens: 1, ..free.clone() },
    ];
    for prompt in [LINES, "Once upon a time there was", "a a a a a a a a"] {
        for options in &all {
            let (expected, _) = generate(&model, prompt, options, false, None);
            let (found, _) = generate(&model, prompt, options, true, None);
            assert_eq!(found, expected, "{prompt:?} {options:?}");
        }
    }
}

#[test]
fn a_text_that_repeats_its_prompt_takes_fewer_steps() {
    let model = demo();
    // The grammar has it repeat the lines: what is looked up is right but for the numbers.
    let grammar = Some(Grammar::regex("( the ferry left the harbour at nine\\.\\n[0-9]:){4}").unwrap());
    let sampler = SamplerOptions::greedy();
    let options = GenerateOptions { sampler, max_tokens: 60, grammar, ..GenerateOptions::default() };
    let (expected, n_alone) = generate(&model, LINES, &options, false, Some(2));
    let (found, n_steps) = generate(&model, LINES, &options, true, Some(2));
    assert_eq!((&found.tokens, &found.next), (&expected.tokens, &expected.next));
    assert!(2 * n_steps < n_alone, "{n_steps} of {n_alone} steps for {:?}", found.text);
    for (found, expected) in found.likelihoods.iter().zip(&expected.likelihoods) {
        assert!((found.log_probability - expected.log_probability).abs() < 1e-3, "{found:?} {expected:?}");
    }
    assert_eq!(found.likelihoods.len(), found.tokens.len());
}

/// Texts with and without it share steps.
#[test]
fn texts_side_by_side_are_independent() {
    let model = demo();
    let prompts = [LINES, "Once upon a time", LINES];
    let of = |i: usize| GenerateOptions {
        sampler: SamplerOptions { seed: Some(i as u64), ..SamplerOptions::default() },
        max_tokens: 30,
        lookup: i != 1,
        ..GenerateOptions::default()
    };
    let mut sessions: Vec<_> = prompts.iter().map(|_| model.session().unwrap()).collect();
    let tokens = prompts.map(|prompt| model.encode(prompt).unwrap());
    let mut feeds: Vec<_> = sessions.iter_mut().zip(&tokens).map(|(session, tokens)| (session, &tokens[..])).collect();
    let options: Vec<_> = (0..3).map(of).collect();
    let mut generations = model.generate_batch(&mut feeds, &options).unwrap();
    let texts = generations.texts().unwrap();
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(*text, generate(&model, prompts[i], &options[i], false, None).0.text, "{i}");
    }
}
