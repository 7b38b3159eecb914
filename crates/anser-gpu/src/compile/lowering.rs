//! From units to dispatches: what a rule sees when it makes the dispatches of a unit.

use super::choices::Choices;
use super::dispatch::{Binding, Dispatch, Extent};
use super::rule::{Pattern, Unit, Unlowered};
use super::schedule::{Region, Schedule};
use super::target::Target;
use crate::error::GpuError;
use crate::memory::layout::WeightLayout;
use anser_model::{Op, Plan, ValueId, WeightId};

/// A plan, its schedule, and where everything lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lowering<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) weights: &'a WeightLayout,
    pub(crate) schedule: &'a Schedule,
    pub(crate) target: Target,
    /// Where the shapes of kernels come from.
    pub(crate) choices: Choices<'a>,
}

/// Columns of a workgroup of elementwise kernels, one for each thread.
pub(crate) const ELEMENTS: u32 = 256;

/// The place of what is not in memory: `NOTHING` of `wgsl/place.wgsl`.
pub(crate) const NOTHING: u32 = u32::MAX;

impl<'a> Lowering<'a> {
    /// The dispatches of the whole plan in the order of execution, each with the index of its unit.
    ///
    /// # Errors
    /// [`GpuError::NoKernel`] for the first unit that its kernel cannot compute.
    pub(crate) fn dispatches(&self) -> Result<Vec<(usize, Dispatch)>, GpuError> {
        let mut all = vec![];
        for (i, unit) in self.schedule.units.iter().enumerate() {
            all.extend(self.unit(unit)?.into_iter().map(|dispatch| (i, dispatch)));
        }
        Ok(all)
    }

    /// The dispatches of a unit, in order.
    ///
    /// # Errors
    /// [`GpuError::NoKernel`] if its kernel does not reach an operand, or makes no dispatch.
    pub(crate) fn unit(&self, unit: &Unit) -> Result<Vec<Dispatch>, GpuError> {
        let failed = |Unlowered(reason)| GpuError::NoKernel {
            kernel: unit.rule.name,
            operations: unit.name(self.plan),
            reason: reason.into(),
        };
        let dispatches = (unit.rule.lower)(unit, self).map_err(failed)?;
        match unit.rule.pattern {
            Pattern::OnHost => Ok(dispatches),
            _ if dispatches.is_empty() => Err(failed(Unlowered("it makes no dispatch"))),
            Pattern::Op | Pattern::Independent { .. } | Pattern::Around(_) | Pattern::Units(_) => Ok(dispatches),
        }
    }

    /// The operation of a node.
    pub(crate) fn op(&self, node: usize) -> &'a Op {
        &self.plan.nodes[node].op
    }

    /// Columns of a value.
    pub(crate) fn n_cols(&self, id: ValueId) -> usize {
        self.plan.value(id).n_cols
    }

    /// A value in the only form that it is kept in: f32, or f16 that is all of its region.
    pub(crate) fn value(&self, id: ValueId) -> Binding {
        if self.schedule.is_in_halves(id) { Binding::Region(id) } else { Binding::Value(id) }
    }

    /// The buffer that a value is in.
    pub(crate) fn region(&self, id: ValueId) -> Option<Region> {
        self.schedule.cell(id).map(|cell| cell.region)
    }

    /// First byte of a value's f32 numbers in its region.
    ///
    /// # Errors
    /// If they are not in memory.
    pub(crate) fn floats(&self, id: ValueId) -> Result<u64, Unlowered> {
        self.schedule.cell(id).and_then(|cell| cell.floats).ok_or(Unlowered("an operand is not in memory as f32"))
    }

    /// First byte of a vector, a matrix or its row range in its buffer.
    ///
    /// # Errors
    /// If it is not among the weights on the device.
    pub(crate) fn offset(&self, weight: WeightId, split: usize) -> Result<u64, Unlowered> {
        let place = self.weights.place(weight, split);
        place.map(|place| place.offset).ok_or(Unlowered("a weight is not on the device"))
    }

    /// First word of a bias in its buffer; [`NOTHING`] if there is none.
    ///
    /// # Errors
    /// If it is not among the weights on the device.
    pub(crate) fn bias(&self, bias: Option<WeightId>) -> Result<u32, Unlowered> {
        bias.map_or(Ok(NOTHING), |id| Ok((self.offset(id, 0)? / 4) as u32))
    }

    /// `Place` of `wgsl/place.wgsl`: the first words of a value as f32, as bytes, of their scales, and as f16.
    pub(crate) fn place(&self, id: ValueId) -> [u32; 4] {
        let cell = self.schedule.cell(id);
        let floats = cell.and_then(|cell| cell.floats).map_or(NOTHING, |at| (at / 4) as u32);
        let [bytes, scales] = cell.and_then(|cell| cell.bytes).map_or([NOTHING; 2], |at| at.map(|at| (at / 4) as u32));
        // Halves are all of their region.
        let halves = if self.schedule.is_in_halves(id) { 0 } else { NOTHING };
        [floats, bytes, scales, halves]
    }

    /// Elements from the start of an operation's vector of `n_cols` to that of its next one.
    pub(crate) fn vector_stride(&self, n_cols: usize) -> f64 {
        self.weights.vector_stride(n_cols) as f64
    }

    /// One workgroup per row of a value.
    pub(crate) fn rows(&self, id: ValueId) -> Extent {
        Extent::Rows { rows: self.plan.value(id).rows, per_workgroup: 1 }
    }

    /// One workgroup per row of a value, and nothing else.
    pub(crate) fn by_rows(&self, id: ValueId) -> [Extent; 3] {
        [self.rows(id), Extent::Fixed(1), Extent::Fixed(1)]
    }

    /// Workgroups of [`ELEMENTS`] over the columns, and one per row.
    pub(crate) fn elementwise(&self, id: ValueId) -> [Extent; 3] {
        [Extent::Fixed((self.n_cols(id) as u32).div_ceil(ELEMENTS)), self.rows(id), Extent::Fixed(1)]
    }

    /// One workgroup per head and row.
    pub(crate) fn heads(&self, id: ValueId, head_size: usize) -> [Extent; 3] {
        [Extent::Fixed((self.n_cols(id) / head_size) as u32), self.rows(id), Extent::Fixed(1)]
    }
}
