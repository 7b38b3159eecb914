//! The memory that a step works in: values, the step's own tables, and scratch. It grows by classes of rows and never
//! shrinks, so that running a step allocates nothing.

use crate::compile::dispatch::Binding;
use crate::compile::schedule::{Region, Schedule};
use crate::compile::target::RowClass;
use crate::device::Device;
use crate::error::GpuError;
use crate::memory::state::Passage;
use anser_model::{Plan, Rows, Step, ValueId};
use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

/// `Step` of `wgsl/step.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct StepUniform {
    n_tokens: u32,
    n_outputs: u32,
    n_sequences: u32,
    padding: u32,
}

/// `Sequence` of `wgsl/step.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct SequenceEntry {
    slot: u32,
    to_slot: u32,
    first: u32,
    n_tokens: u32,
    is_fresh: u32,
}

/// `Token` of `wgsl/step.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct TokenEntry {
    slot: u32,
    to_slot: u32,
    half: u32,
    previous: u32,
    is_last: u32,
}

/// Values of `TokenEntry::previous`.
const PREVIOUS_ROW: u32 = 0;
const PREVIOUS_STATE: u32 = 1;
const PREVIOUS_ZERO: u32 = 2;

/// T, O and B of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) n_tokens: u32,
    pub(crate) n_outputs: u32,
    pub(crate) n_sequences: u32,
}

impl Sizes {
    pub(crate) fn new(step: &Step) -> Sizes {
        // `Step::check` has found no more sequences than tokens, and `Buffers` holds far fewer tokens than u32::MAX.
        Sizes {
            n_tokens: step.tokens.len() as u32,
            n_outputs: step.outputs.len() as u32,
            n_sequences: step.sequences.len() as u32,
        }
    }

    pub(crate) fn rows(self, rows: Rows) -> u32 {
        match rows {
            Rows::Tokens => self.n_tokens,
            Rows::Outputs => self.n_outputs,
        }
    }
}

/// The tables of a step in one buffer: byte ranges of its sections.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sections {
    sequences: Range<u64>,
    tokens: Range<u64>,
    outputs: Range<u64>,
}

impl Sections {
    fn new(n_tokens: u64, n_outputs: u64, alignment: u64) -> Sections {
        let section = |start: u64, n_bytes: u64| start..start + n_bytes.max(4);
        let sequences = section(alignment, n_tokens * size_of::<SequenceEntry>() as u64);
        let tokens = section(sequences.end.next_multiple_of(alignment), n_tokens * size_of::<TokenEntry>() as u64);
        let outputs = section(tokens.end.next_multiple_of(alignment), n_outputs * 4);
        Sections { sequences, tokens, outputs }
    }
}

/// What tells scratch buffers apart: name, kind of rows, bytes per row, product.
type ScratchKey = (&'static str, Rows, usize, usize);

/// Buffers for steps of up to `capacity` tokens and outputs.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// Rows that fit: tokens, outputs.
    capacity: [u32; 2],
    /// Most rows that the device can bind: tokens, outputs.
    max_rows: [u32; 2],
    /// `[capacity, n_cols]` each where they are shared.
    values: HashMap<Region, wgpu::Buffer>,
    tables: wgpu::Buffer,
    sections: Sections,
    alignment: u64,
    scratch: HashMap<ScratchKey, wgpu::Buffer>,
    /// Memory for matrices in halves, by size, row range and product.
    expanded: HashMap<[usize; 3], wgpu::Buffer>,
    /// Host copy of the tables.
    staged: Vec<u8>,
}

/// Rows of the largest tile: matrix kernels read whole tiles.
const TILE: u64 = 256;

/// Grid dimensions are below 2^16 everywhere, and rows are one of them.
const MAX_GRID: u32 = 65_535;

impl Buffers {
    /// Room for the tables of steps of one token and one output.
    pub(crate) fn new(plan: &Plan, device: &Device, max_binding_n_bytes: u64) -> Result<Buffers, GpuError> {
        let max = |rows: Rows| {
            let widths = plan.values.iter().filter(|v| v.rows == rows).map(|v| v.n_cols);
            let n_rows = max_binding_n_bytes / (4 * widths.max().unwrap_or(1).max(1) as u64);
            n_rows.clamp(1, u64::from(MAX_GRID)) as u32
        };
        let limits = device.inner.limits();
        let alignment = limits.min_storage_buffer_offset_alignment.max(limits.min_uniform_buffer_offset_alignment);
        let sections = Sections::new(1, 1, u64::from(alignment));
        Ok(Buffers {
            capacity: [1, 1],
            max_rows: [Rows::Tokens, Rows::Outputs].map(max),
            values: HashMap::new(),
            tables: tables(device, &sections)?,
            sections,
            alignment: u64::from(alignment),
            scratch: HashMap::new(),
            expanded: HashMap::new(),
            staged: vec![],
        })
    }

    /// Most tokens and outputs of a step.
    pub(crate) fn max_rows(&self) -> [u32; 2] {
        self.max_rows
    }

    /// Makes room for steps of the classes of T and O; tells whether all buffers are gone for that and must be reserved
    /// again.
    pub(crate) fn grow(&mut self, device: &Device, classes: [RowClass; 2]) -> Result<bool, GpuError> {
        let wanted = [0, 1].map(|i| classes[i].0.min(self.max_rows[i]).max(self.capacity[i]));
        if wanted == self.capacity {
            return Ok(false);
        }
        let sections = Sections::new(u64::from(wanted[0]), u64::from(wanted[1]), self.alignment);
        self.tables = tables(device, &sections)?;
        (self.sections, self.capacity) = (sections, wanted);
        self.values.retain(|region, _| matches!(region, Region::Own { .. }));
        self.scratch.clear();
        Ok(true)
    }

    /// Forgets all buffers, so that smaller ones can be made: for when the device's memory is full.
    pub(crate) fn shrink(&mut self, device: &Device) -> Result<(), GpuError> {
        self.capacity = [0, 0];
        self.values.clear();
        self.expanded.clear();
        self.grow(device, [RowClass(1), RowClass(1)]).map(drop)
    }

    fn n_rows(&self, rows: Rows) -> u64 {
        match rows {
            Rows::Tokens => self.capacity[0].into(),
            Rows::Outputs => self.capacity[1].into(),
        }
    }

    /// Allocates the memory of a schedule that is not there yet.
    pub(crate) fn reserve(&mut self, device: &Device, schedule: &Schedule) -> Result<(), GpuError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        for region in schedule.regions() {
            if !self.values.contains_key(&region) {
                let n_bytes = match region {
                    Region::Shared { rows, n_cols, in_halves: false, .. } => 4 * self.n_rows(rows) * n_cols as u64,
                    Region::Shared { rows, n_cols, in_halves: true, .. } => {
                        2 * self.n_rows(rows).next_multiple_of(TILE) * n_cols as u64
                    }
                    Region::Own { n_bytes, .. } => n_bytes,
                };
                self.values.insert(region, device.create_buffer("values", n_bytes, usage)?);
            }
        }
        Ok(())
    }

    /// The floats of a value; `None` if they never are in memory.
    pub(crate) fn value(&self, schedule: &Schedule, id: ValueId) -> Option<wgpu::BufferBinding<'_>> {
        let cell = schedule.cell(id)?;
        let buffer = self.values.get(&cell.region)?;
        Some(wgpu::BufferBinding { buffer, offset: cell.floats?, size: cell.floats_n_bytes })
    }

    /// Allocates what `binding` needs if it is scratch that is not there yet.
    pub(crate) fn reserve_scratch(&mut self, device: &Device, binding: &Binding) -> Result<(), GpuError> {
        if let &Binding::Expanded { n_bytes, split, product } = binding
            && let Entry::Vacant(entry) = self.expanded.entry([n_bytes, split, product])
        {
            let usage = wgpu::BufferUsages::STORAGE;
            entry.insert(device.create_buffer("a matrix in halves", n_bytes as u64, usage)?);
        }
        let &Binding::Scratch { name, rows, row_n_bytes, product } = binding else { return Ok(()) };
        let key = (name, rows, row_n_bytes, product);
        if !self.scratch.contains_key(&key) {
            let n_bytes = self.n_rows(rows).next_multiple_of(TILE) * row_n_bytes as u64;
            self.scratch.insert(key, device.create_buffer(name, n_bytes, wgpu::BufferUsages::STORAGE)?);
        }
        Ok(())
    }

    /// What `binding` stands for, if it is memory of this kind.
    pub(crate) fn resolve(&self, schedule: &Schedule, binding: &Binding) -> Option<wgpu::BufferBinding<'_>> {
        let whole = |buffer| Some(wgpu::BufferBinding { buffer, offset: 0, size: None });
        let section = |range: Range<u64>| {
            let size = wgpu::BufferSize::new(range.end - range.start);
            Some(wgpu::BufferBinding { buffer: &self.tables, offset: range.start, size })
        };
        match *binding {
            Binding::Value(id) => self.value(schedule, id),
            Binding::Region(id) => self.values.get(&schedule.cell(id)?.region).and_then(whole),
            Binding::Step => section(0..size_of::<StepUniform>() as u64),
            Binding::Sequences => section(self.sections.sequences.clone()),
            Binding::Tokens => section(self.sections.tokens.clone()),
            Binding::Outputs => section(self.sections.outputs.clone()),
            Binding::Scratch { name, rows, row_n_bytes, product } => {
                self.scratch.get(&(name, rows, row_n_bytes, product)).and_then(whole)
            }
            Binding::Expanded { n_bytes, split, product } => {
                self.expanded.get(&[n_bytes, split, product]).and_then(whole)
            }
            Binding::Vector(_)
            | Binding::Vectors { .. }
            | Binding::Matrix { .. }
            | Binding::Block { .. }
            | Binding::State(_)
            | Binding::Constants(_) => None,
        }
    }

    /// Sends the step's tables to the device: one copy. `passages` tells where each sequence's state is and goes.
    pub(crate) fn write_tables(&mut self, device: &Device, step: &Step, passages: &[Passage]) {
        let sizes = Sizes::new(step);
        let Sizes { n_tokens, n_outputs, n_sequences } = sizes;
        let n_bytes = self.sections.outputs.start as usize + (4 * step.outputs.len()).max(4);
        self.staged.clear();
        self.staged.resize(n_bytes, 0);
        let uniform = StepUniform { n_tokens, n_outputs, n_sequences, padding: 0 };
        put(&mut self.staged, 0, &[uniform]);

        let (mut sequences, mut tokens): (Vec<SequenceEntry>, Vec<TokenEntry>) = (vec![], vec![]);
        for (s, passage) in step.sequences.iter().zip(passages) {
            let Passage { from, to_row } = *passage;
            let (slot, to_slot, fresh) = (from.row as u32, to_row as u32, from.fresh);
            let (n_tokens, first) = (s.n_tokens as u32, tokens.len() as u32);
            sequences.push(SequenceEntry { slot, to_slot, first, n_tokens, is_fresh: fresh.into() });
            tokens.extend((0..n_tokens).map(|i| TokenEntry {
                slot,
                to_slot,
                half: from.half as u32,
                previous: match (i, fresh) {
                    (0, true) => PREVIOUS_ZERO,
                    (0, false) => PREVIOUS_STATE,
                    _ => PREVIOUS_ROW,
                },
                is_last: (i + 1 == n_tokens).into(),
            }));
        }
        put(&mut self.staged, self.sections.sequences.start, &sequences);
        put(&mut self.staged, self.sections.tokens.start, &tokens);
        put(&mut self.staged, self.sections.outputs.start, step.outputs);
        device.queue.write_buffer(&self.tables, 0, &self.staged);
    }
}

/// The buffer of a step's tables.
fn tables(device: &Device, sections: &Sections) -> Result<wgpu::Buffer, GpuError> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    device.create_buffer("step", sections.outputs.end, usage)
}

/// Writes `items` at byte `at` of `bytes`.
fn put<T: Pod>(bytes: &mut [u8], at: u64, items: &[T]) {
    let items = bytemuck::cast_slice(items);
    bytes[at as usize..][..items.len()].copy_from_slice(items);
}
