//! The recurrence of RWKV-4 for some channels of one sequence. Channels do not depend on each other: the compiler computes a
//! vector of them at a time.

use super::elementwise::exp;
use crate::arch::{Kernel, Simd};
use std::ops::Range;

/// Tokens of some channels of one sequence: advances a, b and p and writes a piece per token.
pub(crate) struct Wkv4<'a, 'b> {
    /// k, v, `[T, C]` each.
    pub(crate) values: [&'a [f32]; 2],
    /// w, u, of the channels.
    pub(crate) vectors: [&'a [f32]; 2],
    /// C.
    pub(crate) n_cols: usize,
    /// First channel.
    pub(crate) first: usize,
    /// The sequence's tokens.
    pub(crate) tokens: Range<usize>,
    /// a, b, p of the channels.
    pub(crate) state: [&'a mut [f32]; 3],
    /// One piece per token.
    pub(crate) out: &'a mut [&'b mut [f32]],
}

impl Kernel for Wkv4<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Wkv4 { values: [k, v], vectors: [w, u], n_cols, first, tokens, state: [a, b, p], out } = self;
        let n = w.len();
        // A number so small that what it weighs vanishes, and not minus infinity, whose differences are no numbers.
        const NOTHING: f32 = -1e30;
        for (t, out) in tokens.zip(out) {
            let at = t * n_cols + first..t * n_cols + first + n;
            let (k, v) = (&k[at.clone()], &v[at]);
            let channels =
                out.iter_mut().zip(k).zip(v).zip(w).zip(u).zip(a.iter_mut()).zip(b.iter_mut()).zip(p.iter_mut());
            for (((((((out, &k), &v), &w), &u), a), b), p) in channels {
                let before = if *b == 0.0 { NOTHING } else { *p };
                let q = if before > u + k { before } else { u + k };
                let (past, present) = (exp(before - q), exp(u + k - q));
                *out = (past * *a + present * v) / (past * *b + present);
                let q = if before + w > k { before + w } else { k };
                let (past, present) = (exp(before + w - q), exp(k - q));
                *a = past * *a + present * v;
                *b = past * *b + present;
                *p = q;
            }
        }
    }
}
