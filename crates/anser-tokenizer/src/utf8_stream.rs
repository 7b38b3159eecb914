//! Text from bytes that arrive in pieces.

use std::str;

/// Turns pieces of bytes, such as the tokens of a running generation, into complete text.
///
/// A character that is not complete yet is held back until its last byte arrives. Bytes that cannot become a
/// character are replaced by U+FFFD just as [`String::from_utf8_lossy`] does: the pieces together are always the
/// text that it makes of all the bytes at once.
///
/// ```
/// let mut stream = anser_tokenizer::Utf8Stream::new();
/// assert_eq!(stream.push(b"caf\xc3"), "caf");
/// assert_eq!(stream.push(b"\xa9 \xe2"), "é ");
/// assert_eq!(stream.finish(), "\u{fffd}");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Utf8Stream {
    /// The beginning of a character: at most three bytes between calls.
    pending: Vec<u8>,
    /// The text last returned.
    text: String,
}

impl Utf8Stream {
    /// A stream that has not received any bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and returns the text that they complete, which may be empty.
    pub fn push(&mut self, bytes: &[u8]) -> &str {
        self.text.clear();
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        while !rest.is_empty() {
            match str::from_utf8(rest) {
                Ok(valid) => {
                    self.text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.text.push_str(str::from_utf8(valid).unwrap_or_default());
                    rest = after;
                    let Some(n_invalid) = error.error_len() else { break };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[n_invalid..];
                }
            }
        }
        let n_done = self.pending.len() - rest.len();
        self.pending.drain(..n_done);
        &self.text
    }

    /// Ends the stream: returns U+FFFD for a character that stayed incomplete, else nothing. The stream can then be
    /// used anew.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.pending.clear();
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        &self.text
    }
}
