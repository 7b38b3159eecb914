//! Quantized weights times many tokens of 8-bit activations.
//!
//! A lane is a weight row: as many rows as a vector has lanes are unpacked into a panel in which four consecutive
//! elements of every row make a vector, so that one dot-product instruction advances all rows by four elements of one
//! token, and no sum across lanes is ever needed. A panel serves all tokens; the sums of a group of tokens stay in
//! registers over all of K.

use super::panel::groups;
use super::quantized::{BLOCK_LEN, Group, Quantized};
use super::unpack::{Format, Unpacked, with_format};
use crate::arch::{Kernel, Simd};
use anser_format::DType;
use std::cell::RefCell;

/// Columns of a row that are unpacked at a time: the longest block, or several short ones.
const STRETCH_LEN: usize = 256;

/// Unpacked weight rows of one thread, kept between tiles.
#[derive(Default)]
struct Scratch {
    /// A stretch of every row of a panel, row after row.
    rows: Vec<[u8; 4]>,
    row_scales: Vec<f32>,
    row_mins: Vec<f32>,
    /// Panels, `[rows / LANES, K / 4, LANES]`.
    quants: Vec<[u8; 4]>,
    /// `[rows / LANES, scales of a row, LANES]`
    scales: Vec<f32>,
    mins: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// pieces\[t\]\[i\] = x\[t\] · row i, for the weight rows in `rows`, of a quantized type.
pub(crate) struct GemmI8<'a, 'b> {
    pub(crate) dtype: DType,
    pub(crate) rows: &'a [u8],
    pub(crate) x: &'a Quantized,
    /// One piece per token.
    pub(crate) pieces: &'a mut [&'b mut [f32]],
}

impl Kernel for GemmI8<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Taken rather than borrowed: a closure would not be compiled for the vectors.
        let mut scratch = SCRATCH.take();
        macro_rules! tile {
            ($format:ty, $len:literal, $n_bytes:literal, $subs:literal) => {
                tile::<S, $format, $len, $n_bytes, $subs>(simd, self, &mut scratch)
            };
        }
        with_format!(self.dtype, tile, ());
        SCRATCH.set(scratch);
    }
}

#[inline(always)]
fn tile<S: Simd, F: Format<LEN, N_BYTES, SUBS>, const LEN: usize, const N_BYTES: usize, const SUBS: usize>(
    simd: S,
    gemm: GemmI8,
    scratch: &mut Scratch,
) {
    let GemmI8 { rows, x, pieces, .. } = gemm;
    let n_cols = x.n_cols();
    let n_rows = pieces.first().map_or(0, |p| p.len());
    let Some(row_n_bytes) = rows.len().checked_div(n_rows) else { return };
    let panel_len = n_cols / 4 * S::LANES;
    let scales_len = n_cols / LEN * SUBS * S::LANES;
    let n_panels = n_rows.div_ceil(S::LANES);
    grow(&mut scratch.quants, n_panels * panel_len, [0; 4]);
    grow(&mut scratch.scales, n_panels * scales_len, 0.0);
    grow(&mut scratch.mins, n_panels * scales_len, 0.0);
    for (p, rows) in rows.chunks(row_n_bytes * S::LANES).enumerate() {
        unpack_panel::<S, F, LEN, N_BYTES, SUBS>(simd, rows, row_n_bytes, p * panel_len, p * scales_len, scratch);
    }
    for (start, n) in groups(x.n_tokens(), S::TOKENS) {
        let group = x.group(start, n);
        let pieces = &mut pieces[start..start + n];
        for p in 0..n_panels {
            let panel = Panel {
                quants: &scratch.quants[p * panel_len..][..panel_len],
                scales: &scratch.scales[p * scales_len..][..scales_len],
                mins: &scratch.mins[p * scales_len..][..scales_len],
            };
            let at = p * S::LANES;
            match n {
                1 => multiply::<S, F, LEN, N_BYTES, SUBS, 1>(simd, panel, group, pieces, at),
                2 => multiply::<S, F, LEN, N_BYTES, SUBS, 2>(simd, panel, group, pieces, at),
                4 => multiply::<S, F, LEN, N_BYTES, SUBS, 4>(simd, panel, group, pieces, at),
                8 => multiply::<S, F, LEN, N_BYTES, SUBS, 8>(simd, panel, group, pieces, at),
                _ => multiply::<S, F, LEN, N_BYTES, SUBS, 16>(simd, panel, group, pieces, at),
            }
        }
    }
}

/// Makes `v` at least `len` long; what it holds is about to be written.
fn grow<T: Copy>(v: &mut Vec<T>, len: usize, fill: T) {
    if v.len() < len {
        v.resize(len, fill);
    }
}

/// Unpacks up to LANES rows to a panel, [`STRETCH_LEN`] columns at a time; missing rows repeat what the scratch held.
#[inline(always)]
fn unpack_panel<S: Simd, F: Format<LEN, N_BYTES, SUBS>, const LEN: usize, const N_BYTES: usize, const SUBS: usize>(
    simd: S,
    rows: &[u8],
    row_n_bytes: usize,
    quants_at: usize,
    scales_at: usize,
    scratch: &mut Scratch,
) {
    // Blocks of a row that are unpacked together, and what they fill.
    let n_together = STRETCH_LEN / LEN;
    let (quants_len, scales_len) = (STRETCH_LEN / 4, n_together * SUBS);
    grow(&mut scratch.rows, S::LANES * quants_len, [0; 4]);
    grow(&mut scratch.row_scales, S::LANES * scales_len, 0.0);
    grow(&mut scratch.row_mins, S::LANES * scales_len, 0.0);
    let mut u = Unpacked::new();
    let row_n_blocks = row_n_bytes / N_BYTES;
    for first in (0..row_n_blocks).step_by(n_together) {
        // One without asking: for the longest blocks the loop below is none.
        let n = if n_together == 1 { 1 } else { n_together.min(row_n_blocks - first) };
        for (lane, row) in rows.chunks_exact(row_n_bytes).enumerate() {
            let blocks = &row.as_chunks::<N_BYTES>().0[first..first + n];
            for (i, block) in blocks.iter().enumerate() {
                // The same block of the next panel: that many rows at once are too many streams for the processor to guess.
                super::prefetch(simd, block, S::LANES * row_n_bytes);
                F::unpack(simd.narrow(), block, &mut u);
                let at = lane * n_together + i;
                scratch.rows[at * LEN / 4..][..LEN / 4].copy_from_slice(u.quants.as_chunks::<4>().0);
                scratch.row_scales[at * SUBS..][..SUBS].copy_from_slice(&u.scales);
                if F::AFFINE {
                    scratch.row_mins[at * SUBS..][..SUBS].copy_from_slice(&u.mins);
                }
            }
        }
        let out = &mut scratch.quants[quants_at + first * LEN / 4 * S::LANES..][..n * LEN / 4 * S::LANES];
        simd.interleave(&scratch.rows, quants_len, out);
        let to = scales_at + first * SUBS * S::LANES..scales_at + (first + n) * SUBS * S::LANES;
        simd.interleave(&scratch.row_scales, scales_len, &mut scratch.scales[to.clone()]);
        if F::AFFINE {
            simd.interleave(&scratch.row_mins, scales_len, &mut scratch.mins[to]);
        }
    }
}

/// LANES unpacked rows.
#[derive(Clone, Copy)]
struct Panel<'a> {
    quants: &'a [[u8; 4]],
    scales: &'a [f32],
    mins: &'a [f32],
}

/// Runs a body for every t below n, at most 16, written out: the compiler would keep the sums of so long a loop in
/// memory.
macro_rules! unrolled {
    ($t:ident < $n:expr, $body:block) => {
        unrolled!(@ $t $n, $body, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    };
    (@ $t:ident $n:expr, $body:block, $($i:literal),*) => {
        $(
            if $i < $n {
                let $t = $i;
                $body
            }
        )*
    };
}

/// pieces\[t\]\[at + lane\] = row `lane` of the panel · token t, for T tokens.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "the index is the same in vectors and slices")]
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
    pieces: &mut [&mut [f32]],
    at: usize,
) {
    if T > S::TOKENS {
        return;
    }
    // Scales of a block of activations: one, or one for each half.
    let per_block = BLOCK_LEN * SUBS / LEN;
    let panel_block_len = per_block * S::LANES;
    let weights = panel.quants.as_flattened();
    let mut acc = [simd.splat(0.0); T];
    for b in 0..group.scales.len() / T {
        let weights = &weights[b * BLOCK_LEN * S::LANES..(b + 1) * BLOCK_LEN * S::LANES];
        let scales = &panel.scales[b * panel_block_len..(b + 1) * panel_block_len];
        let mins = &panel.mins[b * panel_block_len..(b + 1) * panel_block_len];
        let quants = &group.quants[b * BLOCK_LEN * T..(b + 1) * BLOCK_LEN * T];
        let tokens = b * T..(b + 1) * T;
        let (x_scales, sums, offsets) =
            (&group.scales[tokens.clone()], &group.sums[tokens.clone()], &group.offsets[tokens]);
        let halves = 2 * b * T..2 * (b + 1) * T;
        let (half_offsets, half_sums) = (&group.half_offsets[halves.clone()], &group.half_sums[halves]);
        let mut w = [simd.splat_bytes([0; 4]); 8];
        for (i, w) in w.iter_mut().enumerate() {
            *w = simd.load_bytes(&weights[i * 4 * S::LANES..(i + 1) * 4 * S::LANES]);
        }
        unrolled!(t < T, {
            let x = quants[t * BLOCK_LEN..(t + 1) * BLOCK_LEN].as_chunks::<4>().0;
            let x_scale = simd.splat(x_scales[t]);
            if per_block == 1 {
                let mut dot = simd.splat_i32(if F::AFFINE { 0 } else { offsets[t] });
                for i in 0..8 {
                    dot = simd.dot(dot, w[i], simd.splat_bytes(x[i]));
                }
                acc[t] = simd.mul_add(simd.to_f32(dot), simd.mul(simd.load(scales), x_scale), acc[t]);
                if F::AFFINE {
                    acc[t] = simd.neg_mul_add(simd.load(mins), simd.splat(sums[t]), acc[t]);
                }
            } else {
                for half in 0..2 {
                    let mut dot = simd.splat_i32(if F::AFFINE { 0 } else { half_offsets[2 * t + half] });
                    for i in 4 * half..4 * half + 4 {
                        dot = simd.dot(dot, w[i], simd.splat_bytes(x[i]));
                    }
                    let scale = simd.mul(simd.load(&scales[half * S::LANES..]), x_scale);
                    acc[t] = simd.mul_add(simd.to_f32(dot), scale, acc[t]);
                    if F::AFFINE {
                        let sum = simd.splat(half_sums[2 * t + half]);
                        acc[t] = simd.neg_mul_add(simd.load(&mins[half * S::LANES..]), sum, acc[t]);
                    }
                }
            }
        });
    }
    unrolled!(t < T, {
        super::store_lanes(simd, acc[t], &mut pieces[t][at..]);
    });
}
