//! Quantized weights times many tokens of 8-bit activations.
//!
//! As many rows as a vector has lanes are unpacked, a stretch of columns at a time (see [`super::stretch`]). With a few
//! tokens each stretch is multiplied while it is in the L1 cache, and each weight is read once, at the speed of memory.
//! With many tokens all rows of a tile are first unpacked to panels of all columns, which stay in the L2 cache; then
//! each group of tokens is multiplied with all panels while its activations are in the L1 cache. The sums of a group
//! stay in registers (register tiling).

use super::panel::groups;
use super::quantized::{BLOCK_LEN, Group, OFFSET, Quantized};
use super::stretch::{Blocks, ByRow, Fill, Lanes, STRETCH_LEN, Stretch};
use super::unpack::{Format, Kind, with_format};
use super::unrolled;
use crate::arch::{Kernel, Simd};
use anser_format::DType;
use std::cell::RefCell;
use std::marker::PhantomData;

/// The number of lanes of the widest vectors.
const MAX_LANES: usize = 16;
/// The most tokens whose sums the widest vectors keep in registers.
const MAX_TOKENS: usize = 16;
/// The most tokens for which a stretch is multiplied as soon as it is unpacked.
pub(crate) const MAX_FEW_TOKENS: usize = 32;

/// The working memory of one thread, kept between tiles.
#[derive(Default)]
struct Scratch {
    by_row: ByRow,
    /// Unpacked weights, `[panels, columns / 4, LANES]` of four bytes each.
    quants: Vec<u8>,
    /// The scales of the unpacked weights, `[panels, scales of a row, LANES]`.
    scales: Vec<f32>,
    mins: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Option<Box<Scratch>>> = RefCell::default();
}

/// out_rows\[t\]\[i\] = x\[t\] · row i, for the weight rows in `rows`, of a quantized type.
pub(crate) struct GemmI8<'a, 'b> {
    pub(crate) dtype: DType,
    pub(crate) rows: &'a [u8],
    pub(crate) x: &'a Quantized,
    /// For each token, the slice of its output row for these weight rows.
    pub(crate) out_rows: &'a mut [&'b mut [f32]],
}

impl Kernel for GemmI8<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // The memory is taken out of its cell rather than borrowed in a closure, which the compiler would not compile
        // for the vectors.
        let mut scratch = SCRATCH.take().unwrap_or_default();
        macro_rules! tile {
            ($format:ty, $len:literal, $n_bytes:literal, $subs:literal) => {
                if self.out_rows.len() <= MAX_FEW_TOKENS {
                    simd.call(Few::<$format, $len, $n_bytes, $subs> {
                        gemm: self,
                        scratch: &mut scratch,
                        format: PhantomData,
                    });
                } else {
                    many::<S, $format, $len, $n_bytes, $subs>(simd, self, &mut scratch);
                }
            };
        }
        with_format!(self.dtype, tile, ());
        SCRATCH.set(Some(scratch));
    }
}

/// Multiplies with a few tokens: each stretch as soon as it is unpacked.
struct Few<'a, 'b, 'c, F, const LEN: usize, const N_BYTES: usize, const SUBS: usize> {
    gemm: GemmI8<'a, 'b>,
    scratch: &'c mut Scratch,
    format: PhantomData<F>,
}

impl<F: Format<LEN, N_BYTES, SUBS> + Lanes, const LEN: usize, const N_BYTES: usize, const SUBS: usize> Kernel
    for Few<'_, '_, '_, F, LEN, N_BYTES, SUBS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        few::<S, F, LEN, N_BYTES, SUBS>(simd, self.gemm, self.scratch);
    }
}

#[inline(always)]
fn few<S: Simd, F: Format<LEN, N_BYTES, SUBS> + Lanes, const LEN: usize, const N_BYTES: usize, const SUBS: usize>(
    simd: S,
    gemm: GemmI8,
    scratch: &mut Scratch,
) {
    let GemmI8 { rows, x, out_rows, .. } = gemm;
    let n_rows = out_rows.first().map_or(0, |p| p.len());
    let Some(row_n_bytes) = rows.len().checked_div(n_rows) else { return };
    let (row_n_blocks, n_together) = (row_n_bytes / N_BYTES, STRETCH_LEN / LEN);
    let Scratch { by_row, quants, scales, mins } = scratch;
    let quants = aligned(quants, STRETCH_LEN * S::LANES, 0);
    let scales_len = n_together * SUBS * S::LANES;
    let (scales, mins) = (aligned(scales, scales_len, 0.0), aligned(mins, scales_len, 0.0));
    let block_n_bytes = N_BYTES * BLOCK_LEN / LEN;
    let mut sums = [0.0; MAX_FEW_TOKENS * MAX_LANES];
    for (p, rows) in rows.chunks(S::LANES * row_n_bytes).enumerate() {
        sums.fill(0.0);
        for first in (0..row_n_blocks).step_by(n_together) {
            let n_blocks = n_together.min(row_n_blocks - first);
            let (bytes, n_rows) = (&rows[first * N_BYTES..], rows.len() / row_n_bytes);
            let stretch = Stretch { quants, scales, mins };
            let blocks = Blocks { bytes, stride: row_n_bytes, n_rows, n_blocks };
            Fill::<F, LEN, N_BYTES, SUBS> { stretch, blocks, by_row, format: PhantomData }.run(simd);
            // Prefetches the next rows in the order of memory, as many bytes as this iteration reads.
            let mut next = Some(rows.as_ptr().wrapping_add((row_n_bytes + first * N_BYTES) * S::LANES));
            let panel = Panel { quants, scales, mins };
            let part = first * LEN / BLOCK_LEN..(first + n_blocks) * LEN / BLOCK_LEN;
            for (start, n) in groups(out_rows.len(), S::TOKENS) {
                let group = x.group(start, n).part(n, part.clone());
                let sums = &mut sums[start * S::LANES..(start + n) * S::LANES];
                Add { panel, group, sums, block_n_bytes, next: next.take() }.run::<S, F::Kind>(simd, n);
            }
        }
        for (piece, sums) in out_rows.iter_mut().zip(sums.chunks_exact(S::LANES)) {
            super::store_lanes(simd, simd.load(sums), &mut piece[p * S::LANES..]);
        }
    }
}

/// Multiplies with many tokens: all rows are unpacked first.
#[inline(always)]
fn many<S: Simd, F: Format<LEN, N_BYTES, SUBS> + Lanes, const LEN: usize, const N_BYTES: usize, const SUBS: usize>(
    simd: S,
    gemm: GemmI8,
    scratch: &mut Scratch,
) {
    let GemmI8 { rows, x, out_rows, .. } = gemm;
    let n_rows = out_rows.first().map_or(0, |p| p.len());
    let Some(row_n_bytes) = rows.len().checked_div(n_rows) else { return };
    let (row_n_blocks, n_together) = (row_n_bytes / N_BYTES, STRETCH_LEN / LEN);
    let Scratch { by_row, quants, scales, mins } = scratch;
    let n_panels = n_rows.div_ceil(S::LANES);
    let (panel_len, scales_len) = (row_n_blocks * LEN * S::LANES, row_n_blocks * SUBS * S::LANES);
    let quants = aligned(quants, n_panels * panel_len, 0);
    let (scales, mins) = (aligned(scales, n_panels * scales_len, 0.0), aligned(mins, n_panels * scales_len, 0.0));
    for (p, rows) in rows.chunks(S::LANES * row_n_bytes).enumerate() {
        for first in (0..row_n_blocks).step_by(n_together) {
            let n_blocks = n_together.min(row_n_blocks - first);
            let (bytes, n_rows) = (&rows[first * N_BYTES..], rows.len() / row_n_bytes);
            // Prefetches the next rows in the order of memory, as many bytes as this iteration reads.
            let next = rows.as_ptr().wrapping_add((row_n_bytes + first * N_BYTES) * S::LANES);
            for line in (0..n_blocks * N_BYTES * S::LANES).step_by(64) {
                simd.prefetch(next.wrapping_add(line));
            }
            let (at, scales_at) = (p * panel_len + first * LEN * S::LANES, p * scales_len + first * SUBS * S::LANES);
            let stretch = Stretch {
                quants: &mut quants[at..][..n_blocks * LEN * S::LANES],
                scales: &mut scales[scales_at..][..n_blocks * SUBS * S::LANES],
                mins: &mut mins[scales_at..][..n_blocks * SUBS * S::LANES],
            };
            let blocks = Blocks { bytes, stride: row_n_bytes, n_rows, n_blocks };
            simd.call(Fill::<F, LEN, N_BYTES, SUBS> { stretch, blocks, by_row, format: PhantomData });
        }
    }
    for (start, n) in groups(out_rows.len(), S::TOKENS) {
        let group = x.group(start, n);
        let out_rows = &mut out_rows[start..start + n];
        for p in 0..n_panels {
            let panel = Panel {
                quants: &quants[p * panel_len..][..panel_len],
                scales: &scales[p * scales_len..][..scales_len],
                mins: &mins[p * scales_len..][..scales_len],
            };
            let mut sums = [0.0; MAX_TOKENS * MAX_LANES];
            let sums = &mut sums[..n * S::LANES];
            Add { panel, group, sums, block_n_bytes: 0, next: None }.run::<S, F::Kind>(simd, n);
            for (row, sums) in out_rows.iter_mut().zip(sums.chunks_exact(S::LANES)) {
                super::store_lanes(simd, simd.load(sums), &mut row[p * S::LANES..]);
            }
        }
    }
}

/// The first `len` elements of `v` from the beginning of a cache line on; `v` grows if it is too short. A load that
/// crosses two cache lines takes twice as long.
#[inline(always)]
fn aligned<T: Copy>(v: &mut Vec<T>, len: usize, fill: T) -> &mut [T] {
    let most = 64 / size_of::<T>();
    if v.len() < len + most {
        v.resize(len + most, fill);
    }
    let start = v.as_ptr().align_offset(64).min(most);
    &mut v[start..start + len]
}

/// A panel: LANES unpacked rows.
#[derive(Clone, Copy)]
struct Panel<'a> {
    quants: &'a [u8],
    scales: &'a [f32],
    mins: &'a [f32],
}

/// Adds row `lane` of the panel · token t to sums\[t·LANES + lane\], for the n tokens of `group`, and prefetches as many bytes
/// of weights from `next` on as the panel was unpacked from.
struct Add<'a> {
    panel: Panel<'a>,
    group: Group<'a>,
    /// `[n, LANES]`
    sums: &'a mut [f32],
    /// The bytes that the panel was unpacked from, for every 32 columns.
    block_n_bytes: usize,
    next: Option<*const u8>,
}

impl Add<'_> {
    #[inline(always)]
    fn run<S: Simd, K: Kind>(self, simd: S, n: usize) {
        match n {
            1 => simd.call(AddTokens::<K, 1>(self, PhantomData)),
            2 => simd.call(AddTokens::<K, 2>(self, PhantomData)),
            4 => simd.call(AddTokens::<K, 4>(self, PhantomData)),
            8 => simd.call(AddTokens::<K, 8>(self, PhantomData)),
            _ => simd.call(AddTokens::<K, 16>(self, PhantomData)),
        }
    }
}

/// [`Add`] for T tokens, whose sums stay in registers.
struct AddTokens<'a, K, const T: usize>(Add<'a>, PhantomData<K>);

impl<K: Kind, const T: usize> Kernel for AddTokens<'_, K, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if const { T > S::TOKENS } {
            return;
        }
        let Add { panel, group, sums, block_n_bytes, next } = self.0;
        let mut acc = [simd.splat(0.0); T];
        unrolled!(t < T, {
            acc[t] = simd.load(&sums[t * S::LANES..]);
        });
        // The scales of a block of activations: one, or one for each half.
        let scales_len = if const { K::HALVES } { 2 } else { 1 } * S::LANES;
        for b in 0..group.scales.len() / T {
            if let Some(next) = next {
                let n_bytes = S::LANES * block_n_bytes;
                for at in (0..n_bytes).step_by(64) {
                    simd.prefetch(next.wrapping_add(b * n_bytes + at));
                }
            }
            let weights = &panel.quants[b * BLOCK_LEN * S::LANES..(b + 1) * BLOCK_LEN * S::LANES];
            let scales = &panel.scales[b * scales_len..(b + 1) * scales_len];
            let mins = &panel.mins[b * scales_len..(b + 1) * scales_len];
            let quants = &group.quants[b * BLOCK_LEN * T..(b + 1) * BLOCK_LEN * T];
            let tokens = b * T..(b + 1) * T;
            let (x_scales, x_sums, offsets) =
                (&group.scales[tokens.clone()], &group.sums[tokens.clone()], &group.offsets[tokens]);
            let halves = 2 * b * T..2 * (b + 1) * T;
            let (half_offsets, half_sums) = (&group.half_offsets[halves.clone()], &group.half_sums[halves]);
            let mut w = [simd.splat_bytes([0; 4]); 8];
            for (i, w) in w.iter_mut().enumerate() {
                *w = simd.load_bytes(&weights[i * 4 * S::LANES..(i + 1) * 4 * S::LANES]);
                if const { is_signed::<S, K>() } {
                    *w = simd.add_bytes(*w, simd.splat_bytes([OFFSET as u8; 4]));
                }
            }
            unrolled!(t < T, {
                let x = quants[t * BLOCK_LEN..(t + 1) * BLOCK_LEN].as_chunks::<4>().0;
                let x_scale = simd.splat(x_scales[t]);
                if const { K::HALVES } {
                    for half in 0..2 {
                        let has_offset = const { !K::AFFINE && !S::SIGNED };
                        let dot = simd.splat_i32(if has_offset { half_offsets[2 * t + half] } else { 0 });
                        let dot = dot_16::<S, K>(simd, dot, &w[4 * half..], &x[4 * half..]);
                        let scale = simd.mul(simd.load(&scales[half * S::LANES..]), x_scale);
                        acc[t] = simd.mul_add(simd.to_f32(dot), scale, acc[t]);
                        if const { K::AFFINE } {
                            let sum = simd.splat(half_sums[2 * t + half]);
                            acc[t] = simd.neg_mul_add(simd.load(&mins[half * S::LANES..]), sum, acc[t]);
                        }
                    }
                } else {
                    let dot = simd.splat_i32(if const { !K::AFFINE && !S::SIGNED } { offsets[t] } else { 0 });
                    let dot = dot_16::<S, K>(simd, dot, &w[..4], &x[..4]);
                    let dot = dot_16::<S, K>(simd, dot, &w[4..], &x[4..]);
                    acc[t] = simd.mul_add(simd.to_f32(dot), simd.mul(simd.load(scales), x_scale), acc[t]);
                    if const { K::AFFINE } {
                        acc[t] = simd.neg_mul_add(simd.load(mins), simd.splat(x_sums[t]), acc[t]);
                    }
                }
            });
        }
        unrolled!(t < T, {
            simd.store(acc[t], &mut sums[t * S::LANES..(t + 1) * S::LANES]);
        });
    }
}

/// Whether the weights of a kind are multiplied as signed numbers, without the offset that they are unpacked with.
#[inline(always)]
const fn is_signed<S: Simd, K: Kind>() -> bool {
    S::SIGNED && !K::AFFINE
}

/// Adds the products of 16 columns: of the first four vectors of weights with the first 16 activations.
#[inline(always)]
fn dot_16<S: Simd, K: Kind>(simd: S, acc: S::I32, w: &[S::Bytes], x: &[[u8; 4]]) -> S::I32 {
    let w = [w[0], w[1], w[2], w[3]];
    let x = [simd.splat_bytes(x[0]), simd.splat_bytes(x[1]), simd.splat_bytes(x[2]), simd.splat_bytes(x[3])];
    if const { K::AFFINE && K::SMALL } {
        return simd.dot_small(acc, w, x);
    }
    if const { is_signed::<S, K>() && K::SMALL } {
        return simd.dot_small_signed(acc, w, x);
    }
    let mut acc = acc;
    for i in 0..4 {
        acc = match const { is_signed::<S, K>() } {
            true => simd.dot_signed(acc, w[i], x[i]),
            false => simd.dot(acc, w[i], x[i]),
        };
    }
    acc
}
