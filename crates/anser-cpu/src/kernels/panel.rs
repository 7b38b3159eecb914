//! Panels: the order in which the matrix kernels read activations.
//!
//! The tokens of a step are divided into groups; a kernel keeps the sums of one group in registers. Within a group, the
//! elements of one column range of all its tokens are contiguous. The panel of a single token is its row unchanged.

use crate::arch::{Kernel, Simd};

/// Splits T tokens into groups: (first token, tokens of the group). Sizes are powers of two up to `max`, which must be
/// one itself, not above 16.
pub(crate) fn groups(n_tokens: usize, max: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = n_tokens - start;
        if rest == 0 {
            return None;
        }
        let n = max.min(1 << rest.ilog2());
        start += n;
        Some((start - n, n))
    })
}

/// Copies x `[T, K]` to `panel`, which has the same length: group after group, each `[K, tokens of the group]`.
pub(crate) struct PackF32<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) n_cols: usize,
    pub(crate) panel: &'a mut [f32],
}

impl Kernel for PackF32<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let PackF32 { x, n_cols, panel } = self;
        for (start, n) in groups(x.len() / n_cols, S::TOKENS) {
            let range = start * n_cols..(start + n) * n_cols;
            let (x, panel) = (&x[range.clone()], &mut panel[range]);
            for (k, panel) in panel.chunks_exact_mut(n).enumerate() {
                for (t, out) in panel.iter_mut().enumerate() {
                    *out = x[t * n_cols + k];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_all_tokens_in_order() {
        for max in [4, 16] {
            for n_tokens in 0..70 {
                let mut next = 0;
                for (start, n) in groups(n_tokens, max) {
                    assert_eq!(start, next);
                    assert!(n <= max && n.is_power_of_two());
                    next += n;
                }
                assert_eq!(next, n_tokens);
            }
        }
        assert_eq!(groups(31, 16).map(|(_, n)| n).collect::<Vec<_>>(), [16, 8, 4, 2, 1]);
    }
}
