//! Twins of [`Gpu::step`] for people: one hands out what every operation computed, one times every kernel.

use crate::compile::dispatch::Binding;
use crate::compile::dispatch::Dispatch;
use crate::compile::schedule::Reads;
use crate::device::kernel::Access;
use crate::error::GpuError;
use crate::run::buffers::Sizes;
use crate::run::executor::Gpu;
use anser_model::{Node, Step, ValueId};

/// One run of one kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// The kernel, e.g. `layer_norm`.
    pub label: &'static str,
    /// The plan's nodes that it helps to compute, e.g. `blocks.3.ln2 + blocks.3.ffn.shift`.
    pub node: String,
    /// Time on the device, without the gaps between kernels.
    pub elapsed_us: f64,
    /// Bytes that it has to read and write at least once.
    pub n_bytes: u64,
}

impl Gpu {
    /// Runs `step` and hands every operation's results to `inspect`, in execution order; `step.reads` is ignored. Compare
    /// them with the CPU executor's to find the first operation that differs.
    ///
    /// # Errors
    /// As [`Gpu::step`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn trace(&mut self, step: &Step, inspect: impl FnMut(&Node, ValueId, &[f32])) -> Result<(), GpuError> {
        pollster::block_on(self.trace_async(step, inspect))
    }

    /// [`Gpu::trace`], for where nothing may block.
    pub async fn trace_async(
        &mut self,
        step: &Step<'_>,
        mut inspect: impl FnMut(&Node, ValueId, &[f32]),
    ) -> Result<(), GpuError> {
        let plan = self.plan().clone();
        let reads: Vec<ValueId> = plan.nodes.iter().flat_map(|node| node.op.outputs()).collect();
        let nodes = plan.nodes.iter().flat_map(|node| node.op.outputs().into_iter().map(move |_| node));
        let values = self.step_async(&Step { reads: &reads, ..*step }).await?;
        for ((node, &value), data) in nodes.zip(&reads).zip(&values) {
            inspect(node, value, data);
        }
        Ok(())
    }

    /// Runs `step` with every kernel in a pass of its own and tells how long each took, in execution order.
    ///
    /// # Errors
    /// As [`Gpu::step`]; also if the device has no timestamps, or streams weights.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&mut self, step: &Step) -> Result<Vec<KernelTime>, GpuError> {
        pollster::block_on(self.profile_async(step))
    }

    /// [`Gpu::profile`], for where nothing may block.
    pub async fn profile_async(&mut self, step: &Step<'_>) -> Result<Vec<KernelTime>, GpuError> {
        /// Dispatches of one set of timestamps: two of at most 4096 each.
        const PER_SET: usize = 2048;

        if !self.device().report().timestamps {
            return Err(GpuError::NoTimestamps { adapter: self.device().report().name.clone() });
        }
        if self.weights.get()?.streams() {
            return Err(GpuError::Streams { adapter: self.device().report().name.clone() });
        }
        self.weights.get()?.residency.wait()?;
        let target = self.prepare(step)?;
        self.write_tables(step);
        let device = self.device().clone();
        let program = self.program(target)?;
        let reads = Reads::new(self.plan(), &program.schedule, step);
        let n = program.n_dispatches(reads.stops.last().map_or(0, |stop| stop.n_units));
        let all: Vec<usize> = (0..n).collect();
        let sizes = Sizes::new(step);
        let resolved = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let staging = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let mut times = vec![];
        for (i, dispatches) in all.chunks(PER_SET).enumerate() {
            let (n, n_bytes) = (2 * dispatches.len() as u32, 16 * dispatches.len() as u64);
            let resolved = device.create_buffer("timestamps", n_bytes, resolved)?;
            let staging = device.create_buffer("timestamps", n_bytes, staging)?;
            let record = || {
                let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: n };
                let queries = device.inner.create_query_set(&descriptor);
                if i == 0 {
                    self.write_inputs(step, &program.schedule);
                }
                let mut encoder = device.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                for (begin, &at) in (0..).step_by(2).zip(dispatches) {
                    let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                        query_set: &queries,
                        beginning_of_pass_write_index: Some(begin),
                        end_of_pass_write_index: Some(begin + 1),
                    });
                    let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                    program.bound[at].encode(&mut encoder.begin_compute_pass(&descriptor), sizes);
                }
                encoder.resolve_query_set(&queries, 0..n, &resolved, 0);
                encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, n_bytes);
                device.queue.submit([encoder.finish()])
            };
            let submission = device.guard(|| "a profiled step".into(), record)?;
            let mut ticks: Vec<u64> = vec![];
            let take = |bytes: &[u8]| ticks = bytemuck::pod_collect_to_vec(bytes);
            crate::device::mapping::read(&device, &staging, n_bytes, submission, take).await?;
            let tick_ns = f64::from(device.queue.get_timestamp_period());
            for (&at, [begin, end]) in dispatches.iter().zip(ticks.as_chunks().0) {
                times.push(KernelTime {
                    label: program.dispatches[at].kernel.label,
                    node: program.schedule.units[program.units[at]].name(self.plan()),
                    elapsed_us: end.saturating_sub(*begin) as f64 * tick_ns / 1000.0,
                    n_bytes: self.n_bytes(&program.dispatches[at], sizes)?,
                });
            }
        }
        self.advance(step);
        Ok(times)
    }

    /// Bytes that a dispatch has to move.
    fn n_bytes(&self, dispatch: &Dispatch, sizes: Sizes) -> Result<u64, GpuError> {
        let (plan, weights) = (self.plan(), &self.weights.get()?.layout);
        let kernel = &dispatch.kernel;
        let binding = |(access, binding): (&Access, &Binding)| match *binding {
            Binding::Value(id) | Binding::Region(id) => {
                let value = plan.value(id);
                4 * u64::from(sizes.rows(value.rows)) * value.n_cols as u64
            }
            Binding::Vector(id) => 4 * plan.weight(id).n_cols() as u64,
            Binding::Vectors { first, last } => weights.vectors(first, last).map_or(0, |place| place.n_bytes),
            Binding::Matrix { weight, split } => weights.place(weight, split).map_or(0, |place| place.n_bytes),
            Binding::State(at) => {
                let n_bytes = 4 * plan.state.parts[at.part].layer_len() as u64 * u64::from(sizes.n_sequences);
                n_bytes * if *access == Access::ReadWrite { 2 } else { 1 }
            }
            Binding::Expanded { n_bytes, .. } => n_bytes as u64,
            Binding::Scratch { rows, row_n_bytes, .. } => u64::from(sizes.rows(rows)) * row_n_bytes as u64,
            Binding::Block { .. }
            | Binding::Step
            | Binding::Sequences
            | Binding::Tokens
            | Binding::Outputs
            | Binding::Constants(_) => 0,
        };
        // A buffer may be bound twice, where a kernel leaves a binding unused.
        let bindings = &dispatch.bindings;
        let distinct = (0..bindings.len()).filter(|&i| !bindings[..i].contains(&bindings[i]));
        let bound: u64 = distinct.map(|i| binding((&kernel.access[i], &bindings[i]))).sum();
        Ok(bound + dispatch.n_weight_bytes)
    }
}
