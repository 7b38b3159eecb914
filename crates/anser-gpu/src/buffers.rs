//! The memory that a step works in: values, the step's own tables, and scratch. It grows by classes of rows and never
//! shrinks, so that running a step allocates nothing.

use crate::device::Device;
use crate::error::GpuError;
use crate::kernels::{Binding, RowClass};
use crate::state::States;
use anser_model::{Plan, Rows, Step, ValueId};
use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;
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
    first: u32,
    n_tokens: u32,
    half: u32,
    fresh: u32,
}

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
        let tokens = section(sequences.end.next_multiple_of(alignment), n_tokens * 4);
        let outputs = section(tokens.end.next_multiple_of(alignment), n_outputs * 4);
        Sections { sequences, tokens, outputs }
    }
}

/// What tells scratch buffers apart: name, kind of rows, bytes per row.
type ScratchKey = (&'static str, Rows, usize);

/// Buffers for steps of up to so many tokens and outputs.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// Rows that fit: tokens, outputs.
    capacity: [u32; 2],
    /// Most rows that the device can bind: tokens, outputs.
    max_rows: [u32; 2],
    /// One per slot of the plan, `[capacity, n_cols]`.
    values: Vec<wgpu::Buffer>,
    tables: wgpu::Buffer,
    sections: Sections,
    alignment: u64,
    scratch: HashMap<ScratchKey, wgpu::Buffer>,
    /// Host copy of the tables.
    staged: Vec<u8>,
}

/// Grid dimensions are below 2^16 everywhere, and rows are one of them.
const MAX_GRID: u32 = 65_535;

impl Buffers {
    /// Room for steps of one token and one output.
    pub(crate) fn new(plan: &Plan, device: &Device, max_binding_n_bytes: u64) -> Result<Buffers, GpuError> {
        let max = |rows: Rows| {
            let widths = plan.slots.iter().filter(|s| s.rows == rows).map(|s| s.n_cols);
            let n_rows = max_binding_n_bytes / (4 * widths.max().unwrap_or(1).max(1) as u64);
            n_rows.clamp(1, u64::from(MAX_GRID)) as u32
        };
        let limits = device.inner.limits();
        let alignment = limits.min_storage_buffer_offset_alignment.max(limits.min_uniform_buffer_offset_alignment);
        let mut buffers = Buffers {
            capacity: [0, 0],
            max_rows: [Rows::Tokens, Rows::Outputs].map(max),
            values: vec![],
            tables: device.create_buffer("step", 16, wgpu::BufferUsages::UNIFORM)?,
            sections: Sections::new(0, 0, u64::from(alignment)),
            alignment: u64::from(alignment),
            scratch: HashMap::new(),
            staged: vec![],
        };
        buffers.reserve(plan, device, [RowClass(1), RowClass(1)])?;
        Ok(buffers)
    }

    /// Most tokens and outputs of a step.
    pub(crate) fn max_rows(&self) -> [u32; 2] {
        self.max_rows
    }

    /// Makes room for steps of the classes of T and O; tells whether buffers are new ones. Nothing changes if it fails.
    pub(crate) fn reserve(&mut self, plan: &Plan, device: &Device, classes: [RowClass; 2]) -> Result<bool, GpuError> {
        let wanted = [0, 1].map(|i| classes[i].0.min(self.max_rows[i]).max(self.capacity[i]));
        if wanted == self.capacity {
            return Ok(false);
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let mut values = vec![];
        for slot in &plan.slots {
            let n_rows = match slot.rows {
                Rows::Tokens => wanted[0],
                Rows::Outputs => wanted[1],
            };
            values.push(device.create_buffer("values", 4 * u64::from(n_rows) * slot.n_cols as u64, usage)?);
        }
        let sections = Sections::new(u64::from(wanted[0]), u64::from(wanted[1]), self.alignment);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        self.tables = device.create_buffer("step", sections.outputs.end, usage)?;
        (self.values, self.sections, self.capacity) = (values, sections, wanted);
        self.scratch.clear();
        Ok(true)
    }

    /// The memory of a value.
    pub(crate) fn value(&self, plan: &Plan, id: ValueId) -> &wgpu::Buffer {
        &self.values[plan.value(id).slot]
    }

    /// Allocates what `binding` needs if it is scratch that is not there yet.
    pub(crate) fn reserve_scratch(&mut self, device: &Device, binding: Binding) -> Result<(), GpuError> {
        let Binding::Scratch { name, rows, row_n_bytes } = binding else { return Ok(()) };
        let key = (name, rows, row_n_bytes);
        if !self.scratch.contains_key(&key) {
            let n_rows = match rows {
                Rows::Tokens => self.capacity[0],
                Rows::Outputs => self.capacity[1],
            };
            let n_bytes = u64::from(n_rows) * row_n_bytes as u64;
            self.scratch.insert(key, device.create_buffer(name, n_bytes, wgpu::BufferUsages::STORAGE)?);
        }
        Ok(())
    }

    /// What `binding` stands for, if it is memory of this kind.
    pub(crate) fn resolve(&self, plan: &Plan, binding: Binding) -> Option<wgpu::BufferBinding<'_>> {
        let whole = |buffer| Some(wgpu::BufferBinding { buffer, offset: 0, size: None });
        let section = |range: Range<u64>| {
            let size = wgpu::BufferSize::new(range.end - range.start);
            Some(wgpu::BufferBinding { buffer: &self.tables, offset: range.start, size })
        };
        match binding {
            Binding::Value(id) => whole(self.value(plan, id)),
            Binding::Step => section(0..size_of::<StepUniform>() as u64),
            Binding::Sequences => section(self.sections.sequences.clone()),
            Binding::Tokens => section(self.sections.tokens.clone()),
            Binding::Outputs => section(self.sections.outputs.clone()),
            Binding::Scratch { name, rows, row_n_bytes } => {
                self.scratch.get(&(name, rows, row_n_bytes)).and_then(whole)
            }
            Binding::Vector(_) | Binding::Matrix { .. } | Binding::State(_) | Binding::Constants(_) => None,
        }
    }

    /// Sends the step's tables to the device: one copy.
    pub(crate) fn write_tables(&mut self, device: &Device, step: &Step, states: &States) {
        let sizes = Sizes::new(step);
        let Sizes { n_tokens, n_outputs, n_sequences } = sizes;
        let n_bytes = self.sections.outputs.start as usize + (4 * step.outputs.len()).max(4);
        self.staged.clear();
        self.staged.resize(n_bytes, 0);
        let uniform = StepUniform { n_tokens, n_outputs, n_sequences, padding: 0 };
        put(&mut self.staged, 0, &[uniform]);

        let mut first = 0;
        let entry = |s: &anser_model::Sequence| {
            let slot = states.get(s.slot).unwrap_or(crate::state::Slot { half: 0, fresh: true });
            first += s.n_tokens as u32;
            SequenceEntry {
                slot: s.slot as u32,
                first: first - s.n_tokens as u32,
                n_tokens: s.n_tokens as u32,
                half: slot.half as u32,
                fresh: slot.fresh.into(),
            }
        };
        let sequences: Vec<SequenceEntry> = step.sequences.iter().map(entry).collect();
        put(&mut self.staged, self.sections.sequences.start, &sequences);
        let of = |(i, s): (usize, &anser_model::Sequence)| std::iter::repeat_n(i as u32, s.n_tokens);
        let tokens: Vec<u32> = step.sequences.iter().enumerate().flat_map(of).collect();
        put(&mut self.staged, self.sections.tokens.start, &tokens);
        put(&mut self.staged, self.sections.outputs.start, step.outputs);
        device.queue.write_buffer(&self.tables, 0, &self.staged);
    }
}

/// Writes `items` at byte `at` of `bytes`.
fn put<T: Pod>(bytes: &mut [u8], at: u64, items: &[T]) {
    let items = bytemuck::cast_slice(items);
    bytes[at as usize..][..items.len()].copy_from_slice(items);
}
