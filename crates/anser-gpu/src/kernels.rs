//! What the GPU is asked to run, as plain data: kernels ([`KernelSpec`]) and dispatches of them ([`Dispatch`]).
//!
//! Lowering an operation makes dispatches out of ids of the plan; nothing here touches a device. So every kernel can be
//! validated, and every lowering inspected, where there is no GPU.

use anser_model::{Rows, StateRef, ValueId, WeightId};
use std::sync::Arc;

/// A WGSL file. Files are concatenated into a shader: there is no preprocessor and no shader text made by code.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Module {
    /// Path below `wgsl/`.
    pub(crate) name: &'static str,
    /// The file's text.
    pub(crate) source: &'static str,
}

/// The [`Module`] at a path below `wgsl/`, compiled in.
macro_rules! wgsl {
    ($path:literal) => {
        &$crate::kernels::Module {
            name: $path,
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl/", $path)),
        }
    };
}
pub(crate) use wgsl;

/// How a kernel uses one of its bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
    /// `var<uniform>`
    Uniform,
}

/// One compute pipeline: WGSL files in order, with the values of their `override` constants. Equal specs share one
/// pipeline.
///
/// The text has one entry point, `main`, and at least one `override`: without one, wgpu's Vulkan backend ignores the
/// pipeline's compilation options (loop bounding and zeroing of workgroup memory would stay on).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KernelSpec {
    /// Name in profiles and errors, e.g. `layer_norm`.
    pub(crate) label: &'static str,
    /// Files, concatenated in this order.
    pub(crate) modules: Vec<&'static Module>,
    /// Values of `override` constants, by name.
    pub(crate) constants: Vec<(&'static str, f64)>,
    /// Use of `@group(0) @binding(i)`.
    pub(crate) access: Vec<Access>,
}

impl KernelSpec {
    /// A kernel of these files, without constants and bindings yet.
    pub(crate) fn new(label: &'static str, modules: Vec<&'static Module>) -> KernelSpec {
        KernelSpec { label, modules, constants: vec![], access: vec![] }
    }

    /// Sets an `override` constant.
    pub(crate) fn constant(mut self, name: &'static str, value: f64) -> KernelSpec {
        self.constants.push((name, value));
        self
    }

    /// Declares the bindings.
    pub(crate) fn access(mut self, access: &[Access]) -> KernelSpec {
        self.access = access.to_vec();
        self
    }

    /// A run of the kernel.
    pub(crate) fn dispatch(self, bindings: Vec<Binding>, grid: [Extent; 3]) -> Dispatch {
        debug_assert_eq!(self.access.len(), bindings.len(), "{}", self.label);
        Dispatch { kernel: self, bindings, grid, n_weight_bytes: 0 }
    }
}

/// What a dispatch binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// `array<f32>`, a value of the plan, `[T, n]` or `[O, n]`.
    Value(ValueId),
    /// The whole buffer that a value is in, for kernels that reach several results of a unit by their offsets.
    Region(ValueId),
    /// `array<f32>`, a vector of the plan.
    Vector(WeightId),
    /// `array<f32>`, the vectors of an operation from `first` to `last`, each starting so many elements after the one before
    /// as [`crate::weights::WeightLayout::vector_stride`] says.
    Vectors {
        /// The first.
        first: WeightId,
        /// The last.
        last: WeightId,
    },
    /// A matrix, or its row range `split`, as its [`crate::matmul`] layout has it.
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
    /// So many workgroups, whatever the step.
    Fixed(u32),
    /// One workgroup per so many rows of a kind: T or O.
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
}

/// A number of rows, rounded up to one that kernels are chosen by and buffers are made for.
///
/// A plan is lowered once for each pair of classes (of T and of O) that occurs; the exact T and O are parameters of the
/// dispatches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RowClass(pub(crate) u32);

/// What the device's shaders can use, after the kill switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features {
    /// 16-bit floats in shaders.
    pub(crate) f16: bool,
    /// Subgroup operations; the subgroup size may be any.
    pub(crate) subgroups: bool,
    /// Smallest and largest subgroup size.
    pub(crate) subgroup_size: [u32; 2],
    /// 16×16×16 matrix products of f16 into f32, per subgroup.
    pub(crate) coop_f16_16: bool,
    /// Whether products of many tokens take halves where there are no such matrices. Tests can so see on any device what
    /// comes of numbers that are too large for halves.
    pub(crate) halves_in_tiles: bool,
    /// Storage buffers that a kernel can bind.
    pub(crate) max_bindings: u32,
    /// Threads per workgroup.
    pub(crate) max_workgroup_len: u32,
    /// Bytes of workgroup memory.
    pub(crate) max_workgroup_n_bytes: u32,
}
