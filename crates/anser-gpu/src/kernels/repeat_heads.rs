//! Heads that serve several others. See `wgsl/repeat_heads.wgsl`.

use super::prelude::*;

pub(super) static REPEAT_HEADS: Rule =
    Rule { name: "repeat_heads", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::RepeatHeads { x, head_size, out } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let kernel = KernelSpec::new("repeat_heads", vec![wgsl!("repeat_heads.wgsl")])
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .constant("N_COLS_IN", lowering.n_cols(*x) as f64)
        .constant("HEAD_SIZE", *head_size as f64)
        .access(&[Read, ReadWrite]);
    Ok(vec![kernel.dispatch(vec![Value(*x), Value(*out)], lowering.elementwise(*out))])
}
