//! A product of two values, with a factor and a residual. See `wgsl/gate.wgsl`.

use super::prelude::*;

pub(super) static GATE: Rule = Rule { name: "gate", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::Gate { gate, x, factor, residual, out } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let kernel = KernelSpec::new("gate", vec![wgsl!("gate.wgsl")])
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .constant("FACTOR", f64::from(*factor))
        .constant("HAS_RESIDUAL", f64::from(residual.is_some()))
        .access(&[Read, Read, Read, ReadWrite]);
    // An absent residual still needs a buffer to bind; the kernel does not use it.
    let bindings = vec![Value(*gate), Value(*x), Value(residual.unwrap_or(*x)), Value(*out)];
    Ok(vec![kernel.dispatch(bindings, lowering.elementwise(*out))])
}
