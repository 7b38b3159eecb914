//! Generation: an iterator that samples, streams text and knows when to end.

use crate::error::Error;
use crate::sampler::{Sampler, SamplerOptions};
use crate::session::{Session, Want};
use crate::stop::StopMatcher;
use anser_gpu::Drawing;
use anser_tokenizer::{Tokenizer, Utf8Stream};
use std::ops::ControlFlow;
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
pub struct Piece {
    /// The text.
    pub text: String,
}

/// Text being generated: iterate for its pieces. Dropping it early leaves the session after the last drawn token.
#[derive(Debug)]
pub struct Generation<'a> {
    session: &'a mut Session,
    tokenizer: Tokenizer,
    sampler: Sampler,
    stop: StopMatcher,
    decoder: Utf8Stream,
    options: GenerateOptions,
    tokens: Vec<u32>,
    finished: Option<FinishReason>,
    failed: bool,
    place: Place,
}

/// Where tokens are drawn.
#[derive(Debug)]
enum Place {
    /// On the host, until it is known whether the device can.
    Open,
    /// On the device, which goes on while the host looks at what came last.
    Device(Box<Drawing>),
    /// On the host.
    Host,
}

/// Setting a device up to draw takes about as long as so many tokens gain by it.
const MIN_DEVICE_TOKENS: usize = 8;

impl Session {
    /// Reads `prompt` and generates what follows. An empty prompt goes on from the session's tokens; in a fresh session
    /// it starts from token 0.
    ///
    /// # Errors
    /// Options out of range, ids out of range; [`Error::Cancelled`] while the prompt is read.
    pub fn generate(&mut self, prompt: &[u32], options: &GenerateOptions) -> Result<Generation<'_>, Error> {
        let tokenizer = self.model().tokenizer()?.clone();
        let n_vocab = self.model().config().n_vocab;
        options.sampler.validate(n_vocab)?;
        let uncounted = crate::sampler::uncounted_tokens(&tokenizer);
        let sampler = Sampler::new(options.sampler.clone(), uncounted);
        let stop = StopMatcher::new(options.stop.clone())
            .map_err(|e| Error::Option { option: "stop", reason: e.to_string() })?;
        let prompt = if prompt.is_empty() && self.is_fresh() { &[END_OF_TEXT] } else { prompt };
        if prompt.is_empty() && self.pending().is_empty() && self.logits().is_empty() {
            let reason = "a restored state needs at least one token to go on from".into();
            return Err(Error::Option { option: "prompt", reason });
        }
        let cancel = options.cancel.clone();
        let progress = |_, _| if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        if !prompt.is_empty() || !self.pending().is_empty() {
            self.feed_for(prompt, Want::LOGITS, progress)?;
        }
        Ok(Generation {
            session: self,
            tokenizer,
            sampler,
            stop,
            decoder: Utf8Stream::new(),
            options: options.clone(),
            tokens: vec![],
            finished: None,
            failed: false,
            place: Place::Open,
        })
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
        self.finished
    }

    /// All tokens drawn so far, but for a stop token.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The bytes of all tokens drawn so far.
    pub(crate) fn text_bytes(&self) -> Vec<u8> {
        self.tokens.iter().flat_map(|&t| self.tokenizer.token_bytes(t).unwrap_or_default()).copied().collect()
    }

    /// Takes the last `n_bytes` bytes off the token that has been drawn but not read; `false` if it has no more than
    /// those.
    pub(crate) fn shorten_pending(&mut self, n_bytes: usize) -> bool {
        let Some(&[token]) = self.session.pending().first_chunk() else { return false };
        let bytes = self.tokenizer.token_bytes(token).unwrap_or_default();
        let Some(kept) = bytes.len().checked_sub(n_bytes).filter(|&n| n > 0 && n_bytes > 0) else { return false };
        let pending = self.tokenizer.encode(&bytes[..kept]);
        self.session.set_pending(pending);
        true
    }

    /// Runs to the end and returns the whole text.
    ///
    /// # Errors
    /// The first error of any piece.
    pub fn text(&mut self) -> Result<String, Error> {
        self.map(|piece| piece.map(|p| p.text)).collect()
    }

    /// Draws tokens until there is text to show or the end is reached.
    fn advance(&mut self) -> Result<Option<String>, Error> {
        let mut text = String::new();
        while text.is_empty() && self.finished.is_none() {
            if self.options.cancel.is_cancelled() {
                text += &self.finish(FinishReason::Cancelled);
            } else if self.tokens.len() >= self.options.max_tokens {
                text += &self.finish(FinishReason::Length);
            } else {
                text += &self.draw()?;
            }
        }
        if self.finished.is_some() {
            self.leave_device()?;
        }
        Ok(Some(text).filter(|t| !t.is_empty()))
    }

    /// Draws one token and returns the text that has become certain by it.
    fn draw(&mut self) -> Result<String, Error> {
        let token = match self.draw_on_device()? {
            Some(token) => token,
            None => {
                self.session.flush()?; // reads the token before
                self.sampler.sample(self.session.logits())?
            }
        };
        if self.options.stop_tokens.contains(&token) {
            return Ok(self.finish(FinishReason::StopToken(token)));
        }
        self.sampler.accept(token);
        self.session.set_pending(vec![token]);
        self.tokens.push(token);
        let piece = self.decoder.push(self.tokenizer.token_bytes(token).unwrap_or_default());
        let step = self.stop.push(piece);
        if let Some(hit) = step.hit {
            self.finished = Some(FinishReason::StopText(hit));
        }
        Ok(step.emit)
    }

    /// Lets the device read the token before and draw the next one; `None` if the host has to.
    fn draw_on_device(&mut self) -> Result<Option<u32>, Error> {
        let (n_left, &[last]) = (self.options.max_tokens - self.tokens.len(), self.session.pending()) else {
            return Ok(None); // the first token comes from the prompt's logits
        };
        let model = self.session.model().clone();
        if matches!(self.place, Place::Open) {
            let drawing = match n_left < MIN_DEVICE_TOKENS {
                true => None,
                false => model.executor().start_drawing(self.session.slot(), last, &self.sampler)?,
            };
            self.place = drawing.map_or(Place::Host, |drawing| Place::Device(Box::new(drawing)));
        }
        let Place::Device(drawing) = &mut self.place else { return Ok(None) };
        let token = model.executor().draw(drawing, n_left > 1)?;
        self.session.pending_was_read();
        match token {
            Some(_) => self.sampler.skip(),
            None => self.leave_device()?, // the host says what is wrong with the logits
        }
        Ok(token)
    }

    /// Draws on the host from now on; the session has its logits again.
    fn leave_device(&mut self) -> Result<(), Error> {
        if let Place::Device(drawing) = std::mem::replace(&mut self.place, Place::Host) {
            let logits = self.session.model().executor().finish_drawing(*drawing)?;
            if !logits.is_empty() {
                self.session.set_logits(logits);
            }
        }
        Ok(())
    }

    /// Ends the generation; returns the text that was held back.
    fn finish(&mut self, reason: FinishReason) -> String {
        self.finished = Some(reason);
        let step = self.stop.push(self.decoder.finish());
        match step.hit {
            Some(hit) => {
                self.finished = Some(FinishReason::StopText(hit));
                step.emit
            }
            None => step.emit + &self.stop.finish(),
        }
    }
}

impl Drop for Generation<'_> {
    /// The session goes on after the last drawn token, whatever the device did ahead.
    fn drop(&mut self) {
        // A device that fails here fails again at the session's next call, which can say so.
        let _ = self.leave_device();
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.advance();
        self.failed = step.is_err();
        step.map(|text| text.map(|text| Piece { text })).transpose()
    }
}
