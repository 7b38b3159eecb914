//! Weights times many tokens in f32: weights of float types, and quantized ones where activations must not be rounded.
//!
//! As in [`super::gemm_i8`], a lane is a weight row, and the sums of a group of tokens stay in registers over all of K.

use super::panel::groups;
use crate::arch::{Kernel, Simd};
use anser_format::DType;
use anser_format::quant::dequantize;
use std::cell::RefCell;

/// The columns that are converted at a time: LANES rows of them stay in the L1 cache.
const CHUNK_LEN: usize = 256;

thread_local! {
    /// Converted rows, row after row, and the panels made of them, `[rows / LANES, K, LANES]`.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

/// out_rows\[t\]\[i\] = x\[t\] · row i, for the weight rows in `rows`.
pub(crate) struct GemmF32<'a, 'b> {
    pub(crate) dtype: DType,
    pub(crate) rows: &'a [u8],
    pub(crate) n_cols: usize,
    /// `[T, K]` as [`super::panel::PackF32`] orders it.
    pub(crate) x: &'a [f32],
    /// For each token, the slice of its output row for these weight rows.
    pub(crate) out_rows: &'a mut [&'b mut [f32]],
}

impl Kernel for GemmF32<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let GemmF32 { dtype, rows, n_cols, x, out_rows } = self;
        let n_rows = out_rows.first().map_or(0, |p| p.len());
        let Some(row_n_bytes) = rows.len().checked_div(n_rows) else { return };
        let panel_len = n_cols * S::LANES;
        let n_panels = n_rows.div_ceil(S::LANES);
        // The memory is taken out of its cell rather than borrowed in a closure, which the compiler would not compile
        // for the vectors.
        let (mut converted, mut panels) = SCRATCH.take();
        if panels.len() < n_panels * panel_len {
            panels.resize(n_panels * panel_len, 0.0);
        }
        converted.resize(S::LANES * CHUNK_LEN, 0.0);
        for (rows, panel) in rows.chunks(row_n_bytes * S::LANES).zip(panels.chunks_exact_mut(panel_len)) {
            convert_panel(simd, dtype, rows, row_n_bytes, &mut converted, panel);
        }
        for (start, n) in groups(out_rows.len(), S::TOKENS) {
            let x = &x[start * n_cols..(start + n) * n_cols];
            let out_rows = &mut out_rows[start..start + n];
            for (p, panel) in panels.chunks_exact(panel_len).take(n_panels).enumerate() {
                let at = p * S::LANES;
                match n {
                    1 => multiply::<S, 1>(simd, panel, x, out_rows, at),
                    2 => multiply::<S, 2>(simd, panel, x, out_rows, at),
                    4 => multiply::<S, 4>(simd, panel, x, out_rows, at),
                    8 => multiply::<S, 8>(simd, panel, x, out_rows, at),
                    _ => multiply::<S, 16>(simd, panel, x, out_rows, at),
                }
            }
        }
        SCRATCH.set((converted, panels));
    }
}

/// Converts up to LANES rows to a panel `[K, LANES]`. If there are fewer rows, the other lanes hold old contents of
/// `converted`.
#[inline(always)]
fn convert_panel<S: Simd>(
    simd: S,
    dtype: DType,
    rows: &[u8],
    row_n_bytes: usize,
    converted: &mut [f32],
    panel: &mut [f32],
) {
    let chunk_n_bytes = CHUNK_LEN / dtype.block_len() * dtype.block_n_bytes();
    for (i, panel) in panel.chunks_mut(CHUNK_LEN * S::LANES).enumerate() {
        let len = panel.len() / S::LANES;
        let n_bytes = len / dtype.block_len() * dtype.block_n_bytes();
        for (row, out) in rows.chunks_exact(row_n_bytes).zip(converted.chunks_exact_mut(CHUNK_LEN)) {
            let row = &row[i * chunk_n_bytes..][..n_bytes];
            super::prefetch(simd, row, S::LANES * row_n_bytes);
            convert(simd, dtype, row, &mut out[..len]);
        }
        simd.interleave(converted, CHUNK_LEN, panel);
    }
}

/// Converts the elements of a row to f32.
#[inline(always)]
pub(super) fn convert<S: Simd>(simd: S, dtype: DType, row: &[u8], out: &mut [f32]) {
    let n = match dtype {
        DType::F16 | DType::BF16 => out.len() / S::LANES * S::LANES,
        _ => 0,
    };
    for (bytes, out) in row.chunks_exact(2 * S::LANES).zip(out[..n].chunks_exact_mut(S::LANES)) {
        let x = if dtype == DType::F16 { simd.load_f16(bytes) } else { simd.load_bf16(bytes) };
        simd.store(x, out);
    }
    if n < out.len() {
        dequantize(dtype, &row[n / dtype.block_len() * dtype.block_n_bytes()..], &mut out[n..]);
    }
}

/// out_rows\[t\]\[at + lane\] = row `lane` of the panel · token t, for T tokens.
#[inline(always)]
fn multiply<S: Simd, const T: usize>(simd: S, panel: &[f32], x: &[f32], out_rows: &mut [&mut [f32]], at: usize) {
    if const { T > S::TOKENS } {
        return;
    }
    let mut acc = [simd.splat(0.0); T];
    for (w, x) in panel.chunks_exact(S::LANES).zip(x.chunks_exact(T)) {
        let w = simd.load(w);
        for t in 0..T {
            acc[t] = simd.mul_add(w, simd.splat(x[t]), acc[t]);
        }
    }
    for (piece, acc) in out_rows.iter_mut().zip(acc) {
        super::store_lanes(simd, acc, &mut piece[at..]);
    }
}
