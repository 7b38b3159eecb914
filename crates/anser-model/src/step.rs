//! What one call of an executor is asked to do.

use crate::plan::{Plan, ValueId};
use thiserror::Error;

/// Consecutive tokens of one sequence within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// State slot of the executor that the tokens read and write. Every sequence of a step has its own.
    pub slot: usize,
    /// How many of the step's tokens belong to it, at least 1.
    pub n_tokens: usize,
}

/// One forward pass over T tokens of B sequences.
///
/// The states of all sequences advance by their tokens. Operations on which neither `reads` nor the states depend (the
/// head, when [`Plan::logits`] is not among `reads`) are not run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Step<'a> {
    /// `[T]` token ids, sequence after sequence.
    pub tokens: &'a [u32],
    /// `[B]` sequences, in the order of their tokens.
    pub sequences: &'a [Sequence],
    /// `[O]` token rows (0 to T-1) that the values of [`Rows::Outputs`](crate::Rows::Outputs) are computed for.
    pub outputs: &'a [u32],
    /// Values to hand back: `[T, n]` or `[O, n]` each, f32, row after row.
    pub reads: &'a [ValueId],
    /// Contents of the plan's inputs (plans of whole models have none).
    pub inputs: &'a [(ValueId, &'a [f32])],
}

/// Why a step cannot be run.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// A token id that the vocabulary does not have.
    #[error("token id {id} at position {position} is out of range: the model's vocabulary has {n_vocab} tokens")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Index into the step's tokens.
        position: usize,
        /// V.
        n_vocab: usize,
    },
    /// The step contradicts itself; the message says how.
    #[error("malformed step: {0}")]
    Malformed(String),
}

impl Step<'_> {
    /// Checks the step against `plan` and the executor's state slots; `has_slot` tells which exist.
    pub fn check(&self, plan: &Plan, has_slot: impl Fn(usize) -> bool) -> Result<(), StepError> {
        let malformed = |why: String| Err(StepError::Malformed(why));
        if self.tokens.is_empty() {
            return malformed("no tokens".into());
        }
        let n_sequence_tokens = self.sequences.iter().try_fold(0usize, |n, s| n.checked_add(s.n_tokens));
        if n_sequence_tokens != Some(self.tokens.len()) || self.sequences.iter().any(|s| s.n_tokens == 0) {
            return malformed(format!("the sequences do not add up to {} tokens", self.tokens.len()));
        }
        for (i, s) in self.sequences.iter().enumerate() {
            if !has_slot(s.slot) {
                return malformed(format!("state slot {} does not exist", s.slot));
            }
            if self.sequences[..i].iter().any(|other| other.slot == s.slot) {
                return malformed(format!("state slot {} occurs twice", s.slot));
            }
        }
        if let Some(row) = self.outputs.iter().find(|&&row| row as usize >= self.tokens.len()) {
            return malformed(format!("output row {row} of {} tokens", self.tokens.len()));
        }
        let outside = |(_, id): &(usize, &u32)| **id as usize >= plan.n_vocab;
        if let Some((position, &id)) = self.tokens.iter().enumerate().find(outside) {
            return Err(StepError::TokenOutOfRange { id, position, n_vocab: plan.n_vocab });
        }
        if let Some(read) = self.reads.iter().find(|v| v.index() >= plan.values.len()) {
            return malformed(format!("value {read} does not exist"));
        }
        let shape = |v: ValueId| plan.value_len(v, self.tokens.len(), self.outputs.len());
        match self.inputs.iter().find(|(v, data)| v.index() >= plan.values.len() || data.len() != shape(*v)) {
            Some((v, data)) => malformed(format!("input {v} has {} numbers", data.len())),
            None => Ok(()),
        }
    }
}
