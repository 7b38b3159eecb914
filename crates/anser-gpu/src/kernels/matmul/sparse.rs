//! Products of inputs that are mostly zero, for few tokens: which matrices lie in panels for that, and the kernel, see
//! `wgsl/matmul/sparse.wgsl`.

use super::{MatMul, spec, target_rows};
use crate::compile::dispatch::{Binding, Dispatch, Extent};
use crate::device::features::Features;
use crate::quant::{PANEL_COLS, PANEL_LEN};
use std::ops::Range;

/// Threads of a workgroup, see `wgsl/matmul/sparse.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SparseShape {
    /// Threads, several blocks of columns at a time.
    pub(crate) workgroup: u32,
}

/// Threads that share a block of columns and fold their sums.
const FOLDED: u32 = 8;

/// Whether kernels of a device with `features` can leave out columns of matrices in panels.
pub(crate) fn reads_panels(features: &Features) -> bool {
    let [smallest, largest] = features.subgroup_size;
    features.subgroups && smallest >= FOLDED && largest <= features.max_workgroup_len
}

impl SparseShape {
    /// The shape for a matrix `[n_rows, n_cols]` and `n_tokens` tokens.
    pub(super) fn choose([n_rows, n_cols]: [usize; 2], n_tokens: u32, features: &Features) -> SparseShape {
        /// Registers of a large device, of which each panel's workgroup has its share, so that all run at the same time.
        const N_REGISTERS: u32 = 132 << 16;
        /// Those of a thread, and more for the sums of each token.
        const OF_THREAD: u32 = 80;
        const OF_TOKEN: u32 = 8;
        /// With fewer threads a workgroup waits too long.
        const MIN_MOST: u32 = 256;

        let panel_len = PANEL_LEN as u32;
        let (n_blocks, n_panels) = (n_cols.div_ceil(PANEL_COLS) as u32, n_rows.div_ceil(PANEL_LEN) as u32);
        let share = N_REGISTERS / (OF_THREAD + OF_TOKEN * n_tokens) / n_panels.max(1);
        // Sums of all threads wait in workgroup memory.
        let room = features.max_workgroup_n_bytes / (4 * n_tokens.max(1));
        let unit = features.subgroup_size[1].max(panel_len);
        let most = features.max_workgroup_len.min(room).min(share.max(MIN_MOST)) / unit * unit;
        // As many rounds as it takes, of as few threads as that leaves; one for every element that is written.
        let n_rounds = (n_blocks * panel_len).div_ceil(most.max(1)).max(1);
        let workgroup = (n_blocks.div_ceil(n_rounds) * panel_len).max(n_tokens * panel_len).next_multiple_of(unit);
        SparseShape { workgroup: workgroup.min(most) }
    }

    /// Whether a device has the threads and the memory for a workgroup, and a thread for every element that is written: for
    /// benchmarks.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn fits(self, n_tokens: u32, features: &Features) -> bool {
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
    use crate::tests::large_device;

    #[test]
    fn workgroups_run_at_the_same_time() {
        let features = large_device();
        let small =
            Features { subgroup_size: [8, 64], max_workgroup_len: 256, max_workgroup_n_bytes: 16 << 10, ..features };
        // rows, columns and tokens; threads
        let cases = [
            ([768, 3072], 1, 192),
            ([2560, 10240], 1, 320),
            ([2048, 8192], 1, 512),
            ([4096, 16384], 1, 352),
            ([2560, 10240], 4, 320),
            ([256, 1024], 8, 128),
        ];
        for (shape, n_tokens, expected) in cases {
            let found = SparseShape::choose(shape, n_tokens, &features).workgroup;
            assert_eq!(found, expected, "{shape:?} {n_tokens}");
            let found = SparseShape::choose(shape, n_tokens, &small);
            assert!(found.fits(n_tokens, &small), "{shape:?} {n_tokens}: {found:?}");
        }
    }
}
