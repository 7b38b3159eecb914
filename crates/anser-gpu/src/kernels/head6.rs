//! A head of RWKV-5 or RWKV-6 between its projections and the output projection, for sequences of one token each: the recurrence,
//! the norm per head, and the gate. See `wgsl/head6.wgsl`.

use super::prelude::*;
use super::recurrence::RecurrenceShape;
use anser_model::Decay;

pub(super) static HEAD6: Rule =
    Rule { name: "head6", pattern: Pattern::Around(matches), fits, forms: Forms::ANY, lower };

/// Storage buffers that the kernel binds.
const N_BINDINGS: u32 = 10;

/// `[wkv, gate]`, around the recurrence.
fn matches(graph: &Graph, wkv: usize) -> Option<Vec<usize>> {
    let Op::Wkv6 { head_size, out: y, .. } = graph.op(wkv) else { return None };
    let gate = *graph.readers(*y).first()?;
    let is_gate = matches!(graph.op(gate), Op::NormGate { .. }) && graph.only(*y, &[gate]);
    (is_gate && head_size.is_multiple_of(4)).then(|| vec![wkv, gate])
}

fn fits(graph: &Graph, nodes: &[usize], target: &Target) -> bool {
    let Op::Wkv6 { head_size, .. } = graph.op(nodes[0]) else { return false };
    target.one_token_each
        && target.features.max_bindings >= N_BINDINGS
        && *head_size <= RecurrenceShape::max_head_size(&target.features)
}

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let [Op::Wkv6 { r, w, k, v, u, state, head_size, .. }, Op::NormGate { g, weight, bias, eps, out, .. }] =
        [0, 1].map(|i| lowering.op(unit.nodes[i]))
    else {
        return Err(OTHER_OPERATIONS);
    };
    let (w, is_of_token) = match w {
        Decay::OfToken(w) => (Value(*w), true),
        Decay::Fixed(w) => (Vector(*w), false),
    };
    let n_cols = lowering.n_cols(*out);
    let shape = RecurrenceShape::of_head(*head_size, lowering.target.classes[0], &lowering.target.features);
    let mut modules = shape.head_modules();
    modules.push(wgsl!("head6/head6.wgsl"));
    let kernel = shape
        .constants(KernelSpec::new("head6", modules))
        .argument(out_place(lowering, *out))
        .constant("QUADS", head_size.div_ceil(4 * shape.n_lanes) as f64)
        .constant("N_COLS", n_cols as f64)
        .constant("EPS", f64::from(*eps))
        .constant("VECTOR_STRIDE", lowering.vector_stride(n_cols))
        .constant("DECAY_OF_TOKEN", f64::from(is_of_token))
        .constant("HAS_GATE", f64::from(g.is_some()))
        .access(&[ReadWrite, Read, ReadWrite, Read, Read, Read, Read, Read, Read, Read]);
    let norm = Vectors { first: *weight, last: *bias };
    // An absent gate still needs a buffer to bind; the kernel does not use it.
    let gate = Value(g.unwrap_or(*v));
    let bindings =
        vec![State(*state), Tokens, Region(*out), Value(*r), Value(*k), Value(*v), w, Vector(*u), gate, norm];
    Ok(vec![kernel.dispatch(bindings, lowering.heads(*out, *head_size))])
}
