//! Products that make their own input: a layer norm and the token shift of its result, of one token. See
//! `wgsl/matmul/shift.wgsl`.

use super::lanes::VecShape;
use super::vec::{Input, InputForm, lower_with};
use super::{PRODUCTS, products};
use crate::compile::dispatch::{Binding, Dispatch};
use crate::compile::graph::Graph;
use crate::compile::lowering::Lowering;
use crate::compile::rule::{Forms, Pattern, Rule, Unit, Unlowered};
use crate::compile::target::{RowClass, Target};
use crate::device::features::Features;
use crate::kernels::common::OTHER_OPERATIONS;
use crate::kernels::norm_shift::NORM_SHIFT;
use crate::quant::PIECE_LEN;
use anser_model::{Op, StateRef, ValueId, WeightId};

pub(crate) static SHIFTED_PRODUCTS: Rule =
    Rule { name: "matmul of shifted norms", pattern: Pattern::Units(matches), fits, forms: Forms::ANY, lower };

/// A token shift of a layer norm, for one token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shift<'a> {
    /// `[1, C]`
    x: ValueId,
    /// The norm's result of the token before.
    state: StateRef,
    /// Scale and offset of the norm, `[C]` each.
    pub(super) norm: [WeightId; 2],
    /// Added to the norm's variance.
    pub(super) eps: f32,
    /// The mixes, `[C]` each.
    mixes: &'a [WeightId],
    /// The result of each of them.
    outs: &'a [ValueId],
}

/// `[norm, shift, products..]`, if the products are all that reads the shift's results.
fn matches(graph: &Graph, [before, after]: [&Unit; 2]) -> Option<Vec<usize>> {
    if before.rule.name != NORM_SHIFT.name || after.rule.name != PRODUCTS.name {
        return None;
    }
    let results = &before.outputs;
    let is_own = |id: &ValueId| graph.readers(*id).iter().all(|reader| after.nodes.contains(reader));
    let reads_it = |&node: &usize| match graph.op(node) {
        Op::MatMul { x, residual, .. } => results.contains(x) && residual.is_none(),
        _ => false,
    };
    let is_whole = results.iter().all(is_own) && after.nodes.iter().all(reads_it);
    is_whole.then(|| before.nodes.iter().chain(&after.nodes).copied().collect())
}

/// With rows of floats, products take so long that waiting for their input costs more than a dispatch that makes it.
fn fits(graph: &Graph, nodes: &[usize], target: &Target) -> bool {
    let max_cols = max_cols(&target.features);
    let is_short = |id: &ValueId| {
        let n_cols = graph.plan.value(*id).n_cols;
        n_cols <= max_cols && n_cols.is_multiple_of(PIECE_LEN)
    };
    target.has_few_rows
        && target.classes[0] == RowClass(1)
        && target.quantized
        && target.whole_layers
        && graph.op(nodes[1]).outputs().iter().all(is_short)
}

/// The longest rows whose norm and shift products can make for themselves; 0 if there are none.
fn max_cols(features: &Features) -> usize {
    /// Columns of a thread: with more of them products would wait longer for their input than a kernel that makes it takes.
    const COLUMNS: usize = 4;
    /// Workgroup memory for results that become bytes.
    const RESULTS: usize = 512;
    /// Half-bytes of a column in workgroup memory: a float, and half a byte of scales.
    const HALF_BYTES: usize = 9;

    let workgroup = VecShape::workgroup_with_input(features);
    let in_subgroup = VecShape::in_subgroup(workgroup, features);
    let workgroup = workgroup as usize;
    // Two floats for every four threads, and two for each subgroup of a row.
    let sums = 2 * workgroup + 8 * workgroup / features.subgroup_size[0].max(4) as usize;
    let room = (features.max_workgroup_n_bytes as usize).saturating_sub(RESULTS + sums);
    if in_subgroup { (COLUMNS * workgroup).min(2 * room / HALF_BYTES) } else { 0 }
}

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let [norm, shift, rest @ ..] = &unit.nodes[..] else { return Err(OTHER_OPERATIONS) };
    let (Op::LayerNorm { x, weight, bias, eps, .. }, Op::TokenShift { state, mix, out, .. }) =
        (lowering.op(*norm), lowering.op(*shift))
    else {
        return Err(OTHER_OPERATIONS);
    };
    let shift = Shift { x: *x, state: *state, norm: [*weight, *bias], eps: *eps, mixes: mix, outs: out };
    let products = products(rest, lowering)?;
    let vec4 = |id: WeightId| Ok(lowering.offset(id, 0)? / 16);
    let [scale, offset] = [vec4(*weight)?, vec4(*bias)?];
    let input = |x: ValueId| {
        let mix = shift.outs.iter().position(|&out| out == x).ok_or(OTHER_OPERATIONS)?;
        let form = InputForm::Shift([vec4(shift.mixes[mix])?, scale, offset]);
        Ok(Input { bindings: [Binding::Value(shift.x), Binding::State(shift.state)], region: None, form })
    };
    let inputs = products.iter().map(|op| input(op.x)).collect::<Result<_, Unlowered>>()?;
    lower_with(&products, inputs, Some(&shift), lowering)
}
