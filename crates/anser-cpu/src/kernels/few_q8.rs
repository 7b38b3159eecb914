//! Q8_0 times a few tokens of 8-bit activations: lanes are tokens.
//!
//! Each weight is read once, at the speed of memory, and not rearranged; the activations are. A load repeats some bytes
//! of a row for every token, and one dot-product instruction multiplies them with the same columns of all tokens.

use super::panel::groups;
use super::quantized::{BLOCK_LEN, Quantized};
use super::unrolled;
use crate::arch::{self, Kernel, Simd};

/// The most tokens for which this kernel is faster than unpacking the weights. Vectors with fewer lanes take at most
/// one token per lane.
pub(crate) const MAX_TOKENS: usize = 16;
/// The number of rows that are multiplied at a time. They share the loads of activations, and their sums do not depend
/// on each other. Processors with 32 vector registers keep those of eight rows there.
const N_ROWS: usize = 8;
/// The same for the 16 registers that there are without AVX-512.
const N_ROWS_NARROW: usize = 4;
/// The bytes of a block: an F16 scale, then the weights.
const BLOCK_N_BYTES: usize = 2 + BLOCK_LEN;
/// The number of lanes of the widest vectors.
const MAX_LANES: usize = 16;

/// out_rows\[t\]\[i\] = x\[t\] · row i, for the weight rows in `rows`, of Q8_0, and at most one token per lane.
pub(crate) struct FewQ8<'a, 'b> {
    pub(crate) rows: &'a [u8],
    pub(crate) x: &'a Quantized,
    /// For each token, the slice of its output row for these weight rows.
    pub(crate) out_rows: &'a mut [&'b mut [f32]],
}

impl Kernel for FewQ8<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.out_rows.len() {
            0..=4 => simd.call(Lanes::<4>(self)),
            5..=8 => simd.call(Lanes::<8>(self)),
            _ => simd.call(Lanes::<16>(self)),
        }
    }
}

/// [`FewQ8`] for at most N tokens.
struct Lanes<'a, 'b, const N: usize>(FewQ8<'a, 'b>);

impl<const N: usize> Kernel for Lanes<'_, '_, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        tile::<S, N>(simd, self.0);
    }
}

/// 32 columns of N tokens, of which those beyond the step's tokens are zeros. A token has LANES / N lanes, one after
/// the other.
#[derive(Clone)]
#[repr(align(64))]
struct Block<const N: usize> {
    /// The integers as vectors; a lane holds four columns.
    quants: [[u8; BLOCK_LEN]; N],
    /// The start values of the sums, in the first lane of every token.
    starts: [i32; MAX_LANES],
    /// The scales, in all lanes of their token.
    scales: [f32; MAX_LANES],
}

/// The number of bytes of a row that a vector repeats for every token.
#[inline(always)]
const fn piece_len<S: Simd, const N: usize>() -> usize {
    4 * S::LANES / N
}

/// Arranges the tokens in lanes.
#[inline(always)]
fn spread<S: Simd, const N: usize>(x: &Quantized) -> Vec<Block<N>> {
    let zeros = Block { quants: [[0; BLOCK_LEN]; N], starts: [0; MAX_LANES], scales: [0.0; MAX_LANES] };
    let mut blocks = vec![zeros; x.n_cols() / BLOCK_LEN];
    let (token_lanes, piece_len) = (S::LANES / N, piece_len::<S, N>());
    for (start, n) in groups(x.n_tokens(), S::TOKENS) {
        let group = x.group(start, n);
        for (b, block) in blocks.iter_mut().enumerate() {
            for t in 0..n {
                let (from, to) = (b * n + t, start + t);
                let row = &group.quants[from * BLOCK_LEN..(from + 1) * BLOCK_LEN];
                let quants = block.quants.as_flattened_mut();
                for (i, piece) in row.chunks_exact(piece_len).enumerate() {
                    quants[(i * N + to) * piece_len..][..piece_len].copy_from_slice(piece);
                }
                block.starts[to * token_lanes] = group.offsets[from];
                block.scales[to * token_lanes..(to + 1) * token_lanes].fill(group.scales[from]);
            }
        }
    }
    blocks
}

#[inline(always)]
fn tile<S: Simd, const N: usize>(simd: S, few: FewQ8) {
    let FewQ8 { rows, x, out_rows } = few;
    if const { N > S::LANES } {
        return;
    }
    let n_rows = out_rows.first().map_or(0, |p| p.len());
    let Some(row_n_bytes) = rows.len().checked_div(n_rows) else { return };
    let blocks = spread::<S, N>(x);
    let mut i = 0;
    while i < n_rows {
        let (rows, n_left) = (&rows[i * row_n_bytes..], n_rows - i);
        i += if const { S::LANES == MAX_LANES } {
            match n_left {
                N_ROWS.. => some::<S, N, N_ROWS>(simd, rows, &blocks, out_rows, i),
                _ => some::<S, N, 1>(simd, rows, &blocks, out_rows, i),
            }
        } else {
            match n_left {
                N_ROWS_NARROW.. => some::<S, N, N_ROWS_NARROW>(simd, rows, &blocks, out_rows, i),
                _ => some::<S, N, 1>(simd, rows, &blocks, out_rows, i),
            }
        };
    }
}

/// Multiplies the first R of `rows`, whose outputs begin at index `at`, and returns R.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "the index is the same in vectors and slices")]
fn some<S: Simd, const N: usize, const R: usize>(
    simd: S,
    rows: &[u8],
    x: &[Block<N>],
    out_rows: &mut [&mut [f32]],
    at: usize,
) -> usize {
    let row_n_bytes = x.len() * BLOCK_N_BYTES;
    let next = rows.as_ptr().wrapping_add((R * row_n_bytes).max(arch::prefetch_n_bytes()));
    let mut row = [&rows.as_chunks::<BLOCK_N_BYTES>().0[..x.len()]; R];
    for r in 1..R {
        row[r] = &rows[r * row_n_bytes..].as_chunks().0[..x.len()];
    }
    // The constant is hidden from the compiler, which would otherwise add it to the bytes of a row and then repeat the
    // sum, rather than let the load repeat the bytes: one instruction more for every product.
    let offset = simd.load_bytes(&std::hint::black_box([128; 64]));
    let mut sums = [simd.splat(0.0); R];
    for (b, x) in x.iter().enumerate() {
        // Prefetches the next rows in the order of memory, as many bytes as this iteration reads.
        for line in (0..R * BLOCK_N_BYTES).step_by(64) {
            simd.prefetch(next.wrapping_add(b * R * BLOCK_N_BYTES + line));
        }
        let mut dots = [if const { S::SIGNED } { simd.splat_i32(0) } else { simd.load_i32(&x.starts) }; R];
        unrolled!(i < BLOCK_LEN / piece_len::<S, N>(), {
            let x = simd.load_bytes(&x.quants.as_flattened()[4 * i * S::LANES..4 * (i + 1) * S::LANES]);
            unrolled!(r < R, {
                let w = simd.repeat::<N>(&row[r][b][2 + i * piece_len::<S, N>()..]);
                dots[r] = match const { S::SIGNED } {
                    true => simd.dot_signed(dots[r], w, x),
                    false => simd.dot(dots[r], simd.add_bytes(w, offset), x),
                };
            });
        });
        let x_scales = simd.load(&x.scales);
        unrolled!(r < R, {
            let scale = simd.splat_f16([row[r][b][0], row[r][b][1]]);
            sums[r] = simd.mul_add(simd.to_f32(dots[r]), simd.mul(x_scales, scale), sums[r]);
        });
    }
    for (r, sum) in sums.into_iter().enumerate() {
        let mut lanes = [0.0; MAX_LANES];
        simd.store(sum, &mut lanes);
        for (piece, lanes) in out_rows.iter_mut().zip(lanes.chunks_exact(S::LANES / N)) {
            piece[at + r] = lanes.iter().sum();
        }
    }
    R
}
