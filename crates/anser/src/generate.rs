//! Generation: an iterator that samples, streams text and knows when to end. One text is generated as several are, side
//! by side.

mod side_by_side;
mod text;

use crate::error::Error;
use crate::sampler::SamplerOptions;
use crate::session::Session;
pub use side_by_side::Generations;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The token that ends a document, and that an empty prompt starts from.
pub const END_OF_TEXT: u32 = 0;

/// Ends a generation from another thread or a signal handler. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks the generation to end before its next token.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes the token usable again.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// How to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How tokens are drawn.
    pub sampler: SamplerOptions,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Texts that end the generation; they are not part of the text.
    pub stop: Vec<String>,
    /// Token ids that end the generation; they are neither part of the text nor read.
    pub stop_tokens: Vec<u32>,
    /// Ends the generation from outside.
    pub cancel: CancelToken,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            sampler: SamplerOptions::default(),
            max_tokens: usize::MAX,
            stop: vec![],
            stop_tokens: vec![END_OF_TEXT],
            cancel: CancelToken::default(),
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended the document, or drew another stop token.
    StopToken(u32),
    /// The stop text of this index appeared.
    StopText(usize),
    /// The model ended its turn of a conversation.
    TurnEnd,
    /// As many tokens as were asked for.
    Length,
    /// Cancelled.
    Cancelled,
}

impl FinishReason {
    /// `stop`, `length` or `cancelled`.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::StopToken(_) | FinishReason::StopText(_) | FinishReason::TurnEnd => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

/// A piece of generated text: whole characters, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Piece {
    /// The text; bytes that are not UTF-8 are replaced by U+FFFD.
    pub text: String,
    /// The bytes of the tokens that this text stands for: those of `text`, but for what is not UTF-8.
    pub bytes: Vec<u8>,
}

/// Text being generated: iterate for its pieces. Dropping it early leaves the session after the last drawn token.
#[derive(Debug)]
pub struct Generation<'a>(Generations<'a>);

impl Session {
    /// Reads `prompt` and generates what follows. An empty prompt goes on from the session's tokens; in a fresh session
    /// it starts from token 0.
    ///
    /// # Errors
    /// Options out of range, ids out of range; [`Error::Cancelled`] while the prompt is read.
    pub fn generate(&mut self, prompt: &[u32], options: &GenerateOptions) -> Result<Generation<'_>, Error> {
        let model = self.model().clone();
        Generations::start(model, vec![(self, prompt)], slice::from_ref(options)).map(Generation)
    }

    /// [`Session::generate`] for a prompt in text.
    ///
    /// # Errors
    /// As [`Session::generate`].
    pub fn generate_text(
        &mut self,
        prompt: impl AsRef<[u8]>,
        options: &GenerateOptions,
    ) -> Result<Generation<'_>, Error> {
        let prompt = self.model().encode(prompt)?;
        self.generate(&prompt, options)
    }
}

impl Generation<'_> {
    /// Why it ended; `None` while it goes on.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.0.finish_reason(0)
    }

    /// All tokens drawn so far, but for a stop token.
    pub fn tokens(&self) -> &[u32] {
        self.0.tokens(0)
    }

    /// The bytes of all tokens drawn so far.
    pub(crate) fn text_bytes(&self) -> Vec<u8> {
        self.0.only().map_or(vec![], |text| text.bytes())
    }

    /// Takes the last `n_bytes` bytes off the token that has been drawn but not read; `false` if it has no more than
    /// those.
    pub(crate) fn shorten_pending(&mut self, n_bytes: usize) -> bool {
        self.0.only_mut().is_some_and(|text| text.shorten_pending(n_bytes))
    }

    /// Runs to the end and returns the whole text.
    ///
    /// # Errors
    /// The first error of any piece.
    pub fn text(&mut self) -> Result<String, Error> {
        self.map(|piece| piece.map(|p| p.text)).collect()
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(_, piece)| piece))
    }
}
