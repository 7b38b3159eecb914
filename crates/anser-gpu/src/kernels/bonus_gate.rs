//! The bonus of the current token and the gate of RWKV-7 without its norm. See `wgsl/bonus_gate.wgsl`.

use super::prelude::*;

pub(super) static BONUS_GATE: Rule =
    Rule { name: "bonus_gate", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::BonusGate { y, r, k, v, g, r_k, head_size, out } = lowering.op(unit.nodes[0]) else {
        return Err(OTHER_OPERATIONS);
    };
    let kernel = reducing("bonus_gate", wgsl!("bonus_gate.wgsl"), *head_size, &lowering.target.features)
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .constant("HEAD_SIZE", *head_size as f64)
        .constant("HAS_GATE", f64::from(g.is_some()))
        .access(&[Read, Read, Read, Read, Read, Read, ReadWrite]);
    // An absent gate still needs a buffer to bind; the kernel does not use it.
    let mut bindings = [*y, *r, *k, *v, g.unwrap_or(*y)].map(Value).to_vec();
    bindings.extend([Vector(*r_k), Value(*out)]);
    Ok(vec![kernel.dispatch(bindings, lowering.heads(*out, *head_size))])
}
