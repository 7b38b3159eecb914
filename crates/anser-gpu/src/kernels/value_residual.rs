//! See `wgsl/value_residual.wgsl`.

use super::prelude::*;

pub(super) static VALUE_RESIDUAL: Rule =
    Rule { name: "value_residual", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::ValueResidual { v, v_first, gate, out } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let kernel = KernelSpec::new("value_residual", vec![wgsl!("value_residual.wgsl")])
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .access(&[Read, Read, Read, ReadWrite]);
    let bindings = [v, v_first, gate, out].map(|id| Value(*id)).to_vec();
    Ok(vec![kernel.dispatch(bindings, lowering.elementwise(*out))])
}
