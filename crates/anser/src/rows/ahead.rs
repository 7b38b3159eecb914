//! Verifies tokens that were proposed and read before they were drawn.

use super::{Chunk, Likelihood, Row, RowEvent, RowId, Rows, Task, show};
use crate::session::{Session, Want, Which};
use std::borrow::BorrowMut;

/// Tokens that may follow in a text.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) tokens: Vec<u32>,
    pub(super) by: Proposer,
}

/// What proposes tokens.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proposer {
    Lookup,
    Draft,
}

/// How many tokens were proposed for a text, and how many of them were drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proposals {
    /// The number of tokens that were proposed.
    pub n_proposed: usize,
    /// The number of these that were drawn in the same place.
    pub n_accepted: usize,
}

/// The way back of a row that reads proposed tokens.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The session without the tokens of the step.
    before: Session,
    n_proposed: usize,
    by: Proposer,
}

/// A row that has read tokens which were proposed.
#[derive(Debug)]
pub(super) struct Ahead {
    id: RowId,
    before: Session,
    by: Proposer,
    /// The last tokens of the text, which the step read first.
    pending: Vec<u32>,
    /// The tokens that were read behind them.
    proposed: Vec<u32>,
    /// The logits after the last pending token and after each proposed one, `[1 + n_proposed, V]`.
    logits: Vec<f32>,
}

impl Ahead {
    /// What is to be verified of a chunk whose tokens gave the rows `logits`, `[T, V]`; `None` if nothing was proposed.
    pub(super) fn of(chunk: Chunk, mut logits: Vec<f32>) -> Option<Ahead> {
        let Chunk { id, tokens: mut pending, attempt, .. } = chunk;
        let Attempt { before, n_proposed, by } = attempt?;
        let n_vocab = logits.len() / pending.len().max(1);
        let proposed = pending.split_off(pending.len() - n_proposed);
        let logits = logits.split_off((pending.len() - 1) * n_vocab);
        Some(Ahead { id, before, by, pending, proposed, logits })
    }
}

impl<S: BorrowMut<Session>> Row<S> {
    /// The tokens that a row which draws reads next: its last one, and what is proposed to follow.
    pub(super) fn chunk_of_text(&mut self, id: RowId, proposal: Option<Proposal>) -> Chunk {
        let mut tokens = self.session().pending().to_vec();
        // Without memory for a second state nothing is verified.
        let attempt = proposal.and_then(|Proposal { tokens: proposed, by }| match self.session().fork() {
            Ok(before) => {
                tokens.extend(&proposed);
                Some(Attempt { before, n_proposed: proposed.len(), by })
            }
            Err(_) => None,
        });
        let want = match attempt {
            Some(_) => Want { logits: Which::All, hidden: Which::None },
            None => Want::LOGITS,
        };
        Chunk { id, tokens, want, is_of_prompt: false, attempt }
    }
}

impl<S: BorrowMut<Session>> Rows<S> {
    /// Draws tokens as long as they are those that were proposed, and one more. If the session has read tokens that were not drawn, it
    /// goes back, and reads those that were with the next step.
    pub(super) fn verify(&mut self, ahead: Ahead, events: &mut Vec<RowEvent>) {
        let Ahead { id, mut before, by, pending, proposed, logits } = ahead;
        let n_vocab = logits.len() / (1 + proposed.len());
        let (mut drawn, mut ends_without_token) = (vec![], false);
        for (i, logits) in logits.chunks_exact(n_vocab).enumerate() {
            let Some(Task::Generate { text, n_top }) = self.rows.get_mut(&id).map(|row| &mut row.progress.task) else {
                return;
            };
            if text.end().is_some() || text.n_left() == 0 || text.is_cancelled() {
                break;
            }
            let token = match text.draw(logits) {
                Ok(Some(token)) => token,
                Ok(None) => {
                    ends_without_token = true;
                    show(id, text.complete(), text.end(), events);
                    break;
                }
                Err(error) => return self.fail(id, error, events),
            };
            let likelihood = n_top.map(|n| Likelihood::new(logits, token, n));
            let n_before = text.tokens().len();
            self.push(id, token, likelihood, events);
            if self.tokens(id).len() == n_before {
                // A stop token is no part of the text; a row that has failed draws nothing more.
                ends_without_token = true;
                break;
            }
            drawn.push(token);
            if proposed.get(i) != Some(&token) {
                break;
            }
        }
        let n_right = drawn.iter().zip(&proposed).take_while(|(drawn, proposed)| drawn == proposed).count();
        let Some((session, text)) = self.session_and_text(id) else { return };
        text.proposals.n_proposed += proposed.len();
        text.proposals.n_accepted += n_right;
        match by {
            Proposer::Lookup => text.lookup.iter_mut().for_each(|lookup| lookup.has_verified(proposed.len(), n_right)),
            Proposer::Draft => text.draft.iter_mut().for_each(|draft| draft.has_verified(proposed.len(), n_right)),
        }
        if drawn.len() > proposed.len() {
            // The last one drawn is pending, and all others were read.
        } else if n_right == proposed.len() && ends_without_token {
            session.set_pending(vec![]);
        } else {
            std::mem::swap(session, &mut before);
            session.set_pending([pending, drawn].concat());
        }
    }
}
