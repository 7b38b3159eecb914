//! Float weights times one token, each row converted in registers; and, exactly, quantized weights.

use crate::arch::{Kernel, Simd};
use anser_format::DType;
use anser_format::quant::dequantize;

/// out\[i\] = x · row i, for the weight rows in `rows`; x is one token.
pub(crate) struct DotF32<'a> {
    pub(crate) dtype: DType,
    pub(crate) rows: &'a [u8],
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for DotF32<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let DotF32 { dtype, rows, x, out } = self;
        let Some(row_n_bytes) = rows.len().checked_div(out.len()) else { return };
        let rows = rows.chunks_exact(row_n_bytes).zip(out);
        match dtype {
            DType::F16 | DType::BF16 => {
                for (row, out) in rows {
                    super::prefetch(simd, row, row.len());
                    *out = dot_half(simd, dtype, row, x);
                }
            }
            _ => {
                let mut w = vec![0.0; x.len()];
                for (row, out) in rows {
                    dequantize(dtype, row, &mut w);
                    *out = dot_f32(simd, &w, x);
                }
            }
        }
    }
}

/// Σ w·x for a row w of F16 or BF16.
#[inline(always)]
fn dot_half<S: Simd>(simd: S, dtype: DType, row: &[u8], x: &[f32]) -> f32 {
    let mut acc = [simd.splat(0.0); 4];
    let vectors = row.chunks_exact(2 * S::LANES).zip(x.chunks_exact(S::LANES));
    for (i, (w, x)) in vectors.enumerate() {
        let w = if dtype == DType::F16 { simd.load_f16(w) } else { simd.load_bf16(w) };
        acc[i % 4] = simd.mul_add(w, simd.load(x), acc[i % 4]);
    }
    let n = x.len() / S::LANES * S::LANES;
    let mut rest = [0.0; 16];
    let rest = &mut rest[..x.len() - n];
    dequantize(dtype, &row[2 * n..], rest);
    let rest: f32 = rest.iter().zip(&x[n..]).map(|(w, x)| w * x).sum();
    simd.sum(simd.add(simd.add(acc[0], acc[1]), simd.add(acc[2], acc[3]))) + rest
}

/// Σ w·x
#[inline(always)]
fn dot_f32<S: Simd>(simd: S, w: &[f32], x: &[f32]) -> f32 {
    let mut acc = [simd.splat(0.0); 4];
    for (i, (w, x)) in w.chunks_exact(S::LANES).zip(x.chunks_exact(S::LANES)).enumerate() {
        acc[i % 4] = simd.mul_add(simd.load(w), simd.load(x), acc[i % 4]);
    }
    let n = x.len() / S::LANES * S::LANES;
    let rest: f32 = w[n..].iter().zip(&x[n..]).map(|(w, x)| w * x).sum();
    simd.sum(simd.add(simd.add(acc[0], acc[1]), simd.add(acc[2], acc[3]))) + rest
}
