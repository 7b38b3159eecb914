//! The choice of the rows that outputs are wanted of, and their layer norm. See `wgsl/select_norm.wgsl`.

use super::prelude::*;

pub(super) static SELECT_NORM: Rule =
    Rule { name: "select_norm", pattern: Pattern::Around(matches), fits, forms: Forms::BYTES, lower };

/// `[select, norm]`, around the norm.
fn matches(graph: &Graph, norm: usize) -> Option<Vec<usize>> {
    let Op::LayerNorm { x, .. } = graph.op(norm) else { return None };
    let select = graph.maker(*x)?;
    (matches!(graph.op(select), Op::Select { .. }) && graph.only(*x, &[norm])).then(|| vec![select, norm])
}

fn fits(graph: &Graph, nodes: &[usize], target: &Target) -> bool {
    let n_cols = graph.op(nodes[1]).outputs().into_iter().map(|id| graph.plan.value(id).n_cols).max();
    target.has_few_rows && n_cols.is_some_and(|n_cols| n_cols <= max_norm_cols(&target.features))
}

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let [Op::Select { x, .. }, Op::LayerNorm { weight, bias, eps, out, .. }] =
        [0, 1].map(|i| lowering.op(unit.nodes[i]))
    else {
        return Err(OTHER_OPERATIONS);
    };
    let (features, n_cols) = (&lowering.target.features, lowering.n_cols(*out));
    let mut modules = vec![reduce_module(features), wgsl!("bytes.wgsl"), wgsl!("bytes_out.wgsl")];
    modules.extend([wgsl!("halves.wgsl"), wgsl!("place.wgsl"), wgsl!("select_norm.wgsl")]);
    let kernel = KernelSpec::new("select_norm", modules)
        .argument(out_place(lowering, *out))
        .constant("WORKGROUP", f64::from(norm_workgroup(n_cols, features)))
        .constant("N_COLS", n_cols as f64)
        .constant("EPS", f64::from(*eps))
        .constant("VECTOR_STRIDE", lowering.vector_stride(n_cols))
        .access(&[Read, Read, Read, ReadWrite]);
    let bindings = vec![Outputs, Value(*x), Vectors { first: *weight, last: *bias }, Region(*out)];
    Ok(vec![kernel.dispatch(bindings, lowering.by_rows(*out))])
}
