//! The product in plain Rust, shaped so that the compiler vectorises it for whatever it is compiled for.

use anser_format::DType;
use anser_format::quant::dequantize;

/// Tokens whose sums are kept in registers while a weight row passes by.
const TOKENS: usize = 4;

/// See [`super::product`]. `LANES` is the vector width in f32; `FMA` says that fused multiply-add is an instruction.
#[inline(always)]
pub(super) fn product<const LANES: usize, const FMA: bool>(
    dtype: DType,
    rows: &[u8],
    n_cols: usize,
    x: &[f32],
    pieces: &mut [&mut [f32]],
) {
    let n_rows = pieces.first().map_or(0, |p| p.len());
    let Some(row_n_bytes) = rows.len().checked_div(n_rows) else { return };
    let mut w = vec![0.0; n_cols];
    for (i, row) in rows.chunks_exact(row_n_bytes).enumerate() {
        dequantize(dtype, row, &mut w);
        for (pieces, x) in pieces.chunks_mut(TOKENS).zip(x.chunks(TOKENS * n_cols)) {
            if let [a, b, c, d] = pieces {
                let (x0, rest) = x.split_at(n_cols);
                let (x1, rest) = rest.split_at(n_cols);
                let (x2, x3) = rest.split_at(n_cols);
                [a[i], b[i], c[i], d[i]] = dot::<LANES, FMA, 4>(&w, [x0, x1, x2, x3]);
            } else {
                for (piece, x) in pieces.iter_mut().zip(x.chunks_exact(n_cols)) {
                    [piece[i]] = dot::<LANES, FMA, 1>(&w, [x]);
                }
            }
        }
    }
}

/// K dot products with the same vector `w`, each in two interleaved sets of `LANES` partial sums.
#[inline(always)]
fn dot<const LANES: usize, const FMA: bool, const K: usize>(w: &[f32], x: [&[f32]; K]) -> [f32; K] {
    let mut sums = [[0.0f32; LANES]; K];
    let n = w.len() / LANES * LANES;
    for at in (0..n).step_by(LANES) {
        let w: &[f32; LANES] = w[at..at + LANES].try_into().unwrap_or(&[0.0; LANES]);
        for (sum, x) in sums.iter_mut().zip(x) {
            let x = &x[at..at + LANES];
            for lane in 0..LANES {
                sum[lane] = if FMA { w[lane].mul_add(x[lane], sum[lane]) } else { sum[lane] + w[lane] * x[lane] };
            }
        }
    }
    let mut totals = [0.0; K];
    for ((total, sum), x) in totals.iter_mut().zip(sums).zip(x) {
        *total = sum.iter().sum::<f32>() + w[n..].iter().zip(&x[n..]).map(|(w, x)| w * x).sum::<f32>();
    }
    totals
}
