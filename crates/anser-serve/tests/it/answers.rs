//! What is answered, held to what the library computes without a server.

use crate::harness::{ANN, BEN, Running, demo, exact_demo, limits, options};
use anser::{Conversation, ConversationOptions, EmbedOptions, GenerateOptions, Likelihood, SamplerOptions};
use anser_serve::Options;
use serde_json::{Value, json};
use std::time::Duration;

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens, ..GenerateOptions::default() }
}

fn chat(text: &str) -> Value {
    json!({"model": "demo", "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 40})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a_chat_answers_as_a_conversation_does() {
    let server = Running::start();
    let options = ConversationOptions { generate: greedy(40), ..ConversationOptions::default() };
    let mut conversation = Conversation::new(&demo(), options).unwrap();
    for text in ["What is 17 + 26?", "Tell me a story about a fox."] {
        conversation.reset(None).unwrap();
        let mut said = conversation.say(text).unwrap();
        let expected: String = said.by_ref().map(|piece| piece.unwrap().content).collect();
        let n_tokens = said.tokens().len();
        drop(said);
        let answer = server.post("/v1/chat/completions", &chat(text)).ok();
        assert_eq!(answer["choices"][0]["message"]["content"], expected.as_str());
        assert_eq!(answer["usage"]["completion_tokens"], n_tokens);
        let prompt = server.post("/apply-template", &chat(text)).ok()["prompt"].as_str().unwrap().to_owned();
        assert_eq!(prompt, format!("User: {text}\n\nAssistant:"));
        assert_eq!(answer["usage"]["prompt_tokens"], demo().encode(&prompt).unwrap().len());

        let chunks = server.post("/v1/chat/completions", &with(chat(text), json!({"stream": true}))).chunks();
        let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
        assert_eq!(pieces.collect::<String>(), expected);
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], answer["choices"][0]["finish_reason"]);
    }
}

#[test]
fn choices_share_a_prompt_and_differ() {
    let server = Running::start();
    let more = json!({"n": 3, "temperature": 1, "seed": 5, "max_tokens": 6});
    let answer = server.post("/v1/chat/completions", &with(chat("Tell me a story."), more)).ok();
    let alone = json!({"temperature": 1, "seed": 6, "max_tokens": 6});
    let second = server.post("/v1/chat/completions", &with(chat("Tell me a story."), alone)).ok();
    assert_eq!(answer["usage"]["completion_tokens"], 18);
    assert_eq!(answer["usage"]["prompt_tokens"], second["usage"]["prompt_tokens"]);
    let content = |answer: &Value, i: usize| answer["choices"][i]["message"]["content"].as_str().unwrap().to_owned();
    assert!(content(&answer, 0) != content(&answer, 1) || content(&answer, 1) != content(&answer, 2));
}

#[test]
fn completions_continue_texts_as_they_are_drawn() {
    let server = Running::start();
    let prompt = "Once upon a time";
    let mut session = demo().session().unwrap();
    let expected = session.generate_text(prompt, &greedy(24)).unwrap().text().unwrap();
    let body = json!({"prompt": [prompt, "One day"], "max_tokens": 24, "temperature": 0, "echo": true});
    let answer = server.post("/v1/completions", &body).ok();
    assert_eq!(answer["choices"][0]["text"], format!("{prompt}{expected}"));
    assert!(answer["choices"][1]["text"].as_str().unwrap().starts_with("One day"));
    assert_eq!(answer["usage"]["completion_tokens"], 48);
    let stop = &expected[8..14];
    let body = json!({"prompt": prompt, "max_tokens": 24, "temperature": 0, "stop": stop, "stream": true});
    let chunks = server.post("/v1/completions", &body).chunks();
    let text: String = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, expected[..expected.find(stop).unwrap()]);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_prompt_is_scored_by_the_models_own_probabilities() {
    let server = Running::start();
    let (model, prompt) = (demo(), "Once upon a time, Grüße 😀");
    let ids = model.encode(prompt).unwrap();
    let mut session = model.session().unwrap();
    let mut expected = vec![];
    for pair in ids.windows(2) {
        session.feed(&pair[..1]).unwrap();
        expected.push(Likelihood::new(session.logits(), pair[1], 0).log_probability);
    }
    for stream in [false, true] {
        let body = json!({"prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 1, "stream": stream});
        let answer = server.post("/v1/completions", &body);
        let choice = if stream { answer.chunks()[0]["choices"][0].clone() } else { answer.ok()["choices"][0].clone() };
        assert_eq!(choice["text"], prompt);
        let found = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        assert_eq!((found.len(), &found[0]), (ids.len(), &Value::Null));
        for (found, expected) in found[1..].iter().zip(&expected) {
            // Tokens that are read together and one by one round differently in 8 bits.
            assert!((found.as_f64().unwrap() - f64::from(*expected)).abs() < 0.05, "{found} {expected}");
        }
        let offsets: Vec<u64> =
            choice["logprobs"]["text_offset"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        assert!(offsets.is_sorted() && *offsets.last().unwrap() == prompt.chars().count() as u64 - 1);
    }
}

#[test]
fn embeddings_are_the_models() {
    let model = exact_demo();
    let server = Running::of(model.clone(), options(), limits(), Duration::from_secs(10));
    let texts = ["The fox ran over the hill.", "Grüße 李雷 😀"];
    let ids: Vec<Vec<u32>> = texts.iter().map(|text| model.encode(text).unwrap()).collect();
    let embed = EmbedOptions { normalize: true, ..EmbedOptions::default() };
    let expected = model.embed_batch(&ids, &embed).unwrap();
    let row = |i: usize| &expected[i * expected.len() / 2..][..expected.len() / 2];
    let near = |found: &[f64], expected: &[f32]| {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-5)
    };
    for input in [json!(texts), json!(ids)] {
        let answer = server.post("/v1/embeddings", &json!({"model": "demo", "input": input})).ok();
        for i in 0..2 {
            let found: Vec<f64> = serde_json::from_value(answer["data"][i]["embedding"].clone()).unwrap();
            assert!(near(&found, row(i)));
        }
        assert_eq!(answer["usage"]["prompt_tokens"], ids.concat().len());
    }
    let cut = json!({"input": texts[0], "dimensions": 16, "encoding_format": "base64"});
    let packed = server.post("/v1/embeddings", &cut).ok()["data"][0]["embedding"].as_str().unwrap().to_owned();
    // 16 floats are 64 bytes, 88 letters of base64.
    assert_eq!(packed.len(), 88);
    let plain = server.post("/v1/embeddings", &json!({"input": texts[0], "dimensions": 16})).ok();
    let found: Vec<f64> = serde_json::from_value(plain["data"][0]["embedding"].clone()).unwrap();
    let norm = row(0)[..16].iter().map(|x| x * x).sum::<f32>().sqrt();
    let expected: Vec<f32> = row(0)[..16].iter().map(|x| x / norm).collect();
    assert!(near(&found, &expected));
}

#[test]
fn log_probabilities_join_to_the_text() {
    let server = Running::start();
    for stop in [json!(null), json!("was")] {
        let more = json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 12, "stop": stop});
        let answer = server.post("/v1/chat/completions", &with(chat("Tell me a story about a fox."), more)).ok();
        let entries = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
        let bytes: Vec<u8> =
            entries.iter().flat_map(|e| serde_json::from_value::<Vec<u8>>(e["bytes"].clone()).unwrap()).collect();
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap().trim(), content);
        assert!(
            entries
                .iter()
                .all(|e| e["top_logprobs"].as_array().unwrap().len() == 2 && e["logprob"].as_f64().unwrap() <= 0.0)
        );
    }
}

#[test]
fn tokens_there_and_back() {
    let server = Running::start();
    for text in ["", "Grüße 李雷 😀\r\n\t\0end", "<s>"] {
        let ids = server.post("/tokenize", &json!({"content": text})).ok()["tokens"].clone();
        assert_eq!(ids, json!(demo().encode(text).unwrap()));
        assert_eq!(server.post("/detokenize", &json!({"tokens": ids})).ok()["content"], text);
    }
    let pieces = server.post("/tokenize", &json!({"prompt": "a😀", "with_pieces": true})).ok();
    assert_eq!(pieces["tokens"][0], json!({"id": 98, "piece": "a"}));
    assert!(pieces["tokens"][1]["piece"].is_array(), "{pieces}");
}

#[test]
fn a_second_turn_reads_its_own_tokens() {
    let server = Running::start();
    let long = "A page about foxes and hills. ".repeat(40);
    let mut messages =
        vec![json!({"role": "system", "content": "Be brief."}), json!({"role": "user", "content": long})];
    let ask = |messages: &[Value]| {
        let body = json!({"messages": messages, "temperature": 0, "max_tokens": 8});
        server.post("/v1/chat/completions", &body).ok()
    };
    let first = ask(&messages);
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    messages.push(first["choices"][0]["message"].clone());
    messages.push(json!({"role": "user", "content": "Why?"}));
    let second = ask(&messages)["usage"].clone();
    let (n_prompt, n_cached) =
        (second["prompt_tokens"].as_u64(), second["prompt_tokens_details"]["cached_tokens"].as_u64());
    assert!(n_cached.unwrap() > 250 && n_prompt.unwrap() - n_cached.unwrap() < 25, "{second}");
}

#[test]
fn a_later_turn_goes_on_from_the_tokens_that_were_drawn() {
    let options = Options { extra_grammars: true, ..options() };
    let server = Running::with(options, limits(), Duration::from_secs(30));
    let mut messages = vec![json!({"role": "user", "content": "Say it."})];
    // Eight tokens "a", which the tokenizer would read as fewer.
    let drawn = json!({
        "messages": messages, "temperature": 0, "max_tokens": 8, "logit_bias": {"98": 100},
        "response_format": {"type": "regex", "pattern": "[ab]{8}"},
    });
    let first = server.post("/v1/chat/completions", &drawn).ok();
    assert_eq!(first["choices"][0]["message"]["content"], "aaaaaaaa");
    assert_eq!(first["usage"]["completion_tokens"], 8);
    messages.push(first["choices"][0]["message"].clone());
    messages.push(json!({"role": "user", "content": "Why?"}));
    let body = json!({"messages": messages, "temperature": 0, "max_tokens": 8});
    let cached = |key| {
        let answer = server.post_as(key, "/v1/chat/completions", &body).ok();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64()
    };
    assert_eq!(cached(BEN), Some(0), "another tenant");
    assert_eq!(cached(ANN), first["usage"]["total_tokens"].as_u64());
}

#[test]
fn metrics_count_what_usage_tells() {
    let server = Running::start();
    let before = server.metric("anser_generation_tokens_total");
    let answer = server.post("/v1/chat/completions", &chat("Tell me a story about a fox.")).ok();
    let n = answer["usage"]["completion_tokens"].as_f64().unwrap();
    assert_eq!(server.metric("anser_generation_tokens_total") - before, n);
    assert_eq!(server.metric("anser_prompt_tokens_total"), answer["usage"]["prompt_tokens"].as_f64().unwrap());
    assert_eq!(server.metric("anser_time_to_first_token_seconds_count"), 1.0);
}
