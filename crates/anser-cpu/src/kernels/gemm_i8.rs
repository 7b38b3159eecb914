//! Quantized weights times many tokens of 8-bit activations.
//!
//! As many rows as a vector has lanes are unpacked, a stretch of columns at a time (see [`super::stretch`]). With a few
//! tokens each stretch is multiplied while it is in the L1 cache, and each weight is read once, at the speed of memory.
//! With many tokens all rows of a tile are first unpacked to panels of all columns, which stay in the L2 cache; then
//! each group of tokens is multiplied with all panels while its activations are in the L1 cache. The sums of a group
//! stay in registers (register tiling).

use super::panel::groups;
use super::quantized::{BLOCK_LEN, Group, OFFSET, Quantized};
use super::stretch::{Blocks, ByRow, Lanes, STRETCH_LEN, Stretch};
use super::unpack::{Format, with_format};
use super::unrolled;
use crate::arch::{Kernel, Simd};
use anser_format::DType;
use std::cell::RefCell;

/// The number of lanes of the widest vectors.
const MAX_LANES: usize = 16;
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
                    few::<S, $format, $len, $n_bytes, $subs>(simd, self, &mut scratch);
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
    let mut sums = [0.0; MAX_FEW_TOKENS * MAX_LANES];
    for (p, rows) in rows.chunks(S::LANES * row_n_bytes).enumerate() {
        sums.fill(0.0);
        for first in (0..row_n_blocks).step_by(n_together) {
            let n_blocks = n_together.min(row_n_blocks - first);
            let (bytes, n_rows) = (&rows[first * N_BYTES..], rows.len() / row_n_bytes);
            let mut stretch = Stretch { quants, scales, mins };
            let blocks = Blocks { bytes, stride: row_n_bytes, n_rows, n_blocks };
            stretch.fill::<S, F, LEN, N_BYTES, SUBS>(simd, blocks, by_row);
            // Prefetches the next rows in the order of memory, as many bytes as this iteration reads.
            let mut next = Some(rows.as_ptr().wrapping_add((row_n_bytes + first * N_BYTES) * S::LANES));
            let panel = Panel { quants, scales, mins };
            let part = first * LEN / BLOCK_LEN..(first + n_blocks) * LEN / BLOCK_LEN;
            for (start, n) in groups(out_rows.len(), S::TOKENS) {
                let group = x.group(start, n).part(n, part.clone());
                let sums = &mut sums[start * S::LANES..(start + n) * S::LANES];
                let next = next.take();
                match n {
                    1 => add::<S, F, LEN, N_BYTES, SUBS, 1>(simd, panel, group, sums, next),
                    2 => add::<S, F, LEN, N_BYTES, SUBS, 2>(simd, panel, group, sums, next),
                    4 => add::<S, F, LEN, N_BYTES, SUBS, 4>(simd, panel, group, sums, next),
                    8 => add::<S, F, LEN, N_BYTES, SUBS, 8>(simd, panel, group, sums, next),
                    _ => add::<S, F, LEN, N_BYTES, SUBS, 16>(simd, panel, group, sums, next),
                }
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
            let mut stretch = Stretch {
                quants: &mut quants[at..][..n_blocks * LEN * S::LANES],
                scales: &mut scales[scales_at..][..n_blocks * SUBS * S::LANES],
                mins: &mut mins[scales_at..][..n_blocks * SUBS * S::LANES],
            };
            let blocks = Blocks { bytes, stride: row_n_bytes, n_rows, n_blocks };
            stretch.fill::<S, F, LEN, N_BYTES, SUBS>(simd, blocks, by_row);
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
            let at = p * S::LANES;
            match n {
                1 => multiply::<S, F, LEN, N_BYTES, SUBS, 1>(simd, panel, group, out_rows, at),
                2 => multiply::<S, F, LEN, N_BYTES, SUBS, 2>(simd, panel, group, out_rows, at),
                4 => multiply::<S, F, LEN, N_BYTES, SUBS, 4>(simd, panel, group, out_rows, at),
                8 => multiply::<S, F, LEN, N_BYTES, SUBS, 8>(simd, panel, group, out_rows, at),
                _ => multiply::<S, F, LEN, N_BYTES, SUBS, 16>(simd, panel, group, out_rows, at),
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

/// out_rows\[t\]\[at + lane\] = row `lane` of the panel · token t, for T tokens.
#[inline(always)]
fn multiply<
    S: Simd,
    F: Format<LEN, N_BYTES, SUBS>,
    const LEN: usize,
    const N_BYTES: usize,
    const SUBS: usize,
    const T: usize,
>(
    simd: S,
    panel: Panel,
    group: Group,
    out_rows: &mut [&mut [f32]],
    at: usize,
) {
    if const { T > S::TOKENS } {
        return;
    }
    let acc = products::<S, F, LEN, N_BYTES, SUBS, T>(simd, panel, group, [simd.splat(0.0); T], None);
    unrolled!(t < T, {
        super::store_lanes(simd, acc[t], &mut out_rows[t][at..]);
    });
}

/// Adds row `lane` of the panel · token t to sums\[t·LANES + lane\], for T tokens, and prefetches as many bytes of
/// weights from `next` on as the panel was unpacked from.
#[inline(always)]
fn add<
    S: Simd,
    F: Format<LEN, N_BYTES, SUBS>,
    const LEN: usize,
    const N_BYTES: usize,
    const SUBS: usize,
    const T: usize,
>(
    simd: S,
    panel: Panel,
    group: Group,
    sums: &mut [f32],
    next: Option<*const u8>,
) {
    if const { T > S::TOKENS } {
        return;
    }
    let mut acc = [simd.splat(0.0); T];
    unrolled!(t < T, {
        acc[t] = simd.load(&sums[t * S::LANES..]);
    });
    let acc = products::<S, F, LEN, N_BYTES, SUBS, T>(simd, panel, group, acc, next);
    unrolled!(t < T, {
        simd.store(acc[t], &mut sums[t * S::LANES..(t + 1) * S::LANES]);
    });
}

/// The sums of [`add`], which stay in registers.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "the index is the same in vectors and slices")]
fn products<
    S: Simd,
    F: Format<LEN, N_BYTES, SUBS>,
    const LEN: usize,
    const N_BYTES: usize,
    const SUBS: usize,
    const T: usize,
>(
    simd: S,
    panel: Panel,
    group: Group,
    mut acc: [S::F32; T],
    next: Option<*const u8>,
) -> [S::F32; T] {
    // The scales of a block of activations: one, or one for each half.
    let per_block = BLOCK_LEN * SUBS / LEN;
    let scales_len = per_block * S::LANES;
    for b in 0..group.scales.len() / T {
        if let Some(next) = next {
            let n_bytes = S::LANES * N_BYTES * BLOCK_LEN / LEN;
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
            if const { is_signed::<S, F, LEN, N_BYTES, SUBS>() } {
                *w = simd.add_bytes(*w, simd.splat_bytes([OFFSET as u8; 4]));
            }
        }
        unrolled!(t < T, {
            let x = quants[t * BLOCK_LEN..(t + 1) * BLOCK_LEN].as_chunks::<4>().0;
            let x_scale = simd.splat(x_scales[t]);
            if const { BLOCK_LEN * SUBS == LEN } {
                let dot = simd.splat_i32(if const { !F::AFFINE && !S::SIGNED } { offsets[t] } else { 0 });
                let dot = dot_16::<S, F, LEN, N_BYTES, SUBS>(simd, dot, &w[..4], &x[..4]);
                let dot = dot_16::<S, F, LEN, N_BYTES, SUBS>(simd, dot, &w[4..], &x[4..]);
                acc[t] = simd.mul_add(simd.to_f32(dot), simd.mul(simd.load(scales), x_scale), acc[t]);
                if const { F::AFFINE } {
                    acc[t] = simd.neg_mul_add(simd.load(mins), simd.splat(x_sums[t]), acc[t]);
                }
            } else {
                for half in 0..2 {
                    let dot =
                        simd.splat_i32(if const { !F::AFFINE && !S::SIGNED } { half_offsets[2 * t + half] } else { 0 });
                    let dot = dot_16::<S, F, LEN, N_BYTES, SUBS>(simd, dot, &w[4 * half..], &x[4 * half..]);
                    let scale = simd.mul(simd.load(&scales[half * S::LANES..]), x_scale);
                    acc[t] = simd.mul_add(simd.to_f32(dot), scale, acc[t]);
                    if const { F::AFFINE } {
                        let sum = simd.splat(half_sums[2 * t + half]);
                        acc[t] = simd.neg_mul_add(simd.load(&mins[half * S::LANES..]), sum, acc[t]);
                    }
                }
            }
        });
    }
    acc
}

/// Whether the weights of a format are multiplied as signed numbers, without the offset that they are unpacked with.
#[inline(always)]
const fn is_signed<
    S: Simd,
    F: Format<LEN, N_BYTES, SUBS>,
    const LEN: usize,
    const N_BYTES: usize,
    const SUBS: usize,
>() -> bool {
    S::SIGNED && !F::AFFINE
}

/// Adds the products of 16 columns: of the first four vectors of weights with the first 16 activations.
#[inline(always)]
fn dot_16<S: Simd, F: Format<LEN, N_BYTES, SUBS>, const LEN: usize, const N_BYTES: usize, const SUBS: usize>(
    simd: S,
    acc: S::I32,
    w: &[S::Bytes],
    x: &[[u8; 4]],
) -> S::I32 {
    let w = [w[0], w[1], w[2], w[3]];
    let x = [simd.splat_bytes(x[0]), simd.splat_bytes(x[1]), simd.splat_bytes(x[2]), simd.splat_bytes(x[3])];
    if const { F::AFFINE && F::SMALL } {
        return simd.dot_small(acc, w, x);
    }
    if const { is_signed::<S, F, LEN, N_BYTES, SUBS>() && F::SMALL } {
        return simd.dot_small_signed(acc, w, x);
    }
    let mut acc = acc;
    for i in 0..4 {
        acc = match const { is_signed::<S, F, LEN, N_BYTES, SUBS>() } {
            true => simd.dot_signed(acc, w[i], x[i]),
            false => simd.dot(acc, w[i], x[i]),
        };
    }
    acc
}
