//! The recurrence of RWKV-4. See `wgsl/wkv4.wgsl`.

use super::prelude::*;

pub(super) static WKV4: Rule = Rule { name: "wkv4", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    /// Channels of a workgroup, one for each thread.
    const WORKGROUP: u32 = 64;

    let Op::Wkv4 { k, v, w, u, state, out } = lowering.op(unit.nodes[0]) else { return Err(OTHER_OPERATIONS) };
    let n_cols = lowering.n_cols(*out);
    let kernel = KernelSpec::new("wkv4", vec![wgsl!("step.wgsl"), wgsl!("wkv4.wgsl")])
        .constant("N_COLS", n_cols as f64)
        .constant("WORKGROUP", f64::from(WORKGROUP))
        .access(&[ReadWrite, Read, ReadWrite, Read, Read, Read, Read]);
    let bindings = vec![State(*state), Sequences, Value(*out), Value(*k), Value(*v), Vector(*w), Vector(*u)];
    let n_parts = (n_cols as u32).div_ceil(WORKGROUP);
    Ok(vec![kernel.dispatch(bindings, [Extent::Fixed(n_parts), Extent::Fixed(1), Extent::Sequences])])
}
