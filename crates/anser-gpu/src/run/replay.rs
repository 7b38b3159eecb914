//! A plan lowered for one class of steps: the flat list of dispatches that every such step replays.

use crate::compile::dispatch::{Binding, Dispatch, Extent};
use crate::compile::lowering::Lowering;
use crate::compile::schedule::{Reads, Schedule};
use crate::compile::waves::reads_ahead;
use crate::device::Device;
use crate::error::GpuError;
use crate::memory::layout::WeightLayout;
use crate::memory::state::States;
use crate::memory::weights::Weights;
use crate::run::buffers::{Buffers, Sizes};
use crate::run::recorder::Command;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A dispatch with all that the device needs to run it.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// Index of the schedule's unit.
    pub(crate) unit: usize,
    /// Where it came from.
    pub(crate) dispatch: Dispatch,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    /// Buffers that become readable before it.
    ahead: Vec<wgpu::Buffer>,
}

impl Recorded {
    /// What a step of `sizes` does here.
    pub(crate) fn command(&self, sizes: Sizes) -> Command {
        let grid = self.dispatch.grid.map(|extent| match extent {
            Extent::Fixed(n) => n,
            Extent::Rows { rows, per_workgroup } => sizes.rows(rows).div_ceil(per_workgroup),
            Extent::Sequences => sizes.n_sequences,
        });
        let (pipeline, bind_group) = (self.pipeline.clone(), self.bind_group.clone());
        Command { ahead: self.ahead.clone(), pipeline, bind_group, grid }
    }

    /// Records it.
    pub(crate) fn encode(&self, pass: &mut wgpu::ComputePass, sizes: Sizes) {
        self.command(sizes).encode(pass);
    }
}

/// The dispatches of a plan for one kind of steps, in order.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) schedule: Schedule,
    pub(crate) dispatches: Vec<Recorded>,
}

impl Replay {
    /// Lowers the plan, compiles its kernels and binds its buffers.
    ///
    /// # Errors
    /// If an operation has no kernel, the driver refuses one, or there is no memory for scratch.
    pub(crate) fn new(
        lowering: &Lowering,
        device: &Device,
        weights: &Weights,
        states: &States,
        buffers: &mut Buffers,
    ) -> Result<Replay, GpuError> {
        let schedule = lowering.schedule;
        let (units, lowered): (Vec<usize>, Vec<Dispatch>) = lowering.dispatches()?.into_iter().unzip();
        buffers.reserve(device, schedule)?;
        for binding in lowered.iter().flat_map(|dispatch| &dispatch.bindings) {
            buffers.reserve_scratch(device, binding)?;
        }
        device.compile_all(lowered.iter().map(|dispatch| &dispatch.kernel))?;
        let constants = Constants::new(device, lowered.iter().flat_map(|dispatch| &dispatch.bindings))?;
        let memory = Memory { schedule, weights, states, buffers, constants: &constants };
        let ahead = reads_ahead(&lowered, schedule);
        let record = |((unit, dispatch), ahead): ((usize, Dispatch), Vec<Binding>)| {
            let pipeline = device.pipeline(&dispatch.kernel)?;
            let bind_group = memory.bind(device, &dispatch)?;
            let ahead =
                ahead.into_iter().filter_map(|binding| Some(memory.resolve(&binding)?.buffer.clone())).collect();
            Ok(Recorded { unit, dispatch, pipeline, bind_group, ahead })
        };
        let dispatches = units.into_iter().zip(lowered).zip(ahead).map(record).collect::<Result<_, GpuError>>()?;
        Ok(Replay { schedule: schedule.clone(), dispatches })
    }

    /// How many dispatches, from the first, the first `n_units` units have.
    pub(crate) fn n_dispatches(&self, n_units: usize) -> usize {
        self.dispatches.partition_point(|dispatch| dispatch.unit < n_units)
    }

    /// For each dispatch that `reads` needs, the buffers of weights from the first that it or a later one reads to the last
    /// that it or an earlier one reads.
    pub(crate) fn weights_needed(&self, layout: &WeightLayout, reads: &Reads) -> Vec<Range<usize>> {
        let n_units = reads.stops.last().map_or(0, |stop| stop.n_units);
        let needed = self.dispatches.iter().take_while(|dispatch| dispatch.unit < n_units);
        let bound = |recorded: &Recorded| {
            let mut all = Range { start: usize::MAX, end: 0 };
            for place in recorded.dispatch.bindings.iter().filter_map(|binding| binding.weights(layout)) {
                let number = layout.number(place);
                all = all.start.min(number)..all.end.max(number + 1);
            }
            all
        };
        let mut needed: Vec<Range<usize>> = needed.map(bound).collect();
        let mut last = 0;
        for range in &mut needed {
            last = last.max(range.end);
            range.end = last;
        }
        let mut first = last;
        for range in needed.iter_mut().rev() {
            first = first.min(range.start);
            range.start = first;
        }
        needed
    }
}

/// Everything that can be bound.
struct Memory<'a> {
    schedule: &'a Schedule,
    weights: &'a Weights,
    states: &'a States,
    buffers: &'a Buffers,
    constants: &'a Constants,
}

impl Memory<'_> {
    fn resolve(&self, binding: &Binding) -> Option<wgpu::BufferBinding<'_>> {
        match *binding {
            Binding::Vector(id) => self.weights.vectors(id, id),
            Binding::Vectors { first, last } => self.weights.vectors(first, last),
            Binding::Matrix { weight, split } => self.weights.matrix(weight, split),
            Binding::State(at) => Some(wgpu::BufferBinding { buffer: self.states.buffer(at), offset: 0, size: None }),
            Binding::Block { weight, split } => self.weights.block(self.weights.layout.place(weight, split)?),
            Binding::Constants(ref words) => self.constants.binding(words),
            Binding::Value(_)
            | Binding::Region(_)
            | Binding::Step
            | Binding::Sequences
            | Binding::Tokens
            | Binding::Outputs
            | Binding::Scratch { .. }
            | Binding::Expanded { .. } => self.buffers.resolve(self.schedule, binding),
        }
    }

    fn bind(&self, device: &Device, dispatch: &Dispatch) -> Result<wgpu::BindGroup, GpuError> {
        let mut entries = vec![];
        for (i, binding) in dispatch.bindings.iter().enumerate() {
            let missing = || device.failed(dispatch.kernel.label, &format!("{binding:?} has no memory"));
            let resource = wgpu::BindingResource::Buffer(self.resolve(binding).ok_or_else(missing)?);
            entries.push(wgpu::BindGroupEntry { binding: i as u32, resource });
        }
        let (layout, _) = device.layouts(&dispatch.kernel.access);
        let label = Some(dispatch.kernel.label);
        let descriptor = wgpu::BindGroupDescriptor { label, layout: &layout, entries: &entries };
        let what = || format!("binding the kernel {}", dispatch.kernel.label);
        device.guard(what, || device.inner.create_bind_group(&descriptor))
    }
}

/// The distinct [`Binding::Constants`] of a replay, in one buffer.
struct Constants {
    /// Where each starts.
    offsets: BTreeMap<Arc<[u32]>, u64>,
    buffer: wgpu::Buffer,
}

impl Constants {
    fn new<'a>(device: &Device, bindings: impl Iterator<Item = &'a Binding>) -> Result<Constants, GpuError> {
        let alignment = device.inner.limits().min_uniform_buffer_offset_alignment.max(16) as usize;
        let (mut offsets, mut bytes) = (BTreeMap::new(), vec![]);
        for binding in bindings {
            if let Binding::Constants(words) = binding
                && !offsets.contains_key(words)
            {
                bytes.resize(bytes.len().next_multiple_of(alignment), 0);
                offsets.insert(words.clone(), bytes.len() as u64);
                bytes.extend_from_slice(bytemuck::cast_slice(words));
            }
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = device.create_buffer("constants", bytes.len() as u64, usage)?;
        device.guard(|| "constants".into(), || device.queue.write_buffer(&buffer, 0, &bytes))?;
        Ok(Constants { offsets, buffer })
    }

    fn binding(&self, words: &Arc<[u32]>) -> Option<wgpu::BufferBinding<'_>> {
        let &offset = self.offsets.get(words)?;
        let size = wgpu::BufferSize::new(size_of_val(&words[..]) as u64);
        Some(wgpu::BufferBinding { buffer: &self.buffer, offset, size })
    }
}
