//! See `wgsl/norm_bonus_gate/norm_bonus_gate.wgsl`.

use super::prelude::*;

pub(super) static NORM_BONUS_GATE: Rule =
    Rule { name: "norm_bonus_gate", pattern: Pattern::Op, fits: always, forms: Forms::HALVES, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::NormBonusGate { y, r, k, v, g, r_k, weight, bias, eps, head_size, out } = lowering.op(unit.nodes[0]) else {
        return Err(OTHER_OPERATIONS);
    };
    let module = wgsl!("norm_bonus_gate/norm_bonus_gate.wgsl");
    let mut kernel = reducing("norm_bonus_gate", module, *head_size, &lowering.target.features)
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .constant("HEAD_SIZE", *head_size as f64)
        .constant("EPS", f64::from(*eps))
        .access(&[Read, Read, Read, Read, Read, Read, Read, Read, ReadWrite]);
    add_out(&mut kernel.modules, lowering.schedule.is_in_halves(*out));
    let values = [y, r, k, v, g].map(|id| Value(*id));
    let vectors = [r_k, weight, bias].map(|id| Vector(*id));
    let bindings = values.into_iter().chain(vectors).chain([lowering.value(*out)]).collect();
    Ok(vec![kernel.dispatch(bindings, lowering.heads(*out, *head_size))])
}
