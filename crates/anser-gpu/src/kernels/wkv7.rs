//! The recurrence of RWKV-7. See `wgsl/wkv7/wkv7.wgsl`.

use super::prelude::*;
use super::recurrence::RecurrenceShape;

pub(super) static WKV7: Rule = Rule { name: "wkv7", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::Wkv7 { r, w, k, v, kk, a, state, head_size, out } = lowering.op(unit.nodes[0]) else {
        return Err(OTHER_OPERATIONS);
    };
    let shape = RecurrenceShape::of_rows(*head_size, &lowering.target.features);
    let [state_module, inputs_module] = match head_size.is_multiple_of(4) {
        true => [wgsl!("head/state_vec4.wgsl"), wgsl!("wkv7/inputs_vec4.wgsl")],
        false => [wgsl!("wkv7/state_scalar.wgsl"), wgsl!("wkv7/inputs_scalar.wgsl")],
    };
    let modules = shape.modules([state_module, inputs_module, wgsl!("wkv7/wkv7.wgsl")]);
    let kernel = shape
        .constants(KernelSpec::new("wkv7", modules))
        .constant("N_COLS", lowering.n_cols(*out) as f64)
        .constant("BLOCK_LEN", shape.block_len() as f64)
        .access(&[ReadWrite, Read, ReadWrite, Read, Read, Read, Read, Read, Read]);
    let values = [r, w, k, v, kk, a].map(|id| Value(*id));
    let bindings = [State(*state), Sequences, Value(*out)].into_iter().chain(values).collect();
    let n_heads = lowering.n_cols(*out) / head_size;
    let n_parts = head_size.div_ceil(shape.n_rows);
    let grid = [Extent::Fixed(n_heads as u32), Extent::Fixed(n_parts as u32), Extent::Sequences];
    Ok(vec![kernel.dispatch(bindings, grid)])
}
