//! Products for five to eight tokens, whose inputs stay in registers: in which shape, see `wgsl/matmul/held.wgsl`.

use crate::compile::target::{Precision, RowClass};
use crate::device::features::Features;
use crate::quant::PIECE_LEN;
use anser_format::DType;
use std::fmt;

/// Threads and rows of a workgroup, see `wgsl/matmul/held.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HeldShape {
    /// Threads that share a row.
    pub(crate) span: u32,
    /// Rows that a workgroup computes at the same time,
    pub(crate) at_once: u32,
    /// and in all.
    pub(crate) n_rows: u32,
}

impl fmt::Display for HeldShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads a row, {} of {} rows at once", self.span, self.at_once, self.n_rows)
    }
}

/// Tokens of the kernel, and the class of those that it is for: with fewer, threads that read inputs along with the weights
/// are faster.
pub(crate) const N_TOKENS: u32 = 8;

/// Whether products for `n_tokens` tokens keep their inputs in registers, if activations may be in 8 bits.
pub(crate) fn holds(n_tokens: RowClass, features: &Features, precision: Precision) -> bool {
    let fits = || !HeldShape::candidates(&[8], true, features).is_empty();
    n_tokens == RowClass(N_TOKENS) && precision == Precision::Int8 && fits()
}

/// The shares of a row: two pieces of quantized weights, eight columns of others.
pub(crate) fn n_shares(dtype: DType, n_cols: usize) -> usize {
    match dtype.is_quantized() {
        true => n_cols.div_ceil(2 * PIECE_LEN),
        false => 2 * n_cols.div_ceil(PIECE_LEN),
    }
}

/// Threads that fold their sums.
const FOLDED: u32 = N_TOKENS;

impl HeldShape {
    /// Threads of a workgroup.
    pub(crate) fn workgroup(self) -> u32 {
        self.span * self.at_once
    }

    /// Bytes of workgroup memory for sums and results.
    fn n_bytes(self) -> u32 {
        4 * self.n_rows * N_TOKENS * (self.span / FOLDED + 1)
    }

    /// The shapes for jobs whose rows have these numbers of shares; none if the device can run none. `writes_bytes`: results are
    /// wanted in bytes, by pieces.
    pub(crate) fn candidates(n_shares: &[usize], writes_bytes: bool, features: &Features) -> Vec<HeldShape> {
        /// Longer spans leave more threads without a share.
        const MAX_SPAN: u32 = 128;
        /// Several subgroups, which wait for memory at different times.
        const MIN_WORKGROUP: u32 = 128;
        /// Rows of a thread, the best numbers without a measurement first: few, so that there are many workgroups, some of which
        /// wait for memory while others compute. Workgroups of few threads need more rows, which share the inputs that they have loaded.
        const N_ROWS: [u32; 4] = [2, 1, 4, 8];
        const N_ROWS_OF_FEW: [u32; 4] = [4, 1, 2, 8];

        let [smallest, largest] = features.subgroup_size;
        if !features.subgroups || smallest < FOLDED {
            return vec![];
        }
        // Threads that all shares take, and chunks, which wait for their inputs one after another.
        let n_threads = |span: &u32| {
            let n_chunks = n_shares.iter().map(|n| n.div_ceil(*span as usize)).max().unwrap_or(0);
            (n_chunks * *span as usize, n_chunks)
        };
        let span = (1..=MAX_SPAN / FOLDED).rev().map(|n| n * FOLDED).min_by_key(n_threads).unwrap_or(FOLDED);
        let is_whole = |at_once: &u32| (span * at_once).is_multiple_of(largest) && span * at_once >= MIN_WORKGROUP;
        let Some(at_once) = (0..6).map(|i| 1 << i).find(is_whole) else { return vec![] };
        let least = if writes_bytes { PIECE_LEN as u32 } else { 1 };
        let mut shapes = vec![];
        for n in if span * at_once == MIN_WORKGROUP { N_ROWS_OF_FEW } else { N_ROWS } {
            let shape = HeldShape { span, at_once, n_rows: (n * at_once).next_multiple_of(least) };
            if shape.fits(features) && !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
        shapes
    }

    /// Whether a device has the threads and the memory for a workgroup, and the workgroup rows for all its threads.
    pub(crate) fn fits(self, features: &Features) -> bool {
        self.workgroup().is_multiple_of(features.subgroup_size[1].max(1))
            && self.n_rows.is_multiple_of(self.at_once)
            && self.workgroup() <= features.max_workgroup_len
            && self.n_bytes() <= features.max_workgroup_n_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{devices, large_device};

    /// Every thread has rows, all shares have a thread, and workgroups fit.
    #[test]
    fn shapes_fit_devices() {
        for features in devices() {
            for n_shares in [&[80][..], &[320], &[80, 80, 80], &[24], &[12, 12, 40, 8]] {
                for writes_bytes in [false, true] {
                    for shape in HeldShape::candidates(n_shares, writes_bytes, &features) {
                        assert!(shape.fits(&features), "{n_shares:?} {shape}");
                        assert!(shape.n_rows >= shape.at_once && shape.span.is_multiple_of(FOLDED));
                        assert!(!writes_bytes || shape.n_rows.is_multiple_of(PIECE_LEN as u32));
                    }
                }
            }
        }
        assert!(!HeldShape::candidates(&[80], true, &large_device()).is_empty());
        let narrow = Features { subgroup_size: [4, 32], ..large_device() };
        assert_eq!(HeldShape::candidates(&[80], true, &narrow), [], "sums are folded within subgroups");
    }
}
