//! Products for few tokens, whose threads read inputs along with the weights: how many threads share a row, see
//! `wgsl/matmul/vec.wgsl`.

use crate::device::features::Features;
use crate::quant::PIECE_LEN;
use std::fmt;

/// Threads of a mat-vec kernel.
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

impl fmt::Display for VecShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} threads a row", self.n_lanes, self.workgroup)
    }
}

/// The rows that a mat-vec kernel computes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VecRows {
    /// All of them.
    pub(crate) n_rows: usize,
    /// Units of a row: what a thread decodes at a time.
    pub(crate) n_units: usize,
    /// Whether a workgroup must have a multiple of 16 rows.
    pub(crate) whole_pieces: bool,
    /// Whether every workgroup makes its input: the larger workgroups are, the fewer of them do so.
    pub(crate) makes_input: bool,
    /// Whether the step has one token.
    pub(crate) is_of_one_token: bool,
}

impl VecShape {
    /// Threads of a workgroup that makes its input.
    pub(crate) fn workgroup_with_input(features: &Features) -> u32 {
        const WORKGROUP: u32 = 1024;

        WORKGROUP.min(features.max_workgroup_len)
    }

    /// The shapes for `rows`, of which there is at least one.
    pub(crate) fn candidates(rows: VecRows, features: &Features) -> Vec<VecShape> {
        /// Several subgroups of every size, so that rows can be summed within them.
        const WORKGROUPS: [u32; 2] = [128, 256];
        /// Threads that share a row, beside the number that is best without a measurement.
        const LANES: [u32; 4] = [8, 16, 32, 64];

        let with_input = [VecShape::workgroup_with_input(features)];
        let workgroups = if rows.makes_input { &with_input[..] } else { &WORKGROUPS };
        let usual = choose_lanes(rows, VecShape::max_lanes(workgroups[0], rows, features), features);
        let mut shapes = vec![];
        for &workgroup in workgroups {
            let max_lanes = VecShape::max_lanes(workgroup, rows, features);
            for n_lanes in [usual].into_iter().chain(LANES).filter(|&n| n <= max_lanes) {
                let shape = VecShape::new(workgroup, n_lanes, rows, features);
                if !shapes.contains(&shape) {
                    shapes.push(shape);
                }
            }
        }
        shapes
    }

    fn new(workgroup: u32, n_lanes: u32, rows: VecRows, features: &Features) -> VecShape {
        let in_subgroup = VecShape::in_subgroup(workgroup, features);
        let workgroup = if rows.whole_pieces { workgroup.max(PIECE_LEN as u32 * n_lanes) } else { workgroup };
        let workgroup = workgroup.min(features.max_workgroup_len);
        let subgroup_len = if in_subgroup { features.subgroup_size[1] } else { 0 };
        VecShape { workgroup, n_lanes, in_subgroup, subgroup_len }
    }

    /// Whether the threads of a row can be summed within subgroups.
    pub(crate) fn in_subgroup(workgroup: u32, features: &Features) -> bool {
        let largest = features.subgroup_size[1];
        let full_subgroups = largest > 0 && workgroup.min(features.max_workgroup_len).is_multiple_of(largest);
        features.subgroups && full_subgroups
    }

    fn max_lanes(workgroup: u32, rows: VecRows, features: &Features) -> u32 {
        /// More threads than this would wait for each other longer than they work.
        const MAX_LANES: u32 = 64;

        let [smallest, largest] = features.subgroup_size;
        let max_lanes = match (VecShape::in_subgroup(workgroup, features), smallest == largest) {
            (true, true) => MAX_LANES.max(largest),
            (true, false) => smallest.min(MAX_LANES),
            (false, _) => 32,
        };
        if rows.whole_pieces { max_lanes.min(features.max_workgroup_len / PIECE_LEN as u32) } else { max_lanes }
    }
}

/// The threads, a power of two up to `max_lanes`, that share a row: as few as keep the device busy, since few of them
/// are idle then and each sums more; else as many as are worth it, since many threads wait less for memory.
fn choose_lanes(rows: VecRows, max_lanes: u32, features: &Features) -> u32 {
    /// Threads that keep a core busy.
    const N_BUSY: f64 = 909.0;
    /// Threads that keep a core busy that neither makes inputs nor reads those of several tokens, and so does little but wait for weights.
    const N_BUSY_WAITING: f64 = 3000.0;

    let VecRows { n_rows, n_units, makes_input, is_of_one_token, .. } = rows;
    let n_busy = if is_of_one_token && !makes_input { N_BUSY_WAITING } else { N_BUSY };
    let n_busy = features.per_core(n_busy) as usize;
    let busy = |n_lanes: u32| n_units as f64 / (n_units.div_ceil(n_lanes as usize) * n_lanes as usize) as f64;
    let candidates = || (0..=max_lanes.max(1).ilog2()).rev().map(|i| 1 << i);
    let enough = candidates().filter(|&n: &u32| n >= 8 && n_rows * n as usize >= n_busy && busy(n) >= 0.85).min();
    let worth_it = || candidates().find(|&n| busy(n) >= if n > 32 { 0.95 } else { 0.6 });
    enough.or_else(worth_it).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::devices;

    /// Rows are whole, the device has the threads, and no workgroup is without a row.
    #[test]
    fn shapes_fit_devices() {
        for features in devices() {
            for (n_rows, n_units) in [(10240, 80), (2560, 320), (768, 24), (65536, 40), (64, 1), (16, 6)] {
                let kinds = [(false, false, true), (false, false, false), (true, false, true), (true, true, true)];
                for (whole_pieces, makes_input, is_of_one_token) in kinds {
                    let rows = VecRows { n_rows, n_units, whole_pieces, makes_input, is_of_one_token };
                    let shapes = VecShape::candidates(rows, &features);
                    assert!(!shapes.is_empty());
                    for VecShape { workgroup, n_lanes, in_subgroup, subgroup_len } in shapes {
                        assert!(workgroup <= features.max_workgroup_len && n_lanes.is_power_of_two());
                        assert!(workgroup.is_multiple_of(n_lanes), "{workgroup} {n_lanes}");
                        let rows_each = workgroup / n_lanes;
                        assert!(!whole_pieces || rows_each.is_multiple_of(PIECE_LEN as u32));
                        assert!(!in_subgroup || features.subgroups && workgroup.is_multiple_of(subgroup_len));
                    }
                }
            }
        }
    }
}
