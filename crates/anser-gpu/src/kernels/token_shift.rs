//! See `wgsl/token_shift.wgsl`, one dispatch for each mix, and `wgsl/previous.wgsl` where the row before is a result, too.

use super::prelude::*;

pub(super) static TOKEN_SHIFT: Rule =
    Rule { name: "token_shift", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::TokenShift { x, state, mix, out, prev } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let each = mix.iter().zip(out).enumerate().map(|(i, (mix, out))| {
        let kernel = KernelSpec::new("token_shift", vec![wgsl!("step.wgsl"), wgsl!("token_shift.wgsl")])
            .constant("N_COLS", lowering.n_cols(*out) as f64)
            .constant("WRITES_STATE", f64::from(i == 0))
            .access(&[Read, Read, Read, ReadWrite, ReadWrite]);
        let bindings = vec![Tokens, Value(*x), Vector(*mix), State(*state), Value(*out)];
        kernel.dispatch(bindings, lowering.elementwise(*out))
    });
    let previous = prev.map(|prev| {
        let kernel = KernelSpec::new("previous", vec![wgsl!("step.wgsl"), wgsl!("previous.wgsl")])
            .constant("N_COLS", lowering.n_cols(prev) as f64)
            .access(&[Read, Read, Read, ReadWrite]);
        kernel.dispatch(vec![Tokens, Value(*x), State(*state), Value(prev)], lowering.elementwise(prev))
    });
    Ok(previous.into_iter().chain(each).collect())
}
