//! Where a step's values are.

use crate::schedule::Schedule;
use anser_model::{Plan, Rows, Step, ValueId, Weight, WeightId};

/// The activations of a step, and the weights that they meet.
pub(crate) struct Values<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) schedule: &'a Schedule,
    /// Per weight: its elements if it is a vector, else empty.
    pub(crate) vectors: &'a [Vec<f32>],
    /// The schedule's buffers.
    pub(crate) buffers: &'a mut [Vec<f32>],
}

impl Values<'_> {
    /// A value, row after row.
    pub(crate) fn get(&self, id: ValueId) -> &[f32] {
        &self.buffers[self.schedule.buffer(id)]
    }

    /// Columns of a value.
    pub(crate) fn n_cols(&self, id: ValueId) -> usize {
        self.plan.value(id).n_cols
    }

    /// A weight.
    pub(crate) fn weight(&self, id: WeightId) -> &Weight {
        self.plan.weight(id)
    }

    /// A weight that is a vector.
    pub(crate) fn vector(&self, id: WeightId) -> &[f32] {
        &self.vectors[id.index()]
    }

    /// Takes the memory for `id` out of its place, so that other values can be read while it is written.
    pub(crate) fn take(&mut self, id: ValueId, step: &Step) -> Vec<f32> {
        let value = self.plan.value(id);
        let n_rows = match value.rows {
            Rows::Tokens => step.tokens.len(),
            Rows::Outputs => step.outputs.len(),
        };
        let mut buffer = std::mem::take(&mut self.buffers[self.schedule.buffer(id)]);
        buffer.resize(n_rows * value.n_cols, 0.0);
        buffer
    }

    /// Puts what [`Values::take`] gave back, written.
    pub(crate) fn put(&mut self, id: ValueId, buffer: Vec<f32>) {
        self.buffers[self.schedule.buffer(id)] = buffer;
    }
}
