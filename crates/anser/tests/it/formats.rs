//! Every RWKV version as a program uses it: sessions, states in files, tuned initial states; the miniatures of
//! `fixtures/formats`, on the processor.

use crate::fixtures::root;
use anser::chat::ChatTemplate;
use anser::{
    Conversation, ConversationOptions, Device, FinishReason, GenerateOptions, Model, Options, SamplerOptions, Session,
};
use anser_model::cases::nmse;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    root().join("fixtures/unpacked/formats").join(name)
}

fn load(name: &str) -> Model {
    Model::load(path(name), &Options { device: Device::Cpu, ..Options::default() }).unwrap()
}

/// One model of every version.
const VERSIONS: [&str; 12] = [
    "m4.pth",
    "m50.pth",
    "m51.st",
    "m52.pth",
    "m6.pth",
    "gguf/m6-rescale2.gguf",
    "hf/fla",
    "hf/fla-v6",
    "m7a.pth",
    "gguf/rwkv6qwen2.gguf",
    "gguf/arwkv7.gguf",
    "gguf/arwkv7-nogate.gguf",
];

/// The logits after each of the prompts of `cases.json`, from a fresh session or from a tuned state, are the oracle's.
#[test]
fn tuned_states_are_read_from_every_container() {
    let bytes = std::fs::read(path("expected.safetensors")).expect("run scripts/prepare");
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path("cases.json")).unwrap()).unwrap();
    let is_tuned = |case: &&serde_json::Value| case["expect"].as_str().unwrap().ends_with(".state");
    let cases: Vec<_> = json.as_array().unwrap().iter().filter(is_tuned).collect();
    assert_eq!(cases.len(), 5);
    for case in cases {
        let (file, state) = (case["file"].as_str().unwrap(), case.get("state").map(|state| state.as_str().unwrap()));
        let model = load(file);
        assert_eq!(model.initial_state().is_some(), state.is_none(), "{file}");
        let prompts: Vec<Vec<u32>> = serde_json::from_value(case["tokens"].clone()).unwrap();
        for (i, tokens) in prompts.iter().enumerate() {
            let mut session = model.session().unwrap();
            if let Some(state) = state {
                session.load_state(path(state)).unwrap();
            }
            session.feed(tokens).unwrap();
            let tensor = expected.tensor(&format!("{}.p{i}.logits", case["expect"].as_str().unwrap())).unwrap();
            let logits: Vec<f32> = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let error = nmse(session.logits(), &logits);
            assert!(error < 1e-6, "{file} {state:?} prompt {i}: nmse {error:e}");
        }
    }
}

/// The session's greedy text of `n` tokens after `first`: it reads a token, takes the most likely one, and reads that next.
fn greedy(session: &mut Session, first: u32, n: usize) -> Vec<u32> {
    let mut next = first;
    let draw = |_| {
        session.feed(&[next]).unwrap();
        let largest = session.logits().iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        next = largest.0 as u32;
        next
    };
    (0..n).map(draw).collect()
}

/// Texts of 48 tokens are those that package rwkv gives (torch, f32), or a float64 restatement for the hybrids, for every version, alone
/// and side by side. The smallest distance of the two largest logits on their way is 2.9e-3.
#[test]
fn greedy_texts_are_the_oracles() {
    #[derive(serde::Deserialize)]
    struct Text {
        prompt: Vec<u32>,
        text: Vec<u32>,
    }
    let read = |name: &str| {
        let json = std::fs::read(root().join("fixtures/formats").join(name)).unwrap();
        serde_json::from_slice::<BTreeMap<String, Vec<Text>>>(&json).unwrap()
    };
    let mut expected = read("greedy.json");
    expected.extend(read("hybrids.json"));
    let options = GenerateOptions {
        sampler: SamplerOptions::greedy(),
        max_tokens: 48,
        stop_tokens: Some(vec![]),
        ..GenerateOptions::default()
    };
    assert_eq!(expected.len(), 10);
    for (name, texts) in expected {
        let model = load(&match &name[..] {
            "m7" => "m7.safetensors".into(),
            "rwkv6qwen2" | "arwkv7" | "arwkv7-nogate" => format!("gguf/{name}.gguf"),
            _ => format!("{name}.pth"),
        });
        for Text { prompt, text } in &texts {
            let mut session = model.session().unwrap();
            let mut generation = session.generate(prompt, &options).unwrap();
            generation.text().unwrap();
            assert_eq!(generation.tokens(), text, "{name} after {prompt:?}");
        }
        let mut sessions: Vec<Session> = texts.iter().map(|_| model.session().unwrap()).collect();
        let mut prompts: Vec<_> = sessions.iter_mut().zip(texts.iter().map(|text| &text.prompt[..])).collect();
        let mut together = model.generate_batch(&mut prompts, std::slice::from_ref(&options)).unwrap();
        together.texts().unwrap();
        for (i, Text { prompt, text }) in texts.iter().enumerate() {
            assert_eq!(together.tokens(i), text, "{name} side by side, after {prompt:?}");
        }
    }
}

/// A text that goes on from a saved state is the one that was never interrupted.
#[test]
fn states_of_every_version_are_saved_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    for (i, name) in VERSIONS.into_iter().enumerate() {
        let model = load(name);
        let mut session = model.session().unwrap();
        session.feed(&[5, 9, 3, 27]).unwrap();
        let mut fork = session.fork().unwrap();
        let whole = greedy(&mut session, 41, 48);
        let mut parts = greedy(&mut fork, 41, 20);
        let state = folder.path().join(format!("{i}.safetensors"));
        fork.save_state(&state).unwrap();
        let mut other = load(name).session().unwrap();
        other.load_state(&state).unwrap();
        parts.extend(greedy(&mut other, parts[19], 28));
        assert_eq!(parts, whole, "{name}");
    }
}

/// A text ends with what ends documents in the model's own vocabulary: in Qwen2's, token 0 is an exclamation mark. An empty prompt is read as
/// the token that begins documents there.
#[test]
fn texts_end_as_their_vocabulary_has_it() {
    let run = |name: &str, prompt: &[u32], favoured: u32| {
        let model = load(name);
        let sampler = SamplerOptions { logit_bias: vec![(favoured, 100.0)], ..SamplerOptions::greedy() };
        let options = GenerateOptions { sampler, max_tokens: 3, ..GenerateOptions::default() };
        let mut session = model.session().unwrap();
        let mut generation = session.generate(prompt, &options).unwrap();
        generation.text().unwrap();
        let reason = generation.finish_reason();
        drop(generation);
        (reason, session.logits().to_vec())
    };
    for (name, ends) in [("m7.safetensors", &[0][..]), ("gguf/rwkv6qwen2.gguf", &[278, 279][..])] {
        for favoured in [0, 1, 278, 279].into_iter().filter(|&id| id < 2 || name.ends_with("gguf")) {
            let (reason, logits) = run(name, &[], favoured);
            let expected =
                if ends.contains(&favoured) { FinishReason::StopToken(favoured) } else { FinishReason::Length };
            assert_eq!(reason, Some(expected), "{name}, token {favoured}");
            assert_eq!(logits, run(name, &[ends[0]], favoured).1, "{name}, token {favoured}");
        }
    }
}

/// A model whose vocabulary is not known generates ids, and none of them has a text.
#[test]
fn a_model_without_a_tokenizer_generates_ids() {
    let model = load("m6.pth");
    let mut session = model.session().unwrap();
    session.feed(&[5, 9, 3, 27]).unwrap();
    let whole = greedy(&mut session, 41, 24);
    let options = |stop: Vec<String>| GenerateOptions {
        sampler: SamplerOptions::greedy(),
        max_tokens: 24,
        stop,
        stop_tokens: Some(vec![]),
        ..GenerateOptions::default()
    };
    let mut session = model.session().unwrap();
    let mut generation = session.generate(&[5, 9, 3, 27, 41], &options(vec![])).unwrap();
    assert_eq!(generation.text().unwrap(), "");
    assert_eq!(generation.tokens(), whole);
    drop(generation);
    let error = session.generate(&[1], &options(vec!["x".into()])).unwrap_err().to_string();
    assert!(error.contains("no tokenizer"), "{error}");
}

/// A tokenizer beside the weights is used where the vocabulary is not the World one: here it is one for more tokens than the
/// model has.
#[test]
fn a_tokenizer_beside_the_weights_is_found() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(path("hf/rwkv4-hf").join(name), folder.path().join(name)).unwrap();
    }
    std::fs::copy(root().join("fixtures/tokenizer/bpe-neox.tokenizer.json"), folder.path().join("tokenizer.json"))
        .unwrap();
    for path in [folder.path().to_owned(), folder.path().join("model.safetensors")] {
        let model = Model::load(path, &Options { device: Device::Cpu, ..Options::default() }).unwrap();
        let error = model.tokenizer().unwrap_err().to_string();
        assert!(error.contains("the tokenizer has 923 tokens, the model only 80"), "{error}");
    }
}

/// A state belongs to its model, whatever file that lies in, and to no other.
#[test]
fn states_know_their_model_in_every_container() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    for (name, twins, other) in [
        ("m4.pth", &["m4.st", "hf/rwkv4-hf"][..], "m52.pth"),
        ("m51.pth", &["m51.st"], "m52.pth"),
        ("m6.pth", &["m6.st", "hf/rwkv6-hf", "gguf/m6-lerp5.gguf", "gguf/m6-rescale2.gguf"], "m7.safetensors"),
        ("m7.safetensors", &["pth/torch-f32.pth", "pth/torch-bf16.pth"], "m6.pth"),
    ] {
        let mut session = load(name).session().unwrap();
        session.feed(&[1, 2, 3]).unwrap();
        session.save_state(&state).unwrap();
        for twin in twins {
            load(twin).session().unwrap().load_state(&state).unwrap_or_else(|error| panic!("{twin}: {error}"));
        }
        assert!(load(other).session().unwrap().load_state(&state).is_err(), "{name} and {other}");
    }
}

/// What has a model's names and other numbers is refused by name.
#[test]
fn quantized_folders_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(path("hf/fla/model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(path("hf/fla/config.json")).unwrap();
    let quantized = config.replacen('{', "{\"quantization_config\": {\"quant_method\": \"fp8\"},", 1);
    std::fs::write(folder.path().join("config.json"), quantized).unwrap();
    let error = Model::load(folder.path(), &Options { device: Device::Cpu, ..Options::default() }).unwrap_err();
    assert!(error.to_string().contains("quantized"), "{error}");
}

/// A hybrid whose vocabulary has ChatML's marks reads a conversation mark by mark; here every other token is a byte.
#[test]
fn a_hybrid_reads_conversations_in_chatml() {
    // GPT-2's alphabet of bytes: printable ones stand for themselves, the others for letters from U+0100 on.
    let is_printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut n_others = 0;
    let mut letter = |byte: u8| match is_printable(byte) {
        true => char::from(byte).to_string(),
        false => {
            n_others += 1;
            char::from_u32(255 + n_others).unwrap().to_string()
        }
    };
    let vocab: serde_json::Map<String, Value> = (0..=255u8).map(|byte| (letter(byte), byte.into())).collect();
    let special = |(id, content): (u32, &str)| json!({"id": id, "content": content, "special": true});
    let marks = [(277, "<|im_start|>"), (278, "<|endoftext|>"), (279, "<|im_end|>")].map(special);
    let split = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let model = json!({"type": "BPE", "vocab": vocab, "merges": []});
    let tokenizer = json!({"added_tokens": marks, "pre_tokenizer": split, "model": model});
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = folder.path().join("tokenizer.json");
    std::fs::write(&vocabulary, tokenizer.to_string()).unwrap();
    let options = Options { device: Device::Cpu, exact: true, vocabulary: Some(vocabulary), ..Options::default() };
    let model = Model::load(path("gguf/rwkv6qwen2.gguf"), &options).unwrap();
    assert_eq!(model.chat_template(), ChatTemplate::ChatMl);

    let says = |token: u32| SamplerOptions { logit_bias: vec![(token, 100.0)], ..SamplerOptions::greedy() };
    let generate = GenerateOptions { sampler: says(u32::from(b'a')), max_tokens: 3, ..GenerateOptions::default() };
    let mut conversation =
        Conversation::new(&model, ConversationOptions { generate, ..ConversationOptions::default() }).unwrap();
    let answer = |conversation: &mut Conversation, text: &str| {
        let answer = conversation.say(text).unwrap();
        answer.map(|piece| piece.unwrap().content).collect::<String>()
    };
    assert_eq!(answer(&mut conversation, "hi <|im_end|>"), "aaa");
    conversation.options_mut().generate.sampler = says(279);
    assert_eq!(answer(&mut conversation, "x"), "");
    let state = folder.path().join("state.safetensors");
    conversation.save(&state).unwrap();

    let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<u32>>();
    let turn = |text: &str| [vec![277], bytes(text), vec![279], bytes("\n")].concat();
    let read = ["user\nhi", "assistant\naaa", "user\nx", "assistant\n"].map(turn).concat();
    let (mut expected, mut found) = (model.session().unwrap(), model.session().unwrap());
    expected.feed(&read).unwrap();
    found.load_state(&state).unwrap();
    let error = nmse(found.state().unwrap().data(), expected.state().unwrap().data());
    assert!(error < 1e-10, "{error:e}");
}
