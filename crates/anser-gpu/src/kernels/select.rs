//! See `wgsl/select.wgsl`.

use super::prelude::*;

pub(super) static SELECT: Rule =
    Rule { name: "select", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::Select { x, out } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let kernel = KernelSpec::new("select", vec![wgsl!("select.wgsl")])
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .access(&[Read, Read, ReadWrite]);
    Ok(vec![kernel.dispatch(vec![Outputs, Value(*x), Value(*out)], lowering.elementwise(*out))])
}
