//! The recurrence of RWKV-7 for one head of one sequence.
//!
//! A few value rows of S stay in registers while all tokens of the sequence pass by: rows do not depend on each other.

use crate::arch::{Kernel, Simd};
use crate::ops::{self, Wkv7Token};
use std::ops::Range;

/// Tokens of one head of one sequence: advances `s` and writes a row `[N]` per token.
pub(crate) struct Wkv7<'a, 'b> {
    /// r, w, k, v, kk, a, `[T, C]` each.
    pub(crate) values: [&'a [f32]; 6],
    /// C.
    pub(crate) n_cols: usize,
    /// First column of the head.
    pub(crate) first: usize,
    /// The sequence's tokens.
    pub(crate) tokens: Range<usize>,
    /// State `[N, N]` (value row, key column).
    pub(crate) s: &'a mut [f32],
    /// One piece `[N]` per token.
    pub(crate) out: &'a mut [&'b mut [f32]],
}

impl Kernel for Wkv7<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let n = self.out.first().map_or(0, |o| o.len());
        // Vectors per row × rows at a time: what leaves registers for the operands.
        match (n / S::LANES, n % S::LANES, S::LANES) {
            (2, 0, 16) => self.rows::<S, 2, 4>(simd),
            (4, 0, 16) => self.rows::<S, 4, 4>(simd),
            (8, 0, 16) => self.rows::<S, 8, 2>(simd),
            (4, 0, _) => self.rows::<S, 4, 2>(simd),
            (8, 0, _) => self.rows::<S, 8, 1>(simd),
            (16, 0, _) => self.rows::<S, 16, 1>(simd),
            _ => self.plain(n),
        }
    }
}

impl<'a> Wkv7<'a, '_> {
    /// Row t of r, w, k, v, kk and a. Written out: `map` would not be compiled for the vectors.
    #[inline(always)]
    fn token(&self, t: usize, n: usize) -> [&'a [f32]; 6] {
        let [r, w, k, v, kk, a] = self.values;
        let at = t * self.n_cols + self.first..t * self.n_cols + self.first + n;
        [&r[at.clone()], &w[at.clone()], &k[at.clone()], &v[at.clone()], &kk[at.clone()], &a[at]]
    }

    /// For `VECTORS` vectors in a row, `ROWS` rows at a time.
    #[inline(always)]
    fn rows<S: Simd, const VECTORS: usize, const ROWS: usize>(&mut self, simd: S) {
        let n = VECTORS * S::LANES;
        for first_row in (0..n).step_by(ROWS) {
            let mut state = [[simd.splat(0.0); VECTORS]; ROWS];
            for (i, row) in state.iter_mut().enumerate() {
                let at = (first_row + i) * n;
                for (j, vector) in row.iter_mut().enumerate() {
                    *vector = simd.load(&self.s[at + j * S::LANES..]);
                }
            }
            for (i, t) in self.tokens.clone().enumerate() {
                let [r, w, k, v, kk, a] = self.token(t, n);
                let mut removed = [simd.splat(0.0); ROWS];
                for (removed, row) in removed.iter_mut().zip(&state) {
                    for (&s, kk) in row.iter().zip(kk.chunks_exact(S::LANES)) {
                        *removed = simd.mul_add(s, simd.load(kk), *removed);
                    }
                    *removed = simd.splat(simd.sum(*removed));
                }
                let mut y = [simd.splat(0.0); ROWS];
                for j in 0..VECTORS {
                    let at = j * S::LANES..(j + 1) * S::LANES;
                    let (r, w, k) = (simd.load(&r[at.clone()]), simd.load(&w[at.clone()]), simd.load(&k[at.clone()]));
                    let kk_a = simd.mul(simd.load(&kk[at.clone()]), simd.load(&a[at]));
                    for (i, row) in state.iter_mut().enumerate() {
                        let s = simd.neg_mul_add(removed[i], kk_a, simd.mul(row[j], w));
                        row[j] = simd.mul_add(simd.splat(v[first_row + i]), k, s);
                        y[i] = simd.mul_add(row[j], r, y[i]);
                    }
                }
                for (out, y) in self.out[i][first_row..].iter_mut().zip(y) {
                    *out = simd.sum(y);
                }
            }
            for (i, row) in state.iter().enumerate() {
                let at = (first_row + i) * n;
                for (j, &vector) in row.iter().enumerate() {
                    simd.store(vector, &mut self.s[at + j * S::LANES..]);
                }
            }
        }
    }

    /// For a head size that fills no vectors.
    fn plain(&mut self, n: usize) {
        for (i, t) in self.tokens.clone().enumerate() {
            let [r, w, k, v, kk, a] = self.token(t, n);
            ops::wkv7(Wkv7Token { r, w, k, v, kk, a }, self.s, self.out[i]);
        }
    }
}
