//! Weights in the order of the integer matrix kernel: a stretch of columns of as many rows as a vector has lanes.
//!
//! A lane is a row. A vector holds four consecutive elements of every row, so that one dot-product instruction advances
//! all rows by four elements, and no sum across lanes is needed. Blocks of the most common types are transposed as they
//! lie in the file, 16 bytes of every row at a time, and then unpacked for all rows at once; blocks of the other types
//! are unpacked row by row.

use super::unpack::{Format, Kind, Q4K, Q5K, Q6K, Q8_0, Unpacked};
use crate::arch::{Kernel, Simd};
use std::marker::PhantomData;

/// The columns of a stretch: the longest block, or several short ones.
pub(super) const STRETCH_LEN: usize = 256;
/// The number of rows of the widest vectors.
const MAX_LANES: usize = 16;
/// The largest number of scales that a row of a stretch has.
const MAX_SCALES: usize = 16;

/// An unpacked stretch. If the matrix has fewer rows left than lanes, the contents of the other lanes are not specified.
pub(crate) struct Stretch<'a> {
    /// The elements, `[columns / 4, LANES]`, four bytes each.
    pub(super) quants: &'a mut [u8],
    /// The scales, `[scales of a row, LANES]`.
    pub(super) scales: &'a mut [f32],
    /// The minima of affine types, `[scales of a row, LANES]`.
    pub(super) mins: &'a mut [f32],
}

/// A stretch unpacked row after row, before it is transposed.
pub(super) struct ByRow {
    quants: [u8; STRETCH_LEN * MAX_LANES],
    scales: [f32; MAX_SCALES * MAX_LANES],
    mins: [f32; MAX_SCALES * MAX_LANES],
}

impl Default for ByRow {
    fn default() -> ByRow {
        let scales = [0.0; MAX_SCALES * MAX_LANES];
        ByRow { quants: [0; STRETCH_LEN * MAX_LANES], scales, mins: scales }
    }
}

/// The blocks of a stretch in the file.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    /// The bytes from the first block of the first row on.
    pub(super) bytes: &'a [u8],
    /// The number of bytes from a row to the next.
    pub(super) stride: usize,
    pub(super) n_rows: usize,
    /// The number of blocks of a row.
    pub(super) n_blocks: usize,
}

/// Unpacks `blocks` of a format to `stretch`.
pub(super) struct Fill<'a, 'b, F, const LEN: usize, const N_BYTES: usize, const SUBS: usize> {
    pub(super) stretch: Stretch<'a>,
    pub(super) blocks: Blocks<'b>,
    pub(super) by_row: &'a mut ByRow,
    pub(super) format: PhantomData<F>,
}

impl<F: Format<LEN, N_BYTES, SUBS> + Lanes, const LEN: usize, const N_BYTES: usize, const SUBS: usize> Kernel
    for Fill<'_, '_, F, LEN, N_BYTES, SUBS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Fill { mut stretch, blocks, by_row, .. } = self;
        if F::TOGETHER && blocks.n_rows == S::LANES {
            F::unpack_lanes(simd, blocks, &mut stretch);
        } else {
            stretch.fill_by_row::<S, F, LEN, N_BYTES, SUBS>(simd, blocks, by_row);
        }
    }
}

impl Stretch<'_> {
    #[inline(always)]
    fn fill_by_row<
        S: Simd,
        F: Format<LEN, N_BYTES, SUBS>,
        const LEN: usize,
        const N_BYTES: usize,
        const SUBS: usize,
    >(
        &mut self,
        simd: S,
        blocks: Blocks,
        by_row: &mut ByRow,
    ) {
        let Blocks { bytes, stride, n_rows, n_blocks } = blocks;
        let mut u = Unpacked::new();
        let (len, n_scales) = (n_blocks * LEN, n_blocks * SUBS);
        for lane in 0..n_rows {
            for (i, block) in bytes[lane * stride..].as_chunks::<N_BYTES>().0.iter().take(n_blocks).enumerate() {
                F::unpack(simd.narrow(), block, &mut u);
                by_row.quants[lane * len + i * LEN..][..LEN].copy_from_slice(&u.quants);
                let at = lane * n_scales + i * SUBS;
                by_row.scales[at..at + SUBS].copy_from_slice(&u.scales);
                if F::Kind::AFFINE {
                    by_row.mins[at..at + SUBS].copy_from_slice(&u.mins);
                }
            }
        }
        let quants = self.quants[..len * S::LANES].as_chunks_mut::<4>().0;
        simd.interleave(by_row.quants.as_chunks::<4>().0, len / 4, quants);
        simd.interleave(&by_row.scales, n_scales, &mut self.scales[..n_scales * S::LANES]);
        if F::Kind::AFFINE {
            simd.interleave(&by_row.mins, n_scales, &mut self.mins[..n_scales * S::LANES]);
        }
    }

    /// Writes four elements of every row.
    #[inline(always)]
    fn set<S: Simd>(&mut self, simd: S, i: usize, quants: S::Bytes) {
        simd.store_bytes(quants, &mut self.quants[4 * i * S::LANES..4 * (i + 1) * S::LANES]);
    }
}

/// A format whose blocks of LANES rows may be unpacked at once.
pub(crate) trait Lanes {
    /// Whether they may; the blocks of other formats are unpacked row by row.
    const TOGETHER: bool = false;

    /// Unpacks the blocks of LANES rows.
    #[inline(always)]
    fn unpack_lanes<S: Simd>(_: S, _: Blocks, _: &mut Stretch) {}
}

macro_rules! row_by_row {
    ($($format:ident),*) => {
        $(impl Lanes for super::unpack::$format {})*
    };
}
row_by_row!(Q4_0, Q4_1, Q5_0, Q5_1, Iq4Nl, Iq4Xs, Q2K, Q3K);

/// x & mask, for every byte.
#[inline(always)]
fn masked<S: Simd>(simd: S, x: S::Bytes, mask: u8) -> S::Bytes {
    simd.and(x, simd.splat_bytes([mask; 4]))
}

/// (x >> n) & mask, for every byte. The shift moves bits across bytes, so the mask must clear the bits of the
/// neighbouring byte.
#[inline(always)]
fn shifted<S: Simd>(simd: S, x: S::Bytes, n: u32, mask: u8) -> S::Bytes {
    masked(simd, simd.shr_words(x, [n; 2]), mask)
}

impl Lanes for Q8_0 {
    const TOGETHER: bool = true;

    #[inline(always)]
    fn unpack_lanes<S: Simd>(simd: S, blocks: Blocks, out: &mut Stretch) {
        let Blocks { bytes, stride, n_blocks, .. } = blocks;
        for b in 0..n_blocks {
            let block = &bytes[b * 34..];
            simd.store(simd.f16_of_rows(block, stride), &mut out.scales[b * S::LANES..(b + 1) * S::LANES]);
            for half in 0..2 {
                let columns = simd.columns(&block[2 + 16 * half..], stride);
                for (i, column) in columns.into_iter().enumerate() {
                    out.set(simd, 8 * b + 4 * half + i, simd.add_bytes(column, simd.splat_bytes([128; 4])));
                }
            }
        }
    }
}

/// The scales and minima of Q4_K and Q5_K, see [`super::unpack::scales_mins`].
#[inline(always)]
fn set_scales_mins<S: Simd>(simd: S, blocks: Blocks, out: &mut Stretch) {
    let Blocks { bytes, stride, .. } = blocks;
    let (d, dmin) = (simd.f16_of_rows(bytes, stride), simd.f16_of_rows(&bytes[2..], stride));
    let [_, a, b, c] = simd.columns(bytes, stride);
    let scales = [masked(simd, a, 63), simd.or(masked(simd, c, 15), shifted(simd, a, 2, 0x30))];
    let mins = [masked(simd, b, 63), simd.or(shifted(simd, c, 4, 15), shifted(simd, b, 2, 0x30))];
    for half in 0..2 {
        let (scales, mins) = (simd.bytes_to_f32(scales[half]), simd.bytes_to_f32(mins[half]));
        for i in 0..4 {
            let at = (4 * half + i) * S::LANES;
            simd.store(simd.mul(scales[i], d), &mut out.scales[at..at + S::LANES]);
            simd.store(simd.mul(mins[i], dmin), &mut out.mins[at..at + S::LANES]);
        }
    }
}

impl Lanes for Q4K {
    const TOGETHER: bool = true;

    #[inline(always)]
    fn unpack_lanes<S: Simd>(simd: S, blocks: Blocks, out: &mut Stretch) {
        set_scales_mins(simd, blocks, out);
        // 32 bytes are the low nibbles of one sub-block and the high ones of the next.
        for piece in 0..8 {
            let columns = simd.columns(&blocks.bytes[16 + 16 * piece..], blocks.stride);
            for (i, column) in columns.into_iter().enumerate() {
                let at = 16 * (piece / 2) + 4 * (piece % 2) + i;
                out.set(simd, at, masked(simd, column, 15));
                out.set(simd, at + 8, shifted(simd, column, 4, 15));
            }
        }
    }
}

impl Lanes for Q5K {
    const TOGETHER: bool = true;

    #[inline(always)]
    fn unpack_lanes<S: Simd>(simd: S, blocks: Blocks, out: &mut Stretch) {
        set_scales_mins(simd, blocks, out);
        let Blocks { bytes, stride, .. } = blocks;
        for half in 0..2 {
            // Bit b of every byte is the fifth bit of sub-block b.
            let high = simd.columns(&bytes[16 + 16 * half..], stride);
            for pair in 0..4 {
                let columns = simd.columns(&bytes[48 + 32 * pair + 16 * half..], stride);
                for i in 0..4 {
                    let at = 16 * pair + 4 * half + i;
                    let n = 2 * pair as u32;
                    let fifth = simd.shl_words(shifted(simd, high[i], n, 1), [4; 2]);
                    out.set(simd, at, simd.or(masked(simd, columns[i], 15), fifth));
                    let fifth = simd.shl_words(shifted(simd, high[i], n + 1, 1), [4; 2]);
                    out.set(simd, at + 8, simd.or(shifted(simd, columns[i], 4, 15), fifth));
                }
            }
        }
    }
}

impl Lanes for Q6K {
    const TOGETHER: bool = true;

    #[inline(always)]
    fn unpack_lanes<S: Simd>(simd: S, blocks: Blocks, out: &mut Stretch) {
        let Blocks { bytes, stride, .. } = blocks;
        let d = simd.f16_of_rows(&bytes[208..], stride);
        for (i, bytes) in simd.columns(&bytes[192..], stride).into_iter().enumerate() {
            // Adding 128 to signed bytes flips their top bit and makes them unsigned.
            let scales = simd.bytes_to_f32(simd.add_bytes(bytes, simd.splat_bytes([128; 4])));
            for (j, scale) in scales.into_iter().enumerate() {
                let scale = simd.mul(simd.add(scale, simd.splat(-128.0)), d);
                let at = (4 * i + j) * S::LANES;
                simd.store(scale, &mut out.scales[at..at + S::LANES]);
            }
        }
        let offset = simd.splat_bytes([128 - 32; 4]);
        for half in 0..2 {
            for piece in 0..2 {
                // Two bits for each of the sub-blocks of 32.
                let high = simd.columns(&bytes[128 + 32 * half + 16 * piece..], stride);
                let a = simd.columns(&bytes[64 * half + 16 * piece..], stride);
                let b = simd.columns(&bytes[64 * half + 32 + 16 * piece..], stride);
                for i in 0..4 {
                    let at = 32 * half + 4 * piece + i;
                    let (a, b, high) = (a[i], b[i], high[i]);
                    let q = simd.or(masked(simd, a, 15), masked(simd, simd.shl_words(high, [4; 2]), 0x30));
                    out.set(simd, at, simd.add_bytes(q, offset));
                    let q = simd.or(masked(simd, b, 15), masked(simd, simd.shl_words(high, [2; 2]), 0x30));
                    out.set(simd, at + 8, simd.add_bytes(q, offset));
                    let q = simd.or(shifted(simd, a, 4, 15), masked(simd, high, 0x30));
                    out.set(simd, at + 16, simd.add_bytes(q, offset));
                    let q = simd.or(shifted(simd, b, 4, 15), shifted(simd, high, 2, 0x30));
                    out.set(simd, at + 24, simd.add_bytes(q, offset));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::run_all;

    /// Unpacks the second of two stretches of 16 rows in both ways: at once and row by row. Results are quants, scales
    /// and minima.
    #[derive(Clone)]
    struct BothWays<'a, F, const LEN: usize, const N_BYTES: usize, const SUBS: usize>(&'a [u8], F);

    impl<F: Format<LEN, N_BYTES, SUBS> + Lanes, const LEN: usize, const N_BYTES: usize, const SUBS: usize> Kernel
        for BothWays<'_, F, LEN, N_BYTES, SUBS>
    {
        type Output = [(Vec<u8>, Vec<f32>, Vec<f32>); 2];

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> Self::Output {
            let n_blocks = STRETCH_LEN / LEN;
            let bytes = &self.0[n_blocks * N_BYTES..];
            let blocks = Blocks { bytes, stride: 2 * n_blocks * N_BYTES, n_rows: S::LANES, n_blocks };
            let scales_len = n_blocks * SUBS * S::LANES;
            let empty = (vec![0; STRETCH_LEN * S::LANES], vec![0.0; scales_len], vec![0.0; scales_len]);
            let mut out = [empty.clone(), empty];
            for (i, (quants, scales, mins)) in out.iter_mut().enumerate() {
                let mut stretch = Stretch { quants, scales, mins };
                let mut by_row = ByRow::default();
                if i == 0 {
                    assert!(F::TOGETHER);
                    let by_row = &mut by_row;
                    simd.call(Fill::<F, LEN, N_BYTES, SUBS> { stretch, blocks, by_row, format: PhantomData });
                } else {
                    stretch.fill_by_row::<S, F, LEN, N_BYTES, SUBS>(simd, blocks, &mut by_row);
                }
            }
            out
        }
    }

    fn check<F, const LEN: usize, const N_BYTES: usize, const SUBS: usize>(format: F)
    where
        F: Format<LEN, N_BYTES, SUBS> + Lanes + Clone,
    {
        let mut random = 1u32;
        let mut byte = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // The mask keeps F16 exponents small, so that no scale is infinite or NaN.
            (random >> 24) as u8 & 0x7b
        };
        let bytes: Vec<u8> = (0..2 * MAX_LANES * STRETCH_LEN / LEN * N_BYTES).map(|_| byte()).collect();
        for [together, by_row] in run_all(BothWays::<F, LEN, N_BYTES, SUBS>(&bytes, format)) {
            assert!(together == by_row, "{LEN} elements in {N_BYTES} bytes");
        }
    }

    #[test]
    fn rows_unpacked_together_are_those_unpacked_one_by_one() {
        check::<_, 32, 34, 1>(Q8_0);
        check::<_, 256, 144, 8>(Q4K);
        check::<_, 256, 176, 8>(Q5K);
        check::<_, 256, 210, 16>(Q6K);
    }
}
