//! The five mixes that RWKV-6's projections read, with the second products of the low-rank pairs that make their shares. See
//! `wgsl/mixes.wgsl`.

use super::matmul::{MatMul, product};
use super::prelude::*;
use crate::quant::is_quantized;

pub(super) static MIXES: Rule = Rule {
    name: "mixes",
    pattern: Pattern::Around(matches),
    fits: |_, _, target| target.has_few_rows && target.whole_layers,
    forms: Forms::BYTES,
    lower,
};

/// Most mixes of a row with the one before.
const MAX_MIXES: usize = 5;

/// Places of `wgsl/mix_results.wgsl`.
pub(super) const N_PLACES: usize = 6;

/// Columns of a workgroup.
const COLUMNS: usize = 32;

/// `[product, mix]` of each mix of the same two rows, around the first mix. The products' inputs are made together.
fn matches(graph: &Graph, first: usize) -> Option<Vec<usize>> {
    let Op::Mix { x, x_prev, .. } = graph.op(first) else { return None };
    let is_alike = |&node: &usize| matches!(graph.op(node), Op::Mix { x: a, x_prev: b, .. } if (a, b) == (x, x_prev));
    let mixes: Vec<usize> = graph.readers(*x_prev).iter().copied().filter(is_alike).collect();
    if mixes.first() != Some(&first) || mixes.len() > MAX_MIXES {
        return None;
    }
    let (mut nodes, mut alike) = (vec![], None);
    for mix in mixes {
        let Op::Mix { mix: share, .. } = graph.op(mix) else { return None };
        let product = graph.maker(*share)?;
        let Op::MatMul { weight, x: z, bias: Some(_), activation: Activation::Identity, residual: None, .. } =
            graph.op(product)
        else {
            return None;
        };
        let Op::MatMul { x: source, .. } = graph.op(graph.maker(*z)?) else { return None };
        let weight = graph.plan.weight(*weight);
        let is_private = graph.only(*share, &[mix]) && graph.only(*z, &[product]);
        let is_float = !is_quantized(weight) && weight.n_cols().is_multiple_of(4);
        let kind = (*source, weight.dtype(), weight.n_cols());
        if !is_private || !is_float || *alike.get_or_insert(kind) != kind {
            return None;
        }
        nodes.extend([product, mix]);
    }
    Some(nodes)
}

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let (mut products, mut outs, mut rows) = (vec![], vec![], None);
    for pair in unit.nodes.chunks_exact(2) {
        let Op::Mix { x, x_prev, out, .. } = lowering.op(pair[1]) else { return Err(OTHER_OPERATIONS) };
        products.push(product(lowering, pair[0])?);
        outs.push(*out);
        rows = Some([*x, *x_prev]);
    }
    let (Some([x, x_prev]), [first, ..], [first_out, ..]) = (rows, &products[..], &outs[..]) else {
        return Err(OTHER_OPERATIONS);
    };
    let kind = first.layout.device_type().float_kind.ok_or(Unlowered("a low-rank matrix is quantized"))?;
    let pairs = products.iter().map(|product| operands(product, first, lowering)).collect::<Result<Vec<_>, _>>()?;
    let modules = vec![
        wgsl!("weight/piece.wgsl"),
        wgsl!("weight/float_kinds.wgsl"),
        wgsl!("weight/low_rank.wgsl"),
        wgsl!("halves.wgsl"),
        wgsl!("place.wgsl"),
        wgsl!("bytes.wgsl"),
        wgsl!("bytes_out.wgsl"),
        wgsl!("mix_results.wgsl"),
        wgsl!("mixes.wgsl"),
        wgsl!("matmul/floats.wgsl"),
    ];
    let n_cols = lowering.n_cols(*first_out);
    let kernel = KernelSpec::new("mixes", modules)
        .argument(Argument::array("PAIRS", "Pair", pairs, MAX_MIXES))
        .argument(Argument::array("MIXES", "Place", outs.iter().map(|&id| lowering.place(id)), N_PLACES))
        .constant("N_COLS", n_cols as f64)
        .constant("COLUMNS", COLUMNS as f64)
        .constant("N_MIXES", outs.len() as f64)
        .constant("KIND", f64::from(kind))
        .constant("RANK", first.n_cols as f64)
        .access(&[Read, Read, Read, Read, Read, ReadWrite]);
    let block = Binding::Block { weight: first.weight, split: 0 };
    let bindings = vec![block.clone(), Region(first.x), block, Value(x), Value(x_prev), Region(*first_out)];
    let n_weight_bytes = products.iter().map(|product| (product.n_rows * product.layout.row_n_bytes) as u64).sum();
    let grid = [Extent::Fixed(n_cols.div_ceil(COLUMNS) as u32), lowering.rows(*first_out), Extent::Fixed(1)];
    Ok(vec![Dispatch { n_weight_bytes, ..kernel.dispatch(bindings, grid) }])
}

/// `Pair` of `wgsl/mixes.wgsl`.
///
/// # Errors
/// If an operand is not in the buffer that the first one's is in.
fn operands(product: &MatMul, first: &MatMul, lowering: &Lowering) -> Result<[u32; 3], Unlowered> {
    if lowering.region(product.x) != lowering.region(first.x) {
        return Err(Unlowered("the inputs of low-rank products lie in several buffers"));
    }
    let vec4 = |n_bytes: u64| (n_bytes / 16) as u32;
    let weights = vec4(lowering.offset(product.weight, 0)?);
    Ok([weights, vec4(lowering.floats(product.x)?), lowering.bias(product.bias)?])
}
