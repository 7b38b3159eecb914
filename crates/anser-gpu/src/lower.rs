//! From operations to dispatches: which kernel runs each [`Op`], on which bindings and grid.

use crate::kernels::{Access, Binding, Dispatch, Extent, Features, KernelSpec, Module, RowClass, wgsl};
use crate::matmul::{self, MatMul};
use crate::weights::WeightLayout;
use Access::{Read, ReadWrite};
use Binding::{Sequences, State, Tokens, Value, Vector};
use anser_model::{Op, Plan, Rows, ValueId};

/// What lowering depends on besides the operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lowering<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) weights: &'a WeightLayout,
    pub(crate) features: Features,
    /// Classes of T and O.
    pub(crate) classes: [RowClass; 2],
}

/// One workgroup per so many elements of an elementwise kernel's row.
const ELEMENTS: u32 = 256;

impl Lowering<'_> {
    /// The dispatches of one operation, in order. Embeddings have none: the host gathers their rows.
    pub(crate) fn op(&self, op: &Op) -> Vec<Dispatch> {
        match op {
            Op::Embed { .. } => vec![],
            Op::LayerNorm { x, weight, bias, eps, out } => {
                let n_cols = self.n_cols(*out);
                let kernel = self
                    .reducing("layer_norm", wgsl!("layer_norm.wgsl"), 256)
                    .constant("N_COLS", n_cols)
                    .constant("EPS", f64::from(*eps))
                    .access(&[Read, Read, Read, ReadWrite]);
                let bindings = vec![Value(*x), Vector(*weight), Vector(*bias), Value(*out)];
                vec![kernel.dispatch(bindings, [self.rows(*out), Extent::Fixed(1), Extent::Fixed(1)])]
            }
            Op::TokenShift { x, state, mix, out } => {
                let each = mix.iter().zip(out).enumerate().map(|(i, (mix, out))| {
                    let kernel = KernelSpec::new("token_shift", vec![wgsl!("step.wgsl"), wgsl!("token_shift.wgsl")])
                        .constant("N_COLS", self.n_cols(*out))
                        .constant("WRITES_STATE", if i == 0 { 1.0 } else { 0.0 })
                        .access(&[Read, Read, Read, Read, ReadWrite, ReadWrite]);
                    let bindings = vec![Tokens, Sequences, Value(*x), Vector(*mix), State(*state), Value(*out)];
                    kernel.dispatch(bindings, self.elementwise(*out))
                });
                each.collect()
            }
            Op::MatMul { weight, x, bias, activation, residual, out } => {
                let Some(matrix) = self.weights.matrices.get(&weight.index()) else { return vec![] };
                let rows = self.plan.value(*out).rows;
                let op = MatMul {
                    weight: *weight,
                    layout: matrix.layout,
                    n_rows: self.plan.weight(*weight).n_rows(),
                    n_cols: self.plan.weight(*weight).n_cols(),
                    splits: &matrix.splits,
                    x: *x,
                    bias: *bias,
                    activation: *activation,
                    residual: *residual,
                    out: *out,
                    rows,
                    class: self.class(rows),
                };
                matmul::lower(&op, &self.features)
            }
            Op::ValueResidual { v, v_first, gate, out } => {
                let kernel = KernelSpec::new("value_residual", vec![wgsl!("value_residual.wgsl")])
                    .constant("N_COLS", self.n_cols(*out))
                    .access(&[Read, Read, Read, ReadWrite]);
                let bindings = vec![Value(*v), Value(*v_first), Value(*gate), Value(*out)];
                vec![kernel.dispatch(bindings, self.elementwise(*out))]
            }
            Op::KeyControl { k, a, k_k, k_a, head_size, kk, k_out } => {
                let kernel = self
                    .reducing("key_control", wgsl!("key_control.wgsl"), *head_size)
                    .constant("N_COLS", self.n_cols(*kk))
                    .constant("HEAD_SIZE", *head_size as f64)
                    .access(&[Read, Read, Read, Read, ReadWrite, ReadWrite]);
                let bindings = vec![Value(*k), Value(*a), Vector(*k_k), Vector(*k_a), Value(*kk), Value(*k_out)];
                vec![kernel.dispatch(bindings, self.heads(*kk, *head_size))]
            }
            Op::Wkv7 { r, w, k, v, kk, a, state, head_size, out } => {
                let shape = Wkv7Shape::new(*head_size, &self.features);
                let lanes = match shape.in_subgroup {
                    true => wgsl!("lanes/subgroup.wgsl"),
                    false => wgsl!("lanes/workgroup.wgsl"),
                };
                let kernel = KernelSpec::new("wkv7", vec![wgsl!("step.wgsl"), lanes, wgsl!("wkv7.wgsl")])
                    .constant("WORKGROUP", (shape.n_rows * shape.n_lanes) as f64)
                    .constant("N_LANES", shape.n_lanes as f64)
                    .constant("HEAD_SIZE", *head_size as f64)
                    .constant("N_COLS", self.n_cols(*out))
                    .constant("BLOCK_LEN", shape.block_len as f64)
                    .access(&[Read, Read, Read, Read, Read, Read, Read, ReadWrite, ReadWrite]);
                let values = [r, w, k, v, kk, a].map(|id| Value(*id));
                let bindings = [Sequences].into_iter().chain(values).chain([State(*state), Value(*out)]).collect();
                let n_heads = self.plan.value(*out).n_cols / head_size;
                let n_parts = head_size.div_ceil(shape.n_rows);
                let grid = [Extent::Fixed(n_heads as u32), Extent::Fixed(n_parts as u32), Extent::Sequences];
                vec![kernel.dispatch(bindings, grid)]
            }
            Op::NormBonusGate { y, r, k, v, g, r_k, weight, bias, eps, head_size, out } => {
                let kernel = self
                    .reducing("norm_bonus_gate", wgsl!("norm_bonus_gate.wgsl"), *head_size)
                    .constant("N_COLS", self.n_cols(*out))
                    .constant("HEAD_SIZE", *head_size as f64)
                    .constant("EPS", f64::from(*eps))
                    .access(&[Read, Read, Read, Read, Read, Read, Read, Read, ReadWrite]);
                let values = [y, r, k, v, g].map(|id| Value(*id));
                let vectors = [r_k, weight, bias].map(|id| Vector(*id));
                let bindings = values.into_iter().chain(vectors).chain([Value(*out)]).collect();
                vec![kernel.dispatch(bindings, self.heads(*out, *head_size))]
            }
            Op::Select { x, out } => {
                let kernel = KernelSpec::new("select", vec![wgsl!("select.wgsl")])
                    .constant("N_COLS", self.n_cols(*out))
                    .access(&[Read, Read, ReadWrite]);
                vec![kernel.dispatch(vec![Binding::Outputs, Value(*x), Value(*out)], self.elementwise(*out))]
            }
        }
    }

    fn class(&self, rows: Rows) -> RowClass {
        match rows {
            Rows::Tokens => self.classes[0],
            Rows::Outputs => self.classes[1],
        }
    }

    fn n_cols(&self, id: ValueId) -> f64 {
        self.plan.value(id).n_cols as f64
    }

    /// One workgroup per row.
    fn rows(&self, id: ValueId) -> Extent {
        Extent::Rows { rows: self.plan.value(id).rows, per_workgroup: 1 }
    }

    /// Workgroups of [`ELEMENTS`] over the columns, and one per row.
    fn elementwise(&self, id: ValueId) -> [Extent; 3] {
        let n = (self.plan.value(id).n_cols as u32).div_ceil(ELEMENTS);
        [Extent::Fixed(n), self.rows(id), Extent::Fixed(1)]
    }

    /// One workgroup per head and row.
    fn heads(&self, id: ValueId, head_size: usize) -> [Extent; 3] {
        [Extent::Fixed((self.plan.value(id).n_cols / head_size) as u32), self.rows(id), Extent::Fixed(1)]
    }

    /// A kernel that sums over its workgroup, which has a power of two of invocations, `len` if possible.
    fn reducing(&self, label: &'static str, module: &'static Module, len: usize) -> KernelSpec {
        let reduce = match self.features.subgroups {
            true => wgsl!("reduce/subgroup.wgsl"),
            false => wgsl!("reduce/workgroup.wgsl"),
        };
        let len = (len.next_power_of_two() as u32).clamp(32, 256).min(self.features.max_workgroup_len);
        KernelSpec::new(label, vec![reduce, module]).constant("WORKGROUP", len as f64)
    }
}

/// How the recurrence of one head is spread over invocations, see `wgsl/wkv7.wgsl`.
struct Wkv7Shape {
    /// Rows of S in a workgroup.
    n_rows: usize,
    /// Invocations that share a row.
    n_lanes: usize,
    /// Tokens staged at once.
    block_len: usize,
    /// Whether the invocations of a row are surely in one subgroup.
    in_subgroup: bool,
}

impl Wkv7Shape {
    fn new(head_size: usize, features: &Features) -> Wkv7Shape {
        /// Elements of a row of S in one invocation's registers.
        const ELEMENTS: usize = 16;
        /// Small workgroups: the rows of a head then spread over several of the device's cores.
        const WORKGROUP: usize = 64;
        /// Half of what every device has, so that two workgroups can share a core.
        const STAGED_N_BYTES: usize = 8 << 10;

        let n_lanes = head_size.div_ceil(ELEMENTS).next_power_of_two();
        let n_rows = WORKGROUP / n_lanes;
        let token_n_bytes = 4 * (5 * n_lanes * ELEMENTS + n_rows);
        let [smallest, largest] = features.subgroup_size.map(|size| size as usize);
        Wkv7Shape {
            n_rows,
            n_lanes,
            block_len: (STAGED_N_BYTES / token_n_bytes).clamp(1, 16),
            in_subgroup: features.subgroups && smallest >= n_lanes && WORKGROUP.is_multiple_of(largest.max(1)),
        }
    }
}
