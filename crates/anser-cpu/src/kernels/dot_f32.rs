//! Float weights times a few tokens, converted to f32 in registers; quantized weights, too, where activations must not be
//! rounded.
//!
//! Each weight is read once, at the speed of memory. Four rows are multiplied at a time, so that one instruction
//! sequence sums the lanes of all four at the end of the rows, and each load of activations serves four rows.

use crate::arch::{self, Kernel, Simd};
use anser_format::DType;
use anser_format::quant::dequantize;
use std::marker::PhantomData;

/// The most tokens for which this kernel is faster than converting weights to panels, see [`super::gemm_f32`].
pub(crate) const MAX_TOKENS: usize = 8;
/// The number of rows that are multiplied at a time.
const N_ROWS: usize = 4;
/// The columns from which the rows are multiplied one by one with a single token: the sums across lanes take little of
/// the time of such a row.
const MIN_LONG_ROW: usize = 512;

/// out_rows\[t\]\[i\] = x\[t\] · row i, for the weight rows in `rows`.
pub(crate) struct DotF32<'a, 'b> {
    pub(crate) dtype: DType,
    pub(crate) rows: &'a [u8],
    pub(crate) n_cols: usize,
    /// `[T, K]`
    pub(crate) x: &'a [f32],
    /// For each token, the slice of its output row for these weight rows.
    pub(crate) out_rows: &'a mut [&'b mut [f32]],
}

impl Kernel for DotF32<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let DotF32 { dtype, rows, n_cols, x, out_rows } = self;
        let n_rows = out_rows.first().map_or(0, |p| p.len());
        let Some(row_n_bytes) = rows.len().checked_div(n_rows) else { return };
        let n_whole = n_rows / N_ROWS * N_ROWS;
        macro_rules! fours {
            ($element:ty) => {{
                let rows = &rows[..n_whole * row_n_bytes];
                simd.call(Fours::<$element> { rows, n_cols, x, out_rows, element: PhantomData });
                n_whole
            }};
        }
        let n_done = match dtype {
            DType::F16 => fours!(F16),
            DType::BF16 => fours!(BF16),
            DType::F32 => fours!(F32),
            _ => 0,
        };
        let mut converted = vec![0.0; n_cols];
        for (i, row) in rows.chunks_exact(row_n_bytes).enumerate().skip(n_done) {
            dequantize(dtype, row, &mut converted);
            for (out, x) in out_rows.iter_mut().zip(x.chunks_exact(n_cols)) {
                out[i] = dot_f32(simd, &converted, x);
            }
        }
    }
}

/// [`DotF32`] for rows of a float type, whose number is a multiple of [`N_ROWS`].
struct Fours<'a, 'b, E> {
    rows: &'a [u8],
    n_cols: usize,
    x: &'a [f32],
    out_rows: &'a mut [&'b mut [f32]],
    element: PhantomData<E>,
}

impl<E: Element> Kernel for Fours<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Fours { rows, n_cols, x, out_rows, .. } = self;
        let n_bytes = N_ROWS * n_cols * E::N_BYTES;
        for (i, four) in (0..rows.len()).step_by(n_bytes).enumerate() {
            let mut t = 0;
            while t < out_rows.len() {
                let (x, out_rows) = (&x[t * n_cols..], &mut out_rows[t..]);
                t += some::<S, E>(simd, &rows[four..], n_cols, x, out_rows, i * N_ROWS);
            }
        }
    }
}

/// An element type of weights, and how a vector of them is loaded as f32.
trait Element {
    const DTYPE: DType;
    const N_BYTES: usize;
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F32;
}

struct F16;
struct BF16;
struct F32;

impl Element for F16 {
    const DTYPE: DType = DType::F16;
    const N_BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F32 {
        simd.load_f16(bytes)
    }
}

impl Element for BF16 {
    const DTYPE: DType = DType::BF16;
    const N_BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F32 {
        simd.load_bf16(bytes)
    }
}

impl Element for F32 {
    const DTYPE: DType = DType::F32;
    const N_BYTES: usize = 4;
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F32 {
        simd.load_f32(bytes)
    }
}

/// Multiplies four rows with the next tokens, at most four, and returns the number of tokens.
#[inline(always)]
fn some<S: Simd, E: Element>(
    simd: S,
    rows: &[u8],
    n_cols: usize,
    x: &[f32],
    out_rows: &mut [&mut [f32]],
    at: usize,
) -> usize {
    match out_rows.len() {
        1 if n_cols >= MIN_LONG_ROW => {
            for (row, out) in rows.chunks_exact(n_cols * E::N_BYTES).zip(&mut out_rows[0][at..at + N_ROWS]) {
                *out = long_row::<S, E>(simd, row, x);
            }
            1
        }
        1 => tile::<S, E, 1>(simd, rows, n_cols, x, out_rows, at),
        2 | 3 => tile::<S, E, 2>(simd, rows, n_cols, x, out_rows, at),
        _ => tile::<S, E, 4>(simd, rows, n_cols, x, out_rows, at),
    }
}

/// Σ w·x for one row and one token. The processor's prefetcher follows one stream of weights better than four.
#[inline(always)]
fn long_row<S: Simd, E: Element>(simd: S, row: &[u8], x: &[f32]) -> f32 {
    let ahead = arch::prefetch_n_bytes();
    let mut acc = [simd.splat(0.0); 4];
    let step = 4 * S::LANES;
    let n = x.len() / step * step;
    // The loop counts an index: iterators over chunks begin with divisions, which take a notable part of a short row's
    // time.
    for k in (0..n).step_by(step) {
        let (w, x) = (&row[k * E::N_BYTES..(k + step) * E::N_BYTES], &x[k..k + step]);
        super::prefetch(simd, w, ahead);
        for (i, acc) in acc.iter_mut().enumerate() {
            let w = E::load(simd, &w[i * S::LANES * E::N_BYTES..]);
            *acc = simd.mul_add(w, simd.load(&x[i * S::LANES..]), *acc);
        }
    }
    let sum = simd.sum(simd.add(simd.add(acc[0], acc[1]), simd.add(acc[2], acc[3])));
    if n == x.len() {
        return sum;
    }
    let mut w = [0.0; 64];
    let w = &mut w[..x.len() - n];
    dequantize(E::DTYPE, &row[n * E::N_BYTES..], w);
    sum + dot_f32(simd, w, &x[n..])
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "the index is the same in vectors and slices")]
fn tile<S: Simd, E: Element, const T: usize>(
    simd: S,
    rows: &[u8],
    n_cols: usize,
    x: &[f32],
    out_rows: &mut [&mut [f32]],
    at: usize,
) -> usize {
    let row_n_bytes = n_cols * E::N_BYTES;
    let (vector_n_bytes, n_whole) = (S::LANES * E::N_BYTES, n_cols / S::LANES * S::LANES);
    let mut acc = [[simd.splat(0.0); N_ROWS]; T];
    let row = |i: usize| &rows[i * row_n_bytes..(i + 1) * row_n_bytes];
    let next = rows.as_ptr().wrapping_add(N_ROWS * row_n_bytes);
    let rows = [row(0), row(1), row(2), row(3)];
    for k in (0..n_whole).step_by(S::LANES) {
        let bytes = k * E::N_BYTES;
        let mut w = [simd.splat(0.0); N_ROWS];
        for i in 0..N_ROWS {
            w[i] = E::load(simd, &rows[i][bytes..bytes + vector_n_bytes]);
        }
        // Prefetches the next four rows in the order of memory, as many bytes as this iteration reads.
        for line in (0..N_ROWS * vector_n_bytes).step_by(64) {
            simd.prefetch(next.wrapping_add(N_ROWS * bytes + line));
        }
        for t in 0..T {
            let x = simd.load(&x[t * n_cols + k..]);
            for i in 0..N_ROWS {
                acc[t][i] = simd.mul_add(w[i], x, acc[t][i]);
            }
        }
    }
    let mut sums = [[0.0; N_ROWS]; T];
    for t in 0..T {
        sums[t] = simd.sum_4(acc[t]);
    }
    if n_whole < n_cols {
        let mut rest = [0.0; 16];
        let rest = &mut rest[..n_cols - n_whole];
        for i in 0..N_ROWS {
            dequantize(E::DTYPE, &rows[i][n_whole * E::N_BYTES..], rest);
            for t in 0..T {
                let x = &x[t * n_cols + n_whole..(t + 1) * n_cols];
                sums[t][i] += rest.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
            }
        }
    }
    for t in 0..T {
        out_rows[t][at..at + N_ROWS].copy_from_slice(&sums[t]);
    }
    T
}

/// Σ w·x
#[inline(always)]
fn dot_f32<S: Simd>(simd: S, w: &[f32], x: &[f32]) -> f32 {
    let mut acc = [simd.splat(0.0); 4];
    for (i, (w, x)) in w.chunks_exact(S::LANES).zip(x.chunks_exact(S::LANES)).enumerate() {
        acc[i % 4] = simd.mul_add(simd.load(w), simd.load(x), acc[i % 4]);
    }
    let n = w.len() / S::LANES * S::LANES;
    let rest: f32 = w[n..].iter().zip(&x[n..]).map(|(w, x)| w * x).sum();
    simd.sum(simd.add(simd.add(acc[0], acc[1]), simd.add(acc[2], acc[3]))) + rest
}
