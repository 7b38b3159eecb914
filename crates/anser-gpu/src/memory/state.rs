//! The recurrent states of many sequences on the device: for every layer's part of the state one buffer with a row per
//! slot, so that one dispatch reaches all sequences of a step.

use crate::device::Device;
use crate::error::GpuError;
use crate::memory::readback::Pieces;
use anser_model::{Op, Plan, StateLayout, StatePart, StateRef};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Index of a state slot.
pub type SlotId = usize;

/// Where a slot's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Which row of every buffer is its own.
    pub(crate) row: usize,
    /// Which half of its token-shift rows holds the state; a step writes the other one.
    pub(crate) half: usize,
    /// Whether the state is zero, whatever the buffers hold.
    pub(crate) fresh: bool,
}

/// Where a step takes a state from, and where it leaves the one that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passage {
    pub(crate) from: Slot,
    /// Row that gets the state after the step, in the half that `from` does not name.
    pub(crate) to_row: usize,
}

impl Passage {
    /// That of the next step, back to where this one started.
    pub(crate) fn turned(self) -> Passage {
        let from = Slot { row: self.to_row, half: 1 - self.from.half, fresh: false };
        Passage { from, to_row: self.from.row }
    }
}

/// The states of all slots.
#[derive(Debug)]
pub(crate) struct States {
    layout: Arc<StateLayout>,
    /// `[L][parts]`: whether rows have two halves, `[2, part]`. Those of token shifts do: their kernels may then read
    /// the old row and write the new one in any order.
    halved: Vec<Vec<bool>>,
    /// Whether a step leaves some of the parts alone: so do plans of single operations.
    is_partial: bool,
    /// `[L][parts]`, each `[capacity, row]`, f32. Rows belong to slots in any order.
    buffers: Vec<Vec<wgpu::Buffer>>,
    /// Rows of every buffer.
    capacity: usize,
    /// `None` is free.
    slots: Vec<Option<Slot>>,
    max_binding_n_bytes: u64,
    /// Where a state waits to be read; made when the first one is.
    pieces: Option<Pieces>,
}

impl States {
    /// MemoryLimits for one state, and for the one that a step ahead of it makes.
    pub(crate) fn new(plan: &Plan, device: &Device, max_binding_n_bytes: u64) -> Result<States, GpuError> {
        let layout = Arc::new(plan.state.clone());
        let mut halved = vec![vec![false; layout.parts.len()]; layout.n_layer];
        for node in &plan.nodes {
            if let Op::TokenShift { state, .. } = &node.op {
                halved[state.layer][state.part] = true;
            }
        }
        let written = plan.nodes.iter().filter_map(|node| node.op.state()).map(|at| [at.layer, at.part]);
        let written: HashSet<[usize; 2]> = written.collect();
        let is_partial = written.len() < layout.n_layer * layout.parts.len();
        let (buffers, slots) = (vec![], vec![]);
        let mut states =
            States { layout, halved, is_partial, buffers, capacity: 0, slots, max_binding_n_bytes, pieces: None };
        states.grow(device, 1)?;
        Ok(states)
    }

    /// Bytes of one slot's row in a layer's part.
    fn row_n_bytes(&self, at: StateRef) -> u64 {
        4 * (self.layout.parts[at.part].layer_len() * if self.halved[at.layer][at.part] { 2 } else { 1 }) as u64
    }

    /// Byte range of the current state of `slot` in a layer's part.
    pub(crate) fn byte_range(&self, at: StateRef, slot: Slot) -> Range<u64> {
        let n_bytes = 4 * self.layout.parts[at.part].layer_len() as u64;
        let half = if self.halved[at.layer][at.part] { slot.half as u64 } else { 0 };
        let start = slot.row as u64 * self.row_n_bytes(at) + half * n_bytes;
        start..start + n_bytes
    }

    /// The buffer of a layer's part.
    pub(crate) fn buffer(&self, at: StateRef) -> &wgpu::Buffer {
        &self.buffers[at.layer][at.part]
    }

    /// Bytes of all buffers.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.buffers.iter().flatten().map(wgpu::Buffer::size).sum()
    }

    /// The slot, if it exists.
    pub(crate) fn get(&self, slot: SlotId) -> Option<Slot> {
        self.slots.get(slot).copied().flatten()
    }

    fn existing(&self, slot: SlotId) -> Result<Slot, GpuError> {
        self.get(slot).ok_or(GpuError::UnknownSlot { slot })
    }

    /// The state of `slot` has advanced by a step.
    pub(crate) fn advance(&mut self, slot: SlotId) {
        if let Some(Some(slot)) = self.slots.get_mut(slot) {
            *slot = Slot { half: 1 - slot.half, fresh: false, ..*slot };
        }
    }

    /// The step that went from `slot` to `spare` counts: the two slots exchange their rows.
    pub(crate) fn exchange(&mut self, slot: SlotId, spare: SlotId) {
        if let (Some(from), Some(to)) = (self.get(slot), self.get(spare)) {
            self.slots[slot] = Some(Slot { row: to.row, half: 1 - from.half, fresh: false });
            self.slots[spare] = Some(Slot { row: from.row, ..to });
        }
    }

    /// Where the states of two slots are.
    pub(crate) fn pair(&self, slot: SlotId, spare: SlotId) -> [Option<Slot>; 2] {
        [self.get(slot), self.get(spare)]
    }

    /// Takes an exchange back: the two slots are as they were in `before`.
    pub(crate) fn put_back(&mut self, slot: SlotId, spare: SlotId, before: [Option<Slot>; 2]) {
        for (slot, before) in [slot, spare].into_iter().zip(before) {
            if let Some(slot) = self.slots.get_mut(slot) {
                *slot = before;
            }
        }
    }

    /// Whether a step leaves some of the parts alone. A state that goes to another row then has to be copied there before.
    pub(crate) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Largest buffer that may be bound.
    pub(crate) fn max_binding_n_bytes(&self) -> u64 {
        self.max_binding_n_bytes
    }

    /// The passage of a step in place: it reads the row of `slot` and writes the next state to the same row.
    pub(crate) fn in_place(&self, slot: SlotId) -> Passage {
        let from = self.get(slot).unwrap_or(Slot { row: 0, half: 0, fresh: true });
        Passage { from, to_row: from.row }
    }

    /// A new slot with a zero state, and whether the buffers are new ones.
    pub(crate) fn create(&mut self, device: &Device) -> Result<(SlotId, bool), GpuError> {
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let mut is_taken = vec![false; self.capacity];
        self.slots.iter().flatten().for_each(|slot| is_taken[slot.row] = true);
        let row = is_taken.iter().position(|is_taken| !is_taken);
        let (row, grows) = (row.unwrap_or(self.capacity), row.is_none());
        if grows {
            self.grow(device, row + 1)?;
        }
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(Slot { row, half: 0, fresh: true });
        Ok((slot, grows))
    }

    /// Frees a slot; an unknown one is ignored.
    pub(crate) fn remove(&mut self, slot: SlotId) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = None;
        }
    }

    /// Makes room for at least `n_slots`, and two if they fit, doubling, and moves the states there. Nothing changes if it fails.
    fn grow(&mut self, device: &Device, n_slots: usize) -> Result<(), GpuError> {
        let largest = self.places().map(|at| self.row_n_bytes(at)).max().unwrap_or(1);
        let max = usize::try_from(self.max_binding_n_bytes / largest.max(1)).unwrap_or(usize::MAX);
        if n_slots > max {
            return Err(GpuError::Limit {
                adapter: device.report().name.clone(),
                limit: "maxStorageBufferBindingSize",
                found: self.max_binding_n_bytes,
                needed: n_slots as u64 * largest,
                what: format!("the states of {n_slots} sequences"),
            });
        }
        let capacity = n_slots.next_power_of_two().max(2).min(max);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let mut buffers = vec![];
        for layer in 0..self.layout.n_layer {
            let create = |(part, p): (usize, &StatePart)| {
                let label = format!("state {} of layer {layer}", p.name);
                device.create_buffer(&label, capacity as u64 * self.row_n_bytes(StateRef { part, layer }), usage)
            };
            buffers.push(self.layout.parts.iter().enumerate().map(create).collect::<Result<Vec<_>, _>>()?);
        }
        let copy = |encoder: &mut wgpu::CommandEncoder| {
            for (old, new) in self.buffers.iter().flatten().zip(buffers.iter().flatten()) {
                encoder.copy_buffer_to_buffer(old, 0, new, 0, old.size().min(new.size()));
            }
        };
        submit(device, "moving the states", copy)?;
        (self.buffers, self.capacity) = (buffers, capacity);
        Ok(())
    }

    /// Copies the state of `from` over that of `to`, on the device.
    pub(crate) fn copy(&mut self, device: &Device, from: SlotId, to: SlotId) -> Result<(), GpuError> {
        let source = self.existing(from)?;
        let target = Slot { half: 0, fresh: source.fresh, ..self.existing(to)? };
        if from == to {
            return Ok(());
        }
        if !source.fresh {
            // wgpu refuses a copy within one buffer, so the rows go through another one.
            let between = self.exchange_buffer(device)?;
            submit(device, "copying a state", |encoder| {
                self.gather(encoder, source, &(0..self.layout.len()), &between);
                self.scatter(encoder, &between, target);
            })?;
        }
        self.slots[to] = Some(target);
        Ok(())
    }

    /// The state of a slot, in the order of the layout; every number of it is finite.
    pub(crate) async fn read(&mut self, device: &Device, slot: SlotId) -> Result<Vec<f32>, GpuError> {
        let slot = self.existing(slot)?;
        if slot.fresh {
            return Ok(vec![0.0; self.layout.len()]);
        }
        let pieces = match self.pieces.take() {
            Some(pieces) => pieces,
            None => Pieces::new(device, self.layout.len())?,
        };
        let gather = |range: &Range<usize>, buffer: &wgpu::Buffer| {
            submit(device, "reading a state", |encoder| self.gather(encoder, slot, range, buffer))
        };
        let read = pieces.read(device, gather).await?;
        self.pieces = Some(pieces);
        if !read.all_finite {
            self.layout.check(&read.data)?;
        }
        Ok(read.data)
    }

    /// Overwrites the state of a slot with `data`, in the order of the layout.
    pub(crate) fn write(&mut self, device: &Device, slot: SlotId, data: &[f32]) -> Result<(), GpuError> {
        let target = Slot { half: 0, fresh: false, ..self.existing(slot)? };
        self.layout.check(data)?;
        let buffer = self.exchange_buffer(device)?;
        device
            .guard(|| "writing a state".into(), || device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(data)))?;
        submit(device, "writing a state", |encoder| self.scatter(encoder, &buffer, target))?;
        self.slots[slot] = Some(target);
        Ok(())
    }

    /// A buffer for one state in the order of the layout.
    fn exchange_buffer(&self, device: &Device) -> Result<wgpu::Buffer, GpuError> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        device.create_buffer("a state", 4 * self.layout.len() as u64, usage)
    }

    /// Copies the numbers of a slot that lie in `range` of the layout to the start of `buffer`, in its order.
    fn gather(&self, encoder: &mut wgpu::CommandEncoder, slot: Slot, range: &Range<usize>, buffer: &wgpu::Buffer) {
        for (at, part) in self.parts() {
            let (row, of_part) = (self.byte_range(at, slot), self.layout.range(at));
            let (start, end) = (of_part.start.max(range.start), of_part.end.min(range.end));
            if start < end {
                let (from, to) = (4 * (start - of_part.start) as u64, 4 * (start - range.start) as u64);
                encoder.copy_buffer_to_buffer(part, row.start + from, buffer, to, 4 * (end - start) as u64);
            }
        }
    }

    /// Copies `buffer`, in the order of the layout, to the rows of a slot.
    fn scatter(&self, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer, slot: Slot) {
        for (at, part) in self.parts() {
            let (row, offset) = (self.byte_range(at, slot), 4 * self.layout.range(at).start as u64);
            encoder.copy_buffer_to_buffer(buffer, offset, part, row.start, row.end - row.start);
        }
    }

    /// Every layer's parts, layer by layer.
    fn places(&self) -> impl Iterator<Item = StateRef> + use<> {
        let n_parts = self.layout.parts.len();
        (0..self.layout.n_layer).flat_map(move |layer| (0..n_parts).map(move |part| StateRef { part, layer }))
    }

    /// Every buffer with its place.
    fn parts(&self) -> impl Iterator<Item = (StateRef, &wgpu::Buffer)> {
        self.places().zip(self.buffers.iter().flatten())
    }
}

/// Records commands with `record` and submits them.
fn submit(
    device: &Device,
    what: &str,
    record: impl FnOnce(&mut wgpu::CommandEncoder),
) -> Result<wgpu::SubmissionIndex, GpuError> {
    let submit = || {
        let mut encoder = device.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(what) });
        record(&mut encoder);
        device.queue.submit([encoder.finish()])
    };
    device.guard(|| what.into(), submit)
}
