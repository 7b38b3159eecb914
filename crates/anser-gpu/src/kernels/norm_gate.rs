//! Norm per head and gate of RWKV-5 and RWKV-6. See `wgsl/norm_gate.wgsl`.

use super::prelude::*;

pub(super) static NORM_GATE: Rule =
    Rule { name: "norm_gate", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::NormGate { y, g, weight, bias, eps, head_size, out } = lowering.op(unit.nodes[0]) else {
        return Err(OTHER_OPERATIONS);
    };
    let kernel = reducing("norm_gate", wgsl!("norm_gate.wgsl"), *head_size, &lowering.target.features)
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .constant("HEAD_SIZE", *head_size as f64)
        .constant("EPS", f64::from(*eps))
        .constant("HAS_GATE", f64::from(g.is_some()))
        .access(&[Read, Read, Read, Read, ReadWrite]);
    // An absent gate still needs a buffer to bind; the kernel does not use it.
    let bindings = vec![Value(*y), Value(g.unwrap_or(*y)), Vector(*weight), Vector(*bias), Value(*out)];
    Ok(vec![kernel.dispatch(bindings, lowering.heads(*out, *head_size))])
}
