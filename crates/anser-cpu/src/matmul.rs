//! The threaded matrix product: tiles of weight rows, straight from the file, against all tokens of the step.

use crate::arch;
use crate::ops;
use crate::tiles::column_tiles;
use anser_model::{Activation, Weight};
use rayon::prelude::*;

/// Below this many multiplications a product is computed on the calling thread: waking others costs more.
const MIN_PARALLEL_WORK: usize = 1 << 17;
/// Weight rows of a tile: enough to amortise handing it out, few enough to spread over the threads.
const TILE_ROWS: std::ops::RangeInclusive<usize> = 16..=256;

/// What follows the product, see [`ops::epilogue`]: bias `[n_rows]`, residual `[T, n_rows]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Activation,
    pub(crate) residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// Applies to columns `start..` of row `t` of a product with `n_rows` columns.
    pub(crate) fn apply(&self, piece: &mut [f32], t: usize, start: usize, n_rows: usize) {
        let columns = start..start + piece.len();
        let bias = self.bias.map(|b| &b[columns.clone()]);
        let residual = self.residual.map(|r| &r[t * n_rows..][columns]);
        ops::epilogue(piece, bias, self.activation, residual);
    }
}

/// out `[T, n_rows]` = epilogue(x `[T, n_cols]` · weightᵀ).
pub(crate) fn matmul(weight: &Weight, x: &[f32], epilogue: Epilogue, out: &mut [f32]) {
    let (n_rows, n_cols) = (weight.n_rows(), weight.n_cols());
    let work = out.len() * n_cols;
    let n_threads = if work < MIN_PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
    let width = match n_threads {
        1 => n_rows,
        n => (n_rows / (n * 4)).clamp(*TILE_ROWS.start(), *TILE_ROWS.end()),
    };
    let tile = |(i, mut pieces): (usize, Vec<&mut [f32]>)| {
        let (start, n) = (i * width, pieces[0].len());
        let bytes = &weight.bytes()[start * weight.row_n_bytes()..][..n * weight.row_n_bytes()];
        arch::product(weight.dtype(), bytes, n_cols, x, &mut pieces);
        for (t, piece) in pieces.iter_mut().enumerate() {
            epilogue.apply(piece, t, start, n_rows);
        }
    };
    if out.is_empty() {
        return;
    }
    let tiles = column_tiles(out, n_rows, width);
    match n_threads {
        1 => tiles.into_iter().enumerate().for_each(tile),
        _ => tiles.into_par_iter().enumerate().for_each(tile),
    }
}
