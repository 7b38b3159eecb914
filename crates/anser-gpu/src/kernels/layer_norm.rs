//! See `wgsl/layer_norm.wgsl`.

use super::prelude::*;

pub(super) static LAYER_NORM: Rule =
    Rule { name: "layer_norm", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::LayerNorm { x, weight, bias, eps, out } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let kernel = reducing("layer_norm", wgsl!("layer_norm.wgsl"), 256, &lowering.target.features)
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .constant("EPS", f64::from(*eps))
        .access(&[Read, Read, Read, ReadWrite]);
    let bindings = vec![Value(*x), Vector(*weight), Vector(*bias), Value(*out)];
    Ok(vec![kernel.dispatch(bindings, lowering.by_rows(*out))])
}
