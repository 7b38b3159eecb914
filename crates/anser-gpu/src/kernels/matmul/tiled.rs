//! Products of many tokens by tiles in workgroup memory, see `wgsl/matmul/tiled.wgsl`.

use super::form::TiledShape;
use super::{MatMul, spec, target_rows};
use crate::compile::dispatch::{Binding, Dispatch, Extent};
use std::ops::Range;

/// The dispatches of a product: one for each row range of its matrix.
pub(super) fn lower(op: &MatMul, shape: TiledShape) -> Vec<Dispatch> {
    let [tile_rows, tile_tokens] = shape.tile();
    let product = |(split, rows): (usize, &Range<usize>)| {
        let matrix = Binding::Matrix { weight: op.weight, split };
        // Absent operands still need a buffer to bind; the kernel does not read it.
        let bias = op.bias.map_or(matrix.clone(), Binding::Vector);
        let residual = op.residual.map_or(matrix.clone(), Binding::Value);
        let out = Binding::Value(op.out);
        let bindings = vec![matrix, Binding::Value(op.x), bias, residual, out, Binding::Step, target_rows(op, rows)];
        let tokens = Extent::Rows { rows: op.rows, per_workgroup: tile_tokens };
        let grid = [tokens, Extent::Fixed((rows.len() as u32).div_ceil(tile_rows)), Extent::Fixed(1)];
        spec::tiled(op, shape).dispatch(bindings, grid)
    };
    op.splits.iter().enumerate().map(product).collect()
}
