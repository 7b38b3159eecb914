//! What a server keeps for its clients: responses and named states.

use crate::harness::{ANN, BEN, Running, demo, exact_demo, limits, options};
use anser::{GenerateOptions, LoadedState, Model, SamplerOptions, StateOrigin};
use anser_serve::ServedModel;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

fn respond(server: &Running, more: Value) -> Value {
    let mut body = json!({"temperature": 0, "max_output_tokens": 24});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/v1/responses", &body).ok()
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap()
}

#[test]
fn a_response_goes_on_from_another_and_reads_its_own_turn() {
    let server = Running::start();
    let long = format!("{}What is 17 + 26?", "A page about foxes and hills. ".repeat(30));
    let first = respond(&server, json!({"input": long}));
    let second =
        respond(&server, json!({"input": "Tell me a story about a dog.", "previous_response_id": first["id"]}));
    let whole = json!([{"role": "user", "content": long}, {"role": "assistant", "content": text(&first)},
        {"role": "user", "content": "Tell me a story about a dog."}]);
    assert_eq!(text(&second), text(&respond(&server, json!({"input": whole}))));
    let usage = &second["usage"];
    let n_read =
        usage["input_tokens"].as_u64().unwrap() - usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(n_read < 40, "{usage}");
    // The first one is as it was, and those that go on from it live without it.
    let path = format!("/v1/responses/{}", first["id"].as_str().unwrap());
    assert_eq!(server.get(&path).ok(), first);
    assert_eq!(server.get(&format!("{path}/input_items")).ok()["data"][0]["content"][0]["text"], long.as_str());
    server.request("DELETE", &path, &[("authorization", &format!("Bearer {ANN}"))], b"").ok();
    server.get(&path).error(404);
    respond(&server, json!({"input": "And?", "previous_response_id": second["id"]}));
    let gone = server.post("/v1/responses", &json!({"input": "x", "previous_response_id": first["id"]}));
    assert_eq!(gone.error(400)["code"], "previous_response_not_found");
    let unstored = respond(&server, json!({"input": "x", "store": false}));
    server.get(&format!("/v1/responses/{}", unstored["id"].as_str().unwrap())).error(404);
}

#[test]
fn events_are_numbered_and_join_to_the_response() {
    let server = Running::start();
    let body = json!({"input": "Tell me a story.", "temperature": 0, "max_output_tokens": 16, "stream": true});
    let answer = server.post("/v1/responses", &body);
    let events: Vec<Value> = answer.events().iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    let joined: String = deltas.map(|event| event["delta"].as_str().unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!((last["type"].as_str(), joined.as_str()), (Some("response.incomplete"), text(&last["response"])));
    assert!(answer.text().starts_with("event: response.created\ndata: "));
}

#[test]
fn nothing_is_another_tenants() {
    let server = Running::start();
    let first = respond(&server, json!({"input": "My number is 48213."}));
    let id = first["id"].as_str().unwrap();
    let as_ben = [("authorization", &*format!("Bearer {BEN}"))];
    server.request("GET", &format!("/v1/responses/{id}"), &as_ben, b"").error(404);
    server.request("DELETE", &format!("/v1/responses/{id}"), &as_ben, b"").error(404);
    let body = json!({"input": "x", "previous_response_id": id});
    assert_eq!(server.post_as(BEN, "/v1/responses", &body).error(400)["code"], "previous_response_not_found");
    server.post("/v1/states", &json!({"input": "a text", "name": "mine"})).ok();
    assert_eq!(server.request("GET", "/v1/states", &as_ben, b"").ok()["data"], json!([]));
    server.request("GET", "/v1/states/mine/file", &as_ben, b"").error(404);
    // A second request of the same tenant finds the states of its prompt in the cache; one of another tenant does not.
    let long = json!({"messages": [{"role": "user", "content": "A page about foxes. ".repeat(20)}], "max_tokens": 1});
    let cached = |key| {
        let answer = server.post_as(key, "/v1/chat/completions", &long).ok();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!((cached(ANN), cached(BEN)), (0, 0));
    assert!(cached(ANN) > 50);
}

#[test]
fn a_state_is_read_once_and_begun_from() {
    let server = Running::start();
    let (story, more) = ("Once upon a time, there was a fox.", " The fox");
    let state = server.post("/v1/states", &json!({"input": story, "name": "story"})).ok();
    assert_eq!(
        (state["id"].as_str(), state["n_tokens"].as_u64()),
        (Some("story"), Some(demo().encode(story).unwrap().len() as u64))
    );
    let mut session = demo().session().unwrap();
    session.feed(&demo().encode(story).unwrap()).unwrap();
    let options = GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens: 12, ..GenerateOptions::default() };
    let expected = session.generate_text(more, &options).unwrap().text().unwrap();
    let go_on = |state: &str| {
        let body = json!({"prompt": more, "state": state, "max_tokens": 12, "temperature": 0});
        server.post("/v1/completions", &body).ok()["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(go_on("story"), expected);
    // The file is one that the library reads, and comes back under another name.
    let key = format!("Bearer {ANN}");
    let file = server.get("/v1/states/story/file").body;
    assert!(demo().state_from_bytes("the file", file.clone()).is_ok());
    server.request("PUT", "/v1/states/copy/file", &[("authorization", &key)], &file).ok();
    assert_eq!(go_on("copy"), expected);
    server.request("PUT", "/v1/states/broken/file", &[("authorization", &key)], &file[..1000]).error(400);
    server.request("PUT", "/v1/states/a.b/file", &[("authorization", &key)], &file).error(400);
    assert_eq!(server.post("/v1/states", &json!({"input": "x", "name": "story"})).error(400)["code"], "state_exists");
    server.request("DELETE", "/v1/states/story", &[("authorization", &key)], b"").ok();
    assert_eq!(server.get("/v1/states").ok()["data"].as_array().unwrap().len(), 1);
}

#[test]
fn a_chat_begins_from_a_state() {
    let server = Running::start();
    server.post("/v1/states", &json!({"input": "System: Be brief.\n\nUser: hi\n\nAssistant: yo", "name": "talk"})).ok();
    let ask = |more: Value| {
        let mut body = json!({"temperature": 0, "max_tokens": 16});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/chat/completions", &body).ok()["choices"][0]["message"]["content"].clone()
    };
    let question = json!({"role": "user", "content": "What is 17 + 26?"});
    let whole = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yo"}, question]);
    assert_eq!(ask(json!({"state": "talk", "messages": [question]})), ask(json!({"messages": whole})));
}

#[test]
fn a_state_is_of_one_model() {
    let models: Vec<(_, &[&str])> = vec![(demo(), &["one"]), (exact_demo(), &["two"])];
    let server = Running::of_several(models, options(), &limits(), Duration::ZERO);
    server.post("/v1/states", &json!({"model": "one", "input": "In the morning", "name": "kept"})).ok();
    let ask = |path: &str, model: &str, more: Value| {
        let mut body = json!({"model": model, "state": "kept", "max_tokens": 2});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post(path, &body)
    };
    let requests = [
        ("/v1/completions", json!({"prompt": " the"})),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "hi"}]})),
        ("/v1/states", json!({"input": " the", "name": "further"})),
    ];
    for (path, more) in requests {
        let error = ask(path, "two", more.clone()).error(400);
        assert_eq!(error["param"], "state", "{path}");
        assert!(error["message"].as_str().unwrap().contains("of the model \"one\""), "{error}");
        ask(path, "one", more).ok();
    }
}

/// A state-tuned file of the model, as web-rwkv's converter writes them, with numbers that follow from `seed`.
fn tuned(model: &Model, seed: u32) -> LoadedState {
    let config = model.config();
    let (n_layer, h, n) = (config.n_layer, config.n_head, config.head_size);
    let n_bytes = 4 * h * n * n;
    let entry = |layer: usize| {
        let offsets = [layer * n_bytes, (layer + 1) * n_bytes];
        (format!("blocks.{layer}.att.time_state"), json!({"dtype": "F32", "shape": [h, n, n], "data_offsets": offsets}))
    };
    let header = serde_json::to_vec(&(0..n_layer).map(entry).collect::<BTreeMap<_, _>>()).unwrap();
    let mut x = seed;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        20.0 * ((x >> 8) as f32 / (1 << 24) as f32 - 0.5)
    };
    let mut bytes = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    (0..n_layer * h * n * n).for_each(|_| bytes.extend(next().to_le_bytes()));
    let loaded = model.state_from_bytes("a tuned state", bytes).unwrap();
    assert_eq!(loaded.origin, StateOrigin::Tuned);
    loaded
}

/// Tuned initial states by name: every tenant begins from them, texts are those of the library, and states after turns that other initial
/// states lead to are not taken for theirs.
#[test]
fn tuned_states_are_chosen_by_name() {
    let model = exact_demo();
    let question = "Tell me a story. ".repeat(2);
    let prompt = format!("User: {}\n\nAssistant:", question.trim());
    let expected = |state: Option<&LoadedState>| {
        let mut session = model.session().unwrap();
        state.into_iter().for_each(|loaded| session.begin_from(&loaded.state).unwrap());
        let stop = vec!["\n\nUser:".into(), "\n\n".into()];
        let sampler = SamplerOptions::greedy();
        let options = GenerateOptions { sampler, max_tokens: 12, stop, ..GenerateOptions::default() };
        session.generate_text(&prompt, &options).unwrap().text().unwrap().trim().to_owned()
    };
    // Two states whose texts differ from each other's and from that of a fresh state.
    let mut texts = vec![expected(None)];
    let mut states = vec![];
    for seed in 1..40 {
        if states.len() == 2 {
            break;
        }
        let state = tuned(&model, seed);
        let text = expected(Some(&state));
        if !texts.contains(&text) {
            states.push((["one", "two"][states.len()], state));
            texts.push(text);
        }
    }
    assert_eq!(states.len(), 2);
    let served = ServedModel {
        is_adapted: false,
        model: model.clone(),
        names: vec!["demo".into()],
        created: SystemTime::now(),
        limits: limits(),
        states: states.iter().map(|(name, state)| (name.to_string(), state.clone())).collect(),
        reranker: None,
    };
    let server = Running::of_served(vec![served], options(), Duration::from_secs(10));
    let ask = |key: &str, state: Option<&str>| {
        let mut body = json!({"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 12});
        if let Some(state) = state {
            body["state"] = state.into();
        }
        let answer = server.post_as(key, "/v1/chat/completions", &body).ok();
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        (text, answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap())
    };
    for (key, is_second) in [(ANN, false), (ANN, true), (BEN, false)] {
        for (state, text) in [None, Some("one"), Some("two")].into_iter().zip(&texts) {
            let (found, n_cached) = ask(key, state);
            assert_eq!((found.trim(), n_cached > 0), (&text[..], is_second), "{state:?}");
        }
    }
    for (state, text) in [("one", &texts[1]), ("two", &texts[2])] {
        let body = json!({"input": question, "state": state, "temperature": 0, "max_output_tokens": 12});
        let response = server.post("/v1/responses", &body).ok();
        assert_eq!(response["output"][0]["content"][0]["text"].as_str().unwrap().trim(), text);
    }
    let listed = server.get("/v1/states").ok();
    let names: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|state| (&state["id"], &state["tuned"])).collect();
    assert_eq!(json!(names), json!([["one", true], ["two", true]]));
    let body = json!({"prompt": "x", "state": "three", "max_tokens": 1});
    let error = server.post("/v1/completions", &body).error(404);
    assert!(error["message"].as_str().unwrap().contains("\"one\", \"two\""), "{error}");
    let key = [("authorization", &*format!("Bearer {ANN}"))];
    server.request("DELETE", "/v1/states/one", &key, b"").error(400);
    assert_eq!(server.post("/v1/states", &json!({"input": "x", "name": "one"})).error(400)["code"], "state_of_server");
}
