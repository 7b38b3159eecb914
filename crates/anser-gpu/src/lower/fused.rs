//! Kernels of several operations together.

use super::{Lowering, RecurrenceShape};
use crate::fuse::Fusion;
use crate::kernels::{Access, Binding, Dispatch, Extent, Features, KernelSpec, RowClass, wgsl};
use Access::{Read, ReadWrite};
use Binding::{State, Tokens, Value, Vectors};
use anser_model::Op;

/// What can be fused on a device with `features`; `one_token_each`: for steps whose sequences have one token each.
pub(crate) fn fusion(features: &Features, one_token_each: bool) -> Fusion {
    let largest_head =
        |&size: &usize| RecurrenceShape::of_head(size, features).workgroup() <= features.max_workgroup_len as usize;
    Fusion {
        max_cols: MAX_HELD * norm_workgroup(usize::MAX, features) as usize,
        max_mixes: features.max_bindings.saturating_sub(5) as usize,
        max_head_size: match one_token_each && features.max_bindings >= 13 {
            true => [256, 128, 64, 32, 16].into_iter().find(largest_head).unwrap_or(0),
            false => 0,
        },
    }
}

/// Elements of a row that one invocation of norm_shift.wgsl holds.
const MAX_HELD: usize = 16;

/// Invocations that normalise a row of `n_cols`: a multiple of every subgroup size that hold the row together.
fn norm_workgroup(n_cols: usize, features: &Features) -> u32 {
    let wanted = n_cols.div_ceil(MAX_HELD).checked_next_power_of_two().unwrap_or(usize::MAX);
    (wanted.clamp(256, 1024) as u32).min(features.max_workgroup_len)
}

/// Invocations of norm_shift.wgsl, and columns that they write.
fn norm_shape(n_cols: usize, n_tokens: RowClass, features: &Features) -> (u32, u32) {
    /// With so many tokens, every row by one workgroup keeps the device busy.
    const MIN_WHOLE_ROWS: u32 = 64;

    let workgroup = norm_workgroup(n_cols, features);
    match n_tokens.0 < MIN_WHOLE_ROWS {
        true => (workgroup, workgroup),
        false => (workgroup, n_cols as u32),
    }
}

impl Lowering<'_> {
    /// See `wgsl/norm_shift/norm_shift.wgsl`.
    pub(super) fn norm_shift(&self, norm: &Op, shift: &Op) -> Vec<Dispatch> {
        let (Op::LayerNorm { x, weight, bias, eps, .. }, Op::TokenShift { state, mix, out, .. }) = (norm, shift) else {
            return vec![];
        };
        let (&[first, ..], &[.., last]) = (&mix[..], &mix[..]) else { return vec![] };
        let reduce = match self.features.subgroups {
            true => wgsl!("reduce/subgroup.wgsl"),
            false => wgsl!("reduce/workgroup.wgsl"),
        };
        let mixes = match mix.len() {
            1 => wgsl!("norm_shift/mixes_1.wgsl"),
            _ => wgsl!("norm_shift/mixes_6.wgsl"),
        };
        let n_cols = self.plan.value(*x).n_cols;
        let modules = vec![wgsl!("step.wgsl"), reduce, mixes, wgsl!("norm_shift/norm_shift.wgsl")];
        let (workgroup, slice_len) = norm_shape(n_cols, self.classes[0], &self.features);
        let access: Vec<Access> =
            [Read, Read, Read, Read, ReadWrite].into_iter().chain(out.iter().map(|_| ReadWrite)).collect();
        let kernel = KernelSpec::new("norm_shift", modules)
            .constant("WORKGROUP", f64::from(workgroup))
            .constant("N_COLS", n_cols as f64)
            .constant("SLICE_LEN", f64::from(slice_len))
            .constant("EPS", f64::from(*eps))
            .constant("VECTOR_STRIDE", self.vector_stride(n_cols))
            .access(&access);
        let vectors = [Vectors { first: *weight, last: *bias }, Vectors { first, last }];
        let inputs = [Tokens, Value(*x)].into_iter().chain(vectors).chain([State(*state)]);
        let bindings = inputs.chain(out.iter().map(|id| Value(*id))).collect();
        let n_slices = (n_cols as u32).div_ceil(slice_len);
        vec![kernel.dispatch(bindings, [self.rows(*x), Extent::Fixed(n_slices), Extent::Fixed(1)])]
    }

    /// See `wgsl/wkv7/head.wgsl`.
    pub(super) fn head(&self, residual: Option<&Op>, operations: [&Op; 3]) -> Vec<Dispatch> {
        let [
            Op::KeyControl { k, k_k, k_a, .. },
            Op::Wkv7 { r, w, v, a, state, head_size, .. },
            Op::NormBonusGate { g, r_k, bias, eps, out, .. },
        ] = operations
        else {
            return vec![];
        };
        let shape = RecurrenceShape::of_head(*head_size, &self.features);
        let (value, module, mixed) = match residual {
            Some(Op::ValueResidual { v, v_first, gate, .. }) => {
                (v, wgsl!("wkv7/value_mixed.wgsl"), vec![v_first, gate])
            }
            _ => (v, wgsl!("wkv7/value_own.wgsl"), vec![]),
        };
        let modules =
            shape.modules([wgsl!("wkv7/state_vec4.wgsl"), wgsl!("wkv7/rows.wgsl"), module, wgsl!("wkv7/head.wgsl")]);
        let mut access = vec![ReadWrite, Read, ReadWrite];
        access.resize(11 + mixed.len(), Read);
        let n_cols = self.plan.value(*out).n_cols;
        let kernel = shape
            .constants(KernelSpec::new("head", modules))
            .constant("N_COLS", n_cols as f64)
            .constant("EPS", f64::from(*eps))
            .constant("VECTOR_STRIDE", self.vector_stride(n_cols))
            .access(&access);
        let values = [r, w, k, a, value, g].map(|id| Value(*id));
        let vectors = [Vectors { first: *k_k, last: *k_a }, Vectors { first: *r_k, last: *bias }];
        let bindings = [State(*state), Tokens, Value(*out)].into_iter().chain(values).chain(vectors);
        let bindings = bindings.chain(mixed.into_iter().map(|id| Value(*id))).collect();
        vec![kernel.dispatch(bindings, self.heads(*out, *head_size))]
    }

    fn vector_stride(&self, n_cols: usize) -> f64 {
        self.weights.vector_stride(n_cols) as f64
    }
}
