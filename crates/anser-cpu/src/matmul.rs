//! Matrix products: the choice of the kernel, and the division of the work among threads.

use crate::arch::{self, pool::Pool};
use crate::kernels::columns::{Gather, MAX_N_ROWS};
use crate::kernels::dot_f32::DotF32;
use crate::kernels::dot_i8::DotI8;
use crate::kernels::elementwise::Finish;
use crate::kernels::few_q8::{self, FewQ8};
use crate::kernels::gemm_f32::GemmF32;
use crate::kernels::gemm_i8::{GemmI8, MAX_FEW_TOKENS};
use crate::kernels::quantized::Quantized;
use crate::tiles::column_tiles;
use anser_format::DType;
use anser_model::{Activation, Columns, Weight};
use std::cell::RefCell;

/// The multiplications from which a region is worth several threads. A smaller one is computed by the calling thread.
const MIN_PARALLEL_WORK: usize = 1 << 16;
/// The number of tasks per thread: a thread that starts late or is interrupted then delays a region only a little.
pub(crate) const TASKS_PER_THREAD: usize = 4;
/// The most unpacked weights of a task, in bytes: they stay in the L2 cache while activations stream past them.
const MAX_TILE_N_BYTES: usize = 384 << 10;

/// The activations of a product, in the form that the product's kernel reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// A few tokens, [`MAX_TOKENS`](crate::kernels::dot_f32::MAX_TOKENS) at most, `[T, K]`.
    Rows(&'a [f32]),
    /// More tokens, as [`crate::kernels::panel::PackF32`] orders them.
    Panel(&'a [f32]),
    /// Any number of tokens, rounded to 8 bits; for quantized weights.
    Quantized(&'a Quantized),
}

/// The operations fused to the end of a product, see [`crate::ops::epilogue`]: bias `[n_rows]`, residual `[T, n_rows]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Activation,
    pub(crate) residual: Option<&'a [f32]>,
}

/// The product out `[T, n_rows]` = epilogue(x `[T, n_cols]` · weightᵀ).
pub(crate) struct Product<'a> {
    pub(crate) weight: &'a Weight,
    pub(crate) x: Input<'a>,
    pub(crate) epilogue: Epilogue<'a>,
    pub(crate) out: &'a mut [f32],
}

/// A task: some weight rows of a product with all tokens.
struct Tile<'a> {
    weight: &'a Weight,
    x: Input<'a>,
    epilogue: Epilogue<'a>,
    first_row: usize,
    /// For each token, the part of its output row that this tile computes.
    out_rows: Vec<&'a mut [f32]>,
}

/// Computes independent products in one parallel region.
pub(crate) fn multiply(pool: &mut Pool, products: Vec<Product>) {
    let work = |p: &Product| p.out.len() * p.weight.n_cols();
    let total: usize = products.iter().map(work).sum();
    let parallel = pool.n_threads() > 1 && total >= MIN_PARALLEL_WORK;
    let task_work = if parallel { total / (pool.n_threads() * TASKS_PER_THREAD) } else { usize::MAX };
    let n_lanes = arch::n_lanes();
    let mut tiles = vec![];
    for Product { weight, x, epilogue, out } in products.into_iter().filter(|p| !p.out.is_empty()) {
        let (n_rows, n_cols) = (weight.n_rows(), weight.n_cols());
        let n_tokens = out.len() / n_rows;
        let element_n_bytes = match x {
            Input::Rows(_) => 0,
            Input::Panel(_) => size_of::<f32>(),
            Input::Quantized(_) => usize::from(n_tokens > MAX_FEW_TOKENS),
        };
        let most = MAX_TILE_N_BYTES.checked_div(n_cols * element_n_bytes).unwrap_or(n_rows);
        let width = (task_work / (n_tokens * n_cols)).min(most).min(n_rows).next_multiple_of(n_lanes).max(n_lanes);
        let parts = column_tiles(out, n_rows, width).into_iter().enumerate();
        tiles.extend(parts.map(|(i, out_rows)| Tile { weight, x, epilogue, first_row: i * width, out_rows }));
    }
    if parallel { pool.for_each(tiles, compute) } else { tiles.into_iter().for_each(compute) }
}

fn compute(tile: Tile) {
    let Tile { weight, x, epilogue, first_row, mut out_rows } = tile;
    let (n_rows, n_cols, dtype) = (weight.n_rows(), weight.n_cols(), weight.dtype());
    let Some(n) = out_rows.first().map(|p| p.len()) else { return };
    match weight.columns() {
        Some(columns) => by_columns(dtype, columns, n_cols, x, first_row, &mut out_rows),
        None => {
            let row_n_bytes = weight.row_n_bytes();
            let rows = &weight.bytes()[first_row * row_n_bytes..][..n * row_n_bytes];
            by_rows(dtype, rows, n_cols, x, &mut out_rows);
        }
    }
    let columns = first_row..first_row + n;
    for (t, z) in out_rows.into_iter().enumerate() {
        let bias = epilogue.bias.map(|b| &b[columns.clone()]);
        let residual = epilogue.residual.map(|r| &r[t * n_rows..][columns.clone()]);
        arch::run(Finish { z, bias, activation: epilogue.activation, residual });
    }
}

thread_local! {
    /// Rows that were gathered from columns.
    static GATHERED: RefCell<Vec<f32>> = RefCell::default();
}

/// out_rows\[t\]\[i\] = x\[t\] · row first_row + i of a matrix that lies column by column. The sums are those of [`by_rows`].
fn by_columns(
    dtype: DType,
    Columns { bytes, stride }: Columns,
    n_cols: usize,
    x: Input,
    first_row: usize,
    out_rows: &mut [&mut [f32]],
) {
    let n = out_rows.first().map_or(0, |p| p.len());
    let mut rows = GATHERED.take();
    for start in (0..n).step_by(MAX_N_ROWS) {
        let n_rows = MAX_N_ROWS.min(n - start);
        rows.resize(n_rows * n_cols, 0.0);
        let columns = &bytes[(first_row + start) * dtype.block_n_bytes()..];
        arch::run(Gather { dtype, columns, stride, n_rows, n_cols, out: &mut rows });
        let mut out: Vec<&mut [f32]> = out_rows.iter_mut().map(|row| &mut row[start..start + n_rows]).collect();
        by_rows(DType::F32, bytemuck::cast_slice(&rows), n_cols, x, &mut out);
    }
    GATHERED.set(rows);
}

/// out_rows\[t\]\[i\] = x\[t\] · row i, for the weight rows in `rows`.
fn by_rows(dtype: DType, rows: &[u8], n_cols: usize, x: Input, out_rows: &mut [&mut [f32]]) {
    match (x, out_rows) {
        (Input::Rows(x), out_rows) => arch::run(DotF32 { dtype, rows, n_cols, x, out_rows }),
        (Input::Panel(x), out_rows) => arch::run(GemmF32 { dtype, rows, n_cols, x, out_rows }),
        (Input::Quantized(x), [out]) => arch::run(DotI8 { dtype, rows, x, out }),
        (Input::Quantized(x), out_rows)
            if dtype == DType::Q8_0 && out_rows.len() <= few_q8::MAX_TOKENS.min(arch::n_lanes()) =>
        {
            arch::run(FewQ8 { rows, x, out_rows });
        }
        (Input::Quantized(x), out_rows) => arch::run(GemmI8 { dtype, rows, x, out_rows }),
    }
}
