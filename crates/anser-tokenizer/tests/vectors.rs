//! The World tokenizer gives the ids of the recorded vectors, and their texts back.

use anser_tokenizer::Tokenizer;
use serde_json::Value;

const VECTORS: &str = include_str!("../../../fixtures/tokenizer/vectors.jsonl");

fn text_of(vector: &Value) -> Vec<u8> {
    match (&vector["text"], &vector["hex"]) {
        (Value::String(text), Value::Null) => text.clone().into_bytes(),
        (Value::Null, Value::String(hex)) => {
            let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
            digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
        }
        _ => panic!("a vector has either a text or a hex field: {vector}"),
    }
}

#[test]
fn world_agrees_with_every_vector() {
    let world = Tokenizer::world();
    let mut n_vectors = 0;
    for line in VECTORS.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let text = text_of(&vector);
        let ids: Vec<u32> = vector["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(world.encode(&text), ids, "{line}");
        assert_eq!(world.decode(&ids).unwrap(), text, "{line}");
        n_vectors += 1;
    }
    assert_eq!(n_vectors, 544);
}
