//! Kernels of single operations.

use super::{Lowering, RecurrenceShape, add_out};
use crate::kernels::{Access, Binding, Dispatch, Extent, KernelSpec, wgsl};
use crate::matmul::MatMul;
use Access::{Read, ReadWrite};
use Binding::{Sequences, State, Tokens, Value, Vector};
use anser_model::{Op, Rows};

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
            Op::TokenShift { x, state, mix, out, prev } => {
                let each = mix.iter().zip(out).enumerate().map(|(i, (mix, out))| {
                    let kernel = KernelSpec::new("token_shift", vec![wgsl!("step.wgsl"), wgsl!("token_shift.wgsl")])
                        .constant("N_COLS", self.n_cols(*out))
                        .constant("WRITES_STATE", if i == 0 { 1.0 } else { 0.0 })
                        .access(&[Read, Read, Read, ReadWrite, ReadWrite]);
                    let bindings = vec![Tokens, Value(*x), Vector(*mix), State(*state), Value(*out)];
                    kernel.dispatch(bindings, self.elementwise(*out))
                });
                prev.map(|prev| self.previous(*x, *state, prev)).into_iter().chain(each).collect()
            }
            Op::Mix { x, x_prev, mix, out } => vec![self.mix([*x, *x_prev, *mix], *out)],
            Op::Wkv4 { k, v, w, u, state, out } => vec![self.wkv4([*k, *v], [*w, *u], *state, *out)],
            Op::Wkv6 { r, w, k, v, u, state, head_size, out } => {
                vec![self.wkv6([*r, *k, *v], (*w, *u), *state, *head_size, *out)]
            }
            Op::NormGate { y, g, weight, bias, eps, head_size, out } => {
                vec![self.norm_gate(*y, *g, [*weight, *bias], (*eps, *head_size), *out)]
            }
            Op::Gate { gate, x, factor, residual, out } => vec![self.gate([*gate, *x], *factor, *residual, *out)],
            Op::TokenMatrix { x, matrix, out } => vec![self.token_matrix(*x, *matrix, *out)],
            Op::MatMul { .. } => {
                let product = self.product(op);
                self.products(product.as_slice())
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
                let shape = RecurrenceShape::of_rows(*head_size, &self.features);
                let [state_module, inputs_module] = match head_size.is_multiple_of(4) {
                    true => [wgsl!("wkv7/state_vec4.wgsl"), wgsl!("wkv7/inputs_vec4.wgsl")],
                    false => [wgsl!("wkv7/state_scalar.wgsl"), wgsl!("wkv7/inputs_scalar.wgsl")],
                };
                let modules = shape.modules([state_module, inputs_module, wgsl!("wkv7/wkv7.wgsl")]);
                let kernel = shape
                    .constants(KernelSpec::new("wkv7", modules))
                    .constant("N_COLS", self.n_cols(*out))
                    .constant("BLOCK_LEN", shape.block_len() as f64)
                    .access(&[ReadWrite, Read, ReadWrite, Read, Read, Read, Read, Read, Read]);
                let values = [r, w, k, v, kk, a].map(|id| Value(*id));
                let bindings = [State(*state), Sequences, Value(*out)].into_iter().chain(values).collect();
                let n_heads = self.plan.value(*out).n_cols / head_size;
                let n_parts = head_size.div_ceil(shape.n_rows);
                let grid = [Extent::Fixed(n_heads as u32), Extent::Fixed(n_parts as u32), Extent::Sequences];
                vec![kernel.dispatch(bindings, grid)]
            }
            Op::NormBonusGate { y, r, k, v, g, r_k, weight, bias, eps, head_size, out } => {
                let mut kernel = self
                    .reducing("norm_bonus_gate", wgsl!("norm_bonus_gate/norm_bonus_gate.wgsl"), *head_size)
                    .constant("N_COLS", self.n_cols(*out))
                    .constant("HEAD_SIZE", *head_size as f64)
                    .constant("EPS", f64::from(*eps))
                    .access(&[Read, Read, Read, Read, Read, Read, Read, Read, ReadWrite]);
                add_out(&mut kernel.modules, self.schedule.is_in_halves(*out));
                let values = [y, r, k, v, g].map(|id| Value(*id));
                let vectors = [r_k, weight, bias].map(|id| Vector(*id));
                let bindings = values.into_iter().chain(vectors).chain([self.value(*out)]).collect();
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

    /// A matrix product as `matmul` takes it; `None` for another operation.
    pub(super) fn product(&self, op: &Op) -> Option<MatMul<'_>> {
        let Op::MatMul { weight, x, bias, activation, residual, out } = op else { return None };
        let matrix = self.weights.matrices.get(&weight.index())?;
        let rows = self.plan.value(*out).rows;
        Some(MatMul {
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
            in_halves: [*x, *out].map(|id| self.schedule.is_in_halves(id)),
            rows,
            class: match rows {
                Rows::Tokens => self.kind.classes[0],
                Rows::Outputs => self.kind.classes[1],
            },
        })
    }
}
