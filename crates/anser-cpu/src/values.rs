//! The memory of a step's values.

use crate::schedule::Schedule;
use anser_model::{Plan, Rows, Step, ValueId, Weight, WeightId};

/// The activations of a step, and the weights of the model.
pub(crate) struct Values<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) schedule: &'a Schedule,
    /// For each weight, its elements if it is a vector, else none.
    pub(crate) vectors: &'a [Vec<f32>],
    /// The buffers that the schedule gives to values.
    pub(crate) buffers: &'a mut [Vec<f32>],
}

impl Values<'_> {
    /// The elements of a value, row after row.
    pub(crate) fn get(&self, id: ValueId) -> &[f32] {
        &self.buffers[self.schedule.buffer(id)]
    }

    /// The number of columns of a value.
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

    /// Takes the buffer of the value `id`, long enough for the step, so that other values can be read while it is written.
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

    /// Gives the buffer that [`Values::take`] returned back, with the elements of the value in it.
    pub(crate) fn put(&mut self, id: ValueId, buffer: Vec<f32>) {
        self.buffers[self.schedule.buffer(id)] = buffer;
    }
}
