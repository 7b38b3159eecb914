//! Texts whose tokens a draft model proposes are those of single steps.

use crate::fixtures::{demo_path, root};
use anser::{
    Device, Draft, Error, FinishReason, GenerateOptions, Grammar, Model, Options, Proposals, RowEventKind, RowTask,
    Rows, SamplerOptions, Session,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Computed in floats, so that steps of one token and of several round alike but for near ties.
fn load(path: impl AsRef<Path>, vocabulary: Option<&Path>) -> Model {
    let vocabulary = vocabulary.map(Path::to_owned);
    let options = Options { device: Device::Cpu, exact: true, vocabulary, ..Options::default() };
    Model::load(path, &options).unwrap()
}

fn demo() -> Model {
    load(demo_path("demo-q8_0.gguf"), None)
}

/// A draft model that nearly agrees with [`demo`].
fn good_draft() -> Model {
    load(demo_path("demo-q4_k_m.gguf"), None)
}

/// A random model of 300 tokens, where token 257 has the text `last`.
fn tiny(file: &str, last: &str) -> Model {
    let bytes = (0..256).map(|byte| format!("\"{}\": [{byte}]", byte + 1));
    let mut vocabulary = tempfile::NamedTempFile::new().unwrap();
    let entries: Vec<String> = bytes.chain([format!("\"257\": {last:?}")]).collect();
    write!(vocabulary, "{{{}}}", entries.join(", ")).unwrap();
    let model = load(root().join("fixtures/tiny").join(file), Some(vocabulary.path()));
    model.tokenizer().unwrap();
    model
}

/// Always proposes `n` tokens, whatever the times say.
fn always(model: &Model, n: usize) -> Option<Draft> {
    Some(Draft { model: model.clone(), n_tokens: Some(n) })
}

/// What a text has told.
#[derive(Debug, PartialEq)]
struct Told {
    text: String,
    tokens: Vec<u32>,
    end: Option<FinishReason>,
    /// The tokens that a second text has, which goes on from the session that the first one left.
    next: Vec<u32>,
}

/// The text that follows `prompt`, the number of steps and what was proposed.
fn generate(model: &Model, prompt: &[u32], options: &GenerateOptions) -> (Told, usize, Proposals) {
    let mut rows = Rows::new(model);
    let task = RowTask::Generate { options: options.clone(), n_top: None };
    let row = rows.join(model.session().unwrap(), prompt, &task).unwrap();
    let mut told = Told { text: String::new(), tokens: vec![], end: None, next: vec![] };
    let mut n_steps = 0;
    while rows.n_going() > 0 {
        n_steps += 1;
        for event in rows.step(usize::MAX).unwrap() {
            match event.kind {
                RowEventKind::Text(piece) => told.text += &piece.text,
                RowEventKind::Token(drawn) => told.tokens.push(drawn.id),
                RowEventKind::Ended(end) => assert_eq!(told.end.replace(end), None),
                RowEventKind::Failed(error) => panic!("{error}"),
                RowEventKind::PromptRead | RowEventKind::Scored(_) => {}
            }
        }
    }
    let proposals = rows.proposals(row);
    told.next = greedy_after(rows.leave(row).unwrap().unwrap());
    (told, n_steps, proposals)
}

/// The tokens that are most likely in `session`.
fn greedy_after(mut session: Session) -> Vec<u32> {
    let greedy = GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens: 6, ..GenerateOptions::default() };
    let mut next = session.generate(&[], &greedy).unwrap();
    next.text().unwrap();
    next.tokens().to_vec()
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens, ..GenerateOptions::default() }
}

/// Without filters, with the penalties that are on by default.
fn sampled(seed: u64) -> SamplerOptions {
    SamplerOptions { seed: Some(seed), top_p: 1.0, ..SamplerOptions::default() }
}

#[test]
fn texts_are_those_of_single_steps() {
    let model = demo();
    let (good, bad) = (good_draft(), load(root().join("fixtures/tiny/tiny-v7.st"), None));
    assert!(model.check_draft(&bad).is_err(), "it has 300 tokens");
    let free = greedy(24);
    let grammar = Some(Grammar::regex("( [a-z.]+){1,12}\n").unwrap());
    let all = [
        free.clone(),
        GenerateOptions { sampler: sampled(1), ..free.clone() },
        GenerateOptions { sampler: SamplerOptions { top_k: 20, ..sampled(2) }, max_tokens: 7, ..free.clone() },
        GenerateOptions { sampler: SamplerOptions { repetition_penalty: 1.3, ..sampled(3) }, ..free.clone() },
        GenerateOptions { sampler: SamplerOptions { typical_p: 0.8, ..sampled(3) }, ..free.clone() },
        GenerateOptions { stop: vec!["e w".into()], ..free.clone() },
        GenerateOptions { stop: vec!["he".into()], sampler: sampled(4), ..free.clone() },
        GenerateOptions { stop_tokens: Some(model.encode(" the").unwrap()), ..free.clone() },
        GenerateOptions { grammar: grammar.clone(), ..free.clone() },
        GenerateOptions { grammar, sampler: sampled(5), ..free.clone() },
        GenerateOptions { max_tokens: 1, ..free.clone() },
        GenerateOptions { max_tokens: 2, ..free.clone() },
        GenerateOptions { lookup: true, ..free.clone() },
    ];
    let mut total = Proposals::default();
    for (i, options) in all.iter().enumerate() {
        let prompt = ["User: What is the capital of Norway?\n\nAssistant:", "Once upon a time there was"][i % 2];
        let prompt = model.encode(prompt).unwrap();
        let (expected, n_alone, _) = generate(&model, &prompt, &GenerateOptions { lookup: false, ..options.clone() });
        let n = if i % 3 == 0 { 1 } else { 4 };
        let drafted = GenerateOptions { draft: always(&good, n), ..options.clone() };
        let (found, n_steps, proposals) = generate(&model, &prompt, &drafted);
        assert_eq!(found, expected, "{i}: {n} tokens, {drafted:?}");
        assert!(n_steps <= n_alone && proposals.n_accepted <= proposals.n_proposed);
        // Every step draws a token that nothing proposed, but for the last one.
        assert!(n_alone - n_steps <= proposals.n_accepted, "{i}");
        total.n_proposed += proposals.n_proposed;
        total.n_accepted += proposals.n_accepted;
        // As many tokens as save time, by what is measured.
        let options = GenerateOptions { draft: Some(Draft::new(&good)), ..options.clone() };
        assert_eq!(generate(&model, &prompt, &options).0, expected, "{i}");
    }
    let Proposals { n_proposed, n_accepted } = total;
    assert!(2 * n_accepted > n_proposed, "{n_accepted} of {n_proposed}: the models agree on most tokens");
}

/// A model agrees with itself, so that every step draws as many tokens as it reads.
#[test]
fn a_model_accepts_all_of_its_own_tokens() {
    let model = demo();
    let prompt = model.encode("Once upon a time").unwrap();
    let stop_tokens = Some(vec![]);
    for sampler in [SamplerOptions::greedy(), sampled(7)] {
        let alone = GenerateOptions { sampler, stop_tokens: stop_tokens.clone(), ..greedy(61) };
        let (expected, ..) = generate(&model, &prompt, &alone);
        let options = GenerateOptions { draft: always(&model, 3), ..alone.clone() };
        let (found, n_steps, proposals) = generate(&model, &prompt, &options);
        assert_eq!(found, expected);
        // The prompt gives one token, every further step four.
        assert_eq!((n_steps, proposals), (1 + 15, Proposals { n_proposed: 45, n_accepted: 45 }));
        // Near the end fewer are proposed.
        let options = GenerateOptions { max_tokens: 60, ..options };
        let (found, n_steps, proposals) = generate(&model, &prompt, &options);
        assert_eq!(found.tokens, expected.tokens[..60]);
        assert_eq!((n_steps, proposals), (1 + 15, Proposals { n_proposed: 44, n_accepted: 44 }));
    }
}

#[test]
fn a_bad_draft_changes_nothing() {
    let (model, draft) = (tiny("tiny-v7.st", "ab"), tiny("tiny-v7n32.st", "ab"));
    for seed in 0..4 {
        let sampler = if seed == 0 { SamplerOptions::greedy() } else { sampled(seed) };
        let alone = GenerateOptions { sampler, stop_tokens: Some(vec![]), ..greedy(50) };
        let (expected, ..) = generate(&model, &[1, 2, 3], &alone);
        let options = GenerateOptions { draft: always(&draft, 5), ..alone.clone() };
        let (found, _, proposals) = generate(&model, &[1, 2, 3], &options);
        assert_eq!(found, expected, "{seed}");
        assert!(proposals.n_proposed > 100 && proposals.n_accepted < proposals.n_proposed / 2, "{proposals:?}");
        let options = GenerateOptions { draft: Some(Draft::new(&draft)), ..alone };
        assert_eq!(generate(&model, &[1, 2, 3], &options).0, expected, "{seed}");
    }
}

/// Rows with several draft models, with look-up and with neither share steps, and some join later.
#[test]
fn texts_side_by_side_are_independent() {
    let (model, good) = (demo(), good_draft());
    let prompts =
        ["Once upon a time", "Dear", "User: Hello!\n\nAssistant:", "a b a b a b a", "The", "Once upon a time"];
    let of = |i: usize| GenerateOptions {
        sampler: if i == 4 { SamplerOptions::greedy() } else { sampled(i as u64) },
        max_tokens: 24 + i,
        lookup: i >= 3,
        draft: match i {
            1 => None,
            2 => always(&model, 2),
            3 => Some(Draft::new(&good)),
            _ => always(&good, i + 1),
        },
        ..GenerateOptions::default()
    };
    let prompts = prompts.map(|prompt| model.encode(prompt).unwrap());
    let mut rows: Rows = Rows::new(&model);
    let mut ids = vec![];
    let mut n_steps = 0;
    while rows.n_going() > 0 || ids.len() < prompts.len() {
        if n_steps % 3 == 0 && ids.len() < prompts.len() {
            let task = RowTask::Generate { options: of(ids.len()), n_top: None };
            ids.push(rows.join(model.session().unwrap(), &prompts[ids.len()], &task).unwrap());
        }
        // A row may leave main memory and come back in the middle of its text.
        if n_steps == 7 {
            let row = rows.take(ids[0]).unwrap().unwrap();
            rows.put_back(ids[0], row.store().unwrap().restore(&model).unwrap());
        }
        rows.step(5).unwrap();
        n_steps += 1;
    }
    for (i, (&id, prompt)) in ids.iter().zip(&prompts).enumerate() {
        let alone = GenerateOptions { draft: None, lookup: false, ..of(i) };
        let (expected, ..) = generate(&model, prompt, &alone);
        assert_eq!(rows.tokens(id), expected.tokens, "{i}");
        assert_eq!(rows.finish_reason(id), expected.end, "{i}");
        if i != 1 && i != 3 {
            assert!(rows.proposals(id).n_accepted > 0, "{i}");
        }
        let session = rows.leave(id).unwrap().unwrap();
        assert_eq!(greedy_after(session), expected.next, "{i}");
    }
}

/// The draft model goes by what the session has read before the generation, in parts and before a fork.
#[test]
fn the_draft_model_knows_what_the_session_has_read() {
    let model = demo();
    let tokens = model.encode("User: What is the capital of Norway?\n\nAssistant: The capital").unwrap();
    let (before, rest) = tokens.split_at(tokens.len() / 2);
    let mut session = model.session().unwrap();
    session.feed(before).unwrap();
    let mut session = session.fork().unwrap();
    session.feed(&rest[..2]).unwrap();
    let (last, all_but_last) = tokens.split_last().unwrap();
    // A restored state does not tell its tokens.
    let mut whole = model.session().unwrap();
    whole.feed(all_but_last).unwrap();
    let mut restored = model.session().unwrap();
    restored.restore(&whole.state().unwrap()).unwrap();
    assert!(restored.recall(&[1 << 20]).is_err());
    restored.recall(all_but_last).unwrap();
    let options = GenerateOptions { draft: always(&model, 4), ..greedy(26) };
    for (session, prompt) in [(&mut session, &rest[2..]), (&mut restored, &[*last][..])] {
        let mut generation = session.generate(prompt, &options).unwrap();
        generation.text().unwrap();
        let Proposals { n_proposed, n_accepted } = generation.proposals();
        assert!(n_proposed > 0 && n_accepted == n_proposed, "{n_accepted} of {n_proposed}");
    }
}

#[test]
fn a_cancelled_text_ends_between_proposed_tokens() {
    let model = demo();
    let options = GenerateOptions { draft: always(&model, 4), ..greedy(100) };
    let mut session = model.session().unwrap();
    let mut generation = session.generate_text("Once upon a time", &options).unwrap();
    generation.next().unwrap().unwrap();
    options.cancel.cancel();
    while generation.next().is_some() {}
    assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
    let tokens = generation.tokens().to_vec();
    drop(generation);
    // The session stands after the tokens of the text, whatever was proposed behind them.
    let mut expected = model.session().unwrap();
    expected.feed(&[model.encode("Once upon a time").unwrap(), tokens].concat()).unwrap();
    assert_eq!(greedy_after(session), greedy_after(expected));
}

#[test]
fn a_draft_of_another_vocabulary_is_refused() {
    let (model, other, small) = (tiny("tiny-v7.st", "ab"), tiny("tiny-v7n32.st", "ba"), demo());
    let refused = |draft: &Model| {
        let options = GenerateOptions { draft: Some(Draft::new(draft)), ..greedy(3) };
        match model.session().unwrap().generate(&[1], &options) {
            Err(Error::Option { option: "draft", reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let reason = refused(&other);
    for part in ["tiny-v7.st", "tiny-v7n32.st", "token 257 is \"ab\" in the model and \"ba\" in the draft model"] {
        assert!(reason.contains(part), "{reason}");
    }
    let reason = refused(&small);
    for part in ["tiny-v7.st", "demo-q8_0.gguf", "the model has 300 tokens and the draft model 65536"] {
        assert!(reason.contains(part), "{reason}");
    }
    let options = GenerateOptions { draft: always(&model, 33), ..greedy(3) };
    assert!(model.session().unwrap().generate(&[1], &options).is_err());
}

/// The first three tokens of many sampled texts have the same counts with a draft model as without; they are even the same texts.
#[test]
fn a_draft_model_does_not_change_the_distribution() {
    let (model, draft) = (tiny("tiny-v7.st", "ab"), tiny("tiny-v7n32.st", "ab"));
    let (n_texts, n_at_a_time) = (400, 20);
    let counts = |draft: Option<Draft>| {
        let (mut counts, mut n_proposed) = (BTreeMap::new(), 0);
        for first_seed in (0..n_texts).step_by(n_at_a_time) {
            let options = |seed| {
                let sampler = SamplerOptions { seed: Some(seed), top_k: 4, ..SamplerOptions::plain() };
                GenerateOptions { sampler, draft: draft.clone(), stop_tokens: Some(vec![]), ..greedy(3) }
            };
            let options: Vec<_> = (first_seed..first_seed + n_at_a_time as u64).map(options).collect();
            let mut sessions: Vec<Session> = options.iter().map(|_| model.session().unwrap()).collect();
            let mut feeds: Vec<_> = sessions.iter_mut().map(|session| (session, &[7, 8][..])).collect();
            let mut generations = model.generate_batch(&mut feeds, &options).unwrap();
            generations.texts().unwrap();
            for i in 0..n_at_a_time {
                *counts.entry(generations.tokens(i).to_vec()).or_insert(0) += 1;
                n_proposed += generations.proposals(i).n_proposed;
            }
        }
        (counts, n_proposed)
    };
    let (expected, _) = counts(None);
    let (found, n_proposed) = counts(always(&draft, 2));
    assert_eq!(found, expected);
    assert!(expected.len() > 20 && n_proposed >= n_texts as usize, "{} texts, {n_proposed} proposed", expected.len());
}
