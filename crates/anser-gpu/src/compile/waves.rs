//! Which dispatches may run at the same time.
//!
//! wgpu puts a barrier before a dispatch that reads what another one wrote, and a barrier makes *everything* after it wait
//! for everything before it. So products that do not need each other would still run one by one, each waiting at the
//! barrier for its own input. Asking for all inputs of such a wave at its beginning leaves one barrier.

use super::dispatch::{Binding, Dispatch};
use crate::compile::schedule::{Region, Schedule};
use crate::device::kernel::Access;
use anser_model::Rows;
use std::collections::HashSet;

/// For each dispatch, the bindings that must become readable before it: those of its whole wave, if it begins one.
pub(crate) fn reads_ahead(dispatches: &[Dispatch], schedule: &Schedule) -> Vec<Vec<Binding>> {
    let mut ahead = vec![vec![]; dispatches.len()];
    // What was written and did not become readable yet.
    let mut unsettled = HashSet::new();
    let mut start = 0;
    while start < dispatches.len() {
        let end = wave_end(dispatches, start, schedule);
        let wave = &dispatches[start..end];
        for (binding, memory) in wave.iter().flat_map(|dispatch| accessed(dispatch, Access::Read, schedule)) {
            if unsettled.remove(&memory) {
                ahead[start].push(binding);
            }
        }
        unsettled.extend(wave.iter().flat_map(|d| accessed(d, Access::ReadWrite, schedule)).map(|(_, memory)| memory));
        start = end;
    }
    ahead
}

/// Where the wave that begins at `start` ends: before the first dispatch that needs another one of it to be over.
fn wave_end(dispatches: &[Dispatch], start: usize, schedule: &Schedule) -> usize {
    let (mut read, mut written) = (HashSet::new(), HashSet::new());
    for (i, dispatch) in dispatches.iter().enumerate().skip(start) {
        let reads: Vec<Memory> = accessed(dispatch, Access::Read, schedule).map(|(_, memory)| memory).collect();
        let writes: Vec<Memory> = accessed(dispatch, Access::ReadWrite, schedule).map(|(_, memory)| memory).collect();
        let waits = reads.iter().any(|memory| written.contains(memory))
            || writes.iter().any(|memory| written.contains(memory) || read.contains(memory));
        if waits {
            return i;
        }
        read.extend(reads);
        written.extend(writes);
    }
    dispatches.len()
}

/// Memory that dispatches write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Memory {
    Region(Region),
    Scratch(&'static str, Rows, usize, usize),
    /// Size, row range and product.
    Expanded([usize; 3]),
    /// Part and layer.
    State(usize, usize),
}

/// The memory that `dispatch` accesses in one way, with one binding for each.
fn accessed<'a>(
    dispatch: &'a Dispatch,
    access: Access,
    schedule: &'a Schedule,
) -> impl Iterator<Item = (Binding, Memory)> + 'a {
    dispatch.accessed(access).filter_map(|binding| {
        let memory = match *binding {
            Binding::Value(id) | Binding::Region(id) => Memory::Region(schedule.cell(id)?.region),
            Binding::Scratch { name, rows, row_n_bytes, product } => Memory::Scratch(name, rows, row_n_bytes, product),
            Binding::Expanded { n_bytes, split, product } => Memory::Expanded([n_bytes, split, product]),
            Binding::State(at) => Memory::State(at.part, at.layer),
            Binding::Vector(_)
            | Binding::Vectors { .. }
            | Binding::Matrix { .. }
            | Binding::Block { .. }
            | Binding::Step
            | Binding::Sequences
            | Binding::Tokens
            | Binding::Outputs
            | Binding::Constants(_) => return None,
        };
        Some((binding.clone(), memory))
    })
}
