//! An activation by itself, with a residual. See `wgsl/activate.wgsl`.

use super::matmul::activation_number;
use super::prelude::*;

pub(super) static ACTIVATE: Rule =
    Rule { name: "activate", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::Activate { x, activation, residual, out } = lowering.op(unit.nodes[0]) else {
        return Err(OTHER_OPERATIONS);
    };
    let kernel = KernelSpec::new("activate", vec![wgsl!("matmul/activation.wgsl"), wgsl!("activate.wgsl")])
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .constant("ACTIVATION", f64::from(activation_number(*activation)))
        .constant("HAS_RESIDUAL", f64::from(residual.is_some()))
        .access(&[Read, Read, ReadWrite]);
    // An absent residual still needs a buffer to bind; the kernel does not use it.
    let bindings = vec![Value(*x), Value(residual.unwrap_or(*x)), Value(*out)];
    Ok(vec![kernel.dispatch(bindings, lowering.elementwise(*out))])
}
