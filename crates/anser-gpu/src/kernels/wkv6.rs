//! The recurrence of RWKV-5 and RWKV-6. See `wgsl/wkv6.wgsl`.

use super::prelude::*;
use super::recurrence::RecurrenceShape;
use anser_model::Decay;

pub(super) static WKV6: Rule = Rule { name: "wkv6", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::Wkv6 { r, w, k, v, u, state, head_size, out } = lowering.op(unit.nodes[0]) else {
        return Err(OTHER_OPERATIONS);
    };
    if !head_size.is_multiple_of(4) {
        return Err(Unlowered("its heads have no multiple of 4 columns"));
    }
    let (w, is_of_token) = match w {
        Decay::OfToken(w) => (Value(*w), true),
        Decay::Fixed(w) => (Vector(*w), false),
    };
    let shape = RecurrenceShape::of_rows(*head_size, &lowering.target.features);
    let modules = shape.modules([wgsl!("head/state_vec4.wgsl"), wgsl!("wkv6.wgsl")]);
    let n_cols = lowering.n_cols(*out);
    let kernel = shape
        .constants(KernelSpec::new("wkv6", modules))
        .constant("N_COLS", n_cols as f64)
        .constant("DECAY_OF_TOKEN", f64::from(is_of_token))
        .access(&[ReadWrite, Read, ReadWrite, Read, Read, Read, Read, Read]);
    let bindings = vec![State(*state), Sequences, Value(*out), Value(*r), Value(*k), Value(*v), w, Vector(*u)];
    let [n_heads, n_parts] = [n_cols / head_size, head_size.div_ceil(shape.n_rows)].map(|n| Extent::Fixed(n as u32));
    Ok(vec![kernel.dispatch(bindings, [n_heads, n_parts, Extent::Sequences])])
}
