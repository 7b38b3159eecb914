//! The order in which a plan's operations run on threads, and the buffers of their values.
//!
//! An operation belongs to the first wave in which all of its inputs are ready; operations of one wave do not depend on
//! each other. The matrix products of a wave run as one parallel region: seven and four of an RWKV-7 layer's thirteen.

use anser_model::{Plan, Rows, ValueId};

/// The waves of a plan, and a buffer for each of its values.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// For each wave, the indices of its nodes.
    pub(crate) waves: Vec<Vec<usize>>,
    /// For each value, its buffer. Values that are never alive in the same wave may share one.
    buffers: Vec<usize>,
    pub(crate) n_buffers: usize,
}

impl Schedule {
    pub(crate) fn new(plan: &Plan) -> Schedule {
        let n_values = plan.values.len();
        // For each value, the wave that writes it and the last wave that reads it. Inputs of the plan exist before the
        // first wave.
        let (mut written, mut last_read) = (vec![None; n_values], vec![0; n_values]);
        let mut waves: Vec<Vec<usize>> = vec![];
        for (i, node) in plan.nodes.iter().enumerate() {
            let inputs = node.op.inputs();
            let wave = inputs.iter().filter_map(|id| written[id.index()]).map(|w: usize| w + 1).max().unwrap_or(0);
            if waves.len() <= wave {
                waves.resize(wave + 1, vec![]);
            }
            waves[wave].push(i);
            for id in inputs {
                last_read[id.index()] = wave.max(last_read[id.index()]);
            }
            for id in node.op.outputs() {
                written[id.index()] = Some(wave);
                last_read[id.index()] = wave.max(last_read[id.index()]);
            }
        }
        let (buffers, n_buffers) = assign_buffers(plan, &waves, &written, &last_read);
        Schedule { waves, buffers, n_buffers }
    }

    /// The buffer of a value.
    pub(crate) fn buffer(&self, id: ValueId) -> usize {
        self.buffers[id.index()]
    }
}

/// Gives every value the first buffer of its size whose value has been read for the last time in an earlier wave.
fn assign_buffers(
    plan: &Plan,
    waves: &[Vec<usize>],
    written: &[Option<usize>],
    last_read: &[usize],
) -> (Vec<usize>, usize) {
    let mut assigned: Vec<Option<usize>> = vec![None; plan.values.len()];
    // For each buffer, the rows and columns of its values, and the last wave that reads it.
    let mut buffers: Vec<(Rows, usize, usize)> = vec![];
    for (id, _) in written.iter().enumerate().filter(|(_, w)| w.is_none()) {
        assigned[id] = Some(buffers.len());
        buffers.push((plan.values[id].rows, plan.values[id].n_cols, usize::MAX));
    }
    for (wave, nodes) in waves.iter().enumerate() {
        for id in nodes.iter().flat_map(|&i| plan.nodes[i].op.outputs()) {
            let value = plan.value(id);
            let fits = |&(rows, n_cols, last): &(Rows, usize, usize)| {
                rows == value.rows && n_cols == value.n_cols && last < wave
            };
            let buffer = buffers.iter().position(fits).unwrap_or(buffers.len());
            if buffer == buffers.len() {
                buffers.push((value.rows, value.n_cols, 0));
            }
            buffers[buffer].2 = last_read[id.index()];
            assigned[id.index()] = Some(buffer);
        }
    }
    let n_buffers = buffers.len();
    (assigned.into_iter().flatten().collect(), n_buffers)
}
