//! Random schedules: requests of several tenants come at random times, some are cancelled, some are not read for a while.

use crate::harness::{Given, alone, draft_for_tiny, options, tiny_with_vocabulary};
use anser::{Draft, GenerateOptions, Grammar, Model};
use anser_engine::{Delivery, Engine, Event, Limits, Request, Tenant, Ticket, Work};
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

static MODEL: LazyLock<Model> = LazyLock::new(tiny_with_vocabulary);
static DRAFT: LazyLock<Model> = LazyLock::new(draft_for_tiny);

/// The options of a text.
#[derive(Debug, Clone)]
struct Choice {
    seed: Option<u64>,
    max_tokens: usize,
    grammar: Option<Grammar>,
    lookup: bool,
    /// The number of tokens that the draft model proposes, if the text has one.
    n_drafted: Option<usize>,
}

impl Choice {
    fn options(&self) -> GenerateOptions {
        let (grammar, lookup) = (self.grammar.clone(), self.lookup);
        let draft = self.n_drafted.map(|n| Draft { model: DRAFT.clone(), n_tokens: Some(n) });
        GenerateOptions { grammar, lookup, draft, ..options(self.seed, self.max_tokens) }
    }
}

fn choice() -> impl Strategy<Value = Choice> {
    let schema = r#"{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["é", "北"]}}}"#;
    let grammars = [Grammar::regex("(ab|ba){1,4}"), Grammar::regex("[0-9北é]{3}"), Grammar::json_schema(schema)];
    let grammar = prop_oneof![
        3 => Just(None),
        2 => prop::sample::select(Vec::from(grammars.map(Result::unwrap))).prop_map(Some),
    ];
    (prop::option::of(0u64..5), 0usize..12, grammar, any::<bool>(), prop::option::of(1usize..5)).prop_map(
        |(seed, max_tokens, grammar, lookup, n_drafted)| Choice { seed, max_tokens, grammar, lookup, n_drafted },
    )
}

/// A request, and how its reader behaves.
#[derive(Debug, Clone)]
struct Client {
    prompt: Vec<u32>,
    choices: Vec<Choice>,
    tenant: u64,
    /// Turns of the prompt that are cached, in percent of its length.
    turns: Vec<usize>,
    reader: Reader,
}

#[derive(Debug, Clone, Copy)]
enum Reader {
    Reads,
    /// The number of times that the caller refuses each event before it takes it.
    Refuses(usize),
    /// The number of events after which the caller cancels.
    Cancels(usize),
    /// Panics at this event.
    Panics(usize),
}

fn client() -> impl Strategy<Value = Client> {
    let reader = prop_oneof![
        4 => Just(Reader::Reads),
        2 => (1usize..4).prop_map(Reader::Refuses),
        2 => (0usize..10).prop_map(Reader::Cancels),
        1 => (0usize..6).prop_map(Reader::Panics),
    ];
    // Prompts that begin alike share states, within a tenant.
    let prompt = (0u32..3, prop::collection::vec(0u32..300, 1..40));
    let choices = prop::collection::vec(choice(), 1..4);
    (prompt, choices, 0u64..3, prop::collection::vec(1usize..=100, 0..3), reader).prop_map(
        |((beginning, rest), choices, tenant, turns, reader)| {
            let prompt: Vec<u32> = (0..20).map(|i| (i * 13 + 50 * beginning) % 300).chain(rest).collect();
            Client {
                turns: turns.iter().map(|percent| prompt.len() * percent / 100).collect(),
                prompt,
                choices,
                tenant,
                reader,
            }
        },
    )
}

struct Running {
    client: Client,
    _ticket: Arc<Mutex<Option<Ticket>>>,
    given: mpsc::Receiver<Event>,
}

fn submit(engine: &Engine, client: Client) -> Running {
    let choices: Vec<GenerateOptions> = client.choices.iter().map(Choice::options).collect();
    let request = Request {
        tenant: Tenant(client.tenant),
        keep: anser_engine::Keep { turns: client.turns.clone(), answer: true, state: false },
        ..Request::new(client.prompt.clone(), Work::Generate { choices, n_top: None })
    };
    let (to, given) = mpsc::channel();
    let ticket: Arc<Mutex<Option<Ticket>>> = Arc::default();
    let (of_reader, reader) = (ticket.clone(), client.reader);
    let (mut n_taken, mut n_refused) = (0, 0);
    let on_event = move |event| {
        match reader {
            Reader::Refuses(n) if n_refused < n => {
                n_refused += 1;
                return Delivery::Full(event);
            }
            Reader::Cancels(n) if n_taken >= n => {
                // The handle is dropped in the engine's own thread, or the reader is gone.
                drop(of_reader.lock().unwrap().take());
                return Delivery::Gone;
            }
            Reader::Panics(n) if n_taken >= n => std::panic::resume_unwind(Box::new("a reader's panic")),
            Reader::Reads | Reader::Refuses(_) | Reader::Cancels(_) | Reader::Panics(_) => {}
        }
        (n_taken, n_refused) = (n_taken + 1, 0);
        let _ = to.send(event);
        Delivery::Taken
    };
    let accepted = engine.submit(request, on_event).expect("there is room for all");
    *ticket.lock().unwrap() = Some(accepted);
    Running { client, _ticket: ticket, given }
}

/// Waits until nothing runs; a test that waits for a minute has found a leak.
fn wait_until_idle(engine: &Engine) {
    let began = Instant::now();
    loop {
        let stats = engine.stats();
        if (stats.n_waiting, stats.n_running) == (0, 0) {
            assert_eq!((stats.n_rows, stats.n_parked, stats.n_stored), (0, 0, 0), "{stats:?}");
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "a request never ends: {stats:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Every text that is read to its end is the one that its prompt and options give alone, and every other one a beginning of it;
    /// afterwards no place on the device is taken.
    #[test]
    fn any_schedule_gives_each_request_what_it_gives_alone(
        clients in prop::collection::vec((client(), 0u64..4), 1..14),
        max_rows in 3usize..6,
        caches in any::<bool>(),
    ) {
        let mut limits = Limits { max_rows: Some(max_rows), max_waiting: Some(1000), ..Limits::default() };
        limits.cache.host_n_bytes = if caches { 1 << 20 } else { 0 };
        let engine = Engine::start(MODEL.clone(), limits);
        let mut running = vec![];
        for (client, pause) in clients {
            running.push(submit(&engine, client));
            std::thread::sleep(Duration::from_millis(pause));
        }
        for Running { client, given, _ticket } in running {
            let given = Given::all(&given);
            let is_read = matches!(client.reader, Reader::Reads | Reader::Refuses(_));
            prop_assert!(given.failure.is_none(), "{:?}", given.failure);
            prop_assert_eq!(given.usage.is_some(), is_read || given.usage.is_some());
            for (choice, of_choice) in client.choices.iter().enumerate() {
                // Texts whose tokens are looked up or drafted are those of single steps.
                let single = GenerateOptions { lookup: false, draft: None, ..of_choice.options() };
                let expected = alone(&MODEL, &client.prompt, &single);
                let found = given.tokens.get(choice).cloned().unwrap_or_default();
                if is_read {
                    prop_assert_eq!(&found, &expected, "choice {} of {:?}", choice, &client);
                } else {
                    prop_assert!(expected.starts_with(&found), "choice {} of {:?}: {:?}", choice, &client, &found);
                }
            }
            if is_read {
                let n_generated = given.tokens.iter().map(Vec::len).sum();
                let usage = given.usage.unwrap();
                prop_assert_eq!((usage.n_prompt, usage.n_generated), (client.prompt.len(), n_generated));
                prop_assert!(caches || usage.n_cached == 0);
            }
        }
        wait_until_idle(&engine);
    }
}

/// A tenant that sends many requests does not keep another one waiting until all of its own are done.
#[test]
fn tenants_take_turns() {
    let limits = Limits { max_rows: Some(1), max_waiting: Some(100), ..Limits::default() };
    let engine = Engine::start(MODEL.clone(), limits);
    let order: Arc<Mutex<Vec<u64>>> = Arc::default();
    let n_done = Arc::new(AtomicUsize::new(0));
    let mut tickets = vec![];
    // The only place is taken until all have come.
    let (on_event, events) = anser_engine::channel(1 << 16);
    let long = Request { tenant: Tenant(9), ..Request::generate(vec![1], options(None, usize::MAX)) };
    let blocker = engine.submit(long, on_event).unwrap();
    assert!(matches!(events.recv().unwrap(), Event::Started { .. }));
    let mut submit = |tenant: u64| {
        let request = Request { tenant: Tenant(tenant), ..Request::generate(vec![5; 50], options(None, 30)) };
        let (order, n_done) = (order.clone(), n_done.clone());
        let on_event = move |event| {
            match event {
                Event::Started { .. } => order.lock().unwrap().push(tenant),
                Event::Done(_) => drop(n_done.fetch_add(1, Ordering::Relaxed)),
                event => drop(event),
            }
            Delivery::Taken
        };
        tickets.push(engine.submit(request, on_event).unwrap());
    };
    (0..4).for_each(|_| submit(1));
    (0..3).for_each(|_| submit(2));
    drop(blocker);
    wait_until_idle(&engine);
    assert_eq!(n_done.load(Ordering::Relaxed), 7);
    assert_eq!(*order.lock().unwrap(), [1, 2, 1, 2, 1, 2, 1]);
}
