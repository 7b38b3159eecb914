//! Twins of [`Gpu::step`] for people: one hands out what every operation computed, one times every kernel.

use crate::compile::dispatch::Binding;
use crate::compile::dispatch::Dispatch;
use crate::compile::schedule::Reads;
use crate::device::kernel::Access;
use crate::error::GpuError;
use crate::run::buffers::Sizes;
use crate::run::executor::Gpu;
use crate::run::program::Program;
use anser_model::{Node, Step, ValueId};

/// One run of one kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// The kernel, e.g. `layer_norm`.
    pub label: &'static str,
    /// The shape that it runs in, where there are several to choose from; else empty.
    pub shape: String,
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
        if self.weights.get()?.streams() {
            return Err(GpuError::Streams { adapter: self.device().report().name.clone() });
        }
        self.weights.get()?.residency.wait()?;
        let target = self.prepare(step)?;
        self.write_tables(step);
        let program = self.program(target)?;
        let times = self.time_dispatches(program, step).await?;
        let sizes = Sizes::new(step);
        let kernel = |(at, elapsed_us): (usize, f64)| {
            Ok(KernelTime {
                label: program.dispatches[at].kernel.label,
                shape: program.dispatches[at]
                    .choice
                    .as_ref()
                    .map(|choice| choice.candidate.clone())
                    .unwrap_or_default(),
                node: program.schedule.units[program.units[at]].name(self.plan()),
                elapsed_us,
                n_bytes: self.n_bytes(&program.dispatches[at], sizes)?,
            })
        };
        let times = times.into_iter().enumerate().map(kernel).collect::<Result<_, GpuError>>()?;
        self.advance(step);
        Ok(times)
    }

    /// Runs the dispatches of a step, whose tables have been sent, each in a pass of its own. Returns the time of each in µs.
    ///
    /// # Errors
    /// If the device has no timestamps, or is lost.
    pub(crate) async fn time_dispatches(&self, program: &Program, step: &Step<'_>) -> Result<Vec<f64>, GpuError> {
        let n = self.n_dispatches(program, step);
        let encode = |at: usize, pass: &mut wgpu::ComputePass| program.bound[at].encode(pass, Sizes::new(step));
        self.write_inputs(step, &program.schedule)?;
        self.device().time_passes(n, encode).await
    }

    /// Dispatches that a step needs.
    pub(crate) fn n_dispatches(&self, program: &Program, step: &Step) -> usize {
        let reads = Reads::new(self.plan(), &program.schedule, step);
        program.n_dispatches(reads.stops.last().map_or(0, |stop| stop.n_units))
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
