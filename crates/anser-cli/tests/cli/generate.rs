//! `anser generate`

use crate::harness::{expected, fixture, ids, run, run_with};
use serde_json::Value;

const GREEDY: [&str; 3] = ["generate", "--temperature", "0"];

fn greedy(more: &[&str]) -> crate::harness::Ran {
    run(&[&GREEDY, more].concat())
}

/// The first tokens of the oracle's greedy continuation, as far as its choice is beyond doubt: at every step the two
/// largest logits differ by more than quantized activations change a logit (llama.cpp's Q8_0: up to 0.42).
fn certain_tokens(prompt: &Value) -> Vec<u32> {
    let gaps = prompt["pip"]["greedy_gaps"].as_array().unwrap();
    let n_certain = gaps.iter().take_while(|gap| gap.as_f64().unwrap() > 0.5).count();
    let tokens = ids(&prompt["dequant-q8_0"]["greedy"]);
    tokens[..n_certain.min(tokens.len())].to_vec()
}

fn decoded(tokens: &[u32]) -> String {
    let tokens = serde_json::to_string(tokens).unwrap();
    run(&["tokenize", "--decode", &tokens]).text()
}

#[test]
fn greedy_text_is_that_of_the_oracle() {
    for (name, n_at_least) in [("mail", 20), ("chat", 10), ("chat-memory", 9), ("empty", 5)] {
        let prompt = expected(name);
        let tokens = certain_tokens(&prompt);
        assert!(tokens.len() >= n_at_least, "{name}: {} tokens are certain", tokens.len());
        let n = tokens.len().to_string();
        let text = greedy(&["-n", &n, prompt["text"].as_str().unwrap()]).text();
        assert_eq!(text, decoded(&tokens), "{name}");
    }
}

#[test]
fn no_prompt_starts_from_token_0() {
    let tokens = certain_tokens(&expected("empty"));
    let n = tokens.len().to_string();
    let found = greedy(&["-n", &n, "--json"]).json();
    assert_eq!((ids(&found["tokens"]), &found["n_prompt"]), (tokens, &Value::from(1)));
}

#[test]
fn the_prompt_can_come_from_standard_input_as_bytes() {
    let prompt = "User: What is the capital of Norway?\n\nAssistant:";
    let direct = greedy(&["-n", "7", prompt]).text();
    let piped = run_with(&[&GREEDY[..], &["-n", "7", "-"]].concat(), prompt.as_bytes()).text();
    assert_eq!(piped, direct);
    let not_utf8 = run_with(&[&GREEDY[..], &["-n", "2", "--json", "-"]].concat(), b"\xff\xff\xfe").json();
    assert_eq!(not_utf8["n_prompt"], 3, "one token per byte");
}

#[test]
fn json_is_one_object_of_the_documented_shape() {
    let found = run(&["generate", "--seed", "5", "-n", "12", "--json", "Once upon a time"]).json();
    let object = found.as_object().unwrap();
    let keys = ["finish_reason", "n_generated", "n_prompt", "text", "timings", "tokens"];
    assert_eq!(object.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), keys.into());
    assert_eq!((&found["n_prompt"], &found["n_generated"]), (&4.into(), &12.into()));
    assert_eq!(found["finish_reason"], "length");
    assert_eq!(found["text"].as_str().unwrap(), decoded(&ids(&found["tokens"])));
    for timing in ["load_ms", "prompt_ms", "generate_ms", "prompt_tps", "generate_tps"] {
        assert!(found["timings"][timing].as_f64().unwrap() > 0.0, "{timing}");
    }
    let streamed = run(&["generate", "--seed", "5", "-n", "12", "Once upon a time"]).text();
    assert_eq!(found["text"], streamed);
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_one_another() {
    let with_seed = |seed: &str| {
        run(&["generate", "--top-p", "1", "--temperature", "1.5", "-n", "20", "--seed", seed, "Once upon a time"])
            .text()
    };
    assert_eq!(with_seed("1"), with_seed("1"));
    assert_ne!(with_seed("1"), with_seed("2"));
}

#[test]
fn a_draft_model_changes_no_text() {
    let prompt = "Once upon a time";
    let options = ["generate", "--seed", "3", "--top-p", "1", "-n", "30", "--exact"];
    let expected = run(&[&options[..], &[prompt]].concat()).text();
    for draft_tokens in [&["--draft-tokens", "3"][..], &[]] {
        let draft = ["--json", "--draft", "demo"];
        let found = run(&[&options[..], &draft, draft_tokens, &[prompt]].concat()).json();
        assert_eq!(found["text"], expected);
        let Value::Object(proposals) = &found["proposals"] else { panic!("{found}") };
        assert_eq!(proposals["n_accepted"], proposals["n_proposed"], "a model agrees with itself");
        assert!(draft_tokens.is_empty() || proposals["n_proposed"].as_u64().unwrap() > 20, "{found}");
    }
    let line = format!("{{\"prompt\": {prompt:?}}}\n");
    let found = run_with(&[&options[..], &["--draft", "demo", "--prompts", "-"]].concat(), line.as_bytes()).json();
    assert_eq!(found["text"], expected);
    let tiny = fixture("tiny/tiny-v7.st");
    let refused = run(&["generate", "--draft", tiny.to_str().unwrap(), prompt]).failure(2);
    assert!(refused.contains("draft: the draft model") && refused.contains("65536 tokens"), "{refused}");
    run(&["generate", "--draft-tokens", "3", prompt]).failure(2);
}

#[test]
fn echo_prints_the_prompt_first() {
    let text = greedy(&["-n", "3", "Once upon a time"]).text();
    assert_eq!(greedy(&["-n", "3", "--echo", "Once upon a time"]).text(), format!("Once upon a time{text}"));
    let found = greedy(&["-n", "3", "--echo", "--json", "Once upon a time"]).json();
    assert_eq!(found["text"], format!("Once upon a time{text}"));
}

#[test]
fn a_stop_text_ends_the_text_before_it() {
    let prompt = "User: What is the capital of Norway?\n\nAssistant:";
    let whole = greedy(&["-n", "8", prompt]).text();
    assert!(whole.contains("of Norway is"), "{whole}");
    let found = greedy(&["-n", "8", "--json", "--stop", "never", "--stop", "Norway i", prompt]).json();
    assert_eq!(found["text"].as_str(), whole.split("Norway i").next());
    assert_eq!(found["finish_reason"], "stop");
}

#[test]
fn the_end_of_a_document_ends_the_text() {
    // The oracle draws token 0 after a record.
    let prompt = expected("record");
    let bias = ["--logit-bias", "0=100"];
    let found = greedy(&[&["--json"], &bias[..], &[prompt["text"].as_str().unwrap()]].concat()).json();
    assert_eq!((&found["finish_reason"], &found["n_generated"]), (&"stop".into(), &0.into()));
}

#[test]
fn logit_bias_forces_and_forbids_tokens() {
    let prompt = "User: What is the capital of Norway?\n\nAssistant:";
    let first = |more: &[&str]| ids(&greedy(&[&["-n", "1", "--json"], more, &[prompt]].concat()).json()["tokens"])[0];
    let free = ids(&expected("chat")["dequant-q8_0"]["greedy"])[0];
    assert_eq!(first(&[]), free);
    assert_eq!(first(&["--logit-bias", "45=100"]), 45);
    assert_ne!(first(&["--logit-bias", &format!("{free}=-inf")]), free);
}

#[test]
fn zero_tokens_are_no_text() {
    assert_eq!(greedy(&["-n", "0", "Once"]).text(), "");
}

#[test]
fn a_model_without_a_tokenizer_says_what_to_do() {
    let model = fixture("tiny/tiny-v7.st");
    let message = run(&["generate".as_ref(), "-m".as_ref(), model.as_os_str(), "hi".as_ref()]).failure(1);
    assert!(message.contains("tiny-v7.st: the file has no tokenizer") && message.contains("vocabulary"), "{message}");
}

/// The objects of lines of JSON.
fn lines(output: &[u8]) -> Vec<Value> {
    std::str::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn prompts_of_a_file_give_their_texts_in_order_and_a_bad_line_loses_no_other() {
    let texts = ["Once upon a time", "User: Hello!\n\nAssistant:", ""];
    let options = ["-n", "9", "--exact", "--temperature", "0"];
    let expected = texts.map(|text| run(&[&["generate", "--json"], &options[..], &[text]].concat()).json());
    let input = [
        serde_json::json!({ "prompt": texts[0], "id": "first" }).to_string(),
        "{\"prompt\": 3}".into(),
        String::new(),
        serde_json::json!({ "prompt": texts[1], "max_tokens": 4, "id": 7 }).to_string(),
        "no JSON".into(),
        serde_json::json!({ "prompt": texts[2], "temperature": -1 }).to_string(),
        serde_json::json!({ "prompt": texts[2] }).to_string(),
    ];
    let input = input.join("\n");
    for jobs in ["1", "8"] {
        let ran = run_with(&[&["generate", "--prompts", "-", "--jobs", jobs], &options[..]].concat(), input.as_bytes());
        assert_eq!((ran.code, &*ran.stderr), (Some(1), "anser: 3 of 6 lines failed; their results say why\n"));
        let found = lines(&ran.stdout);
        let indices: Vec<u64> = found.iter().map(|line| line["index"].as_u64().unwrap()).collect();
        assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
        for (at, told) in [(1, "string"), (3, "expected"), (4, "temperature")] {
            assert!(found[at]["error"].as_str().unwrap().contains(told), "{}", found[at]);
        }
        for (at, of) in [(0, 0), (5, 2)] {
            for key in ["text", "tokens", "n_prompt", "n_generated", "finish_reason"] {
                assert_eq!(found[at][key], expected[of][key], "{key} of line {at}");
            }
        }
        assert_eq!((&found[0]["id"], &found[2]["id"]), (&"first".into(), &7.into()));
        assert_eq!(ids(&found[2]["tokens"]), ids(&expected[1]["tokens"])[..4]);
        assert!(found[5].get("id").is_none() && found[5].get("error").is_none());
    }
    run(&["generate", "--prompts", "no-such-file"]).failure(1);
    run(&["generate", "--prompts", "-", "--json"]).failure(2);
}

#[test]
fn log_probabilities_are_those_of_the_logits() {
    let found = greedy(&["-n", "6", "--json", "--logprobs", "2", "--exact", "Once upon a time"]).json();
    let alone = greedy(&["-n", "6", "--json", "--exact", "Once upon a time"]).json();
    assert_eq!((&found["text"], &found["tokens"]), (&alone["text"], &alone["tokens"]));
    let logprobs = found["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), 6);
    for (token, logprob) in ids(&found["tokens"]).into_iter().zip(logprobs) {
        assert_eq!((&logprob["id"], &logprob["top"][0][0]), (&token.into(), &token.into()));
        assert!(logprob["logprob"] == logprob["top"][0][1] && logprob["top"].as_array().unwrap().len() == 2);
    }
    // The first one follows on the prompt: the difference to the second token is that of their logits.
    let logits = run(&["logits", "--top", "2", "--exact", "--text", "Once upon a time"]).json();
    let gap = |pair: &Value| pair[0][1].as_f64().unwrap() - pair[1][1].as_f64().unwrap();
    assert!((gap(&logits["top"]) - gap(&logprobs[0]["top"])).abs() < 1e-3);
    let line = run_with(
        &[&GREEDY[..], &["-n", "6", "--logprobs", "2", "--exact", "--prompts", "-"]].concat(),
        b"{\"prompt\": \"Once upon a time\"}",
    )
    .json();
    assert_eq!((&line["tokens"], line["logprobs"].as_array().unwrap().len()), (&found["tokens"], 6));
    run(&["generate", "--logprobs", "2", "x"]).failure(2);
}

#[test]
fn texts_follow_a_schema_a_regular_expression_or_a_grammar() {
    let schema = r#"{"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"],
        "additionalProperties": false}"#;
    let folder = tempfile::tempdir().unwrap();
    let (schema_file, lark_file) = (folder.path().join("schema.json"), folder.path().join("yes.lark"));
    std::fs::write(&schema_file, schema).unwrap();
    std::fs::write(&lark_file, "start: \"yes\" | \"no\"\n").unwrap();
    let (schema_path, lark_path) = (schema_file.to_str().unwrap(), lark_file.to_str().unwrap());

    for given in [schema, schema_path] {
        let found = run(&["generate", "--seed", "3", "--json", "--json-schema", given, "A number:"]).json();
        let text = found["text"].as_str().unwrap();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(value["n"].is_i64() && value.as_object().unwrap().len() == 1, "{text}");
        assert_eq!(found["finish_reason"], "stop");
    }
    let date = run(&["generate", "--seed", "3", "--json", "--regex", "[0-9]{4}-[0-9]{2}", "Date:"]).json();
    let date = date["text"].as_str().unwrap();
    assert!(date.len() == 7 && date.as_bytes()[4] == b'-', "{date}");
    let text = run(&["generate", "--seed", "3", "--json", "--logprobs", "1", "--lark", lark_path, "?"]).json();
    assert!(["yes", "no"].contains(&text["text"].as_str().unwrap()), "{text}");

    let input = [
        serde_json::json!({ "prompt": "a", "regex": "[xy]{3}" }),
        serde_json::json!({ "prompt": "a", "json_schema": {"enum": [1, 2]} }),
        serde_json::json!({ "prompt": "a", "lark": "start: \"z\"" }),
        serde_json::json!({ "prompt": "a" }),
        serde_json::json!({ "prompt": "a", "regex": "x", "lark": "start: \"z\"" }),
        serde_json::json!({ "prompt": "a", "json_schema": {"not": {}} }),
    ];
    let input = input.map(|line| line.to_string()).join("\n");
    let ran = run_with(&["generate", "--seed", "1", "--prompts", "-", "--regex", "[0-9]{2}"], input.as_bytes());
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let found = lines(&ran.stdout);
    let text = |at: usize| found[at]["text"].as_str().unwrap();
    assert!(text(0).len() == 3 && text(0).bytes().all(|byte| b"xy".contains(&byte)), "{}", text(0));
    assert!(["1", "2"].contains(&text(1)), "{}", text(1));
    assert_eq!(text(2), "z");
    assert!(text(3).len() == 2 && text(3).bytes().all(|byte| byte.is_ascii_digit()), "{}", text(3));
    assert!(found[4]["error"].as_str().unwrap().contains("several"));
    assert!(found[5]["error"].as_str().unwrap().contains("not"));

    for (option, value, told) in
        [("--json-schema", "{\"not\": {}}", "not"), ("--regex", "(", "unclosed"), ("--json-schema", "{", "JSON")]
    {
        let line = run(&["generate", option, value, "x"]).failure(2);
        assert!(line.contains(option) && line.contains(told), "{line}");
    }
    run(&["generate", "--json-schema", "no-such-file", "x"]).failure(1);
    run(&["generate", "--json-schema", "{}", "--regex", "a", "x"]).failure(2);
}
