//! The norm of transformers. See `wgsl/rms_norm.wgsl`.

use super::prelude::*;

pub(super) static RMS_NORM: Rule =
    Rule { name: "rms_norm", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::RmsNorm { x, weight, eps, out } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let kernel = reducing("rms_norm", wgsl!("rms_norm.wgsl"), 256, &lowering.target.features)
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .constant("EPS", f64::from(*eps))
        .access(&[Read, Read, ReadWrite]);
    Ok(vec![kernel.dispatch(vec![Value(*x), Vector(*weight), Value(*out)], lowering.by_rows(*out))])
}
