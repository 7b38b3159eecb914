//! Byte-level BPE against the package `tokenizers` on two small tokenizers (`fixtures/tokenizer/make_bpe.py`).

use anser_tokenizer::{Tokenizer, VocabularyError};
use proptest::prelude::*;
use serde_json::Value;
use std::path::PathBuf;

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizer").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn load(name: &str) -> Tokenizer {
    Tokenizer::from_vocab_text(&fixture(&format!("bpe-{name}.tokenizer.json"))).unwrap()
}

#[test]
fn ids_are_those_of_the_package_tokenizers() {
    for name in ["neox", "qwen2"] {
        let tokenizer = load(name);
        let mut n_texts = 0;
        for line in fixture(&format!("bpe-{name}.jsonl")).lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = line["text"].as_str().unwrap();
            let expected: Vec<u32> = serde_json::from_value(line["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(text.as_bytes()), expected, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&expected).unwrap(), text.as_bytes(), "{name}: {text:?}");
            n_texts += 1;
        }
        assert!(n_texts > 50, "{n_texts}");
    }
}

/// The same tokenizer as a GGUF file has it: tokens with types, merges as texts.
#[test]
fn a_gguf_files_arrays_make_the_same_tokenizer() {
    for (name, pre) in [("neox", "gpt-2"), ("qwen2", "qwen2")] {
        let json: Value = serde_json::from_str(&fixture(&format!("bpe-{name}.tokenizer.json"))).unwrap();
        let vocab = json["model"]["vocab"].as_object().unwrap();
        let mut tokens: Vec<(&str, u64)> = vocab.iter().map(|(token, id)| (&token[..], id.as_u64().unwrap())).collect();
        tokens.sort_by_key(|(_, id)| *id);
        let merges: Vec<String> = json["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        // Type 3 is control, 4 is a token that was added to the vocabulary: here runs of spaces.
        let added = json["added_tokens"].as_array().unwrap().iter().filter(|added| added["special"] == false);
        let added = added.map(|added| (added["content"].as_str().unwrap(), 4));
        let typed = tokens.iter().map(|(token, id)| (*token, if *id < 2 { 3 } else { 1 })).chain(added);
        let tokenizer = Tokenizer::from_gguf_bpe(typed, merges.iter().map(String::as_str), pre).unwrap();
        for text in ["Once upon a time", "x = [1, 22]\n\n don't", "L'été 日本 \u{1f600}", "a     b  c", "   "] {
            assert_eq!(tokenizer.encode(text.as_bytes()), load(name).encode(text.as_bytes()), "{text:?}");
        }
        assert_eq!(tokenizer.token_bytes(0), Some(&b""[..]), "control tokens have no text");
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let error = |text: &str| Tokenizer::from_vocab_text(text).unwrap_err();
    let good = fixture("bpe-qwen2.tokenizer.json");
    assert!(error(&good.replace("\"BPE\"", "\"Unigram\"")).to_string().contains("Unigram"));
    assert!(error(&good.replace("(?i:", "(?:")).to_string().contains("another pattern"));
    assert!(error(&good.replace("ByteLevel", "Metaspace")).to_string().contains("Metaspace"));
    let broken = good.replacen("[\"h\",\"e\"]", "[\"h\",\"not there\"]", 1);
    assert_ne!(broken, good);
    assert!(Tokenizer::from_vocab_text(&broken).is_err());
    assert!(matches!(
        Tokenizer::from_gguf_bpe([("a", 1)], [], "qwen2"),
        Err(VocabularyError::ByteNotCovered { byte: 0 })
    ));
    let error = Tokenizer::from_gguf_bpe([("a", 1)], [], "llama-bpe").unwrap_err().to_string();
    assert!(error.contains("llama-bpe") && error.contains("qwen2"), "{error}");
}

/// A piece of a million letters takes a moment, not hours.
#[test]
fn long_pieces_are_encoded() {
    let tokenizer = load("neox");
    let text = "there".repeat(200_000);
    let ids = tokenizer.encode(text.as_bytes());
    assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_bytes());
    assert!(ids.len() < text.len() / 2);
}

/// A file may add as many tokens as a vocabulary has room for: finding them takes a moment in a text that nearly has them all.
#[test]
fn many_added_tokens_are_found() {
    let json: Value = serde_json::from_str(&fixture("bpe-neox.tokenizer.json")).unwrap();
    let one_char = |token: &&String| token.chars().count() == 1;
    let bytes: Vec<&String> = json["model"]["vocab"].as_object().unwrap().keys().filter(one_char).collect();
    assert_eq!(bytes.len(), 256);
    let added: Vec<String> = (0..200_000).map(|i| format!("aaaa{i:06}")).collect();
    let tokens = bytes.iter().map(|token| (&token[..], 1)).chain(added.iter().map(|token| (&token[..], 4)));
    let tokenizer = Tokenizer::from_gguf_bpe(tokens, [], "gpt-2").unwrap();
    let text = "a".repeat(200_000) + "000007" + "aaaa199999a";
    let ids = tokenizer.encode(text.as_bytes());
    assert_eq!(ids.len(), 200_000 - 4 + 1 + 2);
    assert_eq!(ids[ids.len() - 3..], [256 + 7, 256 + 199_999, ids[0]]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_bytes());
}

proptest! {
    #[test]
    fn any_bytes_are_encoded_and_decoded(text in prop::collection::vec(any::<u8>(), 0..200)) {
        for name in ["neox", "qwen2"] {
            let tokenizer = load(name);
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text)).unwrap(), text.clone());
        }
    }

    #[test]
    fn steps_give_the_ids_of_the_whole(text in "[ a-c'é\\n1!]{0,60}") {
        for name in ["neox", "qwen2"] {
            let tokenizer = load(name);
            let ids = tokenizer.encode_for(text.as_bytes(), |_| std::ops::ControlFlow::Continue(())).unwrap();
            prop_assert_eq!(ids, tokenizer.encode(text.as_bytes()));
        }
    }
}
