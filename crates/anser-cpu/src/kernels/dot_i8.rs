//! Quantized weights times one token of 8-bit activations.
//!
//! Each weight is read once, at the speed of memory, and not rearranged: a vector holds 32 consecutive elements of one
//! row, and lanes are summed at the end of the row. For symmetric types, the offset of their quants is treated as a
//! minimum.

use super::dot_span::{self, SPAN_LEN, SpanFormat, Token};
use super::quantized::{BLOCK_LEN, Group, Quantized};
use super::unpack::{self, Format, Kind, Unpacked, with_format};
use crate::arch::{self, Kernel, Narrow, Simd};
use anser_format::DType;
use std::marker::PhantomData;

/// out\[i\] = x · row i, for the weight rows in `rows`, of a quantized type; x is one token.
pub(crate) struct DotI8<'a> {
    pub(crate) dtype: DType,
    pub(crate) rows: &'a [u8],
    pub(crate) x: &'a Quantized,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for DotI8<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let DotI8 { dtype, rows, x, out } = self;
        let (group, ahead) = (x.group(0, 1), arch::prefetch_n_bytes());
        let Some(row_n_bytes) = rows.len().checked_div(out.len()) else { return };
        if x.n_cols().is_multiple_of(SPAN_LEN) {
            let token = &Token::new(simd, group);
            macro_rules! spans {
                ($format:ty, $n_bytes:literal) => {
                    return simd.call(Spans::<$format, $n_bytes> {
                        rows,
                        row_n_bytes,
                        token,
                        ahead,
                        out,
                        format: PhantomData,
                    })
                };
            }
            match dtype {
                DType::Q8_0 => spans!(unpack::Q8_0, 272),
                DType::Q4_K => spans!(unpack::Q4K, 144),
                DType::Q5_K => spans!(unpack::Q5K, 176),
                DType::Q6_K => spans!(unpack::Q6K, 210),
                _ => {}
            }
        }
        macro_rules! blocks {
            ($format:ty, $len:literal, $n_bytes:literal, $subs:literal) => {
                simd.call(Blocks::<$format, $len, $n_bytes, $subs> {
                    rows,
                    row_n_bytes,
                    x: group,
                    ahead,
                    out,
                    format: PhantomData,
                })
            };
        }
        with_format!(dtype, blocks, ());
    }
}

/// [`DotI8`] for rows of whole spans.
struct Spans<'a, F, const N_BYTES: usize> {
    rows: &'a [u8],
    row_n_bytes: usize,
    token: &'a Token<'a>,
    /// The prefetch distance in bytes.
    ahead: usize,
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: SpanFormat<N_BYTES>, const N_BYTES: usize> Kernel for Spans<'_, F, N_BYTES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (row, out) in self.rows.chunks_exact(self.row_n_bytes).zip(self.out) {
            *out = dot_span::dot::<S, F, N_BYTES>(simd, row, self.token, self.ahead);
        }
    }
}

/// [`DotI8`] for any rows, block by block.
struct Blocks<'a, F, const LEN: usize, const N_BYTES: usize, const SUBS: usize> {
    rows: &'a [u8],
    row_n_bytes: usize,
    x: Group<'a>,
    /// The prefetch distance in bytes.
    ahead: usize,
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Format<LEN, N_BYTES, SUBS>, const LEN: usize, const N_BYTES: usize, const SUBS: usize> Kernel
    for Blocks<'_, F, LEN, N_BYTES, SUBS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut u = Unpacked::new();
        for (row, out) in self.rows.chunks_exact(self.row_n_bytes).zip(self.out) {
            *out = dot::<S::Narrow, F, LEN, N_BYTES, SUBS>(simd.narrow(), row, self.x, self.ahead, &mut u);
        }
    }
}

#[inline(always)]
fn dot<S: Narrow, F: Format<LEN, N_BYTES, SUBS>, const LEN: usize, const N_BYTES: usize, const SUBS: usize>(
    simd: S,
    row: &[u8],
    x: Group,
    ahead: usize,
    u: &mut Unpacked<LEN, SUBS>,
) -> f32 {
    const { assert!(S::LANES * 4 == BLOCK_LEN) };
    let n_blocks = LEN / BLOCK_LEN;
    let mut acc = [simd.splat(0.0); 2];
    let (mut subtracted, mut subtracted_32) = (simd.splat(0.0), 0.0);
    let blocks = x.quants.as_chunks::<LEN>().0;
    for (b, (row, quants)) in row.as_chunks::<N_BYTES>().0.iter().zip(blocks).enumerate() {
        let (x_scales, sums) = (&x.scales[b * n_blocks..][..n_blocks], &x.sums[b * n_blocks..][..n_blocks]);
        let half_sums = &x.half_sums[2 * b * n_blocks..][..2 * n_blocks];
        super::prefetch(simd, row, ahead);
        F::unpack(simd, row, u);
        // A block of 32 has one scale, or one for each half.
        if SUBS == 1 {
            subtracted_32 += u.mins[0] * sums[0];
        } else if SUBS == n_blocks {
            subtracted = simd.mul_add(simd.load(&u.mins), simd.load(sums), subtracted);
        } else {
            for (mins, sums) in u.mins.chunks_exact(S::LANES).zip(half_sums.chunks_exact(S::LANES)) {
                subtracted = simd.mul_add(simd.load(mins), simd.load(sums), subtracted);
            }
        }
        for i in 0..n_blocks {
            let range = i * BLOCK_LEN..(i + 1) * BLOCK_LEN;
            let (w, a) = (simd.load_bytes(&u.quants[range.clone()]), simd.load_bytes(&quants[range]));
            let zero = simd.splat_i32(0);
            let dot = if const { F::Kind::AFFINE && F::Kind::SMALL } {
                simd.dot_small(zero, [w], [a])
            } else {
                simd.dot(zero, w, a)
            };
            let products = simd.to_f32(dot);
            let scale = if SUBS == n_blocks {
                simd.splat(u.scales[i] * x_scales[i])
            } else {
                simd.mul(simd.halves(u.scales[2 * i], u.scales[2 * i + 1]), simd.splat(x_scales[i]))
            };
            let acc = &mut acc[if n_blocks == 1 { b % 2 } else { i % 2 }];
            *acc = simd.mul_add(products, scale, *acc);
        }
    }
    simd.sum(simd.add(acc[0], acc[1])) - (simd.sum(subtracted) + subtracted_32)
}
