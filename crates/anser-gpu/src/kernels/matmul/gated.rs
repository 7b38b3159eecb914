//! A product of one token, times a gate that is made together with its input, added to a residual: the end of channel mixing in
//! RWKV-5 and RWKV-6. See `wgsl/matmul/vec.wgsl`.

use super::{MatMul, product, vec};
use crate::compile::graph::Graph;
use crate::compile::rule::{Forms, Pattern, Rule};
use crate::compile::target::RowClass;
use crate::kernels::common::OTHER_OPERATIONS;
use crate::quant::{PIECE_LEN, is_quantized};
use anser_model::{Activation, Op, ValueId};

pub(crate) static GATED_PRODUCT: Rule = Rule {
    name: "gated matmul",
    pattern: Pattern::Around(matches),
    fits: |_, _, target| target.has_few_rows && target.classes[0] == RowClass(1) && !target.holds,
    forms: Forms::BYTES,
    lower: |unit, lowering| {
        let [matrix, gate] = unit.nodes[..] else { return Err(OTHER_OPERATIONS) };
        let Op::Gate { gate, residual, out, .. } = lowering.op(gate) else { return Err(OTHER_OPERATIONS) };
        let op = MatMul { residual: *residual, gate: Some(*gate), out: *out, ..product(lowering, matrix)? };
        vec::lower(&[op], lowering)
    },
};

/// `[product, gate]`, around the gate. The product's matrix is quantized: the kernel of others leaves out what meets zeros. One
/// unit makes the gate and the product's input, two products of mixes of one token shift.
fn matches(graph: &Graph, gate: usize) -> Option<Vec<usize>> {
    let Op::Gate { gate: r, x: y, factor: 1.0, residual: Some(_), .. } = graph.op(gate) else { return None };
    let matrix = graph.maker(*y)?;
    let Op::MatMul { weight, x: k, bias: None, activation: Activation::Identity, residual: None, .. } =
        graph.op(matrix)
    else {
        return None;
    };
    let shift = |id: ValueId| match graph.op(graph.maker(id)?) {
        Op::MatMul { x, residual: None, .. } => graph.maker(*x),
        _ => None,
    };
    let weight = graph.plan.weight(*weight);
    let is_alike = shift(*r).is_some() && shift(*r) == shift(*k);
    let fits = is_quantized(weight) && weight.n_cols().is_multiple_of(PIECE_LEN) && graph.only(*y, &[gate]);
    (is_alike && fits).then(|| vec![matrix, gate])
}
