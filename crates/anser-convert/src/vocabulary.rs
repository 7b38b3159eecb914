//! The vocabulary of a GGUF file.

use anser_format::{MetaArray, MetaValue, ModelFile, StrArray};
use anser_tokenizer::Tokenizer;
use std::fmt::Write;

/// What every key of the vocabulary begins with.
pub(crate) const PREFIX: &str = "tokenizer.";

/// Numbers under `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

/// Two newlines in the World vocabulary, which llama.cpp takes for the end of a turn.
const WORLD_END_OF_TURN: u32 = 261;
/// The name of llama.cpp's own template for chats.
const CHAT_TEMPLATE: &str = "rwkv-world";

/// The tokens that a GGUF file carries.
#[derive(Clone)]
pub enum Vocabulary {
    /// The World vocabulary of 65,536 tokens.
    World,
    /// Another vocabulary of bytes that are matched greedily, padded to the model's number of tokens.
    Other {
        /// The vocabulary.
        tokenizer: Box<Tokenizer>,
        /// Number of tokens of the model.
        n_vocab: usize,
    },
    /// Keys and values of another GGUF file, as they are.
    Copied(Vec<(String, MetaValue)>),
    /// No tokens: texts cannot be read with the file alone.
    None,
}

impl Vocabulary {
    /// The tokens of a tokenizer, padded to the model's number of tokens; `None` for byte-level BPE, whose merges GGUF files of RWKV models do not
    /// have.
    pub fn of_tokenizer(tokenizer: Tokenizer) -> Option<Vocabulary> {
        let n_vocab = tokenizer.vocab_size();
        (!tokenizer.is_bpe()).then(|| Vocabulary::Other { tokenizer: Box::new(tokenizer), n_vocab })
    }

    /// The vocabulary of a GGUF file, if it has one.
    pub(crate) fn of(file: &ModelFile) -> Option<Vocabulary> {
        let entries = file.metadata_entries().filter(|(key, _)| key.starts_with(PREFIX));
        let entries: Vec<_> = entries.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        (!entries.is_empty()).then_some(Vocabulary::Copied(entries))
    }

    /// Keys and values, under the names of llama.cpp's converter.
    pub fn entries(&self) -> Vec<(String, MetaValue)> {
        let tokens = match self {
            Vocabulary::World => tokens(&Tokenizer::world(), Tokenizer::world().vocab_size()),
            Vocabulary::Other { tokenizer, n_vocab } => tokens(tokenizer, *n_vocab),
            Vocabulary::Copied(entries) => return entries.clone(),
            Vocabulary::None => return vec![("tokenizer.ggml.model".into(), MetaValue::Str("none".into()))],
        };
        let (texts, types) = tokens;
        let end_of_turn = match self {
            Vocabulary::World => Some(("tokenizer.ggml.eot_token_id", MetaValue::U32(WORLD_END_OF_TURN))),
            Vocabulary::Other { .. } | Vocabulary::Copied(_) | Vocabulary::None => None,
        };
        let first = [
            ("tokenizer.ggml.model", MetaValue::Str("rwkv".into())),
            ("tokenizer.ggml.tokens", MetaValue::Array(texts)),
            ("tokenizer.ggml.token_type", MetaValue::Array(types)),
            ("tokenizer.ggml.bos_token_id", MetaValue::U32(0)),
            ("tokenizer.ggml.eos_token_id", MetaValue::U32(0)),
        ];
        let last = [("tokenizer.chat_template", MetaValue::Str(CHAT_TEMPLATE.into()))];
        first.into_iter().chain(end_of_turn).chain(last).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// Texts and types of all tokens, in the order of their ids: id 0 ends a document, ids without bytes are padding.
fn tokens(tokenizer: &Tokenizer, n_vocab: usize) -> (MetaArray, MetaArray) {
    let mut texts = StrArray::with_capacity(n_vocab);
    let mut types = Vec::with_capacity(n_vocab);
    for id in 0..n_vocab {
        let (text, token_type) = match tokenizer.token_bytes(id as u32).filter(|bytes| !bytes.is_empty()) {
            _ if id == 0 => ("<s>".to_owned(), CONTROL),
            Some(bytes) => (escape(bytes), NORMAL),
            None => (format!("[PAD{id}]"), UNUSED),
        };
        texts.push(&text);
        types.push(token_type);
    }
    (MetaArray::Str(texts), MetaArray::I32(types.into()))
}

/// Bytes as Python writes them between the quotes of a bytes literal, the form that llama.cpp's converter stores.
///
/// Python prefers single quotes around a literal and takes double quotes if there are only single ones inside; a quote
/// is escaped only where both kinds occur.
fn escape(bytes: &[u8]) -> String {
    let escape_quote = bytes.contains(&b'\'') && bytes.contains(&b'"');
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\\' => text.push_str("\\\\"),
            b'\'' if escape_quote => text.push_str("\\'"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_escaped_as_python_does() {
        let cases: [(&[u8], &str); 7] = [
            (b"abc ~", "abc ~"),
            (b"\t\n\r\\", "\\t\\n\\r\\\\"),
            (b"\x00\x1f\x7f\xff", "\\x00\\x1f\\x7f\\xff"),
            (b"it's", "it's"),
            (b"\"", "\""),
            (b"'\"", "\\'\""),
            ("é".as_bytes(), "\\xc3\\xa9"),
        ];
        for (bytes, text) in cases {
            assert_eq!(escape(bytes), text);
        }
    }
}
