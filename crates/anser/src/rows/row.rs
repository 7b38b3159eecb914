//! A sequence of a batch: its session, the tokens that it has yet to read, and what it does then.

use crate::error::Error;
use crate::generate::{FinishReason, GenerateOptions, Text};
use crate::model::Model;
use crate::session::{Session, Want, Which};
use anser_model::State;
use std::borrow::BorrowMut;

/// What a row does with its tokens.
#[derive(Debug, Clone)]
pub enum RowTask {
    /// Reads them, for the state and, if they are wanted, the logits of the last one, which take a product with the whole vocabulary.
    Read {
        /// Whether the session shall have logits.
        wants_logits: bool,
    },
    /// Reads them and generates the text that follows.
    Generate {
        /// The options of the generation.
        options: GenerateOptions,
        /// The number of most likely tokens to report with the log-probability of each token drawn; `None` reports
        /// neither. The host draws for a row that reports them.
        n_top: Option<usize>,
    },
    /// Reads them and reports the log-probability of each.
    Score {
        /// The number of most likely tokens to report for each token.
        n_top: usize,
    },
}

/// A sequence outside of a batch, which [`Rows::take`](crate::Rows::take) returns: it can be put back, be stored in main
/// memory, or end.
#[derive(Debug)]
pub struct Row<S: BorrowMut<Session> = Session> {
    pub(super) session: S,
    pub(super) progress: Progress,
}

/// A [`Row`] in main memory, which takes no slot of the device.
#[derive(Debug)]
pub struct StoredRow {
    state: State,
    /// The last token's logits, `[V]`; empty where they are not known.
    logits: Vec<f32>,
    n_tokens: usize,
    progress: Progress,
}

/// How far a row has come.
#[derive(Debug)]
pub(super) struct Progress {
    /// What the row reads first: the tokens that the session had pending, then the prompt.
    pub(super) prompt: Vec<u32>,
    /// The number of these that it has read.
    pub(super) n_read: usize,
    pub(super) task: Task,
}

#[derive(Debug)]
pub(super) enum Task {
    Read {
        wants_logits: bool,
    },
    Generate {
        text: Box<Text>,
        n_top: Option<usize>,
    },
    /// `n_unscored` tokens of the prompt were the session's pending ones.
    Score {
        n_top: usize,
        n_unscored: usize,
    },
}

impl<S: BorrowMut<Session>> Row<S> {
    /// The session, which has read all of the row's tokens but the pending ones and the rest of an unfinished prompt.
    pub fn into_session(self) -> S {
        self.session
    }

    pub(super) fn session(&self) -> &Session {
        self.session.borrow()
    }

    pub(super) fn session_mut(&mut self) -> &mut Session {
        self.session.borrow_mut()
    }

    pub(super) fn text(&self) -> Option<&Text> {
        match &self.progress.task {
            Task::Generate { text, .. } => Some(text),
            Task::Read { .. } | Task::Score { .. } => None,
        }
    }

    /// Its session and its text, if it generates one.
    pub(super) fn session_and_text(&mut self) -> Option<(&mut Session, &mut Text)> {
        match &mut self.progress.task {
            Task::Generate { text, .. } => Some((self.session.borrow_mut(), text)),
            Task::Read { .. } | Task::Score { .. } => None,
        }
    }

    /// The tokens of the prompt that it has yet to read.
    pub(super) fn unread(&self) -> &[u32] {
        &self.progress.prompt[self.progress.n_read..]
    }

    /// Whether it has read its prompt and generates a text that has not ended.
    pub(super) fn draws(&self) -> bool {
        self.unread().is_empty() && self.text().is_some_and(|text| text.end().is_none())
    }

    /// The reason for which its text ended.
    pub(super) fn end(&self) -> Option<FinishReason> {
        self.text().and_then(Text::end)
    }

    /// The outputs that it wants of the next `n_tokens` tokens of its prompt.
    pub(super) fn wanted_of_prompt(&self, n_tokens: usize) -> Want {
        let is_last = n_tokens == self.unread().len();
        match self.progress.task {
            Task::Score { .. } => Want { logits: Which::All, hidden: Which::None },
            Task::Read { wants_logits: true } | Task::Generate { .. } if is_last => Want::LOGITS,
            Task::Read { .. } | Task::Generate { .. } => Want::NOTHING,
        }
    }

    /// Notes that the session has read the next `n_tokens` tokens of its prompt.
    pub(super) fn has_read(&mut self, n_tokens: usize) {
        let session = self.session.borrow_mut();
        let pending = session.pending();
        session.set_pending(pending[n_tokens.min(pending.len())..].to_vec());
        self.progress.n_read += n_tokens;
    }
}

impl Row<Session> {
    /// Copies the row to main memory and frees its slot of the device. The tokens that it draws after
    /// [`StoredRow::restore`] are those that it would have drawn without, unless rounding decides between two.
    ///
    /// # Errors
    /// If the device fails, or the state is not finite. The row has ended then.
    pub fn store(mut self) -> Result<StoredRow, Error> {
        // Reading the state reads pending tokens first.
        let n_pending = self.session.pending().len();
        let n_unread = self.unread().len();
        let state = self.session.state()?;
        self.progress.n_read += n_pending.min(n_unread);
        let tokens = [self.session.recent(), self.unread()].concat();
        if let Task::Generate { text, .. } = &mut self.progress.task {
            text.draft.iter_mut().for_each(|draft| draft.free_states(tokens.clone()));
        }
        let (logits, n_tokens) = (self.session.logits().to_vec(), self.session.n_tokens());
        Ok(StoredRow { state, logits, n_tokens, progress: self.progress })
    }
}

impl StoredRow {
    /// The row in a slot of the device of `model`, which is the model that it was stored from or another load of its
    /// files.
    ///
    /// # Errors
    /// The stored row, with the reason: no memory for another state, another model, or a device that fails.
    pub fn restore(self, model: &Model) -> Result<Row, (Box<StoredRow>, Error)> {
        let session = model.session().and_then(|mut session| {
            session.resume(&self.state, &self.logits)?;
            session.set_n_tokens(self.n_tokens);
            Ok(session)
        });
        match session {
            Ok(session) => Ok(Row { session, progress: self.progress }),
            Err(error) => Err((Box::new(self), error)),
        }
    }

    /// The bytes of its state and logits.
    pub fn n_bytes(&self) -> usize {
        4 * (self.state.data().len() + self.logits.len())
    }
}
