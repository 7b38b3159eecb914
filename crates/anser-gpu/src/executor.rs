//! Runs steps: one encoder, one compute pass and one submission each.

use crate::buffers::{Buffers, Sizes};
use crate::device::Device;
use crate::error::GpuError;
use crate::kernels::{Features, RowClass};
use crate::lower::Lowering;
use crate::matmul;
use crate::replay::Replay;
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

/// A plan ready to run on a device, with its weights, working memory and the states of its sequences.
#[derive(Debug)]
pub struct Gpu {
    plan: Arc<Plan>,
    device: Arc<Device>,
    features: Features,
    weights: Weights,
    states: States,
    buffers: Buffers,
    /// Lowered plans by the classes of T and O.
    replays: HashMap<[RowClass; 2], Replay>,
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
        let (device, replays, staging) = (device.clone(), HashMap::new(), None);
        Ok(Gpu { plan, device, features, weights, states, buffers, replays, staging })
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
        let key = self.prepare(step)?;
        let reads = Reads::new(&self.plan, step);
        let staging = self.staging(reads.n_bytes)?;
        self.write_tables(step);
        let replay = self.replay(key)?;
        let record = || {
            self.write_inputs(step);
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
    pub(crate) fn prepare(&mut self, step: &Step) -> Result<[RowClass; 2], GpuError> {
        step.check(&self.plan, |slot| self.states.get(slot).is_some())?;
        self.device.check()?;
        let found = [step.tokens.len(), step.outputs.len()];
        for ((what, found), max) in ["tokens", "outputs"].into_iter().zip(found).zip(self.max_rows()) {
            if found > max {
                return Err(GpuError::StepTooLarge { what, found, max });
            }
        }
        let classes = found.map(matmul::row_class);
        if self.buffers.reserve(&self.plan, &self.device, classes)? {
            self.replays.clear();
        }
        if !self.replays.contains_key(&classes) {
            let (plan, weights, features) = (&self.plan, &self.weights.layout, self.features);
            let lowering = Lowering { plan, weights, features, classes };
            let replay = Replay::new(&lowering, &self.device, &self.weights, &self.states, &mut self.buffers)?;
            self.replays.insert(classes, replay);
        }
        Ok(classes)
    }

    /// The lowered plan that [`Gpu::prepare`] found or made.
    pub(crate) fn replay(&self, key: [RowClass; 2]) -> Result<&Replay, GpuError> {
        self.replays.get(&key).ok_or_else(|| self.device.failed("a step", "it was not lowered"))
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
    pub(crate) fn write_inputs(&self, step: &Step) {
        let write = |id: ValueId, data: &[f32]| {
            let buffer = self.buffers.value(&self.plan, id);
            self.device.queue.write_buffer(buffer, 0, bytemuck::cast_slice(data));
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
            let n = rest.partition_point(|d| d.node < stop.n_nodes);
            let (now, later) = rest.split_at(n);
            if !now.is_empty() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                now.iter().for_each(|d| d.encode(&mut pass, sizes));
            }
            for &i in &stop.reads {
                let (source, range) = (self.buffers.value(&self.plan, step.reads[i]), &reads.ranges[i]);
                if let Some(staging) = staging.filter(|_| !range.is_empty()) {
                    encoder.copy_buffer_to_buffer(source, 0, staging, range.start, range.end - range.start);
                }
            }
            rest = later;
        }
    }
}

/// Where a pass ends, and what is read there.
#[derive(Debug)]
struct Stop {
    /// After so many nodes.
    n_nodes: usize,
    /// Indices into `Step::reads`.
    reads: Vec<usize>,
}

/// When the values that a step reads are copied, and where to.
#[derive(Debug)]
struct Reads {
    /// In execution order; the last one ends the step.
    stops: Vec<Stop>,
    /// Byte range in the staging buffer, one per read.
    ranges: Vec<std::ops::Range<u64>>,
    n_bytes: u64,
}

impl Reads {
    /// Values that live to the end of the step are copied there, so that it stays one pass; others right after the node
    /// that makes them, before their memory is used again.
    fn new(plan: &Plan, step: &Step) -> Reads {
        let n_nodes = plan.n_nodes_for(step.reads);
        let mut maker = vec![None; plan.values.len()];
        let mut last_maker = vec![None; plan.slots.len()];
        for (i, node) in plan.nodes[..n_nodes].iter().enumerate() {
            for out in node.op.outputs() {
                maker[out.index()] = Some(i);
                last_maker[plan.value(out).slot] = Some(i);
            }
        }
        let mut reads = Reads { stops: vec![], ranges: vec![], n_bytes: 0 };
        let mut stops = std::collections::BTreeMap::from([(n_nodes, vec![])]);
        for (i, &id) in step.reads.iter().enumerate() {
            let Some(made) = maker[id.index()] else {
                reads.ranges.push(0..0);
                continue;
            };
            let lives = last_maker[plan.value(id).slot] == Some(made);
            stops.entry(if lives { n_nodes } else { made + 1 }).or_insert_with(Vec::new).push(i);
            let n_bytes = 4 * plan.value_len(id, step.tokens.len(), step.outputs.len()) as u64;
            reads.ranges.push(reads.n_bytes..reads.n_bytes + n_bytes);
            reads.n_bytes += n_bytes;
        }
        reads.stops = stops.into_iter().map(|(n_nodes, reads)| Stop { n_nodes, reads }).collect();
        reads
    }
}
