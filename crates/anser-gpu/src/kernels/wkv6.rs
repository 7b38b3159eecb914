//! The recurrence of RWKV-5 and RWKV-6. See `wgsl/wkv6.wgsl`.

use super::prelude::*;
use anser_model::Decay;

pub(super) static WKV6: Rule = Rule { name: "wkv6", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::Wkv6 { r, w, k, v, u, state, head_size, out } = lowering.op(unit.nodes[0]) else {
        return Err(OTHER_OPERATIONS);
    };
    let (w, is_of_token) = match w {
        Decay::OfToken(w) => (Value(*w), true),
        Decay::Fixed(w) => (Vector(*w), false),
    };
    let max_len = lowering.target.features.max_workgroup_len;
    let workgroup = (head_size.next_power_of_two() as u32).clamp(32, 256).min(max_len);
    let n_cols = lowering.n_cols(*out);
    let kernel = KernelSpec::new("wkv6", vec![wgsl!("step.wgsl"), wgsl!("wkv6.wgsl")])
        .constant("N_COLS", n_cols as f64)
        .constant("HEAD_SIZE", *head_size as f64)
        .constant("DECAY_OF_TOKEN", f64::from(is_of_token))
        .constant("WORKGROUP", f64::from(workgroup))
        .access(&[ReadWrite, Read, ReadWrite, Read, Read, Read, Read, Read]);
    let bindings = vec![State(*state), Sequences, Value(*out), Value(*r), Value(*k), Value(*v), w, Vector(*u)];
    let n_heads = (n_cols / head_size) as u32;
    Ok(vec![kernel.dispatch(bindings, [Extent::Fixed(n_heads), Extent::Fixed(1), Extent::Sequences])])
}
