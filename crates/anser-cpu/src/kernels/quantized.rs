//! Activations as 8-bit integers, for quantized weights.
//!
//! Every 32 elements of a row share an f32 scale, largest magnitude / 127, so that a row's integers depend on that row
//! alone. A product with weights scale_w·(q − offset) − min is then scale_w·scale·(Σ q·a − offset·Σ a) − min·scale·Σ a:
//! the sums of the integers are stored beside them.

use super::panel::groups;
use crate::arch::{Kernel, Narrow, Simd};
use std::ops::Range;

/// The number of elements that share a scale.
pub(crate) const BLOCK_LEN: usize = 32;
/// The offset that is subtracted from the unsigned quants of symmetric weight types.
pub(crate) const OFFSET: i32 = 128;

/// Rows `[T, K]` as panels (see [`super::panel`]): group after group, in a group `[K / 32, tokens, …]`.
#[derive(Debug, Default)]
pub(crate) struct Quantized {
    /// K.
    n_cols: usize,
    /// Integers, −127..=127 as bytes, `[K / 32, tokens, 32]`.
    quants: Vec<u8>,
    /// Scales, `[K / 32, tokens]`.
    scales: Vec<f32>,
    /// Scale · Σ integers, `[K / 32, tokens]`.
    sums: Vec<f32>,
    /// −[`OFFSET`] · Σ integers, `[K / 32, tokens]`.
    offsets: Vec<i32>,
    /// −[`OFFSET`] · Σ integers of each half of 16, `[K / 32, tokens, 2]`.
    half_offsets: Vec<i32>,
    /// Scale · Σ integers of each half, `[K / 32, tokens, 2]`.
    half_sums: Vec<f32>,
}

/// One group of a [`Quantized`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) quants: &'a [u8],
    pub(crate) scales: &'a [f32],
    pub(crate) sums: &'a [f32],
    pub(crate) offsets: &'a [i32],
    pub(crate) half_offsets: &'a [i32],
    pub(crate) half_sums: &'a [f32],
}

impl Quantized {
    /// K.
    pub(crate) fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// T.
    pub(crate) fn n_tokens(&self) -> usize {
        self.quants.len() / self.n_cols.max(1)
    }

    /// The tasks that quantize x `[T, K]`, each `task_n_tokens` tokens. K must be a multiple of 32, and `task_n_tokens`
    /// a multiple of the largest group.
    pub(crate) fn fill<'a>(&'a mut self, x: &'a [f32], n_cols: usize, task_n_tokens: usize) -> Vec<Quantize<'a>> {
        let n_blocks = x.len() / BLOCK_LEN;
        self.n_cols = n_cols;
        self.quants.resize(x.len(), 0);
        self.scales.resize(n_blocks, 0.0);
        self.sums.resize(n_blocks, 0.0);
        self.offsets.resize(n_blocks, 0);
        self.half_offsets.resize(n_blocks * 2, 0);
        self.half_sums.resize(n_blocks * 2, 0.0);
        let n = task_n_tokens * n_cols;
        let n_blocks = n / BLOCK_LEN;
        let scales = self.scales.chunks_mut(n_blocks).zip(self.sums.chunks_mut(n_blocks));
        let offsets = self.offsets.chunks_mut(n_blocks);
        let halves = self.half_offsets.chunks_mut(2 * n_blocks).zip(self.half_sums.chunks_mut(2 * n_blocks));
        let tasks = x.chunks(n).zip(self.quants.chunks_mut(n)).zip(scales).zip(offsets.zip(halves));
        let task = |(((x, quants), (scales, sums)), (offsets, (half_offsets, half_sums)))| Quantize {
            x,
            n_cols,
            quants,
            scales,
            sums,
            offsets,
            half_offsets,
            half_sums,
        };
        tasks.map(task).collect()
    }

    /// The group of `n` tokens from `start` on, as [`groups`] makes them.
    pub(crate) fn group(&self, start: usize, n: usize) -> Group<'_> {
        let n_blocks = self.n_cols / BLOCK_LEN;
        let Quantized { quants, scales, sums, offsets, half_offsets, half_sums, .. } = self;
        let all = Group { quants, scales, sums, offsets, half_offsets, half_sums };
        // Groups lie one after another, so a range of whole groups can be cut out as if the panel had one token.
        all.part(1, start * n_blocks..(start + n) * n_blocks)
    }

    /// The values that the integers stand for, `[T, K]`, in the groups of vectors that keep `max_group` tokens.
    #[cfg(test)]
    pub(crate) fn dequantize(&self, max_group: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.quants.len()];
        for (start, n) in groups(self.n_tokens(), max_group) {
            let group = self.group(start, n);
            for (i, (quants, scale)) in group.quants.chunks_exact(BLOCK_LEN).zip(group.scales).enumerate() {
                let at = (start + i % n) * self.n_cols + i / n * BLOCK_LEN;
                out[at..at + BLOCK_LEN].iter_mut().zip(quants).for_each(|(o, &q)| *o = f32::from(q as i8) * scale);
            }
        }
        out
    }
}

impl<'a> Group<'a> {
    /// The blocks `blocks` of a group of `n` tokens.
    pub(crate) fn part(&self, n: usize, blocks: Range<usize>) -> Group<'a> {
        let (from, to) = (blocks.start * n, blocks.end * n);
        Group {
            quants: &self.quants[from * BLOCK_LEN..to * BLOCK_LEN],
            scales: &self.scales[from..to],
            sums: &self.sums[from..to],
            offsets: &self.offsets[from..to],
            half_offsets: &self.half_offsets[from * 2..to * 2],
            half_sums: &self.half_sums[from * 2..to * 2],
        }
    }
}

/// A task that quantizes rows `[T, K]` of activations to their part of a [`Quantized`].
pub(crate) struct Quantize<'a> {
    x: &'a [f32],
    n_cols: usize,
    quants: &'a mut [u8],
    scales: &'a mut [f32],
    sums: &'a mut [f32],
    offsets: &'a mut [i32],
    half_offsets: &'a mut [i32],
    half_sums: &'a mut [f32],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Quantize { x, n_cols, quants, scales, sums, offsets, half_offsets, half_sums } = self;
        let row_n_blocks = n_cols / BLOCK_LEN;
        let quants = quants.as_chunks_mut::<BLOCK_LEN>().0;
        for (start, n) in groups(x.len() / n_cols, S::TOKENS) {
            for t in 0..n {
                let row = x[(start + t) * n_cols..][..n_cols].as_chunks::<BLOCK_LEN>().0;
                for (b, x) in row.iter().enumerate() {
                    let at = start * row_n_blocks + b * n + t;
                    let Block { scale, integer_sums: [low, high] } = quantize_block(simd.narrow(), x, &mut quants[at]);
                    scales[at] = scale;
                    sums[at] = scale * (low + high) as f32;
                    offsets[at] = -OFFSET * (low + high);
                    half_offsets[2 * at] = -OFFSET * low;
                    half_offsets[2 * at + 1] = -OFFSET * high;
                    half_sums[2 * at] = scale * low as f32;
                    half_sums[2 * at + 1] = scale * high as f32;
                }
            }
        }
    }
}

struct Block {
    scale: f32,
    /// The sums of the integers of each half.
    integer_sums: [i32; 2],
}

#[inline(always)]
fn quantize_block<S: Narrow>(simd: S, x: &[f32; BLOCK_LEN], quants: &mut [u8; BLOCK_LEN]) -> Block {
    let (mut largest, mut poison) = (simd.splat(0.0), simd.splat(0.0));
    for x in x.as_chunks::<8>().0 {
        let x = simd.load(x);
        largest = simd.max_abs(largest, x);
        // Not a number if x is not finite: such an activation must not vanish in the integers.
        poison = simd.mul_add(x, simd.splat(0.0), poison);
    }
    let largest = simd.largest(largest);
    let scale = largest / 127.0;
    // A scale so small that its inverse is infinite belongs to a block that counts as zeros.
    let inverse = if scale > f32::MIN_POSITIVE { 127.0 / largest } else { 0.0 };
    for (x, quants) in x.as_chunks::<8>().0.iter().zip(quants.as_chunks_mut::<8>().0) {
        simd.round_to_i8(simd.mul(simd.load(x), simd.splat(inverse)), quants);
    }
    // Sums of four integers each, of which the first four lanes are the first half.
    let sums = simd.dot(simd.splat_i32(0), simd.splat_bytes([1; 4]), simd.load_bytes(quants));
    let sums = simd.i32_lanes(sums);
    let integer_sums = [sums[0] + sums[1] + sums[2] + sums[3], sums[4] + sums[5] + sums[6] + sums[7]];
    Block { scale: scale + simd.sum(poison), integer_sums }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantize(x: &[f32], n_cols: usize) -> Quantized {
        let mut quantized = Quantized::default();
        for task in quantized.fill(x, n_cols, 4) {
            task.run(crate::arch::portable_for_tests());
        }
        quantized
    }

    #[test]
    fn integers_are_within_half_a_step_and_sums_are_theirs() {
        let x: Vec<f32> = (0..3 * 96).map(|i| ((i * 37 % 101) as f32 - 50.0) * (1 + i / 32) as f32 * 0.01).collect();
        let quantized = quantize(&x, 96);
        for (block, y) in x.chunks(32).zip(quantized.dequantize(4).chunks(32)) {
            let step = block.iter().fold(0.0f32, |m, x| m.max(x.abs())) / 127.0;
            assert!(block.iter().zip(y).all(|(x, y)| (x - y).abs() <= step * 0.5001));
        }
        for (start, n) in groups(3, 4) {
            let g = quantized.group(start, n);
            for (i, quants) in g.quants.chunks(32).enumerate() {
                let sum = |q: &[u8]| q.iter().map(|&q| i32::from(q as i8)).sum::<i32>();
                assert_eq!(g.offsets[i], -OFFSET * sum(quants));
                assert_eq!(g.half_offsets[2 * i], -OFFSET * sum(&quants[..16]));
                assert_eq!(g.half_offsets[2 * i + 1], -OFFSET * sum(&quants[16..]));
                assert_eq!(g.half_sums[2 * i + 1], g.scales[i] * sum(&quants[16..]) as f32);
                assert_eq!(g.sums[i], g.scales[i] * sum(quants) as f32);
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; 64];
            x[40] = bad;
            let quantized = quantize(&x, 64);
            assert!(quantized.scales[0].is_finite() && !quantized.scales[1].is_finite());
        }
    }

    #[test]
    fn the_smallest_numbers_count_as_zeros() {
        assert_eq!(quantize(&[1e-44; 32], 32).quants, [0; 32]);
    }
}
