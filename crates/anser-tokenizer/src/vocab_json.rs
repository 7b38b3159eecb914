//! Reads vocabularies in JSON, as web-rwkv and programs built on it ship them: one object from ids to tokens,
//! `{"1": "\u0000", "129": [128], …}`, each token a text or a list of bytes.

use crate::vocabulary::{MAX_TOKEN_LEN, MAX_VOCAB_SIZE, VocabularyError};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The tokens by id. Ids that the object does not name have no text; the list ends with the highest id named.
pub(crate) fn parse(text: &str) -> Result<Vec<Option<Vec<u8>>>, VocabularyError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let tokens = json.deserialize_map(Tokens).and_then(|tokens| json.end().map(|()| tokens));
    tokens.map_err(|error| VocabularyError::Json { problem: error.to_string() })
}

/// The visitor of the whole object.
struct Tokens;

impl<'de> Visitor<'de> for Tokens {
    type Value = Vec<Option<Vec<u8>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from ids to tokens, such as {\"33\": \" \", \"129\": [128]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut tokens: Self::Value = vec![];
        while let Some(key) = entries.next_key::<String>()? {
            let id = match key.parse::<usize>() {
                Ok(id) if id < MAX_VOCAB_SIZE => id,
                _ => {
                    let found: String = key.chars().take(32).collect();
                    return Err(A::Error::custom(format!(
                        "expected an id from 0 to {}, found {found:?}",
                        MAX_VOCAB_SIZE - 1
                    )));
                }
            };
            let token = entries.next_value_seed(Token { id })?;
            if tokens.len() <= id {
                tokens.resize(id + 1, None);
            }
            if tokens[id].replace(token).is_some() {
                return Err(A::Error::custom(format!("id {id} was already given")));
            }
        }
        Ok(tokens)
    }
}

/// The visitor of the token of `id`: a text, or a list of bytes.
struct Token {
    id: usize,
}

impl<'de> DeserializeSeed<'de> for Token {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<u8>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Token {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text or a list of bytes as token {}", self.id)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = vec![];
        while let Some(byte) = list.next_element::<u8>()? {
            if bytes.len() == MAX_TOKEN_LEN {
                let problem = format!("token {} has more than {MAX_TOKEN_LEN} bytes", self.id);
                return Err(A::Error::custom(problem));
            }
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
