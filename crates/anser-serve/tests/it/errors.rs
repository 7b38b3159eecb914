//! Requests that are wrong: always JSON, the right status, and the field that is wrong.

use crate::harness::{ANN, Running};
use serde_json::{Value, json};

/// A chat that is right but for `wrong`.
fn chat(wrong: &Value) -> Value {
    let mut body = json!({"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2});
    body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
    body
}

#[test]
fn wrong_fields_are_named() {
    let server = Running::start();
    let tool = json!({"type": "function", "function": {"name": "f"}});
    for (param, wrong) in [
        ("messages", json!({"messages": []})),
        ("messages", json!({"messages": "hello"})),
        ("messages[0].role", json!({"messages": [{"role": "wizard", "content": "x"}]})),
        ("messages[0].content", json!({"messages": [{"role": "user", "content": 7}]})),
        ("messages[0].content", json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})),
        ("messages[0]", json!({"messages": [{"role": "user"}]})),
        ("temperature", json!({"temperature": "hot"})),
        ("temperature", json!({"temperature": 2.5})),
        ("n", json!({"n": 9})),
        ("n", json!({"n": 1.5})),
        ("max_tokens", json!({"max_tokens": -1})),
        ("max_tokens", json!({"max_tokens": 1_000_000_000})),
        ("stop", json!({"stop": [""]})),
        ("logit_bias", json!({"logit_bias": {"99999999": 1}})),
        ("top_logprobs", json!({"top_logprobs": 3})),
        ("top_logprobs", json!({"logprobs": true, "top_logprobs": 21})),
        ("stream_options", json!({"stream_options": {"include_usage": true}})),
        ("tool_choice", json!({"tool_choice": "required"})),
        ("tool_choice", json!({"tools": [tool], "tool_choice": {"type": "function", "function": {"name": "g"}}})),
        ("tools", json!({"tools": [tool, tool]})),
        ("response_format", json!({"response_format": {"type": "sound"}})),
        ("response_format", json!({"response_format": {"type": "json_schema", "json_schema": {"schema": 7}}})),
        ("response_format", json!({"response_format": {"type": "regex", "pattern": "a"}})),
        ("state", json!({"state": "nothing"})),
    ] {
        for stream in [false, true] {
            let mut body = chat(&wrong);
            body["stream"] = if wrong.get("stream_options").is_some() { false.into() } else { stream.into() };
            let answer = server.post("/v1/chat/completions", &body);
            let error = answer.error(if param == "state" { 404 } else { 400 });
            assert_eq!(error["param"], param, "{wrong}: {error}");
            assert_eq!(error["type"], "invalid_request_error");
        }
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let server = Running::start();
    for raw in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"\"x\"",
        b"\xff\xfe{}",
        b"{\"messages\": 1e999}",
        &[b"{\"a\": ".as_slice(), &b"[".repeat(100_000)].concat(),
    ] {
        let headers = [("content-type", "application/json"), ("authorization", &*format!("Bearer {ANN}"))];
        server.request("POST", "/v1/chat/completions", &headers, raw).error(400);
    }
    let deep = format!("{{\"response_format\": {}1{}}}", "[".repeat(1000), "]".repeat(1000));
    let headers = [("content-type", "application/json"), ("authorization", &*format!("Bearer {ANN}"))];
    server.request("POST", "/v1/chat/completions", &headers, deep.as_bytes()).error(400);
}

#[test]
fn routes_methods_and_models_that_there_are_not() {
    let server = Running::start();
    server.get("/nothing").error(404);
    assert_eq!(server.get("/v1/models/no-such").error(404)["code"], "model_not_found");
    assert_eq!(server.get("/v1/models/gpt-test").ok()["id"], "gpt-test");
    server.get("/v1/models/%ff").error(400);
    let wrong = server.request("DELETE", "/v1/chat/completions", &[("authorization", &format!("Bearer {ANN}"))], b"");
    wrong.error(405);
    assert!(wrong.header("allow").unwrap().contains("POST"));
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/tokenize"] {
        let body = json!({"model": "../../etc/passwd", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x", "content": "x"});
        assert_eq!(server.post(path, &body).error(404)["code"], "model_not_found", "{path}");
    }
    assert_eq!(server.post("/v1/chat/completions", &chat(&json!({"model": "gpt-test"}))).ok()["model"], "demo");
}

#[test]
fn lists_have_bounds() {
    let server = Running::start();
    for (path, body) in [
        ("/v1/completions", json!({"prompt": vec!["x"; 2049]})),
        ("/v1/completions", json!({"prompt": [[99_999_999]]})),
        ("/v1/completions", json!({"prompt": []})),
        ("/v1/completions", json!({"prompt": "x", "suffix": "y"})),
        ("/v1/completions", json!({"prompt": "x", "best_of": 2})),
        ("/v1/embeddings", json!({"input": vec!["x"; 2049]})),
        ("/v1/embeddings", json!({"input": ["a", ""]})),
        ("/v1/embeddings", json!({"input": "x", "dimensions": 0})),
        ("/v1/embeddings", json!({"input": "x", "encoding_format": "hex"})),
        ("/detokenize", json!({"tokens": [70_000]})),
        ("/v1/responses", json!({"input": []})),
        ("/v1/responses", json!({"input": "x", "tools": [{"type": "web_search"}]})),
        ("/v1/states", json!({"input": "x", "name": "../x"})),
    ] {
        server.post(path, &body).error(400);
    }
    let large = chat(&json!({"messages": [{"role": "user", "content": "x".repeat(17 << 20)}]}));
    server.post("/v1/chat/completions", &large).error(413);
    // It lives, and other fields than those it knows are no error.
    server.post("/v1/chat/completions", &chat(&json!({"user": "u", "store": false, "other": [1], "seed": null}))).ok();
}
