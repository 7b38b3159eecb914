//! See `wgsl/key_control.wgsl`.

use super::prelude::*;

pub(super) static KEY_CONTROL: Rule =
    Rule { name: "key_control", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::KeyControl { k, a, k_k, k_a, head_size, kk, k_out } = lowering.op(unit.nodes[0]) else {
        return Err(OTHER_OPERATIONS);
    };
    let kernel = reducing("key_control", wgsl!("key_control.wgsl"), *head_size, &lowering.target.features)
        .constant("N_COLS", lowering.n_cols(*kk) as f64)
        .constant("HEAD_SIZE", *head_size as f64)
        .access(&[Read, Read, Read, Read, ReadWrite, ReadWrite]);
    let bindings = vec![Value(*k), Value(*a), Vector(*k_k), Vector(*k_a), Value(*kk), Value(*k_out)];
    Ok(vec![kernel.dispatch(bindings, lowering.heads(*kk, *head_size))])
}
