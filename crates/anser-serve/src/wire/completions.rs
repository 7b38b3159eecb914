//! Answers of `/v1/completions`.

use super::chat::{Head, finish_reason};
use super::usage::Usage;
use crate::answer::End;
use crate::likelihoods::TokenInfo;
use serde::Serialize;

/// An answer, or a chunk of one.
#[derive(Debug, Serialize)]
pub(crate) struct Completion<'a> {
    #[serde(flatten)]
    pub(crate) head: &'a Head,
    pub(crate) choices: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Choice {
    index: usize,
    text: String,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

impl Choice {
    /// A text, or a piece of one that ends if `end` says so.
    pub(crate) fn new(index: usize, text: String, logprobs: Option<Logprobs>, end: Option<End>) -> Choice {
        Choice { index, text, logprobs, finish_reason: end.map(|end| finish_reason(Some(end))) }
    }
}

/// The log-probabilities of the tokens of a text.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Logprobs {
    tokens: Vec<String>,
    /// Null for a token without any before it.
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<serde_json::Map<String, serde_json::Value>>>,
    /// Where each token begins, in characters from the start of the whole text.
    text_offset: Vec<usize>,
}

/// Counts the characters of the tokens of one text.
#[derive(Debug, Default)]
pub(crate) struct Offset {
    n_chars: usize,
    /// The first bytes of a character whose last ones are in tokens to come.
    begun: Vec<u8>,
}

impl Offset {
    /// The character in which the next token begins, which has these bytes.
    fn next(&mut self, bytes: &[u8]) -> usize {
        let offset = self.n_chars;
        self.begun.extend_from_slice(bytes);
        let mut n_left = 0;
        for chunk in self.begun.utf8_chunks() {
            self.n_chars += chunk.valid().chars().count();
            let invalid = chunk.invalid();
            // What a valid character may begin with comes last, and is counted once it is complete.
            n_left = invalid.len();
            self.n_chars += usize::from(!invalid.is_empty());
        }
        let is_begun = std::str::from_utf8(&self.begun).is_err_and(|error| error.error_len().is_none());
        if is_begun {
            self.n_chars -= 1;
            self.begun.drain(..self.begun.len() - n_left);
        } else {
            self.begun.clear();
        }
        offset
    }
}

impl Logprobs {
    /// Adds a token that no logits came before.
    pub(crate) fn push_unknown(&mut self, bytes: &[u8], offset: &mut Offset) {
        self.tokens.push(String::from_utf8_lossy(bytes).into_owned());
        self.token_logprobs.push(None);
        self.top_logprobs.push(None);
        self.text_offset.push(offset.next(bytes));
    }

    /// Adds a token. `has_top`: the most likely tokens were asked for; the token itself is always among them.
    pub(crate) fn push(&mut self, info: &TokenInfo, has_top: bool, offset: &mut Offset) {
        let mut top = serde_json::Map::new();
        for token in info.top.iter().chain([&info.token]) {
            // Of tokens that look alike the most likely one counts.
            top.entry(token.text()).or_insert(token.logprob.into());
        }
        self.tokens.push(info.token.text());
        self.token_logprobs.push(Some(info.token.logprob));
        self.top_logprobs.push(has_top.then_some(top));
        self.text_offset.push(offset.next(&info.token.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::Offset;

    #[test]
    fn offsets_count_characters() {
        let mut offset = Offset::default();
        let tokens: [&[u8]; 8] =
            ["Gr".as_bytes(), "üß".as_bytes(), b"\xf0\x9f\x98", b"\x80", b"!", b"\xff", b"\xe2\x82", b"x"];
        let offsets: Vec<usize> = tokens.iter().map(|token| offset.next(token)).collect();
        // A character of two tokens; bytes that are no character count as one, U+FFFD.
        assert_eq!(offsets, [0, 2, 4, 4, 5, 6, 7, 7]);
        assert_eq!(offset.next(b"y"), 9);
    }
}
