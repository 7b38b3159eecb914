//! A head of RWKV-5 or RWKV-6 between its projections and the output projection, for sequences of one token each: the recurrence,
//! the norm per head, and the gate. See `wgsl/head6/head6.wgsl`.
//!
//! There are two kernels: one reads the decay w as a value or a vector, the other makes it itself, by the second product of its
//! low-rank pair.

use super::matmul::product;
use super::prelude::*;
use super::recurrence::RecurrenceShape;
use crate::quant::is_quantized;
use anser_model::Decay;

/// The head that makes w itself.
pub(super) static WITH_LOW_RANK: Rule = Rule {
    name: "head6 with a low-rank product",
    pattern: Pattern::Around(matches_with_low_rank),
    fits: |graph, nodes, target| {
        target.has_few_rows && !target.holds && target.whole_layers && fits(graph, &nodes[1..], target)
    },
    forms: Forms::ANY,
    lower: |unit, lowering| {
        let [product, wkv, gate] = unit.nodes[..] else { return Err(OTHER_OPERATIONS) };
        lower([wkv, gate], Some(product), lowering)
    },
};

/// The head that reads all operands.
pub(super) static OF_VALUES: Rule = Rule {
    name: "head6 of values",
    pattern: Pattern::Around(matches),
    fits: |graph, nodes, target| target.features.max_bindings >= N_BINDINGS && fits(graph, nodes, target),
    forms: Forms::ANY,
    lower: |unit, lowering| {
        let [wkv, gate] = unit.nodes[..] else { return Err(OTHER_OPERATIONS) };
        lower([wkv, gate], None, lowering)
    },
};

/// Storage buffers that the head of values binds.
const N_BINDINGS: u32 = 10;

/// `[wkv, gate]`, around the recurrence.
fn matches(graph: &Graph, wkv: usize) -> Option<Vec<usize>> {
    let Op::Wkv6 { head_size, out: y, .. } = graph.op(wkv) else { return None };
    let gate = *graph.readers(*y).first()?;
    let is_gate = matches!(graph.op(gate), Op::NormGate { .. }) && graph.only(*y, &[gate]);
    (is_gate && head_size.is_multiple_of(4)).then(|| vec![wkv, gate])
}

/// `[product, wkv, gate]`: the head with the product of floats that makes w. That one's input, r, k, v and g are products of mixes
/// of the same rows, so that one unit makes them all.
fn matches_with_low_rank(graph: &Graph, wkv: usize) -> Option<Vec<usize>> {
    let [wkv, gate] = matches(graph, wkv)?[..] else { return None };
    let (Op::Wkv6 { r, w: Decay::OfToken(w), k, v, .. }, Op::NormGate { g, .. }) = (graph.op(wkv), graph.op(gate))
    else {
        return None;
    };
    let decay = graph.maker(*w)?;
    let Op::MatMul { weight, x: z, bias: Some(_), activation: Activation::Decay6, residual: None, .. } =
        graph.op(decay)
    else {
        return None;
    };
    let weight = graph.plan.weight(*weight);
    let is_float = !is_quantized(weight) && weight.n_cols().is_multiple_of(4);
    if !is_float || !graph.only(*w, &[wkv]) || !graph.only(*z, &[decay]) {
        return None;
    }
    // The row before, of whose mix the product that makes `id` is.
    let source = |id: ValueId| match graph.op(graph.maker(id)?) {
        Op::MatMul { x, residual: None, .. } => match graph.op(graph.maker(*x)?) {
            Op::Mix { x_prev, .. } => Some(*x_prev),
            _ => None,
        },
        _ => None,
    };
    let shift = source(*z)?;
    [Some(*r), Some(*k), Some(*v), *g]
        .into_iter()
        .flatten()
        .all(|id| source(id) == Some(shift))
        .then(|| vec![decay, wkv, gate])
}

/// Whether a workgroup can hold a head, in steps whose sequences have one token each.
fn fits(graph: &Graph, nodes: &[usize], target: &Target) -> bool {
    let Op::Wkv6 { head_size, .. } = graph.op(nodes[0]) else { return false };
    target.one_token_each && *head_size <= RecurrenceShape::max_head_size(&target.features)
}

fn lower(nodes: [usize; 2], decay: Option<usize>, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let [Op::Wkv6 { r, w, k, v, u, state, head_size, .. }, Op::NormGate { g, weight, bias, eps, out, .. }] =
        nodes.map(|node| lowering.op(node))
    else {
        return Err(OTHER_OPERATIONS);
    };
    let n_cols = lowering.n_cols(*out);
    let shape = RecurrenceShape::of_head(*head_size, lowering.target.classes[0], &lowering.target.features);
    // An absent gate still needs an operand; the kernel does not use it.
    let [r, k, v, g] = [*r, *k, *v, g.unwrap_or(*v)];
    let mut modules = shape.head_modules();
    modules.extend([wgsl!("weight/piece.wgsl"), wgsl!("head6/head6.wgsl")]);
    let mut access = vec![ReadWrite, Read, ReadWrite, Read, Read];
    let norm = Vectors { first: *weight, last: *bias };
    let mut bindings = vec![State(*state), Tokens, Region(*out), Vector(*u), norm];
    let (mut arguments, mut constants, mut n_weight_bytes) = (vec![out_place(lowering, *out)], vec![], 0);
    if let Some(decay) = decay {
        let decay = product(lowering, decay)?;
        let kind = decay.layout.device_type().float_kind.ok_or(Unlowered("a low-rank matrix is quantized"))?;
        let vec4 = |id: ValueId| match lowering.region(id) == lowering.region(decay.x) {
            true => Ok((lowering.floats(id)? / 16) as u32),
            false => Err(Unlowered("the operands of a head lie in several buffers")),
        };
        let weights = (lowering.offset(decay.weight, 0)? / 16) as u32;
        arguments.push(Argument::one("VALUES", "Values", &[vec4(r)?, vec4(k)?, vec4(v)?]));
        let operands = [vec4(g)?, vec4(decay.x)?, weights, lowering.bias(decay.bias)?];
        arguments.push(Argument::one("OPERANDS", "Operands", &operands));
        constants.extend([("KIND", f64::from(kind)), ("RANK", decay.n_cols as f64)]);
        modules.extend([wgsl!("weight/float_kinds.wgsl"), wgsl!("weight/low_rank.wgsl"), wgsl!("head6/low_rank.wgsl")]);
        modules.extend([wgsl!("matmul/floats.wgsl"), wgsl!("head/values_together.wgsl")]);
        let block = Binding::Block { weight: decay.weight, split: 0 };
        bindings.extend([block.clone(), Region(decay.x), block]);
        n_weight_bytes = (decay.n_rows * decay.layout.row_n_bytes) as u64;
    } else {
        let (w, is_of_token) = match w {
            Decay::OfToken(w) => (Value(*w), true),
            Decay::Fixed(w) => (Vector(*w), false),
        };
        constants.push(("DECAY_OF_TOKEN", f64::from(is_of_token)));
        modules.extend([wgsl!("head6/values.wgsl"), wgsl!("head/values.wgsl")]);
        bindings.extend([Value(r), Value(k), Value(v), w, Value(g)]);
    }
    access.resize(bindings.len(), Read);
    let has_gate = matches!(lowering.op(nodes[1]), Op::NormGate { g: Some(_), .. });
    let mut kernel = shape
        .constants(KernelSpec::new("head6", modules))
        .constant("QUADS", head_size.div_ceil(4 * shape.n_lanes) as f64)
        .constant("N_COLS", n_cols as f64)
        .constant("EPS", f64::from(*eps))
        .constant("VECTOR_STRIDE", lowering.vector_stride(n_cols))
        .constant("HAS_GATE", f64::from(has_gate))
        .access(&access);
    kernel.arguments = arguments;
    kernel.constants.extend(constants);
    Ok(vec![Dispatch { n_weight_bytes, ..kernel.dispatch(bindings, lowering.heads(*out, *head_size)) }])
}
