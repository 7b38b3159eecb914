//! Runs steps: one compute pass and one submission each, or several while weights are still on their way.

use super::attempt::Witness;
use super::buffers::Sizes;
use super::executor::{Gpu, choices};
use super::program::Program;
use crate::compile::choices::Choices;
use crate::compile::lowering::Lowering;
use crate::compile::schedule::{Reads, Schedule};
use crate::compile::target::{Precision, RowClass, Target};
use crate::device::parallel::each_part;
use crate::error::GpuError;
use crate::kernels::{self, RULES, multiplies_halves};
use crate::memory::state::Passage;
use crate::memory::weights::Weights;
use anser_format::quant::dequantize;
use anser_model::{Op, Step, ValueId};
use std::borrow::Cow;
use std::ops::Range;

/// The commands of a step, for all steps that are like it but for their numbers.
#[derive(Debug)]
pub(crate) struct Recording {
    target: Target,
    sizes: Sizes,
    wanted: Vec<ValueId>,
    reads: Reads,
    /// Recorded ahead, while the device was busy with the step before.
    commands: Option<Vec<wgpu::CommandBuffer>>,
}

impl Gpu {
    /// Runs `step`: advances the states and returns the values of `step.reads`, in their order.
    ///
    /// # Errors
    /// If the step does not fit the plan or the device's memory (no state has changed then), if weights could not be
    /// uploaded (the model must then be loaded again), or the device is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn step(&mut self, step: &Step<'_>) -> Result<Vec<Vec<f32>>, GpuError> {
        pollster::block_on(self.step_async(step))
    }

    /// [`Gpu::step`], for where nothing may block.
    pub async fn step_async(&mut self, step: &Step<'_>) -> Result<Vec<Vec<f32>>, GpuError> {
        self.step_for_async(step, |values| values.iter().map(|value| value.to_vec()).collect()).await
    }

    /// [`Gpu::step`], but the values are handed to `take` where they arrive, which saves a copy of them.
    ///
    /// # Errors
    /// As [`Gpu::step`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn step_for<R>(&mut self, step: &Step<'_>, take: impl FnOnce(&[&[f32]]) -> R) -> Result<R, GpuError> {
        pollster::block_on(self.step_for_async(step, take))
    }

    /// [`Gpu::step_for`], for where nothing may block.
    pub async fn step_for_async<R>(
        &mut self,
        step: &Step<'_>,
        take: impl FnOnce(&[&[f32]]) -> R,
    ) -> Result<R, GpuError> {
        let target = self.prepare(step)?;
        let mut take = Some(take);
        let mut taken = None;
        if multiplies_halves(&target)
            && let Some(attempt) = self.attempt(step)
        {
            // Where an attempt needs a row that the states did not have, they have moved.
            self.lower(target)?;
            let look = |gpu: &Gpu, values: &[&[f32]], witnesses: &[f32]| {
                if !gpu.has_overflowed(step.reads, values) && witnesses.iter().all(|x| x.is_finite()) {
                    taken = take.take().map(|take| take(values));
                }
            };
            let run = self.run(target, step, &attempt.passages, &attempt.witnesses, look).await;
            match (run, taken) {
                (Ok(()), Some(result)) => {
                    self.keep(step, attempt);
                    return Ok(result);
                }
                (Ok(()), None) => self.forget(attempt),
                (Err(error), _) => {
                    self.forget(attempt);
                    return Err(error);
                }
            }
            log::info!("a step is computed again in floats: halves are too small for a number in it, or it is NaN");
        }
        let target = match multiplies_halves(&target) {
            true => self.prepare_as(step, Precision::Exact)?,
            false => target,
        };
        let passages: Vec<Passage> = step.sequences.iter().map(|s| self.states.in_place(s.slot)).collect();
        let mut result = None;
        let look = |_: &Gpu, values: &[&[f32]], _: &[f32]| result = take.take().map(|take| take(values));
        self.run(target, step, &passages, &[], look).await?;
        self.advance(step);
        result.ok_or_else(|| self.device.failed("a step", "its results were not handed out"))
    }

    /// Runs a step of `target` whose states take the ways `passages`, and has `look` see the values of `step.reads` and the
    /// numbers called `witnesses`. Whether the step counts is left to the caller.
    async fn run(
        &mut self,
        target: Target,
        step: &Step<'_>,
        passages: &[Passage],
        witnesses: &[Witness],
        look: impl FnOnce(&Gpu, &[&[f32]], &[f32]),
    ) -> Result<(), GpuError> {
        /// Steps of more tokens are seldom alike, unless each is of another sequence.
        const MAX_RECORDED_TOKENS: usize = 8;

        let mut recording = self.recording(target, step)?;
        let reads_n_bytes = recording.reads.n_bytes;
        // Steps of one recording have one staging buffer, however many witnesses each has.
        let room = if multiplies_halves(&target) { 4 * step.sequences.len() as u64 } else { 0 };
        let staging = self.staging(reads_n_bytes + room)?;
        self.buffers.write_tables(&self.device, step, passages);
        self.sampling.next = None;
        let program = self.program(target)?;
        let weights = self.weights.get()?;
        let is_settled = weights.residency.is_settled()?;
        let recurs = step.tokens.len() <= MAX_RECORDED_TOKENS || step.sequences.len() == step.tokens.len();
        let submit = || {
            self.write_inputs(step, &program.schedule)?;
            if !is_settled {
                return self.submit_as_resident(weights, program, &recording, staging.as_ref());
            }
            if !recurs {
                return Ok(self.submit_in_parts(program, &recording, staging.as_ref()));
            }
            let recorded = recording.commands.take();
            let record = || {
                let part = |dispatches| self.record(program, &recording, staging.as_ref(), dispatches);
                each_part(program.bound.len(), part)
            };
            let commands = recorded.unwrap_or_else(record);
            let submission = self.device.queue.submit(commands);
            recording.commands = Some(record());
            Ok(submission)
        };
        let (submission, mut watch) = self.device.watch(|| "a step".into(), submit)?;
        let submission = submission?;
        let n_bytes = reads_n_bytes + 4 * witnesses.len() as u64;
        match staging.filter(|_| n_bytes > 0) {
            None => {
                watch.finish(&self.device).await?;
                look(self, &vec![&[][..]; step.reads.len()], &[]);
            }
            Some(staging) => {
                let copy = || self.copy_witnesses(witnesses, &staging, reads_n_bytes);
                let mut last = submission;
                if !witnesses.is_empty() {
                    let (copied, of_copies) = self.device.watch(|| "a step".into(), copy)?;
                    (last, watch) = (copied, watch.and(of_copies));
                }
                let take = |bytes: &[u8]| {
                    let of = |range: Range<u64>| numbers(&bytes[range.start as usize..range.end as usize]);
                    let values: Vec<Cow<[f32]>> =
                        recording.reads.ranges.iter().map(|range| of(range.clone())).collect();
                    let values: Vec<&[f32]> = values.iter().map(|value| &**value).collect();
                    look(self, &values, &of(reads_n_bytes..n_bytes));
                };
                crate::device::mapping::read(&self.device, &staging, n_bytes, (last, watch), take).await?;
            }
        }
        self.recording = Some(recording);
        Ok(())
    }

    /// Submits the copies of `witnesses` to `staging`, one after the other from byte `start` on.
    fn copy_witnesses(&self, witnesses: &[Witness], staging: &wgpu::Buffer, start: u64) -> wgpu::SubmissionIndex {
        let mut encoder = self.device.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (witness, i) in witnesses.iter().zip(0..) {
            let part = self.states.buffer(witness.part);
            encoder.copy_buffer_to_buffer(part, witness.offset, staging, start + 4 * i, 4);
        }
        self.device.queue.submit([encoder.finish()])
    }

    /// The last recording if it serves `step`, else an empty one.
    fn recording(&mut self, target: Target, step: &Step) -> Result<Recording, GpuError> {
        let sizes = Sizes::new(step);
        match self.recording.take() {
            Some(last) if last.target == target && last.sizes == sizes && last.wanted == step.reads => Ok(last),
            _ => {
                let reads = Reads::new(&self.plan, &self.program(target)?.schedule, step);
                Ok(Recording { target, sizes, wanted: step.reads.to_vec(), reads, commands: None })
            }
        }
    }

    /// Checks the step and makes sure that there are buffers and a program for it.
    pub(crate) fn prepare(&mut self, step: &Step) -> Result<Target, GpuError> {
        self.prepare_as(step, self.precision)
    }

    /// The same for products of some precision.
    fn prepare_as(&mut self, step: &Step, precision: Precision) -> Result<Target, GpuError> {
        step.check(&self.plan, |slot| self.states.get(slot).is_some())?;
        self.device.check()?;
        let found = [step.tokens.len(), step.outputs.len()];
        for ((what, found), max) in ["tokens", "outputs"].into_iter().zip(found).zip(self.max_rows()) {
            if found > max {
                return Err(GpuError::StepTooLarge { what, found, max });
            }
        }
        let classes = found.map(RowClass::of);
        if self.buffers.grow(&self.device, classes)? {
            self.forget_programs();
        }
        let one_token_each = step.sequences.len() == step.tokens.len();
        let weights = &self.weights.get()?.layout;
        let target = kernels::target(&self.features, weights, precision, classes, one_token_each);
        // What is read must be in memory, so that fusing hides nothing from a caller.
        let target = if self.fuses && self.keeps(target, step.reads) { target } else { target.unfused() };
        self.lower(target)?;
        Ok(target)
    }

    /// Whether steps of `target` leave `values` in memory.
    fn keeps(&self, target: Target, values: &[ValueId]) -> bool {
        let keeps =
            |schedule: &Schedule| values.iter().all(|&id| schedule.cell(id).is_some_and(|cell| cell.floats.is_some()));
        match self.programs.get(&target) {
            Some(program) => keeps(&program.schedule),
            None => keeps(&Schedule::for_target(&self.plan, &target, &RULES)),
        }
    }

    /// Makes the program for steps of `target`, unless there is one.
    fn lower(&mut self, target: Target) -> Result<(), GpuError> {
        if self.programs.contains_key(&target) {
            return Ok(());
        }
        let device = self.device.clone();
        match self.lower_with(target, choices(&device, self.trial)) {
            Ok(program) => {
                self.programs.insert(target, program);
                Ok(())
            }
            Err(error) => {
                self.forget_programs();
                self.buffers.shrink(&self.device)?;
                Err(error)
            }
        }
    }

    /// A program for steps of `target` whose kernels run in shapes that `choices` has.
    pub(crate) fn lower_with(&mut self, target: Target, choices: Choices) -> Result<Program, GpuError> {
        let (plan, weights) = (&self.plan, self.weights.get()?);
        let schedule = &Schedule::for_target(plan, &target, &RULES);
        let lowering = Lowering { plan, weights: &weights.layout, schedule, target, choices };
        Program::new(&lowering, &self.device, weights, &self.states, &mut self.buffers)
    }

    /// The lowered plan that [`Gpu::prepare`] found or made.
    pub(crate) fn program(&self, target: Target) -> Result<&Program, GpuError> {
        self.programs.get(&target).ok_or_else(|| self.device.failed("a step", "it was not lowered"))
    }

    /// Sends the tables that describe the step.
    pub(crate) fn write_tables(&mut self, step: &Step) {
        let passages: Vec<Passage> = step.sequences.iter().map(|s| self.states.in_place(s.slot)).collect();
        self.buffers.write_tables(&self.device, step, &passages);
        self.sampling.next = None;
    }

    /// The states of the step's sequences are those after it.
    pub(crate) fn advance(&mut self, step: &Step) {
        for sequence in step.sequences {
            self.states.advance(sequence.slot);
        }
    }

    /// Sends the embeddings of the step's tokens and the plan's inputs.
    ///
    /// # Errors
    /// If a row of the embedding table cannot be read.
    pub(crate) fn write_inputs(&self, step: &Step, schedule: &Schedule) -> Result<(), GpuError> {
        let write = |id: ValueId, data: &[f32]| {
            if let Some(wgpu::BufferBinding { buffer, offset, .. }) = self.buffers.value(schedule, id) {
                self.device.queue.write_buffer(buffer, offset, bytemuck::cast_slice(data));
            }
        };
        for node in &self.plan.nodes {
            if let Op::Embed { table, out } = &node.op {
                let table = self.plan.weight(*table);
                let mut rows = vec![0.0; step.tokens.len() * table.n_cols()];
                let mut scratch = vec![];
                for (row, &id) in rows.chunks_exact_mut(table.n_cols()).zip(step.tokens) {
                    let bytes = table.row_in(id as usize, &mut scratch);
                    dequantize(table.dtype(), bytes.map_err(|e| GpuError::File { reason: e.to_string() })?, row);
                }
                write(*out, &rows);
            }
        }
        for (id, data) in step.inputs {
            write(*id, data);
        }
        Ok(())
    }

    /// The staging buffer, with room for `n_bytes`; `None` if there is nothing to read.
    pub(crate) fn staging(&mut self, n_bytes: u64) -> Result<Option<wgpu::Buffer>, GpuError> {
        if n_bytes == 0 {
            return Ok(None);
        }
        if self.staging.as_ref().is_none_or(|buffer| buffer.size() < n_bytes) {
            let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
            self.staging = Some(self.device.create_buffer("results", n_bytes.next_power_of_two(), usage)?);
        }
        Ok(self.staging.clone())
    }

    /// Submits a step layer by layer: the device begins with the first ones while the others are recorded.
    fn submit_in_parts(
        &self,
        program: &Program,
        recording: &Recording,
        staging: Option<&wgpu::Buffer>,
    ) -> wgpu::SubmissionIndex {
        /// Layers: few submissions, and a first one that is soon recorded.
        const PART: usize = 3;

        let stops = recording.reads.stops.iter().skip(PART - 1).step_by(PART);
        let ends = stops.map(|stop| program.n_dispatches(stop.n_units));
        let mut start = 0;
        let mut submit = |end: usize| {
            let dispatches = std::mem::replace(&mut start, end)..end;
            self.device.queue.submit([self.record(program, recording, staging, dispatches)])
        };
        for end in ends {
            submit(end);
        }
        submit(program.bound.len())
    }

    /// Submits the dispatches that a step needs, each as soon as the weights that it reads are on their way.
    fn submit_as_resident(
        &self,
        weights: &Weights,
        program: &Program,
        recording: &Recording,
        staging: Option<&wgpu::Buffer>,
    ) -> Result<wgpu::SubmissionIndex, GpuError> {
        let needs = program.weights_needed(&weights.layout, &recording.reads);
        let pass = weights.residency.pass();
        let mut start = 0;
        loop {
            let n_readable = pass.wait_for(needs.get(start).map_or(0, |needed| needed.end))?;
            let n = needs[start..].iter().take_while(|needed| needed.end <= n_readable).count();
            let commands = self.record(program, recording, staging, start..start + n);
            let submission = self.device.queue.submit([commands]);
            start += n;
            match needs.get(start) {
                None => return Ok(submission),
                Some(needed) => pass.release(needed.start),
            }
        }
    }

    /// Records those of `dispatches` that a step needs, and the copies of what it reads there.
    fn record(
        &self,
        program: &Program,
        recording: &Recording,
        staging: Option<&wgpu::Buffer>,
        dispatches: Range<usize>,
    ) -> wgpu::CommandBuffer {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("step") };
        let mut encoder = self.device.inner.create_command_encoder(&descriptor);
        self.encode(&mut encoder, program, &recording.reads, dispatches, recording.sizes, |encoder, i| {
            let source = self.buffers.value(&program.schedule, recording.wanted[i]);
            let range = &recording.reads.ranges[i];
            if let (Some(source), Some(staging), false) = (source, staging, range.is_empty()) {
                encoder.copy_buffer_to_buffer(
                    source.buffer,
                    source.offset,
                    staging,
                    range.start,
                    range.end - range.start,
                );
            }
        });
        encoder.finish()
    }

    /// Records those of `dispatches` that a step needs; `copy` is called with the index of a read where its value is there.
    pub(crate) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        program: &Program,
        reads: &Reads,
        dispatches: Range<usize>,
        sizes: Sizes,
        copy: impl Fn(&mut wgpu::CommandEncoder, usize),
    ) {
        let mut start = dispatches.start;
        for stop in &reads.stops {
            let stop_at = program.n_dispatches(stop.n_units);
            let end = stop_at.clamp(start, dispatches.end);
            if start < end {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                program.bound[start..end].iter().for_each(|bound| bound.encode(&mut pass, sizes));
            }
            start = end;
            if stop_at == end && (stop_at > dispatches.start || dispatches.start == 0) {
                stop.reads.iter().for_each(|&i| copy(encoder, i));
            }
        }
    }
}

/// The numbers in mapped memory, in place where it is aligned for them: a browser may hand out any.
fn numbers(bytes: &[u8]) -> Cow<'_, [f32]> {
    bytemuck::try_cast_slice(bytes).map_or_else(|_| bytemuck::pod_collect_to_vec(bytes).into(), Cow::Borrowed)
}
