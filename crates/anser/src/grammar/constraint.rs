//! Follows one text through a grammar.

use super::Allowed;
use super::compiler::reason_of;
use crate::error::Error;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

/// Where a text is in its grammar.
pub(crate) struct Constraint {
    matcher: Matcher,
    kind: &'static str,
    /// The bit of a mask that stands for the end of the text.
    end: u32,
    /// Tokens that end the text: allowed where it is complete, and nowhere else.
    stop_tokens: Vec<u32>,
    /// The mask of the next token; `None` if it was not computed since the last one.
    mask: Option<SimpleVob>,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Constraint {
    pub(super) fn new(matcher: Matcher, kind: &'static str, end: u32, stop_tokens: &[u32]) -> Constraint {
        Constraint { matcher, kind, end, stop_tokens: stop_tokens.to_vec(), mask: None }
    }

    /// Appends a token, which is none of the stop tokens. Errors: one that is not allowed here, or a text that takes too much work.
    pub(crate) fn accept(&mut self, token: u32) -> Result<(), Error> {
        self.mask = None;
        let accepted = self.matcher.consume_token(token);
        accepted.map_err(|error| self.error(&error.to_string()))
    }

    /// Whether the text is complete and no token may follow.
    pub(crate) fn is_complete(&self) -> bool {
        !self.matcher.is_error() && self.matcher.is_stopped()
    }

    /// The tokens that may be drawn next. Errors: there is none although the text is not complete, or finding them takes too much
    /// work.
    pub(crate) fn allowed(&mut self) -> Result<Allowed<'_>, Error> {
        if self.is_complete() {
            return Ok(Allowed::Nothing);
        }
        if self.mask.is_none() {
            self.mask = Some(self.compute_mask()?);
        }
        Ok(match &self.mask {
            Some(mask) if !mask.is_zero() => Allowed::Tokens(mask.as_slice()),
            Some(_) | None => Allowed::Nothing,
        })
    }

    /// A mask with the stop tokens if the text is complete here; without any token if nothing else may follow.
    fn compute_mask(&mut self) -> Result<SimpleVob, Error> {
        let mask = self.matcher.compute_mask();
        let mut mask = mask.map_err(|error| self.error(&error.to_string()))?;
        let may_end = mask.is_allowed(self.end);
        mask.disallow_token(self.end);
        let n_bits = mask.len();
        let is_in_mask = |token: &&u32| (**token as usize) < n_bits;
        for &token in self.stop_tokens.iter().filter(is_in_mask) {
            mask.disallow_token(token);
        }
        if may_end && !mask.is_zero() {
            for &token in self.stop_tokens.iter().filter(is_in_mask) {
                mask.allow_token(token);
            }
        }
        Ok(mask)
    }

    fn error(&self, error: &str) -> Error {
        Error::Grammar { kind: self.kind, reason: reason_of(&self.matcher, error) }
    }
}
