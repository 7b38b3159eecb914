//! How a recurrence over matrix states is spread over a workgroup, see `wgsl/head/rows.wgsl`.

use crate::compile::target::RowClass;
use crate::device::features::Features;
use crate::device::kernel::{KernelSpec, Module, wgsl};

/// Threads of a recurrence kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecurrenceShape {
    /// Rows of S in a workgroup.
    pub(super) n_rows: usize,
    /// Threads that share a row.
    pub(super) n_lanes: usize,
    /// Whether the threads of a row are surely in one subgroup.
    in_subgroup: bool,
    head_size: usize,
}

impl RecurrenceShape {
    /// Some rows of a head in a workgroup: they spread over more of the device's cores.
    pub(super) fn of_rows(head_size: usize, features: &Features) -> RecurrenceShape {
        const WORKGROUP: usize = 64;
        let n_lanes = n_lanes(head_size);
        RecurrenceShape::new(head_size, WORKGROUP / n_lanes, n_lanes, features)
    }

    /// All rows of a head in a workgroup: by as many invocations as it can have, which wait for memory at the same time, or by
    /// few where the heads of many tokens do so.
    pub(super) fn of_head(head_size: usize, n_tokens: RowClass, features: &Features) -> RecurrenceShape {
        /// From this number of tokens on, few threads a head keep the device busy.
        const MANY_TOKENS: u32 = 16;

        let n_rows = head_size.next_power_of_two();
        let fewest = n_lanes(head_size);
        let mut most = (features.max_workgroup_len as usize / n_rows).min(n_rows / 4);
        if features.subgroups {
            most = most.min(features.subgroup_size[0] as usize);
        }
        let n_lanes = if most > fewest && n_tokens.0 < MANY_TOKENS { 1 << most.ilog2() } else { fewest };
        RecurrenceShape::new(head_size, n_rows, n_lanes, features)
    }

    fn new(head_size: usize, n_rows: usize, n_lanes: usize, features: &Features) -> RecurrenceShape {
        let [smallest, largest] = features.subgroup_size.map(|size| size as usize);
        let are_full = (n_rows * n_lanes).is_multiple_of(largest.max(1));
        RecurrenceShape {
            n_rows,
            n_lanes,
            in_subgroup: features.subgroups && smallest >= n_lanes && are_full,
            head_size,
        }
    }

    pub(super) fn workgroup(&self) -> usize {
        self.n_rows * self.n_lanes
    }

    /// Tokens to stage at once: each invocation fetches two vec4s of each of their operands, see `wgsl/wkv7/wkv7.wgsl`.
    pub(super) fn block_len(&self) -> usize {
        const FETCHED: usize = 2;
        FETCHED * 4 * self.workgroup() / (self.n_lanes * LANE_LEN)
    }

    /// `kernel`, with what goes before it.
    pub(super) fn modules<const K: usize>(&self, kernel: [&'static Module; K]) -> Vec<&'static Module> {
        let lanes = match self.in_subgroup {
            true => wgsl!("lanes/subgroup.wgsl"),
            false => wgsl!("lanes/workgroup.wgsl"),
        };
        [wgsl!("step.wgsl"), lanes].into_iter().chain(kernel).collect()
    }

    /// What goes before a kernel that has all rows of a head in a workgroup, and writes its result in several forms.
    pub(super) fn head_modules(&self) -> Vec<&'static Module> {
        self.modules([
            wgsl!("halves.wgsl"),
            wgsl!("place.wgsl"),
            wgsl!("bytes.wgsl"),
            wgsl!("bytes_out.wgsl"),
            wgsl!("head/state_vec4.wgsl"),
            wgsl!("head/rows.wgsl"),
            wgsl!("head/out.wgsl"),
        ])
    }

    /// The largest head whose rows a workgroup of the device holds.
    pub(super) fn max_head_size(features: &Features) -> usize {
        let fits = |&size: &usize| {
            let shape = RecurrenceShape::of_head(size, RowClass(1), features);
            shape.workgroup() <= features.max_workgroup_len as usize
        };
        [256, 128, 64, 32, 16].into_iter().find(fits).unwrap_or(0)
    }

    pub(super) fn constants(&self, kernel: KernelSpec) -> KernelSpec {
        kernel
            .constant("WORKGROUP", self.workgroup() as f64)
            .constant("N_LANES", self.n_lanes as f64)
            .constant("HEAD_SIZE", self.head_size as f64)
    }
}

/// Elements of a row of S in one invocation's registers.
const LANE_LEN: usize = 16;

/// Invocations that share a row of S.
fn n_lanes(head_size: usize) -> usize {
    head_size.div_ceil(LANE_LEN).next_power_of_two()
}
