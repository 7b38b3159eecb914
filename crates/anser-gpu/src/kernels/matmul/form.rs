//! Which kernel computes a product: the table of (storage type, features, number of tokens).

use super::MatMul;
use super::gemm::{self, GemmShape};
use super::held::{self, HeldShape};
use super::sparse::SparseShape;
use crate::compile::target::{Precision, RowClass};
use crate::device::features::Features;
use crate::quant::PIECE_LEN;

/// A kernel for a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Mat-vec, f32 activations.
    VecF32 {
        /// Threads.
        shape: VecShape,
    },
    /// Mat-vec, activations in 8 bits; quantized weights only.
    VecInt8 {
        /// Threads.
        shape: VecShape,
    },
    /// Mat-vec whose inputs stay in registers, in 8 bits for quantized weights; five to eight tokens only.
    Held {
        /// Threads and rows.
        shape: HeldShape,
    },
    /// Mat-vec that leaves out what meets zeros, for matrices in panels.
    Sparse {
        /// Threads.
        shape: SparseShape,
    },
    /// Tiles in workgroup memory.
    Tiled {
        /// Threads.
        shape: TiledShape,
    },
    /// Cooperative matrices of halves.
    Gemm {
        /// Subgroups and tiles.
        shape: GemmShape,
    },
}

/// Threads of a mat-vec kernel, see `wgsl/matmul/vec.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct VecShape {
    /// Threads of a workgroup.
    pub(crate) workgroup: u32,
    /// Threads that share a row.
    pub(crate) n_lanes: u32,
    /// Whether these are surely in one subgroup, or whole subgroups.
    pub(crate) in_subgroup: bool,
    /// Threads of the largest subgroup, if that matters.
    pub(crate) subgroup_len: u32,
}

/// Threads of a tiled kernel, see `wgsl/matmul/tiled.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TiledShape {
    /// Threads over the rows.
    pub(crate) threads_m: u32,
    /// Threads over the tokens.
    pub(crate) threads_n: u32,
}

impl TiledShape {
    /// Rows and tokens of a workgroup.
    pub(crate) fn tile(self) -> [u32; 2] {
        [8 * self.threads_m, 8 * self.threads_n]
    }
}

/// Most tokens that mat-vec kernels compute: beyond, each weight is used often enough to make tiles of them. Matrix hardware
/// is worth its start sooner, except where most weights are `quantized` and meet inputs that stay in registers.
pub(crate) fn max_columns(features: &Features, precision: Precision, quantized: bool) -> u32 {
    let holds = quantized && held::holds(RowClass(held::N_TOKENS), features, precision);
    match precision != Precision::Exact && gemm::multiplies_halves(features) && !holds {
        true => 4,
        false => 8,
    }
}

impl Form {
    /// The form for `op` on a device with `features`.
    pub(crate) fn choose(op: &MatMul, features: &Features, precision: Precision) -> Form {
        let n_tokens = op.class.0;
        let quantized = op.layout.dtype.is_quantized();
        if n_tokens <= max_columns(features, precision, quantized) {
            if op.layout.panel_len > 1 {
                return Form::Sparse { shape: SparseShape::choose([op.n_rows, op.n_cols], n_tokens, features) };
            }
            let n_shares = held::n_shares(op.layout.dtype, op.n_cols);
            if held::holds(op.class, features, precision)
                && let Some(shape) = HeldShape::choose(&[n_shares], false, features)
            {
                return Form::Held { shape };
            }
            let shape = VecShape::choose(op.n_rows, op.n_units(), false, features);
            return match precision == Precision::Int8 && quantized {
                true => Form::VecInt8 { shape },
                false => Form::VecF32 { shape },
            };
        }
        let coop = match precision {
            Precision::Exact => None,
            Precision::Int8 => gemm::choose(op, n_tokens, features),
        };
        coop.unwrap_or_else(|| Form::Tiled { shape: TiledShape::choose(n_tokens, features) })
    }
}

impl VecShape {
    /// The shape for `n_rows` rows of `n_units` units each. `whole_pieces`: a workgroup must have a multiple of 16 rows.
    pub(crate) fn choose(n_rows: usize, n_units: usize, whole_pieces: bool, features: &Features) -> VecShape {
        /// Several subgroups of every size, so that rows can be summed within them.
        const WORKGROUP: u32 = 128;

        VecShape::of(WORKGROUP, n_rows, n_units, whole_pieces, features)
    }

    /// The same for products that make their input: the larger workgroups are, the fewer of them do so.
    pub(crate) fn shifted(n_rows: usize, n_units: usize, whole_pieces: bool, features: &Features) -> VecShape {
        const WORKGROUP: u32 = 1024;

        let workgroup = WORKGROUP.min(features.max_workgroup_len);
        VecShape::of(workgroup, n_rows, n_units, whole_pieces, features)
    }

    fn of(workgroup: u32, n_rows: usize, n_units: usize, whole_pieces: bool, features: &Features) -> VecShape {
        /// More threads than this would wait for each other longer than they work.
        const MAX_LANES: u32 = 64;

        let [smallest, largest] = features.subgroup_size;
        let full_subgroups = largest > 0 && workgroup.min(features.max_workgroup_len).is_multiple_of(largest);
        let in_subgroup = features.subgroups && full_subgroups;
        let mut max_lanes = match (in_subgroup, smallest == largest) {
            (true, true) => MAX_LANES.max(largest),
            (true, false) => smallest.min(MAX_LANES),
            (false, _) => 32,
        };
        if whole_pieces {
            max_lanes = max_lanes.min(features.max_workgroup_len / PIECE_LEN as u32);
        }
        let n_lanes = choose_lanes(n_rows, n_units, max_lanes);
        let workgroup = if whole_pieces { workgroup.max(PIECE_LEN as u32 * n_lanes) } else { workgroup };
        let workgroup = workgroup.min(features.max_workgroup_len);
        VecShape { workgroup, n_lanes, in_subgroup, subgroup_len: if in_subgroup { largest } else { 0 } }
    }
}

/// The threads, a power of two up to `max_lanes`, that share a row: as few as keep a large device busy, since few of them
/// are idle then and each sums more; else as many as are worth it, since many threads wait less for memory.
fn choose_lanes(n_rows: usize, n_units: usize, max_lanes: u32) -> u32 {
    /// Threads that keep a large device busy.
    const N_BUSY: usize = 120_000;

    let busy = |n_lanes: u32| n_units as f64 / (n_units.div_ceil(n_lanes as usize) * n_lanes as usize) as f64;
    let candidates = || (0..=max_lanes.max(1).ilog2()).rev().map(|i| 1 << i);
    let enough = candidates().filter(|&n: &u32| n >= 8 && n_rows * n as usize >= N_BUSY && busy(n) >= 0.85).min();
    let worth_it = || candidates().find(|&n| busy(n) >= if n > 32 { 0.95 } else { 0.6 });
    enough.or_else(worth_it).unwrap_or(1)
}

impl TiledShape {
    fn choose(n_tokens: u32, features: &Features) -> TiledShape {
        let threads_m = 16;
        let threads_n = (n_tokens.div_ceil(8).next_power_of_two()).min(16).min(features.max_workgroup_len / threads_m);
        TiledShape { threads_m, threads_n: threads_n.max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_mostly_busy() {
        let cases = [
            // rows, units, most lanes
            ([10240, 80, 64], 16),
            ([8256, 80, 64], 16),
            ([2560, 80, 64], 32),
            ([2560, 320, 64], 64),
            ([768, 24, 64], 32),
            ([65536, 40, 64], 8),
            ([2560, 6, 64], 8),
            ([64, 8, 32], 8),
            ([64, 1, 32], 1),
        ];
        for ([n_rows, n_units, max_lanes], expected) in cases {
            let found = choose_lanes(n_rows, n_units, max_lanes as u32);
            assert_eq!(found, expected, "{n_rows} rows of {n_units} units, at most {max_lanes} lanes");
        }
    }
}
