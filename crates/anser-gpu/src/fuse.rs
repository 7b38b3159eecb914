//! Finds operations that one kernel can do together, and puts the rest in an order that lets products share a dispatch.

use crate::matmul::{PIECE_LEN, is_quantized};
use crate::schedule::Unit;
use anser_model::{Activation, Op, Plan, Rows, ValueId};

/// What kernels can do together on a device, for a kind of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fusion {
    /// Norm and shift of rows of so many columns at most,
    pub(crate) max_cols: usize,
    /// and with so many mixes.
    pub(crate) max_mixes: usize,
    /// Heads up to this size, in steps whose sequences have one token each,
    pub(crate) max_head_size: usize,
    /// if all their operands are values
    pub(crate) heads_of_values: bool,
    /// or if they make some by low-rank products.
    pub(crate) heads_of_low_rank: bool,
    /// Products of quantized weights apart from others: each have a kernel of their own.
    pub(crate) quantized_apart: bool,
    /// Norm and shift of rows of so many columns at most by the products that read them.
    pub(crate) max_shifted_cols: usize,
    /// Norms of chosen rows.
    pub(crate) select_norms: bool,
    /// Products of many rows and what comes before them: values between them are kept in halves.
    pub(crate) halves: bool,
}

/// Mixes that there is a kernel for.
const MIXES: [usize; 2] = [1, 6];

/// The plan's units, with as much done together as `fusion` allows.
pub(crate) fn fuse(plan: &Plan, fusion: Fusion) -> Vec<Unit> {
    let uses = Uses::new(plan);
    let mut units: Vec<Unit> = vec![];
    let mut is_taken = vec![false; plan.nodes.len()];
    for node in 0..plan.nodes.len() {
        let found = norm_shift(plan, &uses, fusion, node)
            .or_else(|| head(plan, &uses, fusion, node))
            .or_else(|| select_norm(plan, &uses, fusion, node));
        if let Some(unit) = found {
            unit.nodes().into_iter().for_each(|node| is_taken[node] = true);
            units.push(unit);
        }
    }
    units.extend((0..plan.nodes.len()).filter(|&node| !is_taken[node]).map(Unit::Op));
    units.sort_by_key(|unit| unit.nodes().into_iter().max());
    let units = merge_products(plan, units, fusion.quantized_apart);
    shift_products(plan, &uses, units, fusion.max_shifted_cols)
}

/// Who makes and who reads each value.
struct Uses {
    maker: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
}

impl Uses {
    fn new(plan: &Plan) -> Uses {
        let mut uses = Uses { maker: vec![None; plan.values.len()], readers: vec![vec![]; plan.values.len()] };
        for (i, node) in plan.nodes.iter().enumerate() {
            node.op.outputs().into_iter().for_each(|id| uses.maker[id.index()] = Some(i));
            node.op.inputs().into_iter().for_each(|id| uses.readers[id.index()].push(i));
        }
        uses
    }

    /// Whether just these nodes read the value.
    fn only(&self, id: ValueId, readers: &[usize]) -> bool {
        self.readers[id.index()] == readers
    }
}

/// The token shift `shift` with the norm before it.
fn norm_shift(plan: &Plan, uses: &Uses, fusion: Fusion, shift: usize) -> Option<Unit> {
    let Op::TokenShift { x, mix, prev: None, .. } = &plan.nodes[shift].op else { return None };
    let norm = uses.maker[x.index()]?;
    let fits = MIXES.contains(&mix.len()) && mix.len() <= fusion.max_mixes && plan.value(*x).n_cols <= fusion.max_cols;
    let is_norm = matches!(plan.nodes[norm].op, Op::LayerNorm { .. });
    (fits && is_norm && uses.only(*x, &[shift])).then_some(Unit::NormShift { norm, shift })
}

/// Gives norms and shifts of rows of up to `max_cols` columns to the products that read them, where nobody else does.
fn shift_products(plan: &Plan, uses: &Uses, units: Vec<Unit>, max_cols: usize) -> Vec<Unit> {
    let shifted = |before: &Unit, unit: &Unit| {
        let Unit::NormShift { norm, shift } = *before else { return None };
        let products = match unit {
            Unit::Op(node) if matches!(plan.nodes[*node].op, Op::MatMul { .. }) => vec![*node],
            Unit::MatMuls(nodes) => nodes.clone(),
            _ => return None,
        };
        let results = plan.nodes[shift].op.outputs();
        let fits =
            |id: &ValueId| plan.value(*id).n_cols <= max_cols && plan.value(*id).n_cols.is_multiple_of(PIECE_LEN);
        let is_own = |id: &ValueId| uses.readers[id.index()].iter().all(|reader| products.contains(reader));
        let reads_it = |&node: &usize| match &plan.nodes[node].op {
            Op::MatMul { x, residual, .. } => results.contains(x) && residual.is_none(),
            _ => false,
        };
        let is_whole = results.iter().all(|id| fits(id) && is_own(id)) && products.iter().all(reads_it);
        is_whole.then_some(Unit::ShiftMatMuls { norm, shift, products })
    };
    let mut found: Vec<Unit> = vec![];
    for unit in units {
        match found.last().and_then(|before| shifted(before, &unit)) {
            Some(together) => {
                found.pop();
                found.push(together);
            }
            None => found.push(unit),
        }
    }
    found
}

/// The norm `norm` with the choice of its rows.
fn select_norm(plan: &Plan, uses: &Uses, fusion: Fusion, norm: usize) -> Option<Unit> {
    let Op::LayerNorm { x, .. } = &plan.nodes[norm].op else { return None };
    let select = uses.maker[x.index()]?;
    let fits = fusion.select_norms && plan.value(*x).n_cols <= fusion.max_cols && uses.only(*x, &[norm]);
    (fits && matches!(plan.nodes[select].op, Op::Select { .. })).then_some(Unit::SelectNorm { select, norm })
}

/// The recurrence `wkv` with what surrounds it.
fn head(plan: &Plan, uses: &Uses, fusion: Fusion, wkv: usize) -> Option<Unit> {
    let Op::Wkv7 { r, k, v, kk, a, head_size, out: y, .. } = &plan.nodes[wkv].op else { return None };
    let key = uses.maker[kk.index()]?;
    let gate = *uses.readers[y.index()].first()?;
    let Op::KeyControl { a: key_a, kk: key_kk, k_out, .. } = &plan.nodes[key].op else { return None };
    let Op::NormBonusGate { y: gate_y, r: gate_r, k: gate_k, v: gate_v, .. } = &plan.nodes[gate].op else {
        return None;
    };
    let is_one_head = (key_a, key_kk, k_out) == (a, kk, k) && [gate_y, gate_r, gate_k, gate_v] == [y, r, k, v];
    let is_private = uses.only(*kk, &[wkv]) && uses.only(*k, &[wkv, gate]) && uses.only(*y, &[gate]);
    if !is_one_head || !is_private || *head_size > fusion.max_head_size || !head_size.is_multiple_of(4) {
        return None;
    }
    let residual = uses.maker[v.index()]
        .filter(|&maker| matches!(plan.nodes[maker].op, Op::ValueResidual { .. }) && uses.only(*v, &[wkv, gate]));
    let low_rank = low_rank(plan, uses, residual, [key, wkv, gate]).filter(|_| fusion.heads_of_low_rank);
    if low_rank.is_none() && !fusion.heads_of_values {
        return None;
    }
    Some(Unit::Head { low_rank: low_rank.unwrap_or_default(), residual, key, wkv, gate })
}

/// The products that make w, a, g and the gate of `residual`, if the kernel of a head can compute them: by float matrices,
/// from reductions that are made together with r, k and v.
fn low_rank(plan: &Plan, uses: &Uses, residual: Option<usize>, head: [usize; 3]) -> Option<Vec<usize>> {
    let [key, wkv, gate] = head;
    let (Op::Wkv7 { r, w, v, a, .. }, Op::KeyControl { k, .. }, Op::NormBonusGate { g, .. }) =
        (&plan.nodes[wkv].op, &plan.nodes[key].op, &plan.nodes[gate].op)
    else {
        return None;
    };
    let mut wanted = vec![
        (*w, vec![wkv], Activation::Decay),
        (*a, vec![key, wkv], Activation::Sigmoid),
        (*g, vec![gate], Activation::Identity),
    ];
    let mut own_value = *v;
    if let Some(residual) = residual {
        let Op::ValueResidual { v, gate, .. } = &plan.nodes[residual].op else { return None };
        wanted.push((*gate, vec![residual], Activation::Sigmoid));
        own_value = *v;
    }
    // What makes the input of the product that makes `id`.
    let source = |id: ValueId| match &plan.nodes[uses.maker[id.index()]?].op {
        Op::MatMul { x, .. } => uses.maker[x.index()],
        _ => None,
    };
    let shift = source(*r)?;
    let mut nodes = vec![];
    for (id, readers, outer) in wanted {
        let node = uses.maker[id.index()]?;
        let Op::MatMul { weight, x, activation, residual: None, .. } = &plan.nodes[node].op else { return None };
        let weight = plan.weight(*weight);
        let fits = *activation == outer && uses.only(id, &readers) && uses.only(*x, &[node]);
        let is_float = !is_quantized(weight) && weight.n_cols().is_multiple_of(4);
        if !fits || !is_float || source(*x) != Some(shift) {
            return None;
        }
        nodes.push(node);
    }
    [*k, own_value].iter().all(|&id| source(id) == Some(shift)).then_some(nodes)
}

/// Orders the units so that products whose inputs are there at the same time run together; those of quantized weights apart from
/// others if they have a kernel of their own.
fn merge_products(plan: &Plan, units: Vec<Unit>, quantized_apart: bool) -> Vec<Unit> {
    let mut is_there = vec![true; plan.values.len()];
    for id in plan.nodes.iter().flat_map(|node| node.op.outputs()) {
        is_there[id.index()] = false;
    }
    let product = |unit: &Unit| match unit {
        Unit::Op(node) => match &plan.nodes[*node].op {
            Op::MatMul { weight, out, .. } => {
                let is_apart = quantized_apart && is_quantized(plan.weight(*weight));
                Some((*node, (plan.value(*out).rows, is_apart)))
            }
            _ => None,
        },
        _ => None,
    };
    let mut rest = units;
    let mut ordered = vec![];
    while !rest.is_empty() {
        let is_ready = |unit: &Unit| unit.inputs(plan).into_iter().all(|id| is_there[id.index()]);
        // The plan's order is an order, so the first of the rest is always ready.
        let first = rest.remove(0);
        let unit = match product(&first) {
            None => first,
            Some((node, kind)) => {
                let joins = |unit: &Unit| {
                    product(unit).is_some_and(|(_, k): (usize, (Rows, bool))| k == kind) && is_ready(unit)
                };
                let (joining, others): (Vec<Unit>, Vec<Unit>) = rest.into_iter().partition(joins);
                rest = others;
                let nodes: Vec<usize> = [node].into_iter().chain(joining.iter().flat_map(Unit::nodes)).collect();
                if nodes.len() > 1 { Unit::MatMuls(nodes) } else { first }
            }
        };
        for id in unit.outputs(plan) {
            is_there[id.index()] = true;
        }
        ordered.push(unit);
    }
    ordered
}
