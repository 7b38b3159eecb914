//! Products of inputs that are mostly zero, for few tokens: which matrices lie in panels for that, and the kernel, see
//! `wgsl/matmul/sparse.wgsl`.

use super::{MatMul, spec, target_rows};
use crate::compile::dispatch::{Binding, Dispatch, Extent};
use crate::device::features::Features;
use crate::quant::{PANEL_COLS, PANEL_LEN};
use std::fmt;
use std::ops::Range;

/// Threads of a workgroup, see `wgsl/matmul/sparse.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SparseShape {
    /// Threads, several blocks of columns at a time.
    pub(crate) workgroup: u32,
}

impl fmt::Display for SparseShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads", self.workgroup)
    }
}

/// Threads that share a block of columns and fold their sums.
const FOLDED: u32 = 8;

/// Whether kernels of a device with `features` can leave out columns of matrices in panels.
pub(crate) fn reads_panels(features: &Features) -> bool {
    let [smallest, largest] = features.subgroup_size;
    features.subgroups && smallest >= FOLDED && largest <= features.max_workgroup_len
}

impl SparseShape {
    /// The shapes for a matrix `[n_rows, n_cols]` and `n_tokens` tokens, of which there is at least one.
    pub(super) fn candidates(shape: [usize; 2], n_tokens: u32, features: &Features) -> Vec<SparseShape> {
        /// Beside the number that is best without a measurement.
        const WORKGROUPS: [u32; 5] = [192, 256, 384, 512, 768];

        let usual = SparseShape::usual(shape, n_tokens, features);
        let others = WORKGROUPS.map(|workgroup| SparseShape { workgroup });
        let others = others.into_iter().filter(|&other| other != usual && other.fits(n_tokens, features));
        [usual].into_iter().chain(others).collect()
    }

    /// The shape that is best without a measurement.
    fn usual([n_rows, n_cols]: [usize; 2], n_tokens: u32, features: &Features) -> SparseShape {
        /// Registers of a core. Each panel's workgroup has its share of all, so that all run at the same time.
        const N_REGISTERS: u32 = 1 << 16;
        /// Registers of a thread, and more for the sums of each token.
        const OF_THREAD: u32 = 80;
        const OF_TOKEN: u32 = 8;
        /// With fewer threads a workgroup waits too long.
        const MIN_MOST: u32 = 256;

        let panel_len = PANEL_LEN as u32;
        let (n_blocks, n_panels) = (n_cols.div_ceil(PANEL_COLS) as u32, n_rows.div_ceil(PANEL_LEN) as u32);
        let share = features.n_cores * N_REGISTERS / (OF_THREAD + OF_TOKEN * n_tokens) / n_panels.max(1);
        // Sums of all threads wait in workgroup memory.
        let room = features.max_workgroup_n_bytes / (4 * n_tokens.max(1));
        let unit = features.subgroup_size[1].max(panel_len);
        let most = features.max_workgroup_len.min(room).min(share.max(MIN_MOST)) / unit * unit;
        // As many rounds as it takes, of as few threads as that leaves; one for every element that is written.
        let n_rounds = (n_blocks * panel_len).div_ceil(most.max(1)).max(1);
        let workgroup = (n_blocks.div_ceil(n_rounds) * panel_len).max(n_tokens * panel_len).next_multiple_of(unit);
        SparseShape { workgroup: workgroup.min(most) }
    }

    /// Whether a device has the threads and the memory for a workgroup, and a thread for every element that is written.
    fn fits(self, n_tokens: u32, features: &Features) -> bool {
        self.workgroup.is_multiple_of(features.subgroup_size[1].max(PANEL_LEN as u32))
            && self.workgroup >= n_tokens * PANEL_LEN as u32
            && self.workgroup <= features.max_workgroup_len
            && 4 * n_tokens * self.workgroup <= features.max_workgroup_n_bytes
    }
}

/// The dispatches of a product whose matrix lies in panels.
pub(super) fn lower(op: &MatMul, shape: SparseShape) -> Vec<Dispatch> {
    let product = |(split, rows): (usize, &Range<usize>)| {
        let matrix = Binding::Matrix { weight: op.weight, split };
        // Absent operands still need a buffer to bind; it is not read.
        let bias = op.bias.map_or(matrix.clone(), Binding::Vector);
        let residual = op.residual.map_or(matrix.clone(), Binding::Value);
        let [x, out] = [op.x, op.out].map(Binding::Value);
        let bindings = vec![matrix, x, bias, residual, out, Binding::Step, target_rows(op, rows)];
        let n_panels = (rows.len() / PANEL_LEN) as u32;
        spec::sparse(op, shape).dispatch(bindings, [n_panels, 1, 1].map(Extent::Fixed))
    };
    op.splits.iter().enumerate().map(product).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{devices, large_device};

    #[test]
    fn shapes_fit_devices() {
        let shapes = [[768, 3072], [2560, 10240], [2048, 8192], [4096, 16384], [256, 1024]];
        for features in devices().into_iter().filter(reads_panels) {
            for (shape, n_tokens) in shapes.into_iter().flat_map(|shape| [1, 2, 4, 8].map(|n| (shape, n))) {
                for found in SparseShape::candidates(shape, n_tokens, &features) {
                    assert!(found.fits(n_tokens, &features), "{shape:?} {n_tokens}: {found}");
                }
            }
        }
        // All workgroups run at the same time.
        let SparseShape { workgroup } = SparseShape::usual([2560, 10240], 1, &large_device());
        assert!(2560 / 16 * workgroup * (80 + 8) <= large_device().n_cores << 16, "{workgroup}");
    }
}
