//! Weights of the most common types (Q8_0, Q4_K, Q5_K, Q6_K) times one token of 8-bit activations, 256 elements at a time.
//!
//! A vector holds 32 or 64 consecutive elements of a row. They are unpacked from the file's bits, multiplied and scaled in
//! registers, without a store in between; lanes are summed at the end of the row.

use super::quantized::{Group, OFFSET};
use super::unpack::{self, Q4K, Q5K, Q6K, Q8_0};
use crate::arch::{Narrow, Simd};

/// The elements of a span: one block of a K type, or eight blocks of Q8_0.
pub(super) const SPAN_LEN: usize = 256;
/// The blocks of activations in a span.
const N_BLOCKS: usize = 8;

/// One token's activations, with values derived from them once rather than for every row.
pub(super) struct Token<'a> {
    pub(super) group: Group<'a>,
    /// −[`OFFSET`] · Σ over every four integers, `[K / 4]`: the start values of a lane's sums for symmetric types.
    lane_offsets: Vec<i32>,
    /// The scales, each repeated twice, `[K / 16]`.
    half_scales: Vec<f32>,
}

impl<'a> Token<'a> {
    /// Takes the one token of `group`; K must be a multiple of [`SPAN_LEN`].
    #[inline(always)]
    pub(super) fn new<S: Simd>(simd: S, group: Group<'a>) -> Token<'a> {
        let (mut lane_offsets, mut half_scales) = (vec![0; group.quants.len() / 4], vec![0.0; 2 * group.scales.len()]);
        let offset = simd.splat_bytes([OFFSET as u8; 4]);
        for k in (0..group.quants.len()).step_by(4 * S::LANES) {
            let sums = simd.dot(simd.splat_i32(0), offset, simd.load_bytes(&group.quants[k..]));
            simd.store_negated(sums, &mut lane_offsets[k / 4..]);
        }
        for (halves, &scale) in half_scales.as_chunks_mut::<2>().0.iter_mut().zip(group.scales) {
            *halves = [scale; 2];
        }
        Token { group, lane_offsets, half_scales }
    }

    /// The whole spans of the token.
    #[inline(always)]
    fn spans(&self) -> impl Iterator<Item = Span<'_>> {
        let Group { quants, scales, sums, .. } = self.group;
        let quants = quants.as_chunks::<SPAN_LEN>().0.iter().zip(self.lane_offsets.as_chunks::<{ SPAN_LEN / 4 }>().0);
        let scales = scales.as_chunks::<N_BLOCKS>().0.iter().zip(sums.as_chunks::<N_BLOCKS>().0);
        let halves = self.half_scales.as_chunks::<{ 2 * N_BLOCKS }>().0;
        let span = |(((quants, lane_offsets), (scales, sums)), half_scales)| Span {
            quants,
            lane_offsets,
            scales,
            sums,
            half_scales,
        };
        quants.zip(scales).zip(halves).map(span)
    }
}

/// One span of activations: 256 of them.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    quants: &'a [u8; SPAN_LEN],
    lane_offsets: &'a [i32; SPAN_LEN / 4],
    scales: &'a [f32; N_BLOCKS],
    sums: &'a [f32; N_BLOCKS],
    half_scales: &'a [f32; 2 * N_BLOCKS],
}

/// The partial sums of a row.
#[derive(Clone, Copy)]
pub(super) struct Sums<S: Simd> {
    /// Four independent sums, so that an addition need not wait for the one before.
    products: [S::F32; 4],
    /// The sum of the minima times the activations, to be subtracted for affine types.
    subtracted: <S::Narrow as Simd>::F32,
}

/// A type whose rows are multiplied in spans of `N_BYTES`.
pub(super) trait SpanFormat<const N_BYTES: usize> {
    /// Adds the products of a span.
    fn add<S: Simd>(simd: S, span: &[u8; N_BYTES], x: Span, sums: &mut Sums<S>);
}

/// The sum of the products over the whole spans of a row.
#[inline(always)]
pub(super) fn dot<S: Simd, F: SpanFormat<N_BYTES>, const N_BYTES: usize>(
    simd: S,
    row: &[u8],
    token: &Token,
    ahead: usize,
) -> f32 {
    let mut sums = Sums { products: [simd.splat(0.0); 4], subtracted: simd.narrow().splat(0.0) };
    for (span, x) in row.as_chunks::<N_BYTES>().0.iter().zip(token.spans()) {
        super::prefetch(simd, span, ahead);
        F::add(simd, span, x, &mut sums);
    }
    let [a, b, c, d] = sums.products;
    simd.sum(simd.add(simd.add(a, b), simd.add(c, d))) - simd.narrow().sum(sums.subtracted)
}

/// The number of blocks of 32 elements in a vector.
#[inline(always)]
const fn n_blocks<S: Simd>() -> usize {
    S::LANES / 8
}

impl SpanFormat<272> for Q8_0 {
    #[inline(always)]
    fn add<S: Simd>(simd: S, span: &[u8; 272], x: Span, sums: &mut Sums<S>) {
        for b in (0..N_BLOCKS).step_by(n_blocks::<S>()) {
            let blocks = &span[b * 34..];
            let w = simd.add_bytes(simd.load_blocks(&blocks[2..], 34), simd.splat_bytes([128; 4]));
            let scale = simd.mul(simd.f16_blocks(blocks, 34), simd.repeat_8(&x.scales[b..]));
            sums.add_offset(simd, w, x, b, scale);
        }
    }
}

impl SpanFormat<144> for Q4K {
    #[inline(always)]
    fn add<S: Simd>(simd: S, span: &[u8; 144], x: Span, sums: &mut Sums<S>) {
        let scales = sums.scales_mins(simd, span, x);
        let qs = span[16..].as_chunks::<32>().0;
        for b in (0..N_BLOCKS).step_by(n_blocks::<S>()) {
            let w = nibbles(simd, &qs[b / 2], b);
            sums.add(simd, w, x, b, simd.repeat_8(&scales[b..]));
        }
    }
}

impl SpanFormat<176> for Q5K {
    #[inline(always)]
    fn add<S: Simd>(simd: S, span: &[u8; 176], x: Span, sums: &mut Sums<S>) {
        let scales = sums.scales_mins(simd, span, x);
        let qs = span[48..].as_chunks::<32>().0;
        let high = simd.repeat_bytes(&span[16..].as_chunks::<32>().0[0]);
        for b in (0..N_BLOCKS).step_by(n_blocks::<S>()) {
            // Bit b of every byte becomes bit 4.
            let n = b as u32;
            let high = if b < 4 {
                simd.shl_words(high, [4 - n, (4 - n).saturating_sub(1)])
            } else {
                simd.shr_words(high, [n - 4, n - 3])
            };
            let high = simd.and(high, simd.splat_bytes([16; 4]));
            let w = simd.or(nibbles(simd, &qs[b / 2], b), high);
            sums.add(simd, w, x, b, simd.repeat_8(&scales[b..]));
        }
    }
}

impl SpanFormat<210> for Q6K {
    #[inline(always)]
    fn add<S: Simd>(simd: S, span: &[u8; 210], x: Span, sums: &mut Sums<S>) {
        let narrow = simd.narrow();
        let d = narrow.splat(simd.f16([span[208], span[209]]));
        let mut scales = [0.0; 16];
        let bytes = span[192..].as_chunks::<8>().0;
        for i in 0..2 {
            let x_scales = narrow.load(&x.half_scales[8 * i..]);
            let scale = narrow.mul(narrow.mul(narrow.i8_to_f32(&bytes[i]), d), x_scales);
            narrow.store(scale, &mut scales[8 * i..]);
        }
        for b in (0..N_BLOCKS).step_by(n_blocks::<S>()) {
            // Blocks 0 and 1 of every four are low nibbles, 2 and 3 the high ones of the same bytes; two bits from
            // `high` become bits 4 and 5.
            let (half, quarter) = (b / 4, b % 4);
            let low = simd.load_bytes(&span[64 * half + 32 * (quarter % 2)..]);
            let high = simd.repeat_bytes(&span[128 + 32 * half..].as_chunks::<32>().0[0]);
            let (low, high) = match quarter {
                0 => (low, simd.shl_words(high, [4, 2])),
                1 => (low, simd.shl_words(high, [2, 0])),
                2 => (simd.shr_words(low, [4, 4]), simd.shr_words(high, [0, 2])),
                _ => (simd.shr_words(low, [4, 4]), simd.shr_words(high, [2, 2])),
            };
            let low = simd.and(low, simd.splat_bytes([15; 4]));
            let w = simd.or(low, simd.and(high, simd.splat_bytes([48; 4])));
            let w = simd.add_bytes(w, simd.splat_bytes([(OFFSET - 32) as u8; 4]));
            sums.add_offset(simd, w, x, b, simd.repeat_4(&scales[2 * b..]));
        }
    }
}

/// The low nibbles of 32 bytes for an even block, or the high ones for an odd block; both for vectors of two blocks.
#[inline(always)]
fn nibbles<S: Simd>(simd: S, bytes: &[u8; 32], b: usize) -> S::Bytes {
    let n = 4 * (b % 2) as u32;
    simd.and(simd.shr_words(simd.repeat_bytes(bytes), [n, 4]), simd.splat_bytes([15; 4]))
}

impl<S: Simd> Sums<S> {
    /// Adds scale · w·x for the blocks from `b` on, w below 32.
    #[inline(always)]
    fn add(&mut self, simd: S, w: S::Bytes, x: Span, b: usize, scale: S::F32) {
        let dot = simd.dot_small(simd.splat_i32(0), [w], [simd.load_bytes(&x.quants[32 * b..])]);
        self.add_scaled(simd, dot, b, scale);
    }

    /// Adds scale · (w − 128)·x.
    #[inline(always)]
    fn add_offset(&mut self, simd: S, w: S::Bytes, x: Span, b: usize, scale: S::F32) {
        let quants = simd.load_bytes(&x.quants[32 * b..]);
        let dot = match const { S::SIGNED } {
            true => simd.dot_signed(simd.splat_i32(0), simd.add_bytes(w, simd.splat_bytes([OFFSET as u8; 4])), quants),
            false => simd.dot(simd.load_i32(&x.lane_offsets[8 * b..]), w, quants),
        };
        self.add_scaled(simd, dot, b, scale);
    }

    #[inline(always)]
    fn add_scaled(&mut self, simd: S, dot: S::I32, b: usize, scale: S::F32) {
        let sum = &mut self.products[b / n_blocks::<S>() % 4];
        *sum = simd.mul_add(simd.to_f32(dot), scale, *sum);
    }

    /// Adds the minima of a Q4_K or Q5_K block to `subtracted`, and returns its scales times those of the activations.
    #[inline(always)]
    fn scales_mins(&mut self, simd: S, span: &[u8], x: Span) -> [f32; N_BLOCKS] {
        let simd = simd.narrow();
        let [scales, mins] = unpack::scales_mins(simd, span);
        self.subtracted = simd.mul_add(mins, simd.load(x.sums), self.subtracted);
        let mut out = [0.0; N_BLOCKS];
        simd.store(simd.mul(scales, simd.load(x.scales)), &mut out);
        out
    }
}
