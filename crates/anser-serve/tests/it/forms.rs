//! Answers of a form: JSON by schemas, and calls of functions.

use crate::harness::Running;
use serde_json::{Value, json};

fn ask(server: &Running, more: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "What is 17 + 26?"}], "max_tokens": 200, "temperature": 1, "seed": 3});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/v1/chat/completions", &body).ok()["choices"][0].clone()
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"z": {"enum": ["red", "blue"]}, "a": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["z", "a"], "additionalProperties": false})
}

fn tools() -> Value {
    let of = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    let referring = json!({"type": "object", "properties": {"p": {"$ref": "#/$defs/P"}}, "required": ["p"], "additionalProperties": false,
        "$defs": {"P": {"enum": ["x", "y"]}}});
    json!([of("paint", schema()), of("point", referring), {"type": "function", "function": {"name": "now"}}])
}

#[test]
fn json_is_what_the_schema_allows_and_in_its_order() {
    let server = Running::start();
    for (seed, stream) in [(1, false), (2, false), (3, true)] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema()}});
        let more = json!({"response_format": format, "seed": seed, "temperature": 1.5});
        let text = match stream {
            false => {
                let choice = ask(&server, &more);
                assert_eq!(choice["finish_reason"], "stop");
                choice["message"]["content"].as_str().unwrap().to_owned()
            }
            true => {
                let mut body =
                    json!({"messages": [{"role": "user", "content": "x"}], "stream": true, "max_tokens": 200});
                body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                let chunks = server.post("/v1/chat/completions", &body).chunks();
                chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
            }
        };
        let rest = text.strip_prefix("{\"z\": \"").unwrap_or_else(|| panic!("{text}"));
        let (colour, rest) = rest.split_once('"').unwrap();
        assert!(["red", "blue"].contains(&colour) && rest.starts_with(", \"a\": ") && rest.ends_with('}'), "{text}");
        assert!((0..=9).contains(&serde_json::from_str::<Value>(&text).unwrap()["a"].as_i64().unwrap()));
    }
    let refused = json!({"messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {"type": "string"}}}}});
    assert!(server.post("/v1/chat/completions", &refused).error(400)["message"].as_str().unwrap().contains("not"));
}

#[test]
fn calls_that_are_required_are_made() {
    let server = Running::start();
    for (choice, name) in
        [(json!("required"), None), (json!({"type": "function", "function": {"name": "point"}}), Some("point"))]
    {
        for seed in 0..4 {
            let more = json!({"tools": tools(), "tool_choice": choice, "parallel_tool_calls": false, "seed": seed});
            let choice = ask(&server, &more);
            assert_eq!(
                (choice["finish_reason"].as_str(), &choice["message"]["content"]),
                (Some("tool_calls"), &Value::Null)
            );
            let calls = choice["message"]["tool_calls"].as_array().unwrap();
            assert_eq!(calls.len(), 1);
            let called = calls[0]["function"]["name"].as_str().unwrap();
            let arguments: Value = serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
            assert!(name.is_none_or(|name| name == called));
            match called {
                "paint" => assert!(["red", "blue"].contains(&arguments["z"].as_str().unwrap())),
                "point" => assert!(["x", "y"].contains(&arguments["p"].as_str().unwrap())),
                "now" => assert_eq!(arguments, json!({})),
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn streamed_calls_have_an_index_and_one_identifier() {
    let server = Running::start();
    let body = json!({"messages": [{"role": "user", "content": "x"}], "tools": tools(), "tool_choice": "required", "parallel_tool_calls": false, "seed": 1, "stream": true,
        "max_tokens": 400});
    let chunks = server.post("/v1/chat/completions", &body).chunks();
    let deltas: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    let begun: Vec<_> = deltas.iter().filter(|delta| delta["id"].is_string()).collect();
    assert!(
        !begun.is_empty()
            && begun.iter().all(|delta| delta["function"]["arguments"] == "" && delta["type"] == "function")
    );
    for (i, _) in begun.iter().enumerate() {
        let of_call = deltas.iter().filter(|delta| delta["index"] == i);
        let arguments: String = of_call.map(|delta| delta["function"]["arguments"].as_str().unwrap()).collect();
        assert!(serde_json::from_str::<Value>(&arguments).unwrap().is_object(), "{arguments}");
    }
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}
