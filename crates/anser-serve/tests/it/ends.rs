//! How requests end that do not end by themselves: clients that leave or do not read, full queues, deadlines, and the server's end.

use crate::harness::{ANN, BEN, Running, json_request, limits, options};
use anser_engine::Limits;
use anser_serve::{Bounds, Options};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A request for a text that goes on for a long time: it says one word again and again.
fn without_end(request: Value) -> Value {
    let word = anser::Tokenizer::world().encode(b" the")[0].to_string();
    let mut request = request;
    let fields = request.as_object_mut().unwrap();
    fields.insert("logit_bias".into(), json!({ word: 100 }));
    fields.insert("frequency_penalty".into(), 0.into());
    request
}

/// A chat whose answer goes on for a long time.
fn endless(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "Tell me a story about a fox."}]);
    without_end(json!({"messages": messages, "max_tokens": 100_000, "temperature": 1, "stream": stream}))
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn clients_that_leave_are_forgotten() {
    let server = Running::start();
    for stream in [false, true] {
        let mut connection = server.send(&json_request(ANN, CHAT, &endless(stream)));
        if stream {
            connection.read_until("\"content\":\" ");
        } else {
            server.wait_for("anser_requests_running", 1.0);
        }
        drop(connection);
        server.wait_for("anser_requests_running", 0.0);
    }
    assert_eq!(server.metric("anser_cancelled_total"), 2.0);
}

#[test]
fn a_client_that_does_not_read_stops_nobody_and_is_ended() {
    let bounds = Bounds { write_time: Duration::from_millis(400), ..Bounds::default() };
    let limits = Limits { max_parked: Duration::from_millis(400), ..limits() };
    let server = Running::with(Options { bounds, ..options() }, limits, Duration::ZERO);
    // Log-probabilities fill what the system holds for a connection soon.
    let mut body = endless(true);
    body["logprobs"] = true.into();
    body["top_logprobs"] = 20.into();
    let stalled = server.send(&json_request(ANN, CHAT, &body));
    server.wait_for("anser_requests_running", 1.0);
    let short = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2});
    server.post(CHAT, &short).ok();
    let began = Instant::now();
    while server.metric("anser_requests_running") > 0.0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it goes on");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(stalled);
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let limits = Limits { max_rows: Some(1), max_waiting: Some(1), ..limits() };
    let server = Running::with(options(), limits, Duration::ZERO);
    let mut first = server.send(&json_request(ANN, CHAT, &endless(true)));
    first.read_until("\"content\":\" ");
    let second = server.send(&json_request(ANN, CHAT, &endless(true)));
    server.wait_for("anser_requests_waiting", 1.0);
    let answer = server.post_as(BEN, CHAT, &endless(true));
    assert_eq!(
        (answer.error(429)["type"].as_str(), answer.error(429)["code"].as_str()),
        (Some("rate_limit_error"), Some("rate_limit_exceeded"))
    );
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=120).contains(&seconds));
    drop((first, second));
}

#[test]
fn more_prompts_than_places_are_served_one_after_the_other() {
    let limits = Limits { max_rows: Some(2), max_waiting: Some(1), ..limits() };
    let server = Running::with(options(), limits, Duration::ZERO);
    let prompts: Vec<String> = (0..12).map(|i| format!("The number {i} and")).collect();
    let all = server.post("/v1/completions", &json!({"prompt": prompts, "max_tokens": 4, "temperature": 0})).ok();
    assert_eq!(all["choices"].as_array().unwrap().len(), 12);
    let alone = server.post("/v1/completions", &json!({"prompt": prompts[11], "max_tokens": 4, "temperature": 0})).ok();
    assert_eq!(all["choices"][11]["text"], alone["choices"][0]["text"]);
}

#[test]
fn what_takes_too_long_is_told() {
    let bounds =
        Bounds { request_time: Duration::from_millis(600), ping_time: Duration::from_millis(50), ..Bounds::default() };
    let server = Running::with(Options { bounds, ..options() }, limits(), Duration::ZERO);
    assert_eq!(server.post(CHAT, &endless(false)).error(504)["code"], "request_timeout");
    let events = server.post(CHAT, &endless(true)).events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "request_timeout");
    assert!(!events.iter().any(|event| event == "[DONE]" || event.contains("\"finish_reason\":\"")));
    let request = json!({"input": "x", "max_output_tokens": 100_000, "temperature": 1, "stream": true});
    let responses = server.post("/v1/responses", &without_end(request));
    assert!(responses.events().last().unwrap().contains("\"type\":\"response.failed\""));
}

#[test]
fn a_request_that_waits_too_long_may_come_again() {
    let limits = Limits { max_rows: Some(1), max_wait: Duration::from_millis(200), ..limits() };
    let server = Running::with(options(), limits, Duration::ZERO);
    let mut first = server.send(&json_request(ANN, CHAT, &endless(true)));
    first.read_until("\"content\":\" ");
    let answer = server.post(CHAT, &endless(false));
    assert_eq!(answer.error(503)["code"], "queue_timeout");
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn silence_is_filled_with_comments() {
    let bounds = Bounds { ping_time: Duration::from_millis(50), ..Bounds::default() };
    let limits = Limits { max_rows: Some(1), ..limits() };
    let server = Running::with(Options { bounds, ..options() }, limits, Duration::ZERO);
    let mut first = server.send(&json_request(ANN, CHAT, &endless(true)));
    first.read_until("\"content\":\" ");
    // The second waits for the place of the first: its first chunk and comments come all the same.
    let mut second = server.send(&json_request(ANN, CHAT, &endless(true)));
    second.read_until("\"role\":\"assistant\"");
    second.read_until("\n:\n\n");
}

#[test]
fn the_end_completes_what_runs_and_refuses_what_comes() {
    let server = Running::start();
    let messages = json!([{"role": "user", "content": "x"}]);
    let body = without_end(json!({"messages": messages, "max_tokens": 300, "temperature": 1, "stream": true}));
    let mut running = server.send(&json_request(ANN, CHAT, &body));
    running.read_until("\"content\":\" ");
    server.stop();
    let began = Instant::now();
    loop {
        let health = server.request("GET", "/health", &[], b"");
        if health.status == 503 {
            assert_eq!(health.json()["status"], "draining");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(server.post(CHAT, &body).error(503)["code"], "draining");
    let chunks = running.rest().chunks();
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
    server.join().unwrap();
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let server = Running::with(options(), limits(), Duration::from_millis(200));
    let mut running = server.send(&json_request(ANN, CHAT, &endless(true)));
    running.read_until("\"content\":\" ");
    let idle = std::net::TcpStream::connect(server.address).unwrap();
    server.stop();
    let events = running.rest().events();
    assert!(events.last().unwrap().contains("\"code\":\"draining\""), "{:?}", events.last());
    server.join().unwrap();
    drop(idle);
}
