//! A row times its token's own matrix, of RWKV-7a. See `wgsl/token_matrix.wgsl`.

use super::prelude::*;

pub(super) static TOKEN_MATRIX: Rule =
    Rule { name: "token_matrix", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::TokenMatrix { x, matrix, out } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let kernel = KernelSpec::new("token_matrix", vec![wgsl!("token_matrix.wgsl")])
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .access(&[Read, Read, ReadWrite]);
    Ok(vec![kernel.dispatch(vec![Value(*x), Value(*matrix), Value(*out)], lowering.elementwise(*out))])
}
