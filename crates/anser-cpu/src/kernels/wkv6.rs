//! The recurrence of RWKV-5 and RWKV-6 for one head of one sequence. Value rows of S do not depend on each other: four at a time
//! are read, used and written.

use crate::arch::{Kernel, Simd};
use crate::ops::{self, Wkv6Token};
use std::ops::Range;

/// How many elements ahead a state is asked for, see [`super::wkv7`].
const PREFETCH_STATE_LEN: usize = 1024;

/// Tokens of one head of one sequence: advances `s` and writes a row `[N]` per token.
pub(crate) struct Wkv6<'a, 'b> {
    /// r, k, v, `[T, C]` each.
    pub(crate) values: [&'a [f32]; 3],
    /// The decay `[T, C]`, or one row `[C]` for all tokens.
    pub(crate) w: &'a [f32],
    /// The bonus of the current token `[C]`.
    pub(crate) u: &'a [f32],
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

impl<'a> Wkv6<'a, '_> {
    /// Token t's rows.
    #[inline(always)]
    fn token(&self, t: usize, n: usize) -> Wkv6Token<'a> {
        let [r, k, v] = self.values;
        let at = t * self.n_cols + self.first..t * self.n_cols + self.first + n;
        let head = self.first..self.first + n;
        let w = if self.w.len() == self.n_cols { &self.w[head.clone()] } else { &self.w[at.clone()] };
        Wkv6Token { r: &r[at.clone()], w, k: &k[at.clone()], v: &v[at], u: &self.u[head] }
    }
}

impl Kernel for Wkv6<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let n = self.out.first().map_or(0, |o| o.len());
        let is_plain = n == 0 || !n.is_multiple_of(S::LANES) || !n.is_multiple_of(4);
        for (i, t) in self.tokens.clone().enumerate() {
            let token = self.token(t, n);
            if is_plain {
                ops::wkv6(token, self.s, self.out[i]);
                continue;
            }
            let Wkv6Token { r, w, k, v, u } = token;
            // What the current token adds to every row: v times this.
            let mut bonus = [simd.splat(0.0); 4];
            for j in (0..n).step_by(S::LANES) {
                let uk = simd.mul(simd.load(&u[j..]), simd.load(&k[j..]));
                bonus[0] = simd.mul_add(uk, simd.load(&r[j..]), bonus[0]);
            }
            let [bonus, ..] = simd.sum_4(bonus);
            for first_row in (0..n).step_by(4) {
                let rows = &mut self.s[first_row * n..(first_row + 4) * n];
                super::prefetch_f32(simd, rows, PREFETCH_STATE_LEN);
                let mut y = [simd.splat(0.0); 4];
                for j in (0..n).step_by(S::LANES) {
                    let (r, w, k) = (simd.load(&r[j..]), simd.load(&w[j..]), simd.load(&k[j..]));
                    for (i, y) in y.iter_mut().enumerate() {
                        let s = simd.load(&rows[i * n + j..]);
                        *y = simd.mul_add(s, r, *y);
                        let s = simd.mul_add(simd.splat(v[first_row + i]), k, simd.mul(s, w));
                        simd.store(s, &mut rows[i * n + j..]);
                    }
                }
                for ((out, y), &v) in self.out[i][first_row..].iter_mut().zip(simd.sum_4(y)).zip(&v[first_row..]) {
                    *out = y + v * bonus;
                }
            }
        }
    }
}
