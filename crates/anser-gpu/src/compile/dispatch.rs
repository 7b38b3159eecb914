//! One run of a kernel as plain data: which kernel, what it binds, how many workgroups.
//!
//! Lowering makes dispatches out of ids of the plan and touches no device, so that every lowering can be inspected where there
//! is no GPU.

use super::choices::Choice;
use crate::device::kernel::{Access, KernelSpec};
use crate::memory::layout::{WeightLayout, WeightPlace};
use anser_model::{Rows, StateRef, ValueId, WeightId};
use std::sync::Arc;

/// What a dispatch binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// `array<f32>`, a value of the plan, `[T, n]` or `[O, n]`.
    Value(ValueId),
    /// The whole buffer that a value is in, for kernels that reach several results of a unit by their offsets.
    Region(ValueId),
    /// `array<f32>`, a vector of the plan.
    Vector(WeightId),
    /// `array<f32>`, the vectors of an operation from `first` to `last`, each starting
    /// [`WeightLayout::vector_stride`] elements after the one before.
    Vectors {
        /// The first.
        first: WeightId,
        /// The last.
        last: WeightId,
    },
    /// A matrix, or its row range `split`, as its layout has it.
    Matrix {
        /// The matrix.
        weight: WeightId,
        /// Which of its row ranges; 0 if it is in one piece.
        split: usize,
    },
    /// The whole buffer that a vector, a matrix or its row range is in, for kernels that reach several weights of a layer by
    /// their offsets.
    Block {
        /// The vector or matrix.
        weight: WeightId,
        /// Which of its row ranges; 0 if it is in one piece.
        split: usize,
    },
    /// `array<f32>`, one layer's part of the state, `[slots, part]`; token-shift parts are `[slots, 2, C]`, see
    /// `wgsl/step.wgsl`.
    State(StateRef),
    /// Uniform `Step` of `wgsl/step.wgsl`.
    Step,
    /// `array<Sequence>` of `wgsl/step.wgsl`, `[B]`.
    Sequences,
    /// `array<Token>` of `wgsl/step.wgsl`, `[T]`.
    Tokens,
    /// `array<u32>`, the token row of every output, `[O]`.
    Outputs,
    /// Uniform `vec4<u32>`s: sizes and offsets that differ between dispatches of one pipeline.
    Constants(Arc<[u32]>),
    /// Memory between two dispatches of one operation; equal descriptions share it.
    Scratch {
        /// Name that keeps buffers apart which must not be shared.
        name: &'static str,
        /// Kind of rows.
        rows: Rows,
        /// Bytes per row, a multiple of 4.
        row_n_bytes: usize,
        /// Number of the operation among those that run side by side, which must not share it.
        product: usize,
    },
    /// Memory for a matrix in halves, between the dispatch that writes it and the one that multiplies it.
    Expanded {
        /// Its size.
        n_bytes: usize,
        /// Number of the matrix's row range.
        split: usize,
        /// As in [`Binding::Scratch`].
        product: usize,
    },
}

/// What a grid dimension grows with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Extent {
    /// This number of workgroups in every step.
    Fixed(u32),
    /// One workgroup for every `per_workgroup` rows of a kind: T or O.
    Rows {
        /// Kind of rows.
        rows: Rows,
        /// Rows that one workgroup covers, at least 1.
        per_workgroup: u32,
    },
    /// One workgroup per sequence: B.
    Sequences,
}

/// One run of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dispatch {
    /// The kernel.
    pub(crate) kernel: KernelSpec,
    /// `@group(0) @binding(i)`, as many as `kernel.access`.
    pub(crate) bindings: Vec<Binding>,
    /// Workgroups in x, y, z.
    pub(crate) grid: [Extent; 3],
    /// Bytes that it reads of [`Binding::Block`]s.
    pub(crate) n_weight_bytes: u64,
    /// Where its kernel's shape comes from, if there are several.
    pub(crate) choice: Option<Choice>,
}

impl Binding {
    /// Where it lies among the weights of a plan; `None` if it binds no weights.
    pub(crate) fn weights(&self, layout: &WeightLayout) -> Option<WeightPlace> {
        match *self {
            Binding::Vector(id) => layout.place(id, 0),
            Binding::Vectors { first, last } => layout.vectors(first, last),
            Binding::Matrix { weight, split } | Binding::Block { weight, split } => layout.place(weight, split),
            Binding::Value(_)
            | Binding::Region(_)
            | Binding::State(_)
            | Binding::Step
            | Binding::Sequences
            | Binding::Tokens
            | Binding::Outputs
            | Binding::Constants(_)
            | Binding::Scratch { .. }
            | Binding::Expanded { .. } => None,
        }
    }
}

impl KernelSpec {
    /// A run of the kernel on `bindings`, as many as it declares, over `grid` workgroups.
    pub(crate) fn dispatch(self, bindings: Vec<Binding>, grid: [Extent; 3]) -> Dispatch {
        debug_assert_eq!(self.access.len(), bindings.len(), "{}", self.label);
        Dispatch { kernel: self, bindings, grid, n_weight_bytes: 0, choice: None }
    }
}

impl Dispatch {
    /// Its bindings that the kernel uses in one way.
    pub(crate) fn accessed(&self, access: Access) -> impl Iterator<Item = &Binding> {
        self.kernel.access.iter().zip(&self.bindings).filter(move |(found, _)| **found == access).map(|(_, b)| b)
    }
}
