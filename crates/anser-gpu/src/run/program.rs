//! Kernels with their buffers, and a plan lowered for one target: the flat list of them that every such step runs.

use super::buffers::{Buffers, Sizes};
use crate::compile::dispatch::{Binding, Dispatch, Extent};
use crate::compile::lowering::Lowering;
use crate::compile::schedule::{Reads, Schedule};
use crate::compile::waves::reads_ahead;
use crate::device::Device;
use crate::device::kernel::KernelSpec;
use crate::error::GpuError;
use crate::memory::layout::WeightLayout;
use crate::memory::state::States;
use crate::memory::weights::Weights;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A kernel with its buffers: all that the device needs to run it.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    /// Workgroups in x, y, z.
    grid: [Extent; 3],
    /// Buffers that become readable before it.
    ahead: Vec<wgpu::Buffer>,
}

impl Bound {
    /// Binds `buffers`, as many as the kernel declares.
    ///
    /// # Errors
    /// If the driver refuses the kernel or a binding.
    pub(crate) fn new<'a>(
        device: &Device,
        kernel: &KernelSpec,
        buffers: impl IntoIterator<Item = wgpu::BufferBinding<'a>>,
        grid: [Extent; 3],
    ) -> Result<Bound, GpuError> {
        let pipeline = device.pipeline(kernel)?;
        let (layout, _) = device.layouts(&kernel.access);
        let resources = buffers.into_iter().map(wgpu::BindingResource::Buffer);
        let entries = (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource });
        let entries: Vec<wgpu::BindGroupEntry> = entries.collect();
        let descriptor = wgpu::BindGroupDescriptor { label: Some(kernel.label), layout: &layout, entries: &entries };
        let what = || format!("binding the kernel {}", kernel.label);
        let bind_group = device.guard(what, || device.inner.create_bind_group(&descriptor))?;
        Ok(Bound { pipeline, bind_group, grid, ahead: vec![] })
    }

    /// Records a run in a step of `sizes`; nothing if it has no workgroups there.
    pub(crate) fn encode(&self, pass: &mut wgpu::ComputePass, sizes: Sizes) {
        let readable = |buffer| wgpu::BufferTransition { buffer, state: wgpu::BufferUses::STORAGE_READ_ONLY };
        if !self.ahead.is_empty() {
            pass.transition_resources(self.ahead.iter().map(readable), std::iter::empty());
        }
        let [x, y, z] = self.grid.map(|extent| match extent {
            Extent::Fixed(n) => n,
            Extent::Rows { rows, per_workgroup } => sizes.rows(rows).div_ceil(per_workgroup),
            Extent::Sequences => sizes.n_sequences,
        });
        if x > 0 && y > 0 && z > 0 {
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

/// The dispatches of a plan for one target, in the order of execution.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) schedule: Schedule,
    /// What each of [`Program::bound`] was made of.
    pub(crate) dispatches: Vec<Dispatch>,
    pub(crate) bound: Vec<Bound>,
    /// For each of them, the index of the schedule's unit.
    pub(crate) units: Vec<usize>,
}

impl Program {
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
    ) -> Result<Program, GpuError> {
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
        let bind = |(dispatch, ahead): (&Dispatch, Vec<Binding>)| {
            let bound = memory.bind(device, dispatch)?;
            let ahead = ahead.iter().filter_map(|binding| Some(memory.resolve(binding)?.buffer.clone())).collect();
            Ok(Bound { ahead, ..bound })
        };
        let bound = lowered.iter().zip(ahead).map(bind).collect::<Result<_, GpuError>>()?;
        Ok(Program { schedule: schedule.clone(), dispatches: lowered, bound, units })
    }

    /// How many dispatches, from the first, the first `n_units` units have.
    pub(crate) fn n_dispatches(&self, n_units: usize) -> usize {
        self.units.partition_point(|&unit| unit < n_units)
    }

    /// For each dispatch that `reads` needs, the buffers of weights from the first that it or a later one reads to the last
    /// that it or an earlier one reads.
    pub(crate) fn weights_needed(&self, layout: &WeightLayout, reads: &Reads) -> Vec<Range<usize>> {
        let n_units = reads.stops.last().map_or(0, |stop| stop.n_units);
        let bound = |dispatch: &Dispatch| {
            let mut all = Range { start: usize::MAX, end: 0 };
            for place in dispatch.bindings.iter().filter_map(|binding| binding.weights(layout)) {
                let number = layout.number(place);
                all = all.start.min(number)..all.end.max(number + 1);
            }
            all
        };
        let mut needed: Vec<Range<usize>> = self.dispatches[..self.n_dispatches(n_units)].iter().map(bound).collect();
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

    fn bind(&self, device: &Device, dispatch: &Dispatch) -> Result<Bound, GpuError> {
        let resolve = |binding| {
            let missing = || device.failed(dispatch.kernel.label, &format!("{binding:?} has no memory"));
            self.resolve(binding).ok_or_else(missing)
        };
        let buffers = dispatch.bindings.iter().map(resolve).collect::<Result<Vec<_>, GpuError>>()?;
        Bound::new(device, &dispatch.kernel, buffers, dispatch.grid)
    }
}

/// The distinct [`Binding::Constants`] of a program, in one buffer.
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
