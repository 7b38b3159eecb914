//! Kernels of several operations together.

use super::{Lowering, RecurrenceShape, add_out};
use crate::fuse::Fusion;
use crate::kernels::{Access, Binding, Dispatch, Extent, Features, KernelSpec, RowClass, wgsl};
use crate::matmul::{self, MatMul, NOTHING, PIECE_LEN, Shift, float_kind};
use crate::schedule::Region;
use Access::{Read, ReadWrite};
use Binding::{State, Tokens, Value, Vectors};
use anser_model::{Op, ValueId};

/// What matters of steps to fusing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    /// Units have regions of their own.
    pub(crate) has_few_rows: bool,
    /// Products hold their inputs.
    pub(crate) holds: bool,
    /// Sequences have one token each,
    pub(crate) one_token_each: bool,
    /// and there is one.
    pub(crate) is_one_token: bool,
    /// Most weights are quantized.
    pub(crate) quantized: bool,
}

/// What can be fused on a device with `features`. `whole_layers`: where a layer's weights lie in one buffer.
pub(crate) fn fusion(features: &Features, steps: Steps, whole_layers: bool) -> Fusion {
    let Steps { has_few_rows, holds, one_token_each, is_one_token, quantized } = steps;
    let largest_head = |&size: &usize| {
        RecurrenceShape::of_head(size, RowClass(1), features).workgroup() <= features.max_workgroup_len as usize
    };
    Fusion {
        max_cols: MAX_HELD * norm_workgroup(usize::MAX, features) as usize,
        max_mixes: if has_few_rows { 6 } else { features.max_bindings.saturating_sub(5) as usize },
        max_head_size: match one_token_each {
            true => [256, 128, 64, 32, 16].into_iter().find(largest_head).unwrap_or(0),
            false => 0,
        },
        heads_of_values: features.max_bindings >= 13,
        heads_of_low_rank: has_few_rows && !holds && whole_layers,
        quantized_apart: holds,
        // Rows of floats are long enough for their products to lose more by waiting than a dispatch takes.
        max_shifted_cols: match has_few_rows && is_one_token && quantized && whole_layers {
            true => matmul::max_shifted_cols(features),
            false => 0,
        },
        select_norms: has_few_rows,
        halves: matmul::multiplies_halves(features),
    }
}

/// The first words of the place of each result of a token shift in `wgsl/norm_shift/mixes_together.wgsl`.
const MIX_PLACES: [[&str; 3]; 6] = [
    ["MIX_0_FLOATS", "MIX_0_BYTES", "MIX_0_SCALES"],
    ["MIX_1_FLOATS", "MIX_1_BYTES", "MIX_1_SCALES"],
    ["MIX_2_FLOATS", "MIX_2_BYTES", "MIX_2_SCALES"],
    ["MIX_3_FLOATS", "MIX_3_BYTES", "MIX_3_SCALES"],
    ["MIX_4_FLOATS", "MIX_4_BYTES", "MIX_4_SCALES"],
    ["MIX_5_FLOATS", "MIX_5_BYTES", "MIX_5_SCALES"],
];

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
    const MIN_WHOLE_ROWS: u32 = 256;

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
        let (&[first, ..], &[.., last], &[first_out, ..]) = (&mix[..], &mix[..], &out[..]) else { return vec![] };
        let reduce = match self.features.subgroups {
            true => wgsl!("reduce/subgroup.wgsl"),
            false => wgsl!("reduce/workgroup.wgsl"),
        };
        let n_cols = self.plan.value(*x).n_cols;
        let (workgroup, slice_len) = norm_shape(n_cols, self.kind.classes[0], &self.features);
        let mut modules = vec![wgsl!("step.wgsl"), reduce];
        let mut access = vec![Read, Read, Read, Read, ReadWrite];
        let vectors = [Vectors { first: *weight, last: *bias }, Vectors { first, last }];
        let mut bindings: Vec<Binding> =
            [Tokens, Value(*x)].into_iter().chain(vectors).chain([State(*state)]).collect();
        let mut constants = vec![];
        match self.schedule.cell(first_out).map(|cell| cell.region) {
            Some(Region::Own { .. }) => {
                modules.extend([
                    wgsl!("bytes.wgsl"),
                    wgsl!("bytes_out.wgsl"),
                    wgsl!("halves.wgsl"),
                    wgsl!("place.wgsl"),
                ]);
                modules.push(wgsl!("norm_shift/mixes_together.wgsl"));
                access.push(ReadWrite);
                bindings.push(Binding::Region(first_out));
                for (names, &id) in MIX_PLACES.into_iter().zip(out) {
                    constants.extend(names.into_iter().zip(self.sites().place(id).map(f64::from)));
                }
                constants.push(("N_MIXES", mix.len() as f64));
            }
            _ => {
                let in_halves = out.iter().all(|&id| self.schedule.is_in_halves(id));
                modules.push(match mix.len() {
                    1 => wgsl!("norm_shift/mixes_1.wgsl"),
                    _ => wgsl!("norm_shift/mixes_6.wgsl"),
                });
                add_out(&mut modules, in_halves);
                access.extend(out.iter().map(|_| ReadWrite));
                bindings.extend(out.iter().map(|&id| self.value(id)));
            }
        }
        modules.push(wgsl!("norm_shift/norm_shift.wgsl"));
        let mut kernel = KernelSpec::new("norm_shift", modules)
            .constant("WORKGROUP", f64::from(workgroup))
            .constant("N_COLS", n_cols as f64)
            .constant("SLICE_LEN", f64::from(slice_len))
            .constant("ONE_EACH", f64::from(self.kind.one_token_each))
            .constant("EPS", f64::from(*eps))
            .constant("VECTOR_STRIDE", self.vector_stride(n_cols))
            .access(&access);
        kernel.constants.extend(constants);
        let n_slices = (n_cols as u32).div_ceil(slice_len);
        vec![kernel.dispatch(bindings, [self.rows(*x), Extent::Fixed(n_slices), Extent::Fixed(1)])]
    }

    /// Products of the results of a norm and shift, see `wgsl/matmul/shift.wgsl`.
    pub(super) fn shift_products(&self, norm: &Op, shift: &Op, products: &[MatMul]) -> Vec<Dispatch> {
        let (Op::LayerNorm { x, weight, bias, eps, .. }, Op::TokenShift { state, mix, out, .. }) = (norm, shift) else {
            return vec![];
        };
        let norm = [*weight, *bias];
        let shift = Shift { x: *x, state: *state, norm, eps: *eps, mixes: mix, outs: out };
        matmul::lower_shifted(products, &shift, &self.sites(), &self.features, self.kind.precision)
    }

    /// See `wgsl/select_norm.wgsl`.
    pub(super) fn select_norm(&self, select: &Op, norm: &Op) -> Vec<Dispatch> {
        let (Op::Select { x, .. }, Op::LayerNorm { weight, bias, eps, out, .. }) = (select, norm) else {
            return vec![];
        };
        let reduce = match self.features.subgroups {
            true => wgsl!("reduce/subgroup.wgsl"),
            false => wgsl!("reduce/workgroup.wgsl"),
        };
        let n_cols = self.plan.value(*out).n_cols;
        let mut modules = vec![reduce, wgsl!("bytes.wgsl"), wgsl!("bytes_out.wgsl")];
        modules.extend([wgsl!("halves.wgsl"), wgsl!("place.wgsl"), wgsl!("out_place.wgsl"), wgsl!("select_norm.wgsl")]);
        let mut kernel = KernelSpec::new("select_norm", modules)
            .constant("WORKGROUP", f64::from(norm_workgroup(n_cols, &self.features)))
            .constant("N_COLS", n_cols as f64)
            .constant("EPS", f64::from(*eps))
            .constant("VECTOR_STRIDE", self.vector_stride(n_cols))
            .access(&[Read, Read, Read, ReadWrite]);
        kernel.constants.extend(self.out_place(*out));
        let vectors = Vectors { first: *weight, last: *bias };
        let bindings = vec![Binding::Outputs, Value(*x), vectors, Binding::Region(*out)];
        vec![kernel.dispatch(bindings, [self.rows(*out), Extent::Fixed(1), Extent::Fixed(1)])]
    }

    /// See `wgsl/wkv7/head.wgsl`. `low_rank` are the products that make w, a, g and, if there is a `residual`, its gate;
    /// none if these are values.
    pub(super) fn head(&self, low_rank: &[MatMul], residual: Option<&Op>, operations: [&Op; 3]) -> Vec<Dispatch> {
        let [
            Op::KeyControl { k, k_k, k_a, .. },
            Op::Wkv7 { r, w, v, a, state, head_size, .. },
            Op::NormBonusGate { g, r_k, bias, eps, out, .. },
        ] = operations
        else {
            return vec![];
        };
        let (v, mixed) = match residual {
            Some(Op::ValueResidual { v, v_first, gate, .. }) => (v, Some((v_first, gate))),
            _ => (v, None),
        };
        let n_cols = self.plan.value(*out).n_cols;
        let shape = RecurrenceShape::of_head(*head_size, self.kind.classes[0], &self.features);
        let mut modules = shape.modules([
            wgsl!("halves.wgsl"),
            wgsl!("place.wgsl"),
            wgsl!("out_place.wgsl"),
            wgsl!("bytes.wgsl"),
            wgsl!("bytes_out.wgsl"),
            wgsl!("wkv7/state_vec4.wgsl"),
            wgsl!("wkv7/rows.wgsl"),
            wgsl!("weight/piece.wgsl"),
            wgsl!("wkv7/head.wgsl"),
        ]);
        let mut access = vec![ReadWrite, Read, ReadWrite, Read, Read];
        let vectors = [Vectors { first: *k_k, last: *k_a }, Vectors { first: *r_k, last: *bias }];
        let mut bindings = vec![State(*state), Tokens, Binding::Region(*out)];
        bindings.extend(vectors);
        let n_quads = head_size.div_ceil(4 * shape.n_lanes);
        let (mut n_weight_bytes, mut constants) = (0, vec![("QUADS", n_quads as f64)]);
        constants.extend(self.out_place(*out));
        if let Some(first) = low_rank.first() {
            let Some(operands) = self.low_rank_operands([*r, *k, *v], low_rank) else { return vec![] };
            constants.extend(operands);
            modules.extend([
                wgsl!("matmul/activation.wgsl"),
                wgsl!("wkv7/head_low_rank.wgsl"),
                wgsl!("matmul/floats.wgsl"),
            ]);
            access.extend([Read, Read, Read, Read]);
            let block = Binding::Block { weight: first.weight, split: 0 };
            let v_first = mixed.map_or(block.clone(), |(v_first, _)| Value(*v_first));
            bindings.extend([block.clone(), Binding::Region(*r), block, v_first]);
            let n_pieces = low_rank.iter().map(|p| p.n_cols.div_ceil(PIECE_LEN)).sum::<usize>();
            constants.push(("N_PAIR_PIECES", n_pieces as f64));
            n_weight_bytes = low_rank.iter().map(|p| (p.n_rows * p.layout.row_n_bytes) as u64).sum();
        } else {
            modules.push(wgsl!("wkv7/head_values.wgsl"));
            access.resize(access.len() + 8, Read);
            bindings.extend([r, w, k, a, v, g].map(|id| Value(*id)));
            let (v_first, gate) = mixed.unwrap_or((v, v));
            bindings.extend([Value(*v_first), Value(*gate)]);
        }
        let mut kernel = shape
            .constants(KernelSpec::new("head", modules))
            .constant("N_COLS", n_cols as f64)
            .constant("EPS", f64::from(*eps))
            .constant("VECTOR_STRIDE", self.vector_stride(n_cols))
            .constant("IS_MIXED", f64::from(mixed.is_some()))
            .access(&access);
        kernel.constants.extend(constants);
        vec![Dispatch { n_weight_bytes, ..kernel.dispatch(bindings, self.heads(*out, *head_size)) }]
    }

    /// The places of operands in `wgsl/wkv7/head_low_rank.wgsl`; `None` if something is not where that kernel reaches it.
    fn low_rank_operands(&self, values: [ValueId; 3], low_rank: &[MatMul]) -> Option<Vec<(&'static str, f64)>> {
        /// Bytes of the places' unit, a vec4.
        const VEC4: u64 = 16;
        const VALUES: [&str; 3] = ["RECEPTANCE", "KEY", "VALUE"];
        const PAIRS: [[&str; 6]; 4] = [
            ["W_WEIGHTS", "W_KIND", "W_INPUT", "W_BIAS", "W_RANK", "W_FIRST"],
            ["A_WEIGHTS", "A_KIND", "A_INPUT", "A_BIAS", "A_RANK", "A_FIRST"],
            ["G_WEIGHTS", "G_KIND", "G_INPUT", "G_BIAS", "G_RANK", "G_FIRST"],
            ["V_WEIGHTS", "V_KIND", "V_INPUT", "V_BIAS", "V_RANK", "V_FIRST"],
        ];
        let sites = self.sites();
        let mut constants = vec![];
        for (name, id) in VALUES.into_iter().zip(values) {
            constants.push((name, sites.floats(id)? / VEC4));
        }
        let mut first = 0;
        for (i, names) in PAIRS.into_iter().enumerate() {
            // A pair that is not there begins after all others.
            let mut words = [0, 0, 0, u64::from(NOTHING), 0, first];
            if let Some(pair) = low_rank.get(i) {
                let bias = pair.bias.and_then(|id| sites.offset(id, 0)).map_or(u64::from(NOTHING), |at| at / 4);
                let [weights, input] = [sites.offset(pair.weight, 0)?, sites.floats(pair.x)?].map(|at| at / VEC4);
                words = [weights, float_kind(pair.layout.dtype)?.into(), input, bias, pair.n_cols as u64, first];
                first += pair.n_cols.div_ceil(PIECE_LEN) as u64;
            }
            constants.extend(names.into_iter().zip(words));
        }
        Some(constants.into_iter().map(|(name, word)| (name, word as f64)).collect())
    }

    /// The constants of `wgsl/out_place.wgsl`.
    fn out_place(&self, id: ValueId) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let place = self.sites().place(id).map(f64::from);
        ["OUT_FLOATS", "OUT_BYTES", "OUT_SCALES", "OUT_HALVES"].into_iter().zip(place)
    }

    fn vector_stride(&self, n_cols: usize) -> f64 {
        self.weights.vector_stride(n_cols) as f64
    }
}
