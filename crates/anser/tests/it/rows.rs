//! Rows that join and leave a batch at any step have what they have alone.

use crate::fixtures::{demo_path, prompt};
use crate::generations::{Outcome, one_by_one};
use anser::{
    CancelToken, Device, FinishReason, GenerateOptions, Likelihood, Model, Options, RowEvent, RowEventKind, RowId,
    RowTask, Rows, SamplerOptions, Session, Want, Which,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A small model of random weights with 300 tokens and no vocabulary, computed in floats: steps of one token and of several round
/// differently, and with activations in 8 bits that is enough for texts to part at the first near tie.
fn tiny(device: &str) -> Model {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/tiny-v7.st");
    let device = device.parse::<Device>().unwrap();
    Model::load(path, &Options { device, exact: true, n_threads: Some(1), ..Options::default() }).unwrap()
}

const READ: RowTask = RowTask::Read { wants_logits: true };

fn generate(options: &GenerateOptions) -> RowTask {
    RowTask::Generate { options: options.clone(), n_top: None }
}

fn options(seed: Option<u64>, max_tokens: usize) -> GenerateOptions {
    let sampler = match seed {
        None => SamplerOptions::greedy(),
        seed => SamplerOptions { seed, ..SamplerOptions::plain() },
    };
    GenerateOptions { sampler, max_tokens, stop_tokens: Some(vec![]), ..GenerateOptions::default() }
}

/// What rows have told of their texts.
#[derive(Debug, Default)]
struct Told {
    texts: BTreeMap<RowId, String>,
    tokens: BTreeMap<RowId, Vec<u32>>,
    ends: BTreeMap<RowId, FinishReason>,
}

impl Told {
    fn add(&mut self, events: Vec<RowEvent>) {
        for RowEvent { row, kind } in events {
            match kind {
                RowEventKind::Text(piece) => *self.texts.entry(row).or_default() += &piece.text,
                RowEventKind::Token(drawn) => self.tokens.entry(row).or_default().push(drawn.id),
                RowEventKind::Ended(end) => assert_eq!(self.ends.insert(row, end), None, "{row:?} ends once"),
                RowEventKind::Failed(error) => panic!("{row:?}: {error}"),
                RowEventKind::PromptRead | RowEventKind::Scored(_) => {}
            }
        }
    }

    fn outcome(&self, id: RowId, session: &Session) -> Outcome {
        let text = self.texts.get(&id).cloned().unwrap_or_default();
        Outcome::new(text, &self.tokens.get(&id).cloned().unwrap_or_default(), self.ends.get(&id).copied(), session)
    }
}

/// Rows join one after the other while others draw, prompts are read three tokens at a time, one row is out of the batch for some
/// steps, one lies in main memory for some, and one is thrown away.
#[test]
fn rows_join_and_leave_at_any_step() {
    let exact = Options { device: Device::Cpu, exact: true, ..Options::default() };
    let model = Model::load(demo_path("demo-q8_0.gguf"), &exact).unwrap();
    let names = ["story", "mail", "emoji", "code", "chat"];
    let prompts: Vec<&[u32]> = names.iter().map(|name| &prompt(name).feed[..prompt(name).feed.len().min(20)]).collect();
    let all: Vec<GenerateOptions> =
        [(None, 12), (Some(3), 20), (None, 9), (Some(4), 14), (None, 5)].map(|(seed, n)| options(seed, n)).into();
    let (expected, _) = one_by_one(&model, &prompts, &all);

    let mut rows: Rows = Rows::new(&model);
    let (mut ids, mut told) = (vec![], Told::default());
    let (mut parked, mut stored) = (None, None);
    let mut thrown_away = None;
    for step in 0.. {
        if step % 3 == 0 && ids.len() < prompts.len() {
            let i = ids.len();
            ids.push(rows.join(model.session().unwrap(), prompts[i], &generate(&all[i])).unwrap());
        }
        match step {
            4 => thrown_away = Some(rows.join(model.session().unwrap(), prompts[1], &generate(&all[1])).unwrap()),
            10 => parked = rows.take(ids[0]).unwrap(),
            12 => assert!(rows.discard(thrown_away.unwrap()).is_some()),
            13 => stored = rows.take(ids[1]).unwrap().map(|row| row.store().unwrap()),
            15 => rows.put_back(ids[0], parked.take().unwrap()),
            20 => rows.put_back(ids[1], stored.take().unwrap().restore(&model).unwrap()),
            _ => {}
        }
        told.add(rows.step(3).unwrap());
        if step > 20 && rows.n_going() == 0 {
            break;
        }
    }
    assert_eq!((rows.len(), rows.n_unread()), (names.len(), 0));
    for ((&id, expected), name) in ids.iter().zip(&expected).zip(names) {
        let session = rows.leave(id).unwrap().unwrap();
        assert_eq!(&told.outcome(id, &session), expected, "{name}");
    }
    assert!(rows.is_empty() && rows.leave(ids[0]).unwrap().is_none());
}

/// The log-probabilities of a text's tokens and of drawn ones are those of the logits that a session gives.
#[test]
fn scored_and_drawn_tokens_have_the_log_probabilities_of_the_softmax() {
    let model = tiny("cpu");
    let tokens: Vec<u32> = (0..200).map(|i| (i * 71 + 3) % 300).collect();
    let (read, scored) = tokens.split_at(2);
    let want = Want { logits: Which::All, hidden: Which::None };
    let logits = model.session().unwrap().feed_for(&tokens, want, |_, _| ControlFlow::Continue(())).unwrap().logits;
    let expected: Vec<Likelihood> =
        (2..200).map(|i| Likelihood::new(&logits[(i - 1) * 300..][..300], tokens[i], 4)).collect();
    // Only the first text begins where nothing has been read.
    for (begun, budget) in [(false, 7), (true, 7), (true, 1000)] {
        let mut session = model.session().unwrap();
        let mut expected: Vec<Option<Likelihood>> = expected.iter().cloned().map(Some).collect();
        let tokens = if begun { scored } else { &tokens };
        if begun {
            session.feed(read).unwrap();
        } else {
            let second = Likelihood::new(&logits[..300], tokens[1], 4);
            expected.splice(0..0, [None, Some(second)]);
        }
        let mut rows = Rows::new(&model);
        let id = rows.join(session, tokens, &RowTask::Score { n_top: 4 }).unwrap();
        let other = rows.join(model.session().unwrap(), &[5], &generate(&options(None, 40))).unwrap();
        let mut found = vec![];
        while rows.n_going() > 0 {
            for event in rows.step(budget).unwrap() {
                if let RowEventKind::Scored(scores) = event.kind {
                    assert_eq!(event.row, id);
                    found.extend(scores);
                }
            }
        }
        assert_eq!(rows.tokens(other).len(), 40);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            let (Some(found), Some(expected)) = (found, expected) else {
                assert!(found.is_none() && expected.is_none());
                continue;
            };
            assert!((found.log_probability - expected.log_probability).abs() < 1e-4, "{found:?} {expected:?}");
            assert_eq!((found.token, found.top.len()), (expected.token, 4));
            assert!((found.top[3].1 - expected.top[3].1).abs() < 1e-4);
        }
    }

    // A token drawn greedily is the most likely one.
    let mut rows = Rows::new(&model);
    let task = RowTask::Generate { options: options(None, 5), n_top: Some(2) };
    rows.join(model.session().unwrap(), read, &task).unwrap();
    let mut n_drawn = 0;
    while rows.n_going() > 0 {
        for event in rows.step(8).unwrap() {
            let RowEventKind::Token(drawn) = event.kind else { continue };
            let likelihood = drawn.likelihood.unwrap();
            assert_eq!((likelihood.token, likelihood.top[0]), (drawn.id, (drawn.id, likelihood.log_probability)));
            assert!(likelihood.top[1].1 <= likelihood.log_probability);
            n_drawn += 1;
        }
    }
    assert_eq!(n_drawn, 5);
}

/// Short prompts that keep coming and could fill every step delay a long one by no more than twice, and it delays none of them by
/// more than their share.
#[test]
fn no_prompt_waits_for_ever_or_for_a_long_one() {
    const BUDGET: usize = 12;
    const LONG: usize = 240;
    let model = tiny("cpu");
    let read = |rows: &mut Rows, n: usize| rows.join(model.session().unwrap(), &vec![7; n], &READ).unwrap();
    // Those of 6 tokens fit in what the long prompt leaves; those of 12 need all.
    for short in [6, 12] {
        let mut rows = Rows::new(&model);
        let long = read(&mut rows, LONG);
        let (mut joined, mut longest, mut n_steps) = (BTreeMap::new(), 0, 0);
        let mut is_read = false;
        while !is_read {
            joined.insert(read(&mut rows, short), n_steps);
            n_steps += 1;
            for event in rows.step(BUDGET).unwrap() {
                let RowEventKind::PromptRead = event.kind else { continue };
                is_read |= event.row == long;
                longest = longest.max(joined.get(&event.row).map_or(0, |began| n_steps - began));
            }
        }
        assert!(n_steps <= 2 * LONG / BUDGET, "{n_steps} steps");
        if short == 6 {
            assert_eq!(longest, 1);
        }
    }
}

/// A row for which no token can be drawn fails by itself; one that is cancelled ends while its prompt is read.
#[test]
fn a_row_that_fails_or_is_cancelled_concerns_no_other() {
    let model = tiny("cpu");
    let (expected, _) = one_by_one(&model, &[&[9, 8, 7]], &[options(None, 12)]);
    let mut rows = Rows::new(&model);
    let id = rows.join(model.session().unwrap(), &[9, 8, 7], &generate(&options(None, 12))).unwrap();
    let nothing = SamplerOptions {
        logit_bias: (0..300).map(|token| (token, f32::NEG_INFINITY)).collect(),
        ..SamplerOptions::greedy()
    };
    let bad = GenerateOptions { sampler: nothing, ..options(None, 12) };
    let bad = rows.join(model.session().unwrap(), &[1], &generate(&bad)).unwrap();
    let cancel = CancelToken::default();
    let long = GenerateOptions { cancel: cancel.clone(), ..options(None, 12) };
    let long = rows.join(model.session().unwrap(), &[2; 1000], &generate(&long)).unwrap();
    let (mut told, mut failed) = (Told::default(), vec![]);
    for n_steps in 0.. {
        let events = rows.step(4).unwrap();
        let (failures, events): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| matches!(event.kind, RowEventKind::Failed(_)));
        failed.extend(failures);
        told.add(events);
        if n_steps == 5 {
            cancel.cancel();
        }
        if rows.n_going() == 0 {
            break;
        }
    }
    assert_eq!(failed.len(), 1);
    let RowEvent { row, kind: RowEventKind::Failed(error) } = &failed[0] else { panic!() };
    assert!(*row == bad && error.to_string().contains("forbidden"), "{error}");
    assert_eq!(told.ends[&long], FinishReason::Cancelled);
    let left = rows.leave(long).unwrap().unwrap();
    assert!(left.n_tokens() < 1000 && left.n_tokens() > 0);
    assert_eq!(told.outcome(id, &rows.leave(id).unwrap().unwrap()), expected[0]);

    let other = tiny("cpu");
    assert!(rows.join(other.session().unwrap(), &[1], &READ).is_err(), "a session of another model");
    assert!(rows.join(model.session().unwrap(), &[300], &READ).is_err(), "an id out of range");
}

/// What a test does before a step.
#[derive(Debug, Clone)]
enum Act {
    Join {
        prompt: Vec<u32>,
        seed: Option<u64>,
        n_tokens: usize,
    },
    /// Takes a row out and puts it back some steps later.
    Park(prop::sample::Index),
    /// The same by way of main memory.
    Store(prop::sample::Index),
    ThrowAway(prop::sample::Index),
    Nothing,
}

fn act() -> impl Strategy<Value = Act> {
    let join = (prop::collection::vec(0u32..300, 1..30), prop::option::of(0u64..9), 0usize..20);
    prop_oneof![
        3 => join.prop_map(|(prompt, seed, n_tokens)| Act::Join { prompt, seed, n_tokens }),
        1 => any::<prop::sample::Index>().prop_map(Act::Park),
        1 => any::<prop::sample::Index>().prop_map(Act::Store),
        1 => any::<prop::sample::Index>().prop_map(Act::ThrowAway),
        3 => Just(Act::Nothing),
    ]
}

/// Plays `acts`, one before each step, and compares every text that was not thrown away with what it is alone. Returns the most
/// rows that the device has drawn for.
fn play(model: &Model, acts: Vec<Act>, budget: usize) -> Result<usize, TestCaseError> {
    const N_STEPS_OUT: usize = 3;

    let mut rows: Rows = Rows::new(model);
    let mut told = Told::default();
    let mut requests: Vec<(RowId, Vec<u32>, GenerateOptions)> = vec![];
    let mut parked = vec![];
    let mut stored = vec![];
    let mut acts = acts.into_iter();
    let mut n_on_device = 0;
    for step in 0.. {
        let act = acts.next();
        let is_over = act.is_none();
        let here: Vec<RowId> =
            requests.iter().map(|(id, ..)| *id).filter(|id| rows.finish_reason(*id).is_none()).collect();
        let choose = |index: &prop::sample::Index| (!here.is_empty()).then(|| *index.get(&here));
        match act.unwrap_or(Act::Nothing) {
            Act::Join { prompt, seed, n_tokens } => {
                let options = options(seed, n_tokens);
                let id = rows.join(model.session().unwrap(), &prompt, &generate(&options)).unwrap();
                requests.push((id, prompt, options));
            }
            Act::Park(index) => {
                let row = choose(&index).and_then(|id| Some((id, rows.take(id).unwrap()?)));
                parked.extend(row.map(|(id, row)| (step + N_STEPS_OUT, id, row)));
            }
            Act::Store(index) => {
                let row = choose(&index).and_then(|id| Some((id, rows.take(id).unwrap()?)));
                stored.extend(row.map(|(id, row)| (step + N_STEPS_OUT, id, row.store().unwrap())));
            }
            Act::ThrowAway(index) => {
                if let Some(id) = choose(&index).filter(|&id| rows.discard(id).is_some()) {
                    requests.retain(|(request, ..)| *request != id);
                }
            }
            Act::Nothing => {}
        }
        for (_, id, row) in parked.extract_if(.., |(until, ..)| *until <= step) {
            rows.put_back(id, row);
        }
        for (_, id, row) in stored.extract_if(.., |(until, ..)| *until <= step) {
            rows.put_back(id, row.restore(model).unwrap());
        }
        told.add(rows.step(budget).unwrap());
        n_on_device = n_on_device.max(rows.n_on_device());
        if is_over && parked.is_empty() && stored.is_empty() && rows.n_going() == 0 {
            break;
        }
    }
    for (id, prompt, options) in requests {
        let Some(session) = rows.leave(id).unwrap() else { continue };
        let expected = one_by_one(model, &[&prompt], &[options]).0.remove(0);
        prop_assert_eq!(told.outcome(id, &session), expected);
    }
    prop_assert!(rows.is_empty());
    Ok(n_on_device)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_order_of_joins_and_leaves_gives_the_texts_of_one_by_one(
        acts in prop::collection::vec(act(), 1..40),
        budget in 1usize..40,
    ) {
        play(&tiny("cpu"), acts, budget)?;
    }
}

/// The same on a GPU that draws, where rows are taken over and move to more or fewer.
#[test]
fn rows_on_a_gpu_join_and_leave_at_any_step() {
    let model = tiny("gpu:0");
    let join = |i: u32, n_tokens| Act::Join {
        prompt: (0..3 + i % 5).map(|at| (at * 31 + 7 * i) % 300).collect(),
        seed: (i % 3 == 2).then_some(u64::from(i)),
        n_tokens,
    };
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut index = || any::<prop::sample::Index>().new_tree(&mut runner).unwrap().current();
    let mut acts = vec![];
    for i in 0..12 {
        acts.push(join(i, 10 + 3 * (i as usize % 4)));
        match i % 6 {
            2 => acts.push(Act::Park(index())),
            3 => acts.push(Act::ThrowAway(index())),
            5 => acts.push(Act::Store(index())),
            _ => acts.extend([Act::Nothing, Act::Nothing]),
        }
    }
    assert!(play(&model, acts, 16).unwrap() >= 3, "the device has drawn for several rows at once");
}
