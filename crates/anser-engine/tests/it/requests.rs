//! Each kind of work, refusals, deadlines, parked readers and the end of an engine.

use crate::harness::{Given, alone, ask, engine, options, tiny, tiny_with_vocabulary};
use anser::{EmbedOptions, FinishReason, Grammar, Likelihood, Pooling, SamplerOptions, Want, Which};
use anser_engine::{Delivery, Engine, Event, Failure, Keep, Limits, Refusal, Request, Start, Tenant, Work, channel};
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn prompt(n: usize, from: u32) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 37 + from) % 300).collect()
}

#[test]
fn one_prompt_gives_several_texts() {
    let model = tiny();
    let engine = engine(&model, 4);
    let choices = vec![options(None, 9), options(Some(3), 12), options(Some(4), 0), options(Some(5), 7)];
    // An empty prompt is token 0.
    for prompt in [prompt(30, 1), vec![]] {
        let work = Work::Generate { choices: choices.clone(), n_top: None };
        let given = ask(&engine, Request::new(prompt.clone(), work));
        for (choice, options) in choices.iter().enumerate() {
            let expected = alone(&model, &prompt, options);
            assert_eq!(given.tokens.get(choice).cloned().unwrap_or_default(), expected, "choice {choice}");
            assert_eq!(given.ends[choice], Some(FinishReason::Length));
        }
        assert_eq!(given.usage.unwrap().n_generated, 9 + 12 + 7);
    }
}

#[test]
fn log_probabilities_embeddings_and_states_are_those_of_a_session() {
    let model = tiny();
    let engine = engine(&model, 4);
    let tokens = prompt(150, 5);
    let want = Want { logits: Which::All, hidden: Which::None };
    let mut session = model.session().unwrap();
    let logits = session.feed_for(&tokens, want, |_, _| ControlFlow::Continue(())).unwrap().logits;

    let (on_event, busy) = channel(1 << 13);
    let other = engine.submit(Request::generate(vec![8], options(None, 400)), on_event).unwrap();
    let given = ask(&engine, Request::new(tokens.clone(), Work::Score { n_top: 3 }));
    let scores = given.others.into_iter().flat_map(|event| match event {
        Event::Scored(scores) => scores,
        event => panic!("{event:?}"),
    });
    let scores: Vec<Option<Likelihood>> = scores.collect();
    assert_eq!((scores.len(), scores[0].is_none()), (150, true));
    for (i, score) in scores.iter().enumerate().skip(1) {
        let (score, expected) =
            (score.as_ref().unwrap(), Likelihood::new(&logits[(i - 1) * 300..][..300], tokens[i], 3));
        assert!((score.log_probability - expected.log_probability).abs() < 1e-4, "{i}: {score:?} {expected:?}");
        assert_eq!((score.token, score.top.len()), (tokens[i], 3));
    }

    let pooled = EmbedOptions { pooling: Pooling::Mean, normalize: true, ..EmbedOptions::default() };
    let given = ask(&engine, Request::new(tokens.clone(), Work::Embed(pooled)));
    let expected = model.embed(&tokens, &pooled).unwrap();
    assert!(matches!(&given.others[..], [Event::Embedding(found)] if *found == expected), "{:?}", given.others);

    let texts: Vec<Vec<u32>> = [3, 40, 7].into_iter().map(|n| prompt(n, 1)).collect();
    let given = ask(&engine, Request::new(vec![], Work::EmbedMany { options: pooled, texts: texts.clone() }));
    let expected = model.embed_batch(&texts, &pooled).unwrap();
    assert!(matches!(&given.others[..], [Event::Embedding(found)] if *found == expected), "{:?}", given.others);
    assert_eq!(given.usage.unwrap().n_prompt, 50);

    let given = ask(&engine, Request::new(tokens.clone(), Work::State));
    let [Event::State(saved)] = &given.others[..] else { panic!("{:?}", given.others) };
    let error = anser_model_nmse(saved.state.data(), session.state().unwrap().data());
    assert!(error < 1e-9, "the state: nmse {error:e}");
    // A text goes on from it as from the prompt.
    let rest = prompt(5, 9);
    let request = Request { start: Start::State(saved.clone()), ..Request::generate(rest.clone(), options(None, 8)) };
    let expected = alone(&model, &[tokens.clone(), rest].concat(), &options(None, 8));
    assert_eq!(ask(&engine, request).tokens, [expected]);
    let request = Request { start: Start::State(saved.clone()), ..Request::generate(vec![], options(None, 8)) };
    assert_eq!(ask(&engine, request).tokens, [alone(&model, &tokens, &options(None, 8))]);

    // What ran all the time has what it has alone.
    assert_eq!(Given::all(&busy).tokens, [alone(&model, &[8], &options(None, 400))]);
    drop(other);
}

/// The mean of squared differences over the mean of squares.
fn anser_model_nmse(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let errors: f64 = found.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    errors / expected.iter().map(|&b| square(f64::from(b))).sum::<f64>()
}

#[test]
fn what_cannot_be_done_is_refused_before_it_waits() {
    let model = tiny();
    let engine = engine(&model, 2);
    let refusal = |request: Request| match engine.submit(request, |_| Delivery::Taken) {
        Ok(_) => panic!("it was taken in"),
        Err(refusal) => refusal,
    };
    let bad_id = refusal(Request::generate(vec![1, 300], options(None, 1)));
    assert!(
        matches!(bad_id, Refusal::Invalid(anser::Error::Step(_))) && bad_id.to_string().contains("300"),
        "{bad_id}"
    );
    let hot = SamplerOptions { temperature: f32::NAN, ..SamplerOptions::plain() };
    let bad = refusal(Request::generate(vec![1], anser::GenerateOptions { sampler: hot, ..options(None, 1) }));
    assert!(matches!(bad, Refusal::Invalid(_)) && bad.to_string().contains("temperature"), "{bad}");
    let many = refusal(Request::new(vec![1], Work::Generate { choices: vec![options(None, 1); 3], n_top: None }));
    assert!(matches!(many, Refusal::TooLarge { what: "choices", max: 2, found: 3 }), "{many}");
    let none = refusal(Request::new(vec![1], Work::Generate { choices: vec![], n_top: None }));
    assert!(matches!(none, Refusal::Invalid(_)), "{none}");
    let layer = EmbedOptions { layer: anser::Layer::Residual(99), ..EmbedOptions::default() };
    assert!(matches!(refusal(Request::new(vec![1], Work::Embed(layer))), Refusal::Invalid(_)));
    // A vocabulary is needed to end at a text.
    let stop = anser::GenerateOptions { stop: vec!["x".into()], ..options(None, 1) };
    assert!(matches!(refusal(Request::generate(vec![1], stop)), Refusal::Invalid(_)));
    let grammar = Some(Grammar::json_object());
    let json = anser::GenerateOptions { grammar, ..options(None, 1) };
    assert!(matches!(refusal(Request::generate(vec![1], json)), Refusal::Invalid(_)));
    assert_eq!(engine.stats().n_waiting, 0);
}

/// Every choice of a request follows its own grammar, and a grammar that cannot be followed is refused at once.
#[test]
fn choices_follow_their_grammars() {
    let model = tiny_with_vocabulary();
    let engine = engine(&model, 4);
    let of =
        |grammar: &Grammar, seed| anser::GenerateOptions { grammar: Some(grammar.clone()), ..options(Some(seed), 30) };
    let regex = Grammar::regex("[xyz]{5}").unwrap();
    let schema = Grammar::json_schema(r#"{"enum": ["é", 1, [true]]}"#).unwrap();
    let choices = vec![of(&regex, 1), of(&regex, 2), of(&schema, 3), options(Some(4), 8)];
    let given = ask(&engine, Request::new(prompt(20, 3), Work::Generate { choices: choices.clone(), n_top: Some(2) }));
    for (choice, options) in choices.iter().enumerate() {
        assert_eq!(given.tokens[choice], alone(&model, &prompt(20, 3), options), "choice {choice}");
    }
    for text in &given.texts[..2] {
        assert!(text.len() == 5 && text.bytes().all(|byte| b"xyz".contains(&byte)), "{text:?}");
    }
    assert!(["\"é\"", "1", "[true]"].contains(&&given.texts[2][..]), "{:?}", given.texts[2]);
    assert_eq!(given.ends, [[Some(FinishReason::Complete); 3].as_slice(), &[Some(FinishReason::Length)]].concat());

    let not = Grammar::json_schema(r#"{"not": {}}"#).unwrap();
    match engine.submit(Request::generate(vec![1], of(&not, 1)), |_| Delivery::Taken) {
        Err(Refusal::Invalid(anser::Error::Grammar { reason, .. })) => assert!(reason.contains("not"), "{reason}"),
        other => panic!("{:?}", other.map(drop)),
    }
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_again() {
    let limits = Limits {
        max_rows: Some(1),
        max_waiting: Some(3),
        max_waiting_per_tenant: 2,
        max_wait: Duration::from_secs(600),
        ..Limits::default()
    };
    let engine = Engine::start(tiny(), limits);
    let submit = |tenant: u64| {
        let request = Request { tenant: Tenant(tenant), ..Request::generate(vec![1], options(None, usize::MAX)) };
        let (on_event, events) = channel(1 << 16);
        engine.submit(request, on_event).map(|ticket| (ticket, events))
    };
    let running = submit(1).unwrap();
    assert!(matches!(running.1.recv().unwrap(), Event::Started { .. }));
    let waiting = [submit(1).unwrap(), submit(1).unwrap()];
    let Err(Refusal::Full { n_waiting: 2, retry_after }) = submit(1) else { panic!("the tenant has two") };
    assert!((1..=120).contains(&retry_after.as_secs()));
    let of_another = submit(2).unwrap();
    assert!(matches!(submit(3), Err(Refusal::Full { n_waiting: 3, .. })));
    // One that waits and is cancelled makes room; the others are served when the first is cancelled.
    drop(waiting);
    let began = Instant::now();
    while engine.stats().n_waiting > 1 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(running);
    assert!(matches!(of_another.1.recv().unwrap(), Event::Started { .. }));
    assert_eq!(engine.stats().n_cancelled, 3);
}

#[test]
fn deadlines_end_what_runs_and_what_waits() {
    let engine = Engine::start(tiny(), Limits { max_rows: Some(1), ..Limits::default() });
    let forever = || Request::generate(vec![1], options(None, usize::MAX));
    let with_deadline = |time| Request { deadline: Some(Instant::now() + time), ..forever() };
    let submit = |request| {
        let (on_event, events) = channel(1 << 16);
        (engine.submit(request, on_event).unwrap(), events)
    };
    let running = submit(with_deadline(Duration::from_millis(300)));
    let waiting = submit(with_deadline(Duration::from_millis(20)));
    assert!(matches!(Given::all(&waiting.1).failure, Some(Failure::Deadline)));
    let given = Given::all(&running.1);
    assert!(matches!(given.failure, Some(Failure::Deadline)) && given.usage.is_none());
    assert_eq!(engine.stats().n_failed, 2);
}

/// A reader that takes nothing rests, and others go on; another request gets its place, and it goes on once it is read.
#[test]
fn a_reader_that_does_not_read_stops_nobody() {
    let model = tiny();
    let engine = engine(&model, 1);
    let (on_event, slow) = channel(2);
    let _slow_ticket = engine.submit(Request::generate(prompt(9, 3), options(None, 60)), on_event).unwrap();
    let given = ask(&engine, Request::generate(prompt(20, 4), options(Some(2), 50)));
    assert_eq!(given.tokens, [alone(&model, &prompt(20, 4), &options(Some(2), 50))]);
    assert_eq!(Given::all(&slow).tokens, [alone(&model, &prompt(9, 3), &options(None, 60))]);
    let stats = engine.stats();
    assert_eq!((stats.n_done, stats.n_failed, stats.n_cancelled), (2, 0, 0), "{stats:?}");

    // Several of them take turns on one place, in any order in which they are read.
    let slow: Vec<_> = (0..3)
        .map(|i| {
            let (on_event, events) = channel(2);
            let request = Request::generate(prompt(9, i), options(None, 40));
            (engine.submit(request, on_event).unwrap(), events)
        })
        .collect();
    let wait_until_parked = || {
        let began = Instant::now();
        while engine.stats().n_parked + engine.stats().n_stored < 3 {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", engine.stats());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait_until_parked();
    for i in [1, 2, 0] {
        assert_eq!(Given::all(&slow[i].1).tokens, [alone(&model, &prompt(9, i as u32), &options(None, 40))]);
    }

    let limits = Limits { max_parked: Duration::from_millis(50), ..Limits::default() };
    let engine = Engine::start(model, limits);
    let (on_event, never) = channel(1);
    let _ticket = engine.submit(Request::generate(vec![1], options(None, 60)), on_event).unwrap();
    let began = Instant::now();
    while engine.stats().n_failed == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    let given = Given::all(&never);
    assert!(given.usage.is_none(), "it was ended");
}

#[test]
fn an_engine_drains_and_ends() {
    let model = tiny();
    let engine = engine(&model, 1);
    let submit = |n| {
        let (on_event, events) = channel(1 << 16);
        (engine.submit(Request::generate(vec![7], options(None, n)), on_event).unwrap(), events)
    };
    let (first, second) = (submit(40), submit(30));
    engine.drain(Instant::now() + Duration::from_secs(60));
    for (events, n) in [(&first.1, 40), (&second.1, 30)] {
        assert_eq!(Given::all(events).tokens, [alone(&model, &[7], &options(None, n))]);
    }
    assert!(matches!(
        engine.submit(Request::generate(vec![7], options(None, 1)), |_| Delivery::Taken),
        Err(Refusal::Draining)
    ));

    // What is not complete in time fails; dropping the engine ends it, too.
    for drains in [true, false] {
        let engine = crate::harness::engine(&model, 1);
        let (on_event, events) = channel(1 << 16);
        let ticket = engine.submit(Request::generate(vec![7], options(None, usize::MAX)), on_event).unwrap();
        assert!(matches!(events.recv().unwrap(), Event::Started { .. }));
        if drains {
            engine.drain(Instant::now());
        }
        drop(engine);
        assert!(matches!(events.iter().last().unwrap(), Event::Failed(Failure::Draining)));
        drop(ticket);
    }
}

#[test]
fn a_text_hands_out_the_state_after_it() {
    let model = tiny();
    let engine = engine(&model, 2);
    let keep = Keep { state: true, ..Keep::default() };
    let given = ask(&engine, Request { keep, ..Request::generate(prompt(8, 2), options(None, 20)) });
    let [Event::Ended { state: Some(saved), .. }] = &given.others[..] else { panic!("{:?}", given.others) };
    let whole = alone(&model, &prompt(8, 2), &options(None, 32));
    let request = Request { start: Start::State(saved.clone()), ..Request::generate(vec![], options(None, 12)) };
    assert_eq!([given.tokens.concat(), ask(&engine, request).tokens.concat()].concat(), whole);
}

/// Dropping the receiving end cancels, and so does a callback that wants no more.
#[test]
fn a_request_that_nobody_reads_is_cancelled() {
    let engine = engine(&tiny(), 1);
    let (on_event, events) = channel(4);
    let ticket = engine.submit(Request::generate(vec![1], options(None, usize::MAX)), on_event).unwrap();
    ticket.detach();
    drop(events);
    let (to, from) = mpsc::channel();
    let on_event = move |event| {
        let _ = to.send(event);
        Delivery::Taken
    };
    // The place is free again.
    let ticket = engine.submit(Request::generate(vec![2], options(None, 3)), on_event).unwrap();
    assert_eq!(Given::all(&from).tokens[0].len(), 3);
    drop(ticket);
}

/// A sequence of a tenant that has several makes room for one of a tenant that has none, and goes on later as if nothing had been.
#[test]
fn a_sequence_makes_room_for_another_tenant() {
    let model = tiny();
    let limits = Limits { max_rows: Some(2), preempt_after: Duration::ZERO, ..Limits::default() };
    let engine = Engine::start(model.clone(), limits);
    let submit = |from: u32, n| {
        let (on_event, events) = channel(1 << 16);
        let request = Request { tenant: Tenant(1), ..Request::generate(prompt(9, from), options(Some(7), n)) };
        let ticket = engine.submit(request, on_event).unwrap();
        assert!(matches!(events.recv().unwrap(), Event::Started { .. }));
        (ticket, events)
    };
    let forever = submit(1, usize::MAX);
    let finite = submit(2, 900);
    for i in 0..5 {
        let request = Request { tenant: Tenant(2), ..Request::generate(prompt(12, i), options(None, 20)) };
        assert_eq!(ask(&engine, request).tokens, [alone(&model, &prompt(12, i), &options(None, 20))]);
    }
    assert_eq!(Given::all(&finite.1).tokens, [alone(&model, &prompt(9, 2), &options(Some(7), 900))]);
    drop(forever.0);
    let found = Given::all(&forever.1).tokens.concat();
    let n = found.len().min(900);
    assert_eq!(found[..n], alone(&model, &prompt(9, 1), &options(Some(7), n)));
}
