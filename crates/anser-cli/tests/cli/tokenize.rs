//! `anser tokenize`

use crate::harness::{fixture, ids, run, run_with};
use serde_json::{Value, json};

#[test]
fn ids_are_those_of_the_official_tokenizer() {
    let vectors = std::fs::read_to_string(fixture("tokenizer/vectors.jsonl")).unwrap();
    let vectors: Vec<Value> = vectors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (texts, bytes): (Vec<_>, Vec<_>) = vectors.iter().partition(|v| v["text"].is_string());
    assert!(texts.len() > 400 && bytes.len() > 20);
    for vector in texts.iter().step_by(20) {
        let text = vector["text"].as_str().unwrap();
        if !text.contains('\0') {
            assert_eq!(run(&["tokenize", "--", text]).json(), vector["ids"], "{text:?}");
        }
    }
    for vector in bytes.iter().step_by(3) {
        let hex = vector["hex"].as_str().unwrap();
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let text: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
        let found = run_with(&["tokenize", "-"], &text).json();
        assert_eq!(found, vector["ids"], "{hex}");
        let back = run_with(&["tokenize", "--decode", "-"], found.to_string().as_bytes()).quiet();
        assert_eq!(back, text, "{hex}");
    }
}

#[test]
fn bytes_that_are_not_utf8_round_trip() {
    let bytes: Vec<u8> = (0..=255).rev().chain([0xff, 0xff]).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bytes");
    std::fs::write(&file, &bytes).unwrap();
    let file = file.to_str().unwrap();
    let found = run(&["tokenize", "--file", file]).json();
    assert_eq!(found, run_with(&["tokenize", "--file", "-"], &bytes).json());
    assert_eq!(run(&["tokenize", "--decode", &found.to_string()]).quiet(), bytes);
    assert_eq!(run_with(&["tokenize", "-"], b"\xff\xff").json(), json!([256, 256]), "byte b alone is token b + 1");
}

#[cfg(unix)]
#[test]
fn arguments_are_bytes_too() {
    use std::os::unix::ffi::OsStrExt;
    let text = std::ffi::OsStr::from_bytes(b"\xff\xff");
    assert_eq!(run(&["tokenize".as_ref(), text]).json(), json!([256, 256]));
}

#[test]
fn ids_are_taken_as_json_or_a_list() {
    for list in ["[33155,45,40213,34]", "33155,45,40213,34", "33155 45 40213 34"] {
        assert_eq!(run(&["tokenize", "--decode", list]).text(), "Hello, world!", "{list}");
    }
}

#[test]
fn json_is_one_object_in_both_directions() {
    let object = json!({"n_tokens": 4, "n_bytes": 13, "ids": [33155, 45, 40213, 34], "text": "Hello, world!"});
    assert_eq!(run(&["tokenize", "--json", "Hello, world!"]).json(), object);
    assert_eq!(run(&["tokenize", "--json", "--decode", "33155,45,40213,34"]).json(), object);
    assert_eq!(run(&["tokenize", "--json", "--decode", "256,256"]).json()["text"], Value::Null);
}

#[test]
fn nothing_is_no_token() {
    assert_eq!(run(&["tokenize", ""]).json(), json!([]));
    assert_eq!(run(&["tokenize", "--decode", "[]"]).quiet(), b"");
}

#[test]
fn a_model_brings_its_own_vocabulary() {
    // Tokens of the file: 0 = <s>, 1 to 256 the single bytes, 257 = two line ends.
    let model = fixture("tiny/tiny-v7mini-f16.gguf");
    let model = model.to_str().unwrap();
    assert_eq!(run(&["tokenize", "-m", model, "\n\nZ"]).json(), json!([257, 0x5b]));
    let found = ids(&run(&["tokenize", "-m", model, "<s>"]).json());
    assert!(!found.contains(&0), "the end of a document cannot be typed: {found:?}");
}

#[test]
fn a_vocabulary_file_is_read_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vocab.txt");
    let byte = |b: usize| match b {
        0x20..=0x7e if b != 0x27 && b != 0x5c => format!("{} '{}' 1\n", b + 1, b as u8 as char),
        0x00..=0x7f => format!("{} '\\x{b:02x}' 1\n", b + 1),
        _ => format!("{} b'\\x{b:02x}' 1\n", b + 1),
    };
    let lines: String = (0..256).map(byte).chain(["257 'fox' 3\n".to_owned()]).collect();
    std::fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(run(&["tokenize", "--vocab", file, "a fox"]).json(), json!([98, 33, 257]));
    let missing = run(&["tokenize", "--vocab", "/no/such/vocab", "a"]).failure(1);
    assert!(missing.contains("/no/such/vocab"), "{missing}");
}

#[test]
fn wrong_ids_are_named() {
    assert!(run(&["tokenize", "--decode", "70000"]).failure(1).contains("70000"));
    assert!(run(&["tokenize", "--decode", "1,zwei"]).failure(2).contains("zwei"));
    assert!(run_with(&["tokenize", "--decode", "-"], b"\xff").failure(2).contains("not text"));
    run(&["tokenize", "--file", "/no/such/file"]).failure(1);
    run(&["tokenize"]).failure(2);
}
