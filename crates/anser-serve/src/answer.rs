//! Turns an engine's events into the parts of answers. This runs in the engine's thread, so that a text ends in the step in which
//! its end was drawn.

use crate::calls::{CallDelta, CallReader, Split};
use crate::likelihoods::{Likelihoods, TokenInfo};
use crate::transcripts::Recorder;
use anser::chat::{ReplyParser, ReplyStep};
use anser::{CancelToken, Drawn, FinishReason, Piece};
use anser_engine::{Event, Failure, Saved, Usage};
use std::sync::Arc;

/// More of a text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Delta {
    /// More of the thought before the content.
    pub(crate) reasoning: String,
    pub(crate) content: String,
    /// More of the functions that it calls.
    pub(crate) calls: Vec<CallDelta>,
    /// The tokens of content and calls, if they were asked for.
    pub(crate) tokens: Vec<TokenInfo>,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The model ended it, or a stop text did.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
    /// It has called functions.
    Calls,
}

/// What a request gives.
#[derive(Debug)]
pub(crate) enum Update {
    Delta { choice: usize, delta: Delta },
    Ended { choice: usize, delta: Delta, end: End, n_reasoning: usize },
    Scored(Vec<TokenInfo>),
    Embedding(Vec<f32>),
    State(Arc<Saved>),
    Done(Usage),
    Failed(Failure),
}

/// Reads one text.
#[derive(Debug)]
pub(crate) struct TextReader {
    /// Splits an answer of a chat; `None` takes the text as it was drawn.
    parser: Option<ReplyParser>,
    /// Ends the text.
    cancel: CancelToken,
    likelihoods: Option<Likelihoods>,
    /// Finds calls in the content, if it may have any.
    calls: Option<CallReader>,
    /// Set when the parser has found the end.
    has_ended: bool,
    has_thought: bool,
    n_drawn: usize,
    /// The tokens up to the first one of the content.
    n_before_content: Option<usize>,
}

impl TextReader {
    /// `cancel` is that of the text's options.
    pub(crate) fn new(
        parser: Option<ReplyParser>,
        cancel: CancelToken,
        likelihoods: Option<Likelihoods>,
        calls: Option<CallReader>,
    ) -> TextReader {
        TextReader {
            parser,
            cancel,
            likelihoods,
            calls,
            has_ended: false,
            has_thought: false,
            n_drawn: 0,
            n_before_content: None,
        }
    }

    fn drawn(&mut self, drawn: &Drawn) {
        self.n_drawn += 1;
        if let Some(likelihoods) = self.likelihoods.as_mut().filter(|_| !self.has_ended) {
            likelihoods.drawn(drawn);
        }
    }

    fn piece(&mut self, piece: Piece) -> Delta {
        if self.has_ended {
            return Delta::default();
        }
        if let Some(likelihoods) = &mut self.likelihoods {
            likelihoods.piece(&piece.text, piece.bytes.len());
        }
        let step = match &mut self.parser {
            Some(parser) => parser.push(&piece.text),
            None => ReplyStep { content: piece.text, ..ReplyStep::default() },
        };
        if step.end.is_some() {
            self.has_ended = true;
            self.cancel.cancel();
        }
        self.delta(step)
    }

    fn ended(&mut self, reason: FinishReason) -> (Delta, End) {
        let has_called = self.calls.as_ref().is_some_and(|calls| calls.n_calls() > 0);
        let end = match reason {
            FinishReason::Length if !self.has_ended => End::Length,
            _ if has_called => End::Calls,
            _ => End::Stop,
        };
        let step = match (self.has_ended, &mut self.parser) {
            (false, Some(parser)) => parser.finish(),
            (true, _) | (false, None) => ReplyStep::default(),
        };
        let mut delta = self.delta(step);
        delta.content += &self.calls.as_mut().map(CallReader::finish).unwrap_or_default();
        if std::mem::replace(&mut self.has_ended, true) {
            return (delta, end);
        }
        if let (Some(likelihoods), End::Length) = (&mut self.likelihoods, end) {
            delta.tokens.extend(likelihoods.rest(self.has_thought));
        }
        (delta, end)
    }

    fn delta(&mut self, step: ReplyStep) -> Delta {
        let ReplyStep { reasoning, content, .. } = step;
        self.has_thought |= !reasoning.is_empty();
        if !content.is_empty() {
            self.n_before_content.get_or_insert(self.n_drawn);
        }
        let likelihoods = self.likelihoods.as_mut();
        let tokens = likelihoods.map(|likelihoods| likelihoods.show(content.len(), self.has_thought));
        let split = match &mut self.calls {
            Some(calls) => calls.push(&content),
            None => Split { content, calls: vec![] },
        };
        Delta { reasoning, content: split.content, calls: split.calls, tokens: tokens.unwrap_or_default() }
    }

    /// The tokens of the thought.
    fn n_reasoning(&self) -> usize {
        match (self.has_thought, self.n_before_content) {
            (true, Some(n)) => n.saturating_sub(1),
            (true, None) => self.n_drawn,
            (false, _) => 0,
        }
    }
}

/// Reads the events of one request.
#[derive(Debug)]
pub(crate) struct EventReader {
    /// One for each text that is generated.
    pub(crate) texts: Vec<TextReader>,
    /// Names the tokens of a prompt that is scored.
    pub(crate) tokenizer: Option<anser::Tokenizer>,
    /// Keeps the tokens of answers, if later prompts may go on from them.
    pub(crate) recorder: Option<Recorder>,
}

impl EventReader {
    /// For requests that generate nothing.
    pub(crate) fn without_texts() -> EventReader {
        EventReader { texts: vec![], tokenizer: None, recorder: None }
    }

    /// What an event changes for the client, if anything.
    pub(crate) fn read(&mut self, event: Event) -> Option<Update> {
        match event {
            Event::Started { .. } => None,
            Event::Token { choice, drawn } => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.drawn(choice, drawn.id);
                }
                self.texts.get_mut(choice)?.drawn(&drawn);
                None
            }
            Event::Text { choice, piece } => {
                let delta = self.texts.get_mut(choice)?.piece(piece);
                (delta != Delta::default()).then_some(Update::Delta { choice, delta })
            }
            Event::Ended { choice, reason, .. } => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.ended(choice);
                }
                let text = self.texts.get_mut(choice)?;
                let (delta, end) = text.ended(reason);
                Some(Update::Ended { choice, delta, end, n_reasoning: text.n_reasoning() })
            }
            Event::Scored(scores) => {
                let tokenizer = self.tokenizer.as_ref()?;
                let info = |score: &anser::Likelihood| TokenInfo::new(tokenizer, score);
                Some(Update::Scored(scores.iter().flatten().map(info).collect()))
            }
            Event::Embedding(embedding) => Some(Update::Embedding(embedding)),
            Event::State(saved) => Some(Update::State(saved)),
            Event::Done(usage) => Some(Update::Done(usage)),
            Event::Failed(failure) => Some(Update::Failed(failure)),
        }
    }
}
