//! Runs steps: one encoder, one compute pass and one submission each.

use crate::buffers::{Buffers, Sizes};
use crate::device::Device;
use crate::error::GpuError;
use crate::fuse::{Fusion, fuse};
use crate::kernels::{Features, RowClass};
use crate::lower::{Lowering, fusion};
use crate::matmul;
use crate::replay::Replay;
use crate::schedule::{Reads, Schedule};
use crate::state::{SlotId, States};
use crate::weights::{WeightLayout, Weights};
use anser_format::quant::dequantize;
use anser_model::{Op, Plan, Step, ValueId, WeightId};
use std::collections::HashMap;
use std::sync::Arc;

/// How to set up the executor. The default uses all that the device offers.
#[derive(Debug, Clone, Copy, Default)]
pub struct GpuOptions {
    /// Do without 16-bit floats in shaders.
    pub no_f16: bool,
    /// Do without subgroup operations.
    pub no_subgroups: bool,
    /// Do without cooperative matrices.
    pub no_coop_matrix: bool,
    /// Run every operation by itself, for comparisons.
    pub no_fusion: bool,
    /// Treat the device as if it could bind no larger buffers; matrices are then split by rows.
    pub max_binding_n_bytes: Option<u64>,
}

impl GpuOptions {
    /// What remains of the device's features.
    fn features(&self, device: &Device) -> Features {
        let found = device.features();
        Features {
            f16: found.f16 && !self.no_f16,
            subgroups: found.subgroups && !self.no_subgroups,
            coop_f16_16: found.coop_f16_16 && !self.no_f16 && !self.no_subgroups && !self.no_coop_matrix,
            ..found
        }
    }

    fn max_binding_n_bytes(&self, device: &Device) -> u64 {
        let found = device.report().max_binding_n_bytes.min(device.report().max_buffer_n_bytes);
        self.max_binding_n_bytes.map_or(found, |wanted| wanted.min(found))
    }

    fn weight_layout(&self, plan: &Plan, device: &Device) -> WeightLayout {
        let alignment = u64::from(device.inner.limits().min_storage_buffer_offset_alignment);
        WeightLayout::new(plan, self.max_binding_n_bytes(device), alignment)
    }
}

/// What steps that share a replay have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StepKind {
    /// Of T and O.
    classes: [RowClass; 2],
    /// `None` to run every operation by itself.
    fusion: Option<Fusion>,
}

/// A plan ready to run on a device, with its weights, working memory and the states of its sequences.
#[derive(Debug)]
pub struct Gpu {
    plan: Arc<Plan>,
    device: Arc<Device>,
    features: Features,
    fuses: bool,
    weights: Weights,
    states: States,
    buffers: Buffers,
    /// Lowered plans by kind of steps.
    replays: HashMap<StepKind, Replay>,
    /// Where results wait to be read; grows, never shrinks.
    staging: Option<wgpu::Buffer>,
}

impl Gpu {
    /// Allocates the weights of `plan` on `device`, which tells early whether they fit, and uploads them.
    ///
    /// # Errors
    /// If they do not fit, or the device is lost.
    pub fn new(plan: Arc<Plan>, device: &Arc<Device>, options: GpuOptions) -> Result<Gpu, GpuError> {
        device.check()?;
        let max_binding_n_bytes = options.max_binding_n_bytes(device);
        let weights = Weights::new(&plan, device, options.weight_layout(&plan, device))?;
        let states = States::new(&plan, device, max_binding_n_bytes)?;
        let buffers = Buffers::new(&plan, device, max_binding_n_bytes)?;
        let features = options.features(device);
        let (device, fuses, replays, staging) = (device.clone(), !options.no_fusion, HashMap::new(), None);
        Ok(Gpu { plan, device, features, fuses, weights, states, buffers, replays, staging })
    }

    /// Bytes that `plan` needs on `device` for its weights, one state and steps of `n_tokens` tokens.
    pub fn n_bytes_needed(plan: &Plan, device: &Device, options: GpuOptions, n_tokens: usize) -> u64 {
        let weights = options.weight_layout(plan, device).n_bytes(plan);
        let values: u64 = plan.slots.iter().map(|slot| 4 * (n_tokens * slot.n_cols) as u64).sum();
        weights + values + 4 * plan.state.len() as u64
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// One line for each storage type that the GPU has no kernels for and keeps as another one.
    pub fn notices(&self) -> Vec<String> {
        self.weights.layout.notices(&self.plan)
    }

    /// Most tokens and outputs of a step.
    pub fn max_rows(&self) -> [usize; 2] {
        self.buffers.max_rows().map(|n| n as usize)
    }

    /// A new slot with a fresh (zero) state.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn create_state(&mut self) -> Result<SlotId, GpuError> {
        let (slot, moved) = self.states.create(&self.device)?;
        if moved {
            self.replays.clear(); // they bind the old buffers
        }
        Ok(slot)
    }

    /// Frees a slot. An unknown slot is ignored.
    pub fn drop_state(&mut self, slot: SlotId) {
        self.states.remove(slot);
    }

    /// The state in a slot, in the order of the plan's layout.
    ///
    /// # Errors
    /// An unknown slot, or a lost device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_state(&mut self, slot: SlotId) -> Result<Vec<f32>, GpuError> {
        pollster::block_on(self.read_state_async(slot))
    }

    /// [`Gpu::read_state`], for where nothing may block.
    pub async fn read_state_async(&mut self, slot: SlotId) -> Result<Vec<f32>, GpuError> {
        self.states.read(&self.device, slot).await
    }

    /// Overwrites the state in a slot.
    ///
    /// # Errors
    /// An unknown slot, numbers that are no state of this model, or a lost device.
    pub fn write_state(&mut self, slot: SlotId, data: &[f32]) -> Result<(), GpuError> {
        self.states.write(&self.device, slot, data)
    }

    /// Copies the state of one slot over that of another, on the device.
    ///
    /// # Errors
    /// An unknown slot, or a lost device.
    pub fn copy_state(&mut self, from: SlotId, to: SlotId) -> Result<(), GpuError> {
        self.states.copy(&self.device, from, to)
    }

    /// Runs `step`: advances the states and returns the values of `step.reads`, in their order.
    ///
    /// # Errors
    /// If the step does not fit the plan or the device's memory (no state has changed then), or the device is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn step(&mut self, step: &Step<'_>) -> Result<Vec<Vec<f32>>, GpuError> {
        pollster::block_on(self.step_async(step))
    }

    /// [`Gpu::step`], for where nothing may block.
    pub async fn step_async(&mut self, step: &Step<'_>) -> Result<Vec<Vec<f32>>, GpuError> {
        let kind = self.prepare(step)?;
        let reads = Reads::new(&self.plan, &self.replay(kind)?.schedule, step);
        let staging = self.staging(reads.n_bytes)?;
        self.write_tables(step);
        let replay = self.replay(kind)?;
        let record = || {
            self.write_inputs(step, &replay.schedule);
            let mut encoder = self.device.inner.create_command_encoder(&Default::default());
            self.encode(&mut encoder, replay, step, &reads, staging.as_ref());
            self.device.queue.submit([encoder.finish()]);
        };
        self.device.guard(|| "a step".into(), record)?;
        self.advance(step);
        let mut results = vec![vec![]; step.reads.len()];
        match staging {
            None => self.device.check()?,
            Some(staging) => {
                let take = |bytes: &[u8]| {
                    for (result, range) in results.iter_mut().zip(&reads.ranges) {
                        *result = bytemuck::pod_collect_to_vec(&bytes[range.start as usize..range.end as usize]);
                    }
                };
                crate::readback::read(&self.device, &staging, reads.n_bytes, take).await?;
            }
        }
        Ok(results)
    }

    /// Checks the step and makes sure that there are buffers and a replay for it.
    pub(crate) fn prepare(&mut self, step: &Step) -> Result<StepKind, GpuError> {
        step.check(&self.plan, |slot| self.states.get(slot).is_some())?;
        self.device.check()?;
        let found = [step.tokens.len(), step.outputs.len()];
        for ((what, found), max) in ["tokens", "outputs"].into_iter().zip(found).zip(self.max_rows()) {
            if found > max {
                return Err(GpuError::StepTooLarge { what, found, max });
            }
        }
        let classes = found.map(matmul::row_class);
        if self.buffers.grow(&self.device, classes)? {
            self.replays.clear();
        }
        let one_token_each = step.sequences.len() == step.tokens.len();
        let fused = self.fuses.then(|| fusion(&self.features, one_token_each));
        // What is read must be in memory, so that fusing hides nothing from a caller.
        for fusion in [fused, None] {
            let kind = StepKind { classes, fusion };
            self.lower(kind)?;
            let schedule = &self.replay(kind)?.schedule;
            let is_hidden = |id: &ValueId| schedule.cell(*id).is_none();
            if fusion.is_none() || !step.reads.iter().any(is_hidden) {
                return Ok(kind);
            }
        }
        Err(self.device.failed("a step", "no schedule keeps what it reads"))
    }

    /// Makes the replay for steps of `kind`, unless there is one.
    fn lower(&mut self, kind: StepKind) -> Result<(), GpuError> {
        if self.replays.contains_key(&kind) {
            return Ok(());
        }
        let (plan, weights, features, classes) = (&self.plan, &self.weights.layout, self.features, kind.classes);
        let lowering = Lowering { plan, weights, features, classes };
        let schedule = kind.fusion.map_or_else(|| Schedule::plain(plan), |fusion| fuse(plan, fusion));
        match Replay::new(&lowering, schedule, &self.device, &self.weights, &self.states, &mut self.buffers) {
            Ok(replay) => {
                self.replays.insert(kind, replay);
                Ok(())
            }
            Err(error) => {
                self.replays.clear();
                self.buffers.shrink(&self.device)?;
                Err(error)
            }
        }
    }

    /// The lowered plan that [`Gpu::prepare`] found or made.
    pub(crate) fn replay(&self, kind: StepKind) -> Result<&Replay, GpuError> {
        self.replays.get(&kind).ok_or_else(|| self.device.failed("a step", "it was not lowered"))
    }

    /// Sends the tables that describe the step.
    pub(crate) fn write_tables(&mut self, step: &Step) {
        self.buffers.write_tables(&self.device, step, &self.states);
    }

    /// The states of the step's sequences are those after it.
    pub(crate) fn advance(&mut self, step: &Step) {
        for sequence in step.sequences {
            self.states.advance(sequence.slot);
        }
    }

    /// Bytes of one row range of a matrix.
    pub(crate) fn matrix_n_bytes(&self, weight: WeightId, split: usize) -> u64 {
        self.weights.matrix(weight, split).map_or(0, |binding| binding.buffer.size())
    }

    /// Bytes of the vectors of an operation from `first` to `last`.
    pub(crate) fn vectors_n_bytes(&self, first: WeightId, last: WeightId) -> u64 {
        self.weights.vectors(first, last).and_then(|binding| binding.size).map_or(0, u64::from)
    }

    /// The staging buffer, with room for `n_bytes`; `None` if there is nothing to read.
    fn staging(&mut self, n_bytes: u64) -> Result<Option<wgpu::Buffer>, GpuError> {
        if n_bytes == 0 {
            return Ok(None);
        }
        if self.staging.as_ref().is_none_or(|buffer| buffer.size() < n_bytes) {
            let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
            self.staging = Some(self.device.create_buffer("results", n_bytes.next_power_of_two(), usage)?);
        }
        Ok(self.staging.clone())
    }

    /// Sends the embeddings of the step's tokens and the plan's inputs.
    pub(crate) fn write_inputs(&self, step: &Step, schedule: &Schedule) {
        let write = |id: ValueId, data: &[f32]| {
            if let Some(buffer) = self.buffers.value(schedule, id) {
                self.device.queue.write_buffer(buffer, 0, bytemuck::cast_slice(data));
            }
        };
        for node in &self.plan.nodes {
            if let Op::Embed { table, out } = &node.op {
                let table = self.plan.weight(*table);
                let mut rows = vec![0.0; step.tokens.len() * table.n_cols()];
                for (row, &id) in rows.chunks_exact_mut(table.n_cols()).zip(step.tokens) {
                    dequantize(table.dtype(), table.row(id as usize), row);
                }
                write(*out, &rows);
            }
        }
        for (id, data) in step.inputs {
            write(*id, data);
        }
    }

    /// Records the dispatches that the step needs, and the copies of what it reads.
    fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        replay: &Replay,
        step: &Step,
        reads: &Reads,
        staging: Option<&wgpu::Buffer>,
    ) {
        let sizes = Sizes::new(step);
        let mut rest = &replay.dispatches[..];
        for stop in &reads.stops {
            let n = rest.partition_point(|d| d.unit < stop.n_units);
            let (now, later) = rest.split_at(n);
            if !now.is_empty() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                now.iter().for_each(|d| d.encode(&mut pass, sizes));
            }
            for &i in &stop.reads {
                let (source, range) = (self.buffers.value(&replay.schedule, step.reads[i]), &reads.ranges[i]);
                if let (Some(source), Some(staging), false) = (source, staging, range.is_empty()) {
                    encoder.copy_buffer_to_buffer(source, 0, staging, range.start, range.end - range.start);
                }
            }
            rest = later;
        }
    }
}
