//! Steps whose products multiply halves, which hold no number beyond ±65504.
//!
//! Kernels turn a larger number into NaN (`wgsl/halves.wgsl`). NaN spreads to all that depends on it: to every logit and hidden
//! number of its token, and, through the states of the layers above, to all later tokens of the sequence. So it is enough to look
//! at one number per sequence after the step. Until then the step is an attempt: it leaves the states before it where they are.
//! An attempt that failed is forgotten, and the step is computed again in floats.

use crate::memory::state::{Passage, SlotId};
use crate::run::executor::Gpu;
use anser_model::{Op, Plan, StateRef, Step, ValueId};

/// Where the states of a step's sequences go while it is not known whether the step counts.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Per sequence: the way of its state.
    pub(crate) passages: Vec<Passage>,
    /// Per sequence: the slot whose row gets the new state; `None` where the old state is zero and needs no row.
    spares: Vec<Option<SlotId>>,
    /// Per sequence whose values the caller does not read: where the new state holds a number that tells.
    pub(crate) witnesses: Vec<Witness>,
}

/// A number of a state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Witness {
    /// The layer's part that it is in.
    pub(crate) part: StateRef,
    /// Its place in the part's buffer, in bytes.
    pub(crate) offset: u64,
}

impl Gpu {
    /// Prepares an attempt at `step`; `None` if there is no memory for its states.
    pub(crate) fn attempt(&mut self, step: &Step) -> Option<Attempt> {
        let mut attempt = Attempt { passages: vec![], spares: vec![], witnesses: vec![] };
        for sequence in step.sequences {
            if self.states.get(sequence.slot).is_some_and(|slot| slot.fresh) {
                attempt.spares.push(None);
                continue;
            }
            let spare = self.create_state().and_then(|spare| {
                if self.states.is_partial() {
                    self.copy_state(sequence.slot, spare)?;
                }
                Ok(spare)
            });
            match spare {
                Ok(spare) => attempt.spares.push(Some(spare)),
                Err(error) => {
                    log::info!("a step is computed in floats, as there is no room for a second state: {error}");
                    self.forget(attempt);
                    return None;
                }
            }
        }
        let passage = |(sequence, spare): (&anser_model::Sequence, &Option<SlotId>)| {
            let passage = self.states.in_place(sequence.slot);
            Passage { to_row: spare.map_or(passage.to_row, |spare| self.states.in_place(spare).to_row), ..passage }
        };
        attempt.passages = step.sequences.iter().zip(&attempt.spares).map(passage).collect();
        if let Some(part) = last_shift(&self.plan) {
            let told = told_by_reads(&self.plan, step);
            let untold = attempt.passages.iter().zip(told).filter(|(_, is_told)| !is_told);
            let witness = |(passage, _): (&Passage, bool)| Witness {
                part,
                offset: self.states.byte_range(part, passage.turned().from).start,
            };
            attempt.witnesses = untold.map(witness).collect();
        }
        Some(attempt)
    }

    /// The step counts: its states are those of the sequences.
    pub(crate) fn keep(&mut self, step: &Step, attempt: Attempt) {
        for (sequence, spare) in step.sequences.iter().zip(attempt.spares) {
            match spare {
                None => self.states.advance(sequence.slot),
                Some(spare) => {
                    self.states.exchange(sequence.slot, spare);
                    self.drop_state(spare);
                }
            }
        }
    }

    /// The step has not happened.
    pub(crate) fn forget(&mut self, attempt: Attempt) {
        attempt.spares.into_iter().flatten().for_each(|spare| self.drop_state(spare));
    }

    /// Whether the values that a step read show that a number was too large for a half.
    pub(crate) fn has_overflowed(&self, reads: &[ValueId], values: &[&[f32]]) -> bool {
        reads.iter().zip(values).any(|(&id, values)| {
            // Where one number of these rows is NaN, all are: a norm has gone over them.
            let stride = match [self.plan.logits, self.plan.hidden].contains(&Some(id)) {
                true => self.plan.value(id).n_cols.max(1),
                false => 1,
            };
            values.iter().step_by(stride).any(|x| !x.is_finite())
        })
    }
}

/// The state of the last token shift: it follows a norm over all that the layers below have computed.
fn last_shift(plan: &Plan) -> Option<StateRef> {
    plan.nodes.iter().rev().find_map(|node| match &node.op {
        Op::TokenShift { state, .. } => Some(*state),
        _ => None,
    })
}

/// Per sequence, whether logits or hidden numbers of its last token are read.
fn told_by_reads(plan: &Plan, step: &Step) -> Vec<bool> {
    let reads_outputs = step.reads.iter().any(|&id| [plan.logits, plan.hidden].contains(&Some(id)));
    let mut end = 0;
    let mut is_told = |sequence: &anser_model::Sequence| {
        end += sequence.n_tokens as u32;
        reads_outputs && step.outputs.contains(&(end - 1))
    };
    step.sequences.iter().map(&mut is_told).collect()
}
