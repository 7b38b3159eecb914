//! The log-probabilities of the tokens of a text, held back until the text that they are part of is shown.

use anser::{Drawn, Likelihood, Tokenizer};
use std::collections::VecDeque;

/// What stands for the end of a document, which has no bytes.
const END_OF_TEXT_NAME: &str = "<|endoftext|>";
/// The log-probability of what is impossible: JSON has no infinities.
const IMPOSSIBLE: f32 = -9999.0;

/// A token as clients see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    /// Its bytes; empty for the end of a document.
    pub(crate) bytes: Vec<u8>,
    /// Its log-probability by the model's own logits.
    pub(crate) logprob: f32,
}

/// A token of a text, and the tokens that were most likely in its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenInfo {
    pub(crate) token: Token,
    /// The most likely first.
    pub(crate) top: Vec<Token>,
}

impl Token {
    fn new(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Token {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default().to_vec();
        Token { bytes, logprob: if logprob.is_finite() { logprob } else { IMPOSSIBLE } }
    }

    /// Its text; bytes that are not UTF-8 are replaced by U+FFFD.
    pub(crate) fn text(&self) -> String {
        match self.bytes.is_empty() {
            true => END_OF_TEXT_NAME.into(),
            false => String::from_utf8_lossy(&self.bytes).into_owned(),
        }
    }
}

impl TokenInfo {
    pub(crate) fn new(tokenizer: &Tokenizer, likelihood: &Likelihood) -> TokenInfo {
        let token = |&(id, logprob): &(u32, f32)| Token::new(tokenizer, id, logprob);
        TokenInfo {
            token: Token::new(tokenizer, likelihood.token, likelihood.log_probability),
            top: likelihood.top.iter().map(token).collect(),
        }
    }
}

/// The tokens of one text, in the order in which they were drawn.
///
/// A token is shown with the first character of the content that it has a byte of. Tokens of a thought, of the white space before
/// the content and of a stop text are not.
#[derive(Debug)]
pub(crate) struct Likelihoods {
    tokenizer: Tokenizer,
    /// Tokens that are not shown yet, with the position of their first byte.
    held: VecDeque<(usize, TokenInfo)>,
    n_drawn_bytes: usize,
    /// The text as it was drawn, until its content begins.
    before_content: Option<String>,
    /// The end of each piece of text: in bytes of the text, and in bytes of the tokens. They differ after tokens that are not UTF-8.
    ends: VecDeque<(usize, usize)>,
    /// The end of the text that was shown, and of the pieces before it, as in `ends`.
    shown: usize,
    passed: (usize, usize),
    text_len: usize,
    /// The position of the content's first byte among the bytes of the tokens.
    begin: usize,
}

impl Likelihoods {
    /// `is_content`: the text is content from its first character on.
    pub(crate) fn new(tokenizer: Tokenizer, is_content: bool) -> Likelihoods {
        Likelihoods {
            tokenizer,
            held: VecDeque::new(),
            n_drawn_bytes: 0,
            before_content: (!is_content).then(String::new),
            ends: VecDeque::new(),
            shown: 0,
            passed: (0, 0),
            text_len: 0,
            begin: 0,
        }
    }

    pub(crate) fn drawn(&mut self, drawn: &Drawn) {
        if let Some(likelihood) = &drawn.likelihood {
            self.held.push_back((self.n_drawn_bytes, TokenInfo::new(&self.tokenizer, likelihood)));
        }
        self.n_drawn_bytes += drawn.bytes.len();
    }

    /// Notes a piece of the text as it was drawn, whose tokens have `n_bytes` bytes.
    pub(crate) fn piece(&mut self, piece: &str, n_bytes: usize) {
        self.text_len += piece.len();
        let (_, n_bytes_before) = *self.ends.back().unwrap_or(&self.passed);
        self.ends.push_back((self.text_len, n_bytes_before + n_bytes));
        if let Some(text) = &mut self.before_content {
            text.push_str(piece);
        }
    }

    /// The tokens of the next `n_bytes` bytes of the content. `thinks`: the content follows on a thought.
    pub(crate) fn show(&mut self, n_bytes: usize, thinks: bool) -> Vec<TokenInfo> {
        if n_bytes == 0 {
            return vec![];
        }
        if let Some(text) = self.before_content.take() {
            self.shown = content_begin(&text, thinks);
            self.begin = self.in_bytes();
        }
        self.shown += n_bytes;
        let end = self.in_bytes();
        let n_shown = self.held.iter().take_while(|(at, _)| *at < end).count();
        let shown: Vec<_> = self.held.drain(..n_shown).collect();
        let begin = self.begin;
        shown.into_iter().filter(|(at, info)| at + info.token.bytes.len() > begin).map(|(_, info)| info).collect()
    }

    /// The tokens that are left when a text was cut at its limit: their text may be white space, or half a character.
    pub(crate) fn rest(&mut self, thinks: bool) -> Vec<TokenInfo> {
        if self.before_content.is_some() && thinks {
            return vec![];
        }
        self.held.drain(..).map(|(_, info)| info).collect()
    }

    /// `shown` in bytes of the tokens.
    fn in_bytes(&mut self) -> usize {
        while let Some(&end) = self.ends.front().filter(|end| end.0 <= self.shown) {
            self.passed = end;
            self.ends.pop_front();
        }
        self.passed.1 + (self.shown - self.passed.0)
    }
}

/// The position of the content in an answer as it was drawn.
fn content_begin(text: &str, thinks: bool) -> usize {
    const THOUGHT_END: &str = "</think>";

    let after_thought = match text.find(THOUGHT_END).filter(|_| thinks) {
        Some(at) => &text[at + THOUGHT_END.len()..],
        None => text.strip_prefix('>').unwrap_or(text),
    };
    text.len() - after_thought.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::Likelihoods;
    use anser::{Drawn, Likelihood, Tokenizer};

    /// Draws `tokens` and hands out the pieces that are certain after each.
    fn shown(tokens: &[&[u8]], is_content: bool, thinks: bool, content: &[&str]) -> Vec<Vec<u8>> {
        let tokenizer = Tokenizer::world();
        let mut likelihoods = Likelihoods::new(tokenizer.clone(), is_content);
        let mut decoder = anser::Utf8Stream::new();
        let mut shown = vec![];
        for (token, content) in tokens.iter().zip(content) {
            let id = tokenizer.encode(token)[0];
            let likelihood = Some(Likelihood { token: id, log_probability: -1.0, top: vec![] });
            likelihoods.drawn(&Drawn { id, bytes: token.to_vec(), likelihood });
            let text = decoder.push(token).to_owned();
            if !text.is_empty() {
                likelihoods.piece(&text, text.len());
            }
            shown.extend(likelihoods.show(content.len(), thinks));
        }
        shown.into_iter().map(|info| info.token.bytes).collect()
    }

    #[test]
    fn tokens_come_with_the_text_that_they_are_part_of() {
        let tokens: [&[u8]; 4] = [b" Once", b" upon", b"\n\n", b"User"];
        assert_eq!(shown(&tokens, false, false, &["Once", " upon", "", ""]), [b" Once".to_vec(), b" upon".to_vec()]);
        assert_eq!(shown(&tokens, true, false, &[" Once", " upon", "\n\n", "User"]).len(), 4);
        // A character of three tokens.
        let emoji: [&[u8]; 4] = [b"\xf0\x9f", b"\x98", b"\x80", b"!"];
        assert_eq!(shown(&emoji, true, false, &["", "", "😀", "!"]).concat(), "😀!".as_bytes());
    }

    #[test]
    fn tokens_of_a_thought_are_not_shown() {
        let tokens: [&[u8]; 5] = [b">", b"hm", b"</", b"think", b">"];
        let more: [&[u8]; 2] = [b"\n", b"Yes"];
        let all: Vec<&[u8]> = tokens.iter().chain(&more).copied().collect();
        assert_eq!(shown(&all, false, true, &["", "", "", "", "", "", "Yes"]), [b"Yes".to_vec()]);
    }
}
