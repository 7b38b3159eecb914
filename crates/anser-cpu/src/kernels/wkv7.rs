//! The recurrence of RWKV-7 for one head of one sequence.
//!
//! Value rows of S do not depend on each other. A single token updates them in place, a few at a time in registers. For
//! several tokens S is transposed once, so that a lane is a value row: no sum across lanes stands between a token and
//! the next.

use crate::arch::{Kernel, Simd};
use crate::ops::{self, Wkv7Token};
use std::ops::Range;

/// The number of tokens from which transposing S is faster.
const MIN_TRANSPOSED: usize = 4;

/// The prefetch distance for the rows of tokens, in tokens.
const PREFETCH_TOKENS: usize = 4;

/// The prefetch distance for a state, in elements, where every token reads all of it: 16 rows of a head of 64. The
/// state of the next head follows in memory.
const PREFETCH_STATE_LEN: usize = 1024;

/// The recurrence over the tokens of one head of one sequence: it advances `s` and writes a row `[N]` per token.
pub(crate) struct Wkv7<'a, 'b> {
    /// r, w, k, v, kk, a, `[T, C]` each.
    pub(crate) values: [&'a [f32]; 6],
    /// C, the number of columns of each of `values`.
    pub(crate) n_cols: usize,
    /// First column of the head.
    pub(crate) first: usize,
    /// The sequence's tokens.
    pub(crate) tokens: Range<usize>,
    /// State `[N, N]` (value row, key column).
    pub(crate) s: &'a mut [f32],
    /// For each token, the head's elements `[N]` of its output row.
    pub(crate) out: &'a mut [&'b mut [f32]],
}

impl Kernel for Wkv7<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let n = self.out.first().map_or(0, |o| o.len());
        if n == 0 || !n.is_multiple_of(2 * S::LANES) {
            self.plain(n);
        } else if self.tokens.len() < MIN_TRANSPOSED {
            self.in_place(simd, n);
        } else {
            self.transposed(simd, n);
        }
    }
}

impl<'a> Wkv7<'a, '_> {
    /// Row t of r, w, k, v, kk and a. The array is written without `map`, whose closure the compiler would not compile
    /// for the vectors.
    #[inline(always)]
    fn token(&self, t: usize, n: usize) -> [&'a [f32]; 6] {
        let [r, w, k, v, kk, a] = self.values;
        let at = t * self.n_cols + self.first..t * self.n_cols + self.first + n;
        [&r[at.clone()], &w[at.clone()], &k[at.clone()], &v[at.clone()], &kk[at.clone()], &a[at]]
    }

    /// The recurrence for a head size that is no multiple of the vectors' length.
    fn plain(&mut self, n: usize) {
        for (i, t) in self.tokens.clone().enumerate() {
            let [r, w, k, v, kk, a] = self.token(t, n);
            ops::wkv7(Wkv7Token { r, w, k, v, kk, a }, self.s, self.out[i]);
        }
    }

    /// The recurrence token by token, four value rows at a time.
    #[inline(always)]
    fn in_place<S: Simd>(&mut self, simd: S, n: usize) {
        for (i, t) in self.tokens.clone().enumerate() {
            let [r, w, k, v, kk, a] = self.token(t, n);
            for first_row in (0..n).step_by(4) {
                let rows = &mut self.s[first_row * n..(first_row + 4) * n];
                super::prefetch_f32(simd, rows, PREFETCH_STATE_LEN);
                let mut sums = [simd.splat(0.0); 4];
                for j in (0..n).step_by(S::LANES) {
                    let kk = simd.load(&kk[j..]);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.mul_add(simd.load(&rows[i * n + j..]), kk, *sum);
                    }
                }
                let removed = simd.sum_4(sums);
                let mut y = [simd.splat(0.0); 4];
                for j in (0..n).step_by(S::LANES) {
                    let (r, w, k) = (simd.load(&r[j..]), simd.load(&w[j..]), simd.load(&k[j..]));
                    let kk_a = simd.mul(simd.load(&kk[j..]), simd.load(&a[j..]));
                    for (i, y) in y.iter_mut().enumerate() {
                        let s = simd.mul(simd.load(&rows[i * n + j..]), w);
                        let s = simd.neg_mul_add(simd.splat(removed[i]), kk_a, s);
                        let s = simd.mul_add(simd.splat(v[first_row + i]), k, s);
                        *y = simd.mul_add(s, r, *y);
                        simd.store(s, &mut rows[i * n + j..]);
                    }
                }
                self.out[i][first_row..first_row + 4].copy_from_slice(&simd.sum_4(y));
            }
        }
    }

    /// The recurrence over all tokens, for two vectors of value rows at a time.
    #[inline(always)]
    fn transposed<S: Simd>(&mut self, simd: S, n: usize) {
        let lanes = S::LANES;
        // Two groups of value rows, [N, LANES] each, and one square of S that is being transposed back.
        let mut panel = vec![0.0; 2 * n * lanes];
        let mut square = vec![0.0; lanes * lanes];
        let mut kk_a = vec![0.0; n];
        for first_row in (0..n).step_by(2 * lanes) {
            let (low, high) = panel.split_at_mut(n * lanes);
            simd.interleave(&self.s[first_row * n..], n, low);
            simd.interleave(&self.s[(first_row + lanes) * n..], n, high);
            for (i, t) in self.tokens.clone().enumerate() {
                let token = self.token(t, n);
                for row in token {
                    // The rows of tokens are too far apart for the processor's own prefetcher.
                    super::prefetch_f32(simd, row, PREFETCH_TOKENS * self.n_cols);
                }
                for j in (0..n).step_by(lanes) {
                    simd.store(simd.mul(simd.load(&token[4][j..]), simd.load(&token[5][j..])), &mut kk_a[j..]);
                }
                let v = &token[3][first_row..first_row + 2 * lanes];
                let [y_low, y_high] = advance(simd, [low, high], token, &kk_a, v);
                let out = &mut self.out[i][first_row..first_row + 2 * lanes];
                simd.store(y_low, out);
                simd.store(y_high, &mut out[lanes..]);
            }
            for (group, rows) in [low, high].into_iter().enumerate() {
                for j in (0..n).step_by(lanes) {
                    simd.interleave(&rows[j * lanes..], lanes, &mut square);
                    for (i, piece) in square.chunks_exact(lanes).enumerate() {
                        simd.store(simd.load(piece), &mut self.s[(first_row + group * lanes + i) * n + j..]);
                    }
                }
            }
        }
    }
}

/// Updates the value rows of two groups by one token, with `v` the values of these rows, and returns their rows of S·r.
#[inline(always)]
fn advance<S: Simd>(simd: S, groups: [&mut [f32]; 2], token: [&[f32]; 6], kk_a: &[f32], v: &[f32]) -> [S::F32; 2] {
    let [low, high] = groups;
    let [r, w, k, _, kk, _] = token;
    // Even and odd columns have separate sums: the latency of one chain of additions would exceed the time of
    // everything else.
    let mut removed = [[simd.splat(0.0); 2]; 2];
    let columns = low.chunks_exact(S::LANES).zip(high.chunks_exact(S::LANES)).zip(kk);
    for (j, ((low, high), &kk)) in columns.enumerate() {
        let [removed_low, removed_high] = &mut removed[j % 2];
        *removed_low = simd.mul_add(simd.load(low), simd.splat(kk), *removed_low);
        *removed_high = simd.mul_add(simd.load(high), simd.splat(kk), *removed_high);
    }
    let [even, odd] = removed;
    let removed = [simd.add(even[0], odd[0]), simd.add(even[1], odd[1])];
    let v = [simd.load(v), simd.load(&v[S::LANES..])];
    let mut y = [simd.splat(0.0); 2];
    let columns = low.chunks_exact_mut(S::LANES).zip(high.chunks_exact_mut(S::LANES));
    for ((low, high), ((&r, &w), (&k, &kk_a))) in columns.zip(r.iter().zip(w).zip(k.iter().zip(kk_a))) {
        let (w, k, kk_a, r) = (simd.splat(w), simd.splat(k), simd.splat(kk_a), simd.splat(r));
        let s = simd.neg_mul_add(removed[0], kk_a, simd.mul(simd.load(low), w));
        let s = simd.mul_add(v[0], k, s);
        y[0] = simd.mul_add(s, r, y[0]);
        simd.store(s, low);
        let s = simd.neg_mul_add(removed[1], kk_a, simd.mul(simd.load(high), w));
        let s = simd.mul_add(v[1], k, s);
        y[1] = simd.mul_add(s, r, y[1]);
        simd.store(s, high);
    }
    y
}
