//! Matrix products: out `[T, R]` = residual + activation(x `[T, n_cols]` · weightᵀ + bias), for a weight `[R, n_cols]` of
//! any storage type.
//!
//! `quant/` says how weights lie on the device, [`lower`] which kernels multiply them. Up to 8 tokens are computed by
//! mat-vec kernels, which read every weight once (`vec.rs`, `held.rs`), or only those that do not meet zeros (`sparse.rs`); more by
//! tiles, of cooperative matrices (`gemm.rs`) or plain arithmetic (`tiled.rs`). Each has candidates for its shape, see
//! `compile/choices.rs`.

pub(crate) mod gated;
mod gemm;
mod held;
mod lanes;
pub(crate) mod shifted;
mod sparse;
mod spec;
mod tiled;
mod vec;

pub(crate) use gemm::multiplies_halves;
pub(crate) use held::holds;
pub(crate) use sparse::reads_panels;

use super::common::{OTHER_OPERATIONS, always};
use crate::compile::choices::by_choice;
use crate::compile::dispatch::{Binding, Dispatch};
use crate::compile::graph::Graph;
use crate::compile::lowering::Lowering;
use crate::compile::rule::{Forms, Group, Pattern, Rule, Unlowered};
use crate::compile::target::{Precision, RowClass, Target};
use crate::device::features::Features;
use crate::quant::{DeviceLayout, is_quantized};
use anser_model::{Activation, Op, Rows, ValueId, WeightId};
use sparse::SparseShape;
use std::ops::Range;
use std::sync::Arc;
use tiled::TiledShape;

/// Matrix products that do not need each other's results.
pub(super) static PRODUCTS: Rule = Rule {
    name: "matmul",
    pattern: Pattern::Independent { group },
    fits: always,
    forms: Forms::ANY,
    lower: |unit, lowering| lower(&products(&unit.nodes, lowering)?, lowering),
};

/// Products of one kind of rows run together; those of quantized weights apart from others where they have a kernel of their own.
fn group(graph: &Graph, node: usize, target: &Target) -> Group {
    match graph.op(node) {
        Op::MatMul { weight, out, .. } => {
            (graph.plan.value(*out).rows, target.holds && is_quantized(graph.plan.weight(*weight)))
        }
        _ => (Rows::Tokens, false),
    }
}

/// The products of `nodes`.
fn products<'a>(nodes: &[usize], lowering: &Lowering<'a>) -> Result<Vec<MatMul<'a>>, Unlowered> {
    nodes.iter().map(|&node| product(lowering, node)).collect()
}

/// The product of a node.
///
/// # Errors
/// If the node is no product, or its matrix is not on the device.
pub(super) fn product<'a>(lowering: &Lowering<'a>, node: usize) -> Result<MatMul<'a>, Unlowered> {
    let Op::MatMul { weight, x, bias, activation, residual, out } = lowering.op(node) else {
        return Err(OTHER_OPERATIONS);
    };
    let matrix = lowering.weights.matrices.get(&weight.index()).ok_or(Unlowered("its matrix is not on the device"))?;
    let (rows, matrix_weight) = (lowering.plan.value(*out).rows, lowering.plan.weight(*weight));
    Ok(MatMul {
        weight: *weight,
        layout: matrix.layout,
        n_rows: matrix_weight.n_rows(),
        n_cols: matrix_weight.n_cols(),
        splits: &matrix.splits,
        x: *x,
        bias: *bias,
        activation: *activation,
        residual: *residual,
        gate: None,
        out: *out,
        in_halves: [*x, *out].map(|id| lowering.schedule.is_in_halves(id)),
        rows,
        class: lowering.target.class(rows),
    })
}

/// A matrix product to lower.
#[derive(Debug, Clone)]
pub(crate) struct MatMul<'a> {
    /// Matrix `[R, n_cols]`.
    pub(crate) weight: WeightId,
    /// How it lies on the device.
    pub(crate) layout: DeviceLayout,
    /// R.
    pub(crate) n_rows: usize,
    /// Input features.
    pub(crate) n_cols: usize,
    /// Its row ranges that are buffers of their own.
    pub(crate) splits: &'a [Range<usize>],
    /// Input `[T, n_cols]`.
    pub(crate) x: ValueId,
    /// Offset `[R]`.
    pub(crate) bias: Option<WeightId>,
    /// Applied after the bias.
    pub(crate) activation: Activation,
    /// Added last, `[T, R]`.
    pub(crate) residual: Option<ValueId>,
    /// Multiplies the product before that is added, `[1, R]`: in products of one token only.
    pub(crate) gate: Option<ValueId>,
    /// Result `[T, R]`.
    pub(crate) out: ValueId,
    /// Whether x and out are kept in halves, all of their regions.
    pub(crate) in_halves: [bool; 2],
    /// Kind of rows of x and out.
    pub(crate) rows: Rows,
    /// Class of their number.
    pub(crate) class: RowClass,
}

impl MatMul<'_> {
    /// Units of a row: what a thread decodes at a time.
    fn n_units(&self) -> usize {
        self.n_cols.div_ceil(self.layout.device_type().unit_len)
    }
}

/// Most tokens that mat-vec kernels compute: beyond, each weight is used often enough to make tiles of them. Matrix hardware
/// is worth its start sooner, except where most weights are `quantized` and meet inputs that stay in registers.
pub(crate) fn max_columns(features: &Features, precision: Precision, quantized: bool) -> u32 {
    let holds = quantized && held::holds(RowClass(held::N_TOKENS), features, precision);
    match precision != Precision::Exact && gemm::multiplies_halves(features) && !holds {
        true => 4,
        false => 8,
    }
}

/// The dispatches that compute `ops`, none of which needs another one's result.
///
/// Mat-vec kernels compute those of up to `Target::max_columns` tokens, and leave out the columns of a matrix in panels whose
/// inputs are zero.
fn lower(ops: &[MatMul], lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let max_columns = lowering.target.max_columns;
    let (few, many): (Vec<MatMul>, Vec<MatMul>) = ops.iter().cloned().partition(|op| op.class.0 <= max_columns);
    let (few, sparse): (Vec<MatMul>, Vec<MatMul>) = few.into_iter().partition(|op| op.layout.panel_len == 1);
    let mut lowered = vec::lower(&few, lowering)?;
    lowered.extend(sparse.iter().flat_map(|op| sparsely(op, lowering)));
    let many = many.iter().map(|op| by_tiles(op, lowering));
    lowered.extend(side_by_side(many.collect::<Result<_, _>>()?));
    Ok(lowered)
}

/// The dispatches of a product of few tokens whose matrix lies in panels.
fn sparsely(op: &MatMul, lowering: &Lowering) -> Vec<Dispatch> {
    let candidates = SparseShape::candidates([op.n_rows, op.n_cols], op.class.0, &lowering.target.features);
    let (shape, choice) = lowering.choices.choose(|| key("sparse product", op), &candidates);
    by_choice(sparse::lower(op, shape), choice)
}

/// The dispatches of a product of many tokens.
fn by_tiles(op: &MatMul, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Target { features, precision, .. } = &lowering.target;
    let candidates = if *precision == Precision::Exact { vec![] } else { gemm::candidates(op, features) };
    if candidates.is_empty() {
        let candidates = TiledShape::candidates(op.class.0, features);
        let (shape, choice) = lowering.choices.choose(|| key("tiled product", op), &candidates);
        return Ok(by_choice(tiled::lower(op, shape), choice));
    }
    let (shape, choice) = lowering.choices.choose(|| key("product of halves", op), &candidates);
    let matrices = features.matrices.ok_or(Unlowered("the device multiplies no matrices"))?;
    Ok(by_choice(gemm::lower(op, shape, matrices), choice))
}

/// What the choice of a shape depends on.
fn key(kernel: &str, op: &MatMul) -> String {
    let panels = if op.layout.panel_len > 1 { " in panels" } else { "" };
    let halves = if op.in_halves[1] { " to halves" } else { "" };
    format!("{kernel} {} {}x{}{panels}{halves}, T={}", op.layout.dtype, op.n_rows, op.n_cols, op.class.0)
}

/// Puts the first dispatches of all products before the second ones, and so on, and gives each product scratch memory of
/// its own, so that none has to wait for its neighbour.
fn side_by_side(products: Vec<Vec<Dispatch>>) -> Vec<Dispatch> {
    let mut numbered = vec![];
    for (number, dispatches) in products.into_iter().enumerate() {
        for (turn, mut dispatch) in dispatches.into_iter().enumerate() {
            for binding in &mut dispatch.bindings {
                if let Binding::Scratch { product, .. } | Binding::Expanded { product, .. } = binding {
                    *product = number;
                }
            }
            numbered.push((turn, dispatch));
        }
    }
    numbered.sort_by_key(|(turn, _)| *turn);
    numbered.into_iter().map(|(_, dispatch)| dispatch).collect()
}

/// `TargetRows` of `wgsl/matmul/epilogue.wgsl` for a row range of the matrix.
fn target_rows(op: &MatMul, rows: &Range<usize>) -> Binding {
    let words = [rows.len() as u32, rows.start as u32, op.n_rows as u32, epilogue_word(op)];
    Binding::Constants(Arc::from(words))
}

/// The number of `activation` in `wgsl/matmul/activation.wgsl`.
pub(super) fn activation_number(activation: Activation) -> u32 {
    match activation {
        Activation::Identity => 0,
        Activation::Tanh => 1,
        Activation::Sigmoid => 2,
        Activation::ReluSquared => 3,
        Activation::Decay => 4,
        Activation::Silu => 5,
        Activation::Decay6 => 6,
    }
}

/// `TargetRows::epilogue` of `wgsl/matmul/epilogue.wgsl`, `Job::epilogue` of `wgsl/matmul/jobs.wgsl`.
fn epilogue_word(op: &MatMul) -> u32 {
    activation_number(op.activation) | u32::from(op.bias.is_some()) << 4 | u32::from(op.residual.is_some()) << 5
}
