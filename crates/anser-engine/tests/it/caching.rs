//! The cache of states after turns: what it saves, and what it must not give away.

use crate::harness::{alone, ask, options, tiny};
use anser_engine::{CacheLimits, Engine, Event, Keep, Limits, Request, Start, Tenant, Work};
use std::path::Path;

/// Three places for states: main memory, the device, and a folder.
fn limits(host: bool, device: bool, folder: Option<&Path>) -> Limits {
    let n_bytes = |is_on: bool| if is_on { 1 << 24 } else { 0 };
    let cache = CacheLimits {
        host_n_bytes: n_bytes(host),
        device_n_bytes: n_bytes(device),
        folder: folder.map(Path::to_path_buf),
        folder_n_bytes: 1 << 24,
    };
    Limits { max_rows: Some(4), cache, ..Limits::default() }
}

fn turn(prompt: &[u32], ends: &[usize], tenant: u64) -> Request {
    let keep = Keep { turns: ends.to_vec(), answer: true, state: false };
    Request { keep, tenant: Tenant(tenant), ..Request::generate(prompt.to_vec(), options(None, 6)) }
}

/// Each turn of a conversation reads its own tokens only, and the answers are those of reading all of them.
#[test]
fn a_conversation_reads_each_token_once() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny();
    let places = [limits(true, false, None), limits(false, true, None), limits(false, false, Some(folder.path()))];
    for limits in places {
        let mut engine = None;
        // States that come faster than a disk writes them are not all kept; dropping the engine waits until they are written.
        let on_disk = limits.cache.folder.is_some();
        let mut ask = |request| {
            let running = engine.get_or_insert_with(|| Engine::start(model.clone(), limits.clone()));
            let given = ask(running, request);
            if on_disk {
                drop(engine.take());
            }
            given
        };
        let system: Vec<u32> = (0..40).map(|i| (i * 7) % 300).collect();
        let mut text = system.clone();
        for turn_of in 0..4u32 {
            let n_before = text.len();
            text.extend((0..10).map(|i| (i * 11 + 17 * turn_of) % 300));
            let given = ask(turn(&text, &[system.len(), text.len()], 1));
            let n_cached = given.n_cached.unwrap();
            assert_eq!(n_cached, if turn_of == 0 { 0 } else { n_before }, "turn {turn_of}");
            let answer = alone(&model, &text, &options(None, 6));
            assert_eq!(given.tokens, std::slice::from_ref(&answer), "turn {turn_of}");
            text.extend(answer);
        }
        // Another conversation shares the system's turn. The same prompt again is not read at all.
        let other: Vec<u32> = system.iter().copied().chain([290, 291]).collect();
        let expected = alone(&model, &other, &options(None, 6));
        for n_cached in [system.len(), other.len()] {
            let given = ask(turn(&other, &[other.len()], 1));
            assert_eq!((given.n_cached, given.tokens), (Some(n_cached), vec![expected.clone()]));
        }
        // An answer that the client sends back in other tokens is read again, after the turn before it.
        let mut edited = other.clone();
        edited.extend([1, 2, 3, 4]);
        assert_eq!(ask(turn(&edited, &[], 1)).n_cached, Some(other.len()));
        // A prompt after another state than the fresh one is none of these.
        let state = model.session().unwrap().state().unwrap();
        let saved = std::sync::Arc::new(anser_engine::Saved { state, logits: vec![] });
        let request = Request { start: Start::State(saved), ..turn(&other, &[other.len()], 1) };
        assert_eq!(ask(request).n_cached, Some(0));
    }
}

/// Tenants do not see each other's states, in memory nor on disk.
#[test]
fn tenants_have_nothing_in_common() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny();
    let engine = Engine::start(model.clone(), limits(true, true, Some(folder.path())));
    let secret: Vec<u32> = (0..50).map(|i| (i * 3 + 1) % 300).collect();
    let expected = alone(&model, &secret, &options(None, 6));
    for tenant in [1, 2, 1 << 32, u64::MAX, 0] {
        let given = ask(&engine, turn(&secret, &[20, secret.len()], tenant));
        assert_eq!((given.n_cached, given.tokens), (Some(0), vec![expected.clone()]), "tenant {tenant}");
    }
    for tenant in [0, 2] {
        assert_eq!(ask(&engine, turn(&secret, &[], tenant)).n_cached, Some(secret.len()));
    }
}

/// What one engine has written another one finds, which runs at the same time or later; a damaged file is deleted and no error.
#[test]
fn engines_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny();
    let [first, second] = [0, 1].map(|_| Engine::start(tiny(), limits(false, false, Some(folder.path()))));
    let prompt: Vec<u32> = (0..30).map(|i| (i * 5 + 2) % 300).collect();
    let request = || Request { keep: Keep { turns: vec![30], ..Keep::default() }, ..turn(&prompt, &[], 3) };
    assert_eq!(ask(&first, request()).n_cached, Some(0));
    drop(first);
    let expected = vec![alone(&model, &prompt, &options(None, 6))];
    let given = ask(&second, request());
    assert_eq!((given.n_cached, given.tokens), (Some(30), expected.clone()));
    drop(second);

    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::write(&files[0], b"not a state").unwrap();
    let third = Engine::start(tiny(), limits(false, false, Some(folder.path())));
    let given = ask(&third, request());
    assert_eq!((given.n_cached, given.tokens), (Some(0), expected));
    drop(third);
    // It was written anew.
    assert!(std::fs::metadata(&files[0]).unwrap().len() > 1000);
}

/// The bytes on disk stay within the budget; the states that were used least recently go first.
#[test]
fn a_folder_keeps_to_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny();
    let n_bytes = 4 * (model.state_layout().len() + 300) as u64;
    let mut limits = limits(false, false, Some(folder.path()));
    // Room for three states with their headers.
    limits.cache.folder_n_bytes = 4 * n_bytes;
    let engine = Engine::start(model, limits);
    for i in 0..8u32 {
        let prompt: Vec<u32> = (0..12).map(|at| (at * 5 + i * 31) % 300).collect();
        let keep = Keep { turns: vec![12], ..Keep::default() };
        ask(&engine, Request { keep, ..turn(&prompt, &[], 1) });
    }
    // An engine writes all its states before it ends.
    drop(engine);
    let sizes = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let sizes: Vec<u64> = sizes.collect();
    assert!(!sizes.is_empty() && sizes.iter().sum::<u64>() <= 4 * n_bytes, "{sizes:?}");
}

/// The state after a turn is cached without logits. A text that begins there, with no further token, has them all the same, and so has
/// a state that is read for the caller.
#[test]
fn a_prompt_that_ends_with_a_cached_turn_has_logits() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny();
    let tokens: Vec<u32> = (0..40).map(|i| (i * 37 + 3) % 300).collect();
    let beginning = &tokens[..25];
    let expected = [alone(&model, beginning, &options(None, 8))];
    for limits in [limits(true, false, None), limits(false, true, None), limits(false, false, Some(folder.path()))] {
        let engine = Engine::start(model.clone(), limits);
        ask(&engine, turn(&tokens, &[25], 1));
        let longer = [beginning, &[9, 8]].concat();
        assert_eq!(ask(&engine, turn(&longer, &[], 1)).n_cached, Some(25));

        let of_tenant = |request| Request { tenant: Tenant(1), ..request };
        let given = ask(&engine, of_tenant(Request::new(beginning.to_vec(), Work::State)));
        let [Event::State(saved)] = &given.others[..] else { panic!("{:?}", given.others) };
        let request = Request { start: Start::State(saved.clone()), ..Request::generate(vec![], options(None, 8)) };
        assert_eq!(ask(&engine, request).tokens, expected);
        let again = of_tenant(Request::generate(beginning.to_vec(), options(None, 8)));
        assert_eq!(ask(&engine, again).tokens, expected);
    }
}
