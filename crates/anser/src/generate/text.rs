//! One text that is being generated: its tokens, the part of it that is certain, and the reason of its end.

use super::{FinishReason, GenerateOptions, Piece};
use crate::error::Error;
use crate::grammar::{Allowed, Constraint};
use crate::model::Model;
use crate::rows::{Drafting, Lookup, Proposals};
use crate::sampler::Sampler;
use crate::session::Session;
use crate::stop::StopMatcher;
use anser_tokenizer::{Tokenizer, Utf8Stream};

/// A text that is generated in a session, which the caller keeps.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) sampler: Sampler,
    /// Whether a device that draws has this sampler.
    pub(crate) draws_on_device: bool,
    /// `None` for a model whose vocabulary is not known: then there are tokens and no text.
    tokenizer: Option<Tokenizer>,
    /// Where the text is in its grammar, if it has one.
    constraint: Option<Constraint>,
    /// Where the tokens of the prompt and the text stand, if they are looked up.
    pub(crate) lookup: Option<Box<Lookup>>,
    /// What a draft model has of the text, if one proposes tokens.
    pub(crate) draft: Option<Box<Drafting>>,
    /// The tokens that were proposed.
    pub(crate) proposals: Proposals,
    stop: StopMatcher,
    /// Tokens that end the text.
    stop_tokens: Vec<u32>,
    decoder: Utf8Stream,
    /// The bytes of the drawn tokens that no piece has contained yet.
    unshown: Vec<u8>,
    options: GenerateOptions,
    tokens: Vec<u32>,
    end: Option<FinishReason>,
}

impl Text {
    /// An empty text of `model`. `constraint`: that of the options' grammar. `uncounted`: see [`Sampler::new`].
    ///
    /// Errors: options out of range.
    pub(crate) fn new(
        model: &Model,
        options: &GenerateOptions,
        constraint: Option<Constraint>,
        tokenizer: Option<&Tokenizer>,
        uncounted: &[u32],
    ) -> Result<Text, Error> {
        options.sampler.validate(model.config().n_vocab)?;
        let stop = StopMatcher::new(options.stop.clone())
            .map_err(|e| Error::Option { option: "stop", reason: e.to_string() })?;
        let sampler = Sampler::new(options.sampler.clone(), uncounted.to_vec());
        Ok(Text {
            draws_on_device: sampler.draws_on_device() && constraint.is_none(),
            sampler,
            tokenizer: tokenizer.cloned(),
            constraint,
            lookup: None,
            draft: None,
            proposals: Proposals::default(),
            stop,
            stop_tokens: options.stop_tokens_of(model).to_vec(),
            decoder: Utf8Stream::new(),
            unshown: vec![],
            options: options.clone(),
            tokens: vec![],
            end: None,
        })
    }

    /// Has tokens proposed for the text, which follows `tokens`, as the options say.
    ///
    /// Errors: a draft model with another vocabulary.
    pub(crate) fn begin_proposals(
        &mut self,
        model: &Model,
        options: &GenerateOptions,
        tokens: &[u32],
    ) -> Result<(), Error> {
        self.lookup = options.lookup.then(|| Box::new(Lookup::new(tokens)));
        let drafting = |draft| Drafting::new(model, draft, tokens, &self.sampler, &self.stop_tokens).map(Box::new);
        self.draft = options.draft.as_ref().map(drafting).transpose()?;
        Ok(())
    }

    /// The reason for which the text ended; `None` while it goes on.
    pub(crate) fn end(&self) -> Option<FinishReason> {
        self.end
    }

    /// All tokens drawn so far, but for a stop token.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The bytes of all tokens drawn so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.tokens.iter().flat_map(|&t| self.token_bytes(t)).copied().collect()
    }

    /// The bytes of a token; none if it has no text, or that is not known.
    pub(crate) fn token_bytes(&self, token: u32) -> &[u8] {
        self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token_bytes(token)).unwrap_or_default()
    }

    /// The most tokens that may still be drawn.
    pub(crate) fn n_left(&self) -> usize {
        self.options.max_tokens.saturating_sub(self.tokens.len())
    }

    /// Whether the caller has cancelled it.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.options.cancel.is_cancelled()
    }

    /// Removes the last `n_bytes` bytes of the last token, which has been drawn in `session` but not read. Returns `false` if it
    /// has no more bytes than these.
    pub(crate) fn shorten_pending(&self, session: &mut Session, n_bytes: usize) -> bool {
        let Some((&token, before)) = session.pending().split_last() else { return false };
        let Some(tokenizer) = &self.tokenizer else { return false };
        let bytes = self.token_bytes(token);
        let Some(kept) = bytes.len().checked_sub(n_bytes).filter(|&n| n > 0 && n_bytes > 0) else { return false };
        let pending = [before, &tokenizer.encode(&bytes[..kept])].concat();
        session.set_pending(pending);
        true
    }

    /// Draws the next token from `logits`, `[V]`; `None` if the text is complete by its grammar, so that none may follow.
    ///
    /// Errors: no token can be drawn.
    pub(crate) fn draw(&mut self, logits: &[f32]) -> Result<Option<u32>, Error> {
        let allowed = match self.constraint.as_mut().map(Constraint::allowed).transpose()? {
            Some(Allowed::Nothing) => return Ok(None),
            Some(Allowed::Tokens(mask)) => Some(mask),
            None => None,
        };
        Ok(Some(self.sampler.sample_allowed(logits, allowed)?))
    }

    /// Where the text is in its grammar, if it has one.
    pub(crate) fn constraint_mut(&mut self) -> Option<&mut Constraint> {
        self.constraint.as_mut()
    }

    /// Ends the text, which is complete, and returns the text that was held back.
    pub(crate) fn complete(&mut self) -> Piece {
        self.finish(FinishReason::Complete)
    }

    /// Ends the text if no further token is wanted, and returns the text that was held back.
    pub(crate) fn end_if_due(&mut self) -> Piece {
        if self.is_cancelled() {
            self.finish(FinishReason::Cancelled)
        } else if self.n_left() == 0 {
            self.finish(FinishReason::Length)
        } else {
            self.piece(String::new())
        }
    }

    /// Appends the next token, which `session` reads next, and returns the text that has become certain by it.
    ///
    /// Errors: following the grammar takes too much work.
    pub(crate) fn push(&mut self, session: &mut Session, token: u32) -> Result<Piece, Error> {
        if self.stop_tokens.contains(&token) {
            return Ok(self.finish(FinishReason::StopToken(token)));
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(token)?;
        }
        self.sampler.accept(token);
        session.set_pending(vec![token]);
        self.tokens.push(token);
        self.lookup.iter_mut().for_each(|lookup| lookup.push(token));
        self.draft.iter_mut().for_each(|draft| draft.push(token));
        let bytes = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token_bytes(token)).unwrap_or_default();
        self.unshown.extend_from_slice(bytes);
        let step = self.stop.push(self.decoder.push(bytes));
        if let Some(hit) = step.hit {
            self.end_with(FinishReason::StopText(hit));
        }
        let mut text = step.emit;
        if self.end.is_none() && self.constraint.as_ref().is_some_and(Constraint::is_complete) {
            text += &self.rest(FinishReason::Complete);
        }
        Ok(self.piece(text))
    }

    /// Ends the text and returns the text that was held back.
    fn finish(&mut self, reason: FinishReason) -> Piece {
        let text = self.rest(reason);
        self.piece(text)
    }

    /// Ends the text and returns the characters that were held back.
    fn rest(&mut self, reason: FinishReason) -> String {
        let step = self.stop.push(self.decoder.finish());
        self.end_with(step.hit.map_or(reason, FinishReason::StopText));
        match step.hit {
            Some(_) => step.emit,
            None => step.emit + &self.stop.finish(),
        }
    }

    /// Notes the end, and frees the states of a draft model.
    fn end_with(&mut self, reason: FinishReason) {
        self.end = Some(reason);
        self.draft = None;
    }

    /// A piece of `text`, which continues the last piece, with the bytes of its tokens.
    fn piece(&mut self, text: String) -> Piece {
        let n_bytes = n_bytes_of(&self.unshown, text.chars().count());
        Piece { text, bytes: self.unshown.drain(..n_bytes).collect() }
    }
}

/// The number of `bytes` whose text is the first `n_chars` characters. A character may be U+FFFD for bytes that are not
/// UTF-8, as [`String::from_utf8_lossy`] and [`Utf8Stream`] have it.
fn n_bytes_of(bytes: &[u8], n_chars: usize) -> usize {
    let units = bytes.utf8_chunks().flat_map(|chunk| {
        let invalid = Some(chunk.invalid().len()).filter(|&n| n > 0);
        chunk.valid().chars().map(char::len_utf8).chain(invalid)
    });
    units.take(n_chars).sum()
}

#[cfg(test)]
mod tests {
    use super::n_bytes_of;

    #[test]
    fn characters_stand_for_the_bytes_they_were_read_from() {
        // a, a character of two bytes, two bytes that are none, U+FFFD itself, half a character.
        let bytes = b"a\xc3\xa9\xff\xff\xef\xbf\xbd\xe2\x82";
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(text.chars().count(), 6);
        let ends = [0, 1, 3, 4, 5, 8, 10];
        for (n_chars, end) in ends.into_iter().enumerate() {
            assert_eq!(n_bytes_of(bytes, n_chars), end, "{n_chars}");
            let shown: String = text.chars().take(n_chars).collect();
            assert_eq!(String::from_utf8_lossy(&bytes[..end]), shown);
        }
    }
}
