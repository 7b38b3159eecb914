//! All that happens to a head of RWKV-7 between its projections and the output projection, for sequences of one token each.
//! See `wgsl/head7/head7.wgsl`.
//!
//! There are two kernels: one reads w, a, g and the gate of the value residual as values, the other makes them itself, by the
//! second products of their low-rank pairs.

use super::matmul::{MatMul, product};
use super::prelude::*;
use super::recurrence::RecurrenceShape;
use crate::quant::{PIECE_LEN, is_quantized};

/// The head that makes w, a, g and the gate itself.
pub(super) static WITH_LOW_RANK: Rule = Rule {
    name: "head7 with low-rank products",
    pattern: Pattern::Around(matches_with_low_rank),
    fits: |graph, nodes, target| {
        target.has_few_rows && !target.holds && target.whole_layers && fits_heads(graph, nodes, target)
    },
    forms: Forms::ANY,
    lower: |unit, lowering| lower(unit, lowering, true),
};

/// The head that reads all operands as values.
pub(super) static OF_VALUES: Rule = Rule {
    name: "head7 of values",
    pattern: Pattern::Around(|graph, wkv| Some(Head::around(graph, wkv)?.nodes())),
    fits: |graph, nodes, target| target.features.max_bindings >= N_BINDINGS && fits_heads(graph, nodes, target),
    forms: Forms::ANY,
    lower: |unit, lowering| lower(unit, lowering, false),
};

/// Storage buffers that the head of values binds.
const N_BINDINGS: u32 = 13;

/// The operations of a head, by node.
struct Head {
    /// The mix of v with the first layer's, except in that layer.
    residual: Option<usize>,
    key: usize,
    wkv: usize,
    gate: usize,
}

impl Head {
    /// The operations around the recurrence `wkv`, if they read each other's results and nothing else does.
    fn around(graph: &Graph, wkv: usize) -> Option<Head> {
        let Op::Wkv7 { r, k, v, kk, a, head_size, out: y, .. } = graph.op(wkv) else { return None };
        let key = graph.maker(*kk)?;
        let gate = *graph.readers(*y).first()?;
        let Op::KeyControl { a: key_a, kk: key_kk, k_out, .. } = graph.op(key) else { return None };
        let Op::NormBonusGate { y: gate_y, r: gate_r, k: gate_k, v: gate_v, .. } = graph.op(gate) else {
            return None;
        };
        let is_one_head = (key_a, key_kk, k_out) == (a, kk, k) && [gate_y, gate_r, gate_k, gate_v] == [y, r, k, v];
        let is_private = graph.only(*kk, &[wkv]) && graph.only(*k, &[wkv, gate]) && graph.only(*y, &[gate]);
        if !is_one_head || !is_private || !head_size.is_multiple_of(4) {
            return None;
        }
        let residual = graph
            .maker(*v)
            .filter(|&maker| matches!(graph.op(maker), Op::ValueResidual { .. }) && graph.only(*v, &[wkv, gate]));
        Some(Head { residual, key, wkv, gate })
    }

    fn nodes(&self) -> Vec<usize> {
        self.residual.into_iter().chain([self.key, self.wkv, self.gate]).collect()
    }
}

/// The head around `wkv` with the products that make w, a, g and the gate before it: float matrices whose inputs are made
/// together with r, k and v.
fn matches_with_low_rank(graph: &Graph, wkv: usize) -> Option<Vec<usize>> {
    let head = Head::around(graph, wkv)?;
    let (Op::Wkv7 { r, w, v, a, .. }, Op::KeyControl { k, .. }, Op::NormBonusGate { g, .. }) =
        (graph.op(wkv), graph.op(head.key), graph.op(head.gate))
    else {
        return None;
    };
    let mut wanted = vec![
        (*w, vec![wkv], Activation::Decay),
        (*a, vec![head.key, wkv], Activation::Sigmoid),
        (*g, vec![head.gate], Activation::Identity),
    ];
    let mut own_value = *v;
    if let Some(residual) = head.residual {
        let Op::ValueResidual { v, gate, .. } = graph.op(residual) else { return None };
        wanted.push((*gate, vec![residual], Activation::Sigmoid));
        own_value = *v;
    }
    // What makes the input of the product that makes `id`.
    let source = |id: ValueId| match graph.op(graph.maker(id)?) {
        Op::MatMul { x, .. } => graph.maker(*x),
        _ => None,
    };
    let shift = source(*r)?;
    let mut nodes = vec![];
    for (id, readers, outer) in wanted {
        let node = graph.maker(id)?;
        let Op::MatMul { weight, x, activation, residual: None, .. } = graph.op(node) else { return None };
        let weight = graph.plan.weight(*weight);
        let fits = *activation == outer && graph.only(id, &readers) && graph.only(*x, &[node]);
        let is_float = !is_quantized(weight) && weight.n_cols().is_multiple_of(4);
        if !fits || !is_float || source(*x) != Some(shift) {
            return None;
        }
        nodes.push(node);
    }
    nodes.extend(head.nodes());
    [*k, own_value].iter().all(|&id| source(id) == Some(shift)).then_some(nodes)
}

/// Whether a workgroup can hold a head, in steps whose sequences have one token each.
fn fits_heads(graph: &Graph, nodes: &[usize], target: &Target) -> bool {
    let is_small = |&node: &usize| match graph.op(node) {
        Op::Wkv7 { head_size, .. } => *head_size <= RecurrenceShape::max_head_size(&target.features),
        _ => true,
    };
    target.one_token_each && nodes.iter().all(is_small)
}

/// The operations of a unit that either rule has matched.
struct Operations<'a> {
    low_rank: Vec<MatMul<'a>>,
    residual: Option<&'a Op>,
    key: &'a Op,
    wkv: &'a Op,
    gate: &'a Op,
}

fn operations<'a>(unit: &Unit, lowering: &Lowering<'a>, with_low_rank: bool) -> Result<Operations<'a>, Unlowered> {
    let is_product = |node: &&usize| matches!(lowering.op(**node), Op::MatMul { .. });
    let (products, rest): (Vec<_>, Vec<_>) = unit.nodes.iter().partition(is_product);
    let rest: Vec<&Op> = rest.into_iter().map(|&node| lowering.op(node)).collect();
    let (residual, rest) = match &rest[..] {
        [residual, rest @ ..] if rest.len() == 3 => (Some(*residual), rest),
        rest => (None, rest),
    };
    let &[key, wkv, gate] = rest else { return Err(OTHER_OPERATIONS) };
    if products.is_empty() == with_low_rank {
        return Err(OTHER_OPERATIONS);
    }
    let low_rank = products.into_iter().map(|&node| product(lowering, node)).collect::<Result<_, _>>()?;
    Ok(Operations { low_rank, residual, key, wkv, gate })
}

fn lower(unit: &Unit, lowering: &Lowering, with_low_rank: bool) -> Result<Vec<Dispatch>, Unlowered> {
    let Operations { low_rank, residual, key, wkv, gate } = operations(unit, lowering, with_low_rank)?;
    let (
        Op::KeyControl { k, k_k, k_a, .. },
        Op::Wkv7 { r, w, v, a, state, head_size, .. },
        Op::NormBonusGate { g, r_k, bias, eps, out, .. },
    ) = (key, wkv, gate)
    else {
        return Err(OTHER_OPERATIONS);
    };
    let (v, mixed) = match residual {
        Some(Op::ValueResidual { v, v_first, gate, .. }) => (v, Some((v_first, gate))),
        Some(_) => return Err(OTHER_OPERATIONS),
        None => (v, None),
    };
    let n_cols = lowering.n_cols(*out);
    let shape = RecurrenceShape::of_head(*head_size, lowering.target.classes[0], &lowering.target.features);
    let mut modules = shape.head_modules();
    modules.extend([wgsl!("weight/piece.wgsl"), wgsl!("head7/head7.wgsl")]);
    let mut access = vec![ReadWrite, Read, ReadWrite, Read, Read];
    let vectors = [Vectors { first: *k_k, last: *k_a }, Vectors { first: *r_k, last: *bias }];
    let mut bindings = vec![State(*state), Tokens, Binding::Region(*out)];
    bindings.extend(vectors);
    let n_quads = head_size.div_ceil(4 * shape.n_lanes);
    let mut arguments = vec![out_place(lowering, *out)];
    let (mut n_weight_bytes, mut constants) = (0, vec![("QUADS", n_quads as f64)]);
    if let Some(first) = low_rank.first() {
        arguments.extend(low_rank_operands(lowering, [*r, *k, *v], &low_rank)?);
        modules.extend([wgsl!("matmul/activation.wgsl"), wgsl!("weight/float_kinds.wgsl")]);
        modules.extend([wgsl!("head7/low_rank.wgsl"), wgsl!("matmul/floats.wgsl"), wgsl!("head/values_together.wgsl")]);
        access.extend([Read, Read, Read, Read]);
        let block = Binding::Block { weight: first.weight, split: 0 };
        let v_first = mixed.map_or(block.clone(), |(v_first, _)| Value(*v_first));
        bindings.extend([block.clone(), Binding::Region(*r), block, v_first]);
        let n_pieces = low_rank.iter().map(|p| p.n_cols.div_ceil(PIECE_LEN)).sum::<usize>();
        constants.push(("N_PAIR_PIECES", n_pieces as f64));
        n_weight_bytes = low_rank.iter().map(|p| (p.n_rows * p.layout.row_n_bytes) as u64).sum();
    } else {
        modules.extend([wgsl!("head7/values.wgsl"), wgsl!("head/values.wgsl")]);
        access.resize(access.len() + 8, Read);
        bindings.extend([r, w, k, a, v, g].map(|id| Value(*id)));
        let (v_first, gate) = mixed.unwrap_or((v, v));
        bindings.extend([Value(*v_first), Value(*gate)]);
    }
    let mut kernel = shape
        .constants(KernelSpec::new("head", modules))
        .constant("N_COLS", n_cols as f64)
        .constant("EPS", f64::from(*eps))
        .constant("VECTOR_STRIDE", lowering.vector_stride(n_cols))
        .constant("IS_MIXED", f64::from(mixed.is_some()))
        .access(&access);
    kernel.arguments = arguments;
    kernel.constants.extend(constants);
    Ok(vec![Dispatch { n_weight_bytes, ..kernel.dispatch(bindings, lowering.heads(*out, *head_size)) }])
}

/// The arguments of `wgsl/head7/low_rank.wgsl` and `wgsl/head/values_together.wgsl`: where the operands lie.
///
/// # Errors
/// If something is not where that kernel reaches it.
fn low_rank_operands(
    lowering: &Lowering,
    [r, k, v]: [ValueId; 3],
    low_rank: &[MatMul],
) -> Result<[Argument; 2], Unlowered> {
    /// Pairs of w, a, g and the gate of the value residual.
    const N_PAIRS: usize = 4;

    let vec4 = |n_bytes: u64| (n_bytes / 16) as u32;
    let floats = |id: ValueId| Ok(vec4(lowering.floats(id)?));
    let (mut first, mut pairs) = (0, vec![]);
    for pair in low_rank {
        let kind = pair.layout.device_type().float_kind.ok_or(Unlowered("a low-rank matrix is quantized"))?;
        let weights = vec4(lowering.offset(pair.weight, 0)?);
        pairs.push([weights, kind, floats(pair.x)?, lowering.bias(pair.bias)?, pair.n_cols as u32, first]);
        first += pair.n_cols.div_ceil(PIECE_LEN) as u32;
    }
    // A pair that there is not begins after all others.
    pairs.resize(N_PAIRS, [0, 0, 0, NOTHING, 0, first]);
    Ok([
        Argument::one("VALUES", "Values", &[floats(r)?, floats(k)?, floats(v)?]),
        Argument::array("PAIRS", "Pair", pairs, N_PAIRS),
    ])
}
