//! A mix of two rows by each token's own shares: x + (x_prev − x) ∘ mix, computed as a value residual is. See
//! `wgsl/value_residual.wgsl`.

use super::prelude::*;

pub(super) static MIX: Rule = Rule { name: "mix", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::Mix { x, x_prev, mix, out } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let kernel = KernelSpec::new("value_residual", vec![wgsl!("value_residual.wgsl")])
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .access(&[Read, Read, Read, ReadWrite]);
    let bindings = [x, x_prev, mix, out].map(|id| Value(*id)).to_vec();
    Ok(vec![kernel.dispatch(bindings, lowering.elementwise(*out))])
}
