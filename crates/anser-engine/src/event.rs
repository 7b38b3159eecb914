//! What requests give.

use anser::{Drawn, FinishReason, Likelihood, Piece, State};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Something that a request gives. [`Event::Done`] or [`Event::Failed`] is the last one.
#[derive(Debug)]
pub enum Event {
    /// The request has left the queue and has its place on the device.
    Started {
        /// The number of tokens of the prompt whose state was cached, so that they are not read again.
        n_cached: usize,
    },
    /// A token was drawn.
    Token {
        /// The index of the text among the request's choices.
        choice: usize,
        /// The token.
        drawn: Drawn,
    },
    /// More of a text is certain.
    Text {
        /// The index of the text among the request's choices.
        choice: usize,
        /// The piece.
        piece: Piece,
    },
    /// A text has ended.
    Ended {
        /// The index of the text among the request's choices.
        choice: usize,
        /// The reason.
        reason: FinishReason,
        /// The state after the text, if the request asked for it.
        state: Option<Arc<Saved>>,
    },
    /// The log-probabilities of the next tokens of the prompt, in order; `None` for a token with no logits before it.
    Scored(Vec<Option<Likelihood>>),
    /// The embedding `[C]` of the prompt, or those `[n, C]` of the texts.
    Embedding(Vec<f32>),
    /// The state after the prompt.
    State(Arc<Saved>),
    /// The request is complete.
    Done(Usage),
    /// The request has ended without what it asked for; texts that have ended are complete.
    Failed(Failure),
}

/// A state in main memory, from which a request can start.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The state.
    pub state: State,
    /// The logits `[V]` of the token that led to it; empty if they are not known.
    pub logits: Vec<f32>,
}

/// The tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The tokens of the prompt.
    pub n_prompt: usize,
    /// Those of them whose state was cached.
    pub n_cached: usize,
    /// The tokens drawn for all texts, stop tokens not counted.
    pub n_generated: usize,
}

/// The reason for which a request failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The model cannot go on: it computed numbers that are not finite, all tokens were forbidden, or a file of it was changed.
    #[error(transparent)]
    Model(#[from] anser::Error),
    /// It waited longer than [`Limits::max_wait`](crate::Limits::max_wait).
    #[error("the request waited {} s for a place on the device: try again later", waited.as_secs())]
    Waited {
        /// The time that it waited.
        waited: Duration,
    },
    /// Its deadline has passed.
    #[error("the request's deadline has passed")]
    Deadline,
    /// Its events were not taken for longer than [`Limits::max_parked`](crate::Limits::max_parked).
    #[error("the request was ended, since its events were not taken for {} s", parked.as_secs())]
    NotTaken {
        /// The time that an event waited.
        parked: Duration,
    },
    /// The device was lost or a step panicked.
    #[error("the device failed: {reason}; try again")]
    DeviceLost {
        /// What is known of it.
        reason: String,
    },
    /// A step failed for all that took part in it.
    #[error("{reason}")]
    Step {
        /// What is known of it.
        reason: String,
    },
    /// The engine ends.
    #[error("the engine is shutting down")]
    Draining,
}
