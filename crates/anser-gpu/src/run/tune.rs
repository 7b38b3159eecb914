//! Measures on a device in which shapes a model's kernels are fastest: [`Tuner`].
//!
//! Every kernel that can run in several shapes has candidates (`compile/choices.rs`). A *trial* is a step whose kernels all run
//! in the candidate of the same number, each in a pass of its own, so that one trial measures one candidate of every kernel. The
//! candidates that took the least time make a step, which is compared with the step without measurements as a whole. Its choices are
//! kept only if it is faster.

use super::buffers::Sizes;
use super::executor::Gpu;
use super::program::Program;
use crate::compile::choices::Choices;
use crate::compile::lowering::Lowering;
use crate::compile::schedule::Schedule;
use crate::compile::target::{RowClass, Target};
use crate::device::kernel::KernelSpec;
use crate::device::pipelines::distinct;
use crate::device::tuning::Tuning;
use crate::device::{Device, DeviceKind};
use crate::error::GpuError;
use crate::kernels::{self, RULES};
use crate::memory::state::SlotId;
use anser_model::{Sequence, Step};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Numbers of tokens of a step that are measured: one for each class of steps that users meet.
const LENGTHS: [usize; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048];
/// As many of them on a software device, where the others would take minutes.
const N_LENGTHS_IN_SOFTWARE: usize = 6;

/// What was measured for steps of some number of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TunedStep {
    /// T.
    pub n_tokens: usize,
    /// Time of the whole step on the device in µs, the median: without measurements, and with the candidates that took the
    /// least time.
    pub elapsed_us: [f64; 2],
    /// Whether the step became faster, so that the choices are kept.
    pub is_kept: bool,
    /// Each of its kernels that has several candidates.
    pub kernels: Vec<TunedKernel>,
}

/// What was measured of a kernel in steps of some number of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TunedKernel {
    /// Kernel, storage types and sizes.
    pub key: String,
    /// Number of candidates.
    pub n_candidates: usize,
    /// The first candidate, and the one that took the least time.
    pub candidates: [String; 2],
    /// Their times in µs, of all that the step runs together.
    pub elapsed_us: [f64; 2],
}

/// Steps that are to be measured, and what was measured so far. Each call measures a little, so that other steps can run in
/// between.
#[derive(Debug)]
pub struct Tuner {
    device: Arc<Device>,
    /// What is left to do.
    parts: VecDeque<Part>,
    /// Times of candidates in the steps that are being measured, by key: the name and the least time of each candidate.
    times: BTreeMap<String, Vec<(String, f64)>>,
    /// What was decided for steps that were measured before: longer ones have some of their kernels, such as the head.
    decided: BTreeMap<String, String>,
    slot: Option<SlotId>,
    /// Steps that take longer than this, in µs, are not measured.
    max_step_us: f64,
}

/// A part of the work, which the device does at once.
#[derive(Debug)]
struct Part {
    n_tokens: usize,
    /// The candidate of every kernel; `None` for the comparison of whole steps.
    trial: Option<usize>,
    /// The kernels that it takes.
    kernels: Vec<KernelSpec>,
    /// Those of them that the step does not run without measurements.
    only_here: Vec<KernelSpec>,
}

/// Runs of a trial, of which the fastest counts, and of each of two steps that are compared as a whole.
fn n_runs(n_tokens: usize) -> [usize; 2] {
    /// Longer steps take so long that few runs tell enough.
    const FEW: usize = 64;

    if n_tokens <= FEW { [3, 9] } else { [1, 3] }
}

/// A step of this time, in µs, that others have to wait for is hardly noticed.
const MAX_NOTICED_US: f64 = 100_000.0;
/// A candidate, or a step, must be faster by this factor: less may be noise.
const MIN_GAIN: f64 = 1.01;

impl Tuner {
    /// Finds out what there is to measure for `gpu` in steps of 1 to 2,048 tokens, or as many as it can run. Without `anew` it
    /// leaves out steps that were measured in an earlier process, and those that take so long that somebody who waits for the
    /// device would notice.
    ///
    /// # Errors
    /// A device without a clock, or weights that stream.
    pub fn new(gpu: &Gpu, anew: bool) -> Result<Tuner, GpuError> {
        let lengths = match gpu.device().report().kind {
            DeviceKind::Software => &LENGTHS[..N_LENGTHS_IN_SOFTWARE],
            _ => &LENGTHS,
        };
        Tuner::of_lengths(gpu, lengths, anew)
    }

    /// As [`Tuner::new`], for steps of these numbers of tokens.
    ///
    /// # Errors
    /// As [`Tuner::new`].
    pub fn of_lengths(gpu: &Gpu, lengths: &[usize], anew: bool) -> Result<Tuner, GpuError> {
        let device = gpu.device().clone();
        if !device.report().timestamps {
            return Err(GpuError::NoTimestamps { adapter: device.report().name.clone() });
        }
        let weights = gpu.weights.get()?;
        if weights.streams() {
            return Err(GpuError::Streams { adapter: device.report().name.clone() });
        }
        let mut parts = VecDeque::new();
        for &n_tokens in lengths.iter().filter(|&&n| n <= gpu.max_rows()[0]) {
            let target = target(gpu, n_tokens)?;
            let schedule = &Schedule::for_target(&gpu.plan, &target, &RULES);
            let lower = |number: usize| {
                let (plan, weights) = (&gpu.plan, &weights.layout);
                let choices = Choices::Trial(number);
                Lowering { plan, weights, schedule, target, choices }.dispatches()
            };
            let first = lower(0)?;
            let n_candidates =
                first.iter().filter_map(|(_, dispatch)| Some(dispatch.choice.as_ref()?.n_candidates)).max();
            let keys = || first.iter().filter_map(|(_, dispatch)| Some(&dispatch.choice.as_ref()?.key));
            let is_known = keys().all(|key| device.tuning().chosen.contains_key(key));
            let Some(n) = n_candidates.filter(|_| anew || !is_known) else { continue };
            for number in 0..n {
                let dispatches = lower(number)?;
                let kernels = distinct(dispatches.iter().map(|(_, dispatch)| &dispatch.kernel));
                let kernels: Vec<KernelSpec> = kernels.into_iter().cloned().collect();
                let is_usual = |kernel: &KernelSpec| first.iter().any(|(_, dispatch)| dispatch.kernel == *kernel);
                let only_here = kernels.iter().filter(|kernel| !is_usual(kernel)).cloned().collect();
                parts.push_back(Part { n_tokens, trial: Some(number), kernels, only_here });
            }
            parts.push_back(Part { n_tokens, trial: None, kernels: vec![], only_here: vec![] });
        }
        let max_step_us = if anew { f64::INFINITY } else { MAX_NOTICED_US };
        Ok(Tuner { device, parts, times: BTreeMap::new(), decided: BTreeMap::new(), slot: None, max_step_us })
    }

    /// Parts that are left to measure.
    pub fn n_left(&self) -> usize {
        self.parts.len()
    }

    /// Compiles the kernels of the next part, while others use the executor.
    ///
    /// # Errors
    /// If the driver refuses one.
    pub fn compile(&self) -> Result<(), GpuError> {
        let next = self.parts.front().map_or(&[][..], |part| &part.kernels);
        self.device.compile_all(next.iter())
    }

    /// Measures the next part on `gpu`, which must be the executor that this tuner was made for. Returns what was found when all
    /// parts of a step have been measured.
    ///
    /// # Errors
    /// A lost device, or full memory.
    pub fn measure(&mut self, gpu: &mut Gpu) -> Result<Option<TunedStep>, GpuError> {
        let Some(part) = self.parts.pop_front() else { return Ok(None) };
        let slot = match self.slot {
            Some(slot) => slot,
            None => *self.slot.insert(gpu.create_state()?),
        };
        let n = part.n_tokens;
        let tokens: Vec<u32> = (0..n).map(|i| (1 + i * 7919 % (gpu.plan().n_vocab - 1)) as u32).collect();
        let outputs = outputs(n);
        let reads: Vec<_> = gpu.plan().logits.into_iter().collect();
        let sequences = [Sequence { slot, n_tokens: n }];
        let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        let target = gpu.prepare(&step)?;
        gpu.write_tables(&step);
        let found = match part.trial {
            Some(number) => {
                let program = gpu.lower_with(target, Choices::Trial(number))?;
                for _ in 0..n_runs(n)[0] {
                    let times = pollster::block_on(gpu.time_dispatches(&program, &step))?;
                    if times.iter().sum::<f64>() > self.max_step_us {
                        self.parts.retain(|part| part.n_tokens < n);
                        self.times.clear();
                        break;
                    }
                    self.add(&program, &times);
                }
                gpu.advance(&step);
                Ok(None)
            }
            None => {
                let found = self.compare(gpu, target, &step).map(Some);
                gpu.advance(&step);
                self.times.clear();
                found
            }
        };
        // A device keeps kernels for as long as it is open, and most candidates are never used again.
        self.device.forget_kernels(&part.only_here);
        found
    }

    /// Gives back what measuring took on `gpu`.
    ///
    /// # Errors
    /// A lost device.
    pub fn finish(self, gpu: &mut Gpu) -> Result<(), GpuError> {
        self.slot.into_iter().for_each(|slot| gpu.drop_state(slot));
        gpu.forget_programs();
        gpu.buffers.shrink(&gpu.device)
    }

    /// Enters the times of a trial.
    fn add(&mut self, program: &Program, times: &[f64]) {
        let mut sums: BTreeMap<&str, (&str, f64)> = BTreeMap::new();
        for (dispatch, elapsed_us) in program.dispatches.iter().zip(times) {
            if let Some(choice) = &dispatch.choice {
                sums.entry(&choice.key).or_insert((&choice.candidate, 0.0)).1 += elapsed_us;
            }
        }
        for (key, (candidate, sum)) in sums {
            let found = self.times.entry(key.into()).or_default();
            match found.iter_mut().find(|(name, _)| name == candidate) {
                Some((_, least)) => *least = least.min(sum),
                None => found.push((candidate.into(), sum)),
            }
        }
    }

    /// Compares the step of the fastest candidates with that of the first ones, and keeps the choices if it is faster.
    fn compare(&mut self, gpu: &mut Gpu, target: Target, step: &Step) -> Result<TunedStep, GpuError> {
        let (mut kernels, mut chosen) = (vec![], BTreeMap::new());
        for (key, candidates) in &self.times {
            let Some((first, first_us)) = candidates.first() else { continue };
            let least =
                candidates.iter().min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, us)| us * MIN_GAIN < *first_us);
            let (best, best_us) = least.map_or((first, *first_us), |(name, us)| (name, *us));
            // The first one is written down as well, so that it is known to have been measured.
            chosen.insert(key.clone(), self.decided.get(key).unwrap_or(best).clone());
            kernels.push(TunedKernel {
                key: key.clone(),
                n_candidates: candidates.len(),
                candidates: [first.clone(), best.clone()],
                elapsed_us: [*first_us, best_us],
            });
        }
        let first = |kernel: &TunedKernel| {
            let decided = self.decided.get(&kernel.key).unwrap_or(&kernel.candidates[0]);
            (kernel.key.clone(), decided.clone())
        };
        let usual: BTreeMap<String, String> = kernels.iter().map(first).collect();
        let mut tuning = Tuning { n_cores: None, chosen };
        let programs =
            [gpu.lower_with(target, Choices::Trial(0))?, gpu.lower_with(target, Choices::Measured(&tuning))?];
        let mut times = [vec![], vec![]];
        for _ in 0..n_runs(step.tokens.len())[1] {
            for (times, program) in times.iter_mut().zip(&programs) {
                let n = gpu.n_dispatches(program, step);
                let sizes = Sizes::new(step);
                let encode = |_, pass: &mut wgpu::ComputePass| {
                    program.bound[..n].iter().for_each(|bound| bound.encode(pass, sizes))
                };
                times.extend(pollster::block_on(gpu.device().time_passes(1, encode))?);
            }
        }
        let elapsed_us = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        let is_kept = elapsed_us[1] * MIN_GAIN < elapsed_us[0];
        if !is_kept {
            tuning.chosen = usual;
        }
        self.decided.extend(tuning.chosen.clone());
        if let Some(path) = self.device.tuning_path()
            && let Err(error) = tuning.add_to(path, self.device.report())
        {
            log::warn!("what was measured is not kept: {}: {error}", path.display());
        }
        Ok(TunedStep { n_tokens: step.tokens.len(), elapsed_us, is_kept, kernels })
    }
}

impl Device {
    /// Counts the device's cores and keeps the number for later processes. An estimate.
    ///
    /// # Errors
    /// A device without a clock, or a lost one.
    pub fn tune_size(&self) -> Result<u32, GpuError> {
        let n_cores = self.count_cores()?;
        let tuning = Tuning { n_cores: Some(n_cores), ..Tuning::default() };
        if let Some(path) = self.tuning_path()
            && let Err(error) = tuning.add_to(path, self.report())
        {
            log::warn!("what was measured is not kept: {}: {error}", path.display());
        }
        Ok(n_cores)
    }
}

/// Rows whose logits a measured step computes: all, as where every text draws its next token, or the last, as at the end of
/// a prompt.
fn outputs(n_tokens: usize) -> Vec<u32> {
    /// Texts side by side.
    const MAX_TEXTS: usize = 64;

    if n_tokens <= MAX_TEXTS { (0..n_tokens as u32).collect() } else { vec![n_tokens as u32 - 1] }
}

/// The target of the step that is measured for this number of tokens.
fn target(gpu: &Gpu, n_tokens: usize) -> Result<Target, GpuError> {
    let classes = [n_tokens, outputs(n_tokens).len()].map(RowClass::of);
    let weights = &gpu.weights.get()?.layout;
    let target = kernels::target(&gpu.features, weights, gpu.precision, classes, n_tokens == 1);
    Ok(if gpu.fuses { target } else { target.unfused() })
}
