//! Products of many tokens by tiles in workgroup memory, see `wgsl/matmul/tiled.wgsl`.

use super::{MatMul, spec, target_rows};
use crate::compile::dispatch::{Binding, Dispatch, Extent};
use crate::device::features::Features;
use std::fmt;
use std::ops::Range;

/// Threads of a tiled kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TiledShape {
    /// Threads over the rows.
    pub(crate) threads_m: u32,
    /// Threads over the tokens.
    pub(crate) threads_n: u32,
}

impl fmt::Display for TiledShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [rows, tokens] = self.tile();
        write!(f, "tiles {rows}x{tokens}")
    }
}

impl TiledShape {
    /// Rows and tokens of a workgroup.
    pub(crate) fn tile(self) -> [u32; 2] {
        [8 * self.threads_m, 8 * self.threads_n]
    }

    /// The shapes for `n_tokens` tokens, of which there is at least one.
    pub(super) fn candidates(n_tokens: u32, features: &Features) -> Vec<TiledShape> {
        /// The threads over the rows, those that are best without a measurement first.
        const THREADS_M: [u32; 4] = [16, 8, 4, 32];

        let max_threads_n = n_tokens.div_ceil(8).next_power_of_two().clamp(1, 16);
        let shape = |threads_m: u32| {
            let threads_n = max_threads_n.min(features.max_workgroup_len / threads_m).max(1);
            TiledShape { threads_m, threads_n }
        };
        let narrow = |shape: TiledShape| TiledShape { threads_n: (shape.threads_n / 2).max(1), ..shape };
        let mut shapes: Vec<TiledShape> = THREADS_M.map(shape).to_vec();
        shapes.push(narrow(shapes[0]));
        shapes.dedup();
        shapes.retain(|shape| shape.threads_m * shape.threads_n >= 16);
        if shapes.is_empty() { vec![shape(THREADS_M[0])] } else { shapes }
    }
}

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
