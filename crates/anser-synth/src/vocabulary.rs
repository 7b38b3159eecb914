//! The World vocabulary as GGUF stores it.

use std::fmt::Write;

use anser_format::{MetaArray, StrArray};
use anser_tokenizer::Tokenizer;

use crate::shape::N_VOCAB;

/// Numbers under `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

/// Texts and types of all tokens, in the order of their ids: id 0 ends a document, the last few ids are padding.
pub(crate) fn world_tokens() -> (MetaArray, MetaArray) {
    let world = Tokenizer::world();
    let mut texts = StrArray::with_capacity(N_VOCAB);
    let mut types = Vec::with_capacity(N_VOCAB);
    for id in 0..N_VOCAB {
        let (text, token_type) = match world.token_bytes(id as u32).filter(|bytes| !bytes.is_empty()) {
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
