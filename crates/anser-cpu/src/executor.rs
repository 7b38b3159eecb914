//! The executor: a plan with its threads, the states of its sequences and its working memory.

use crate::arch::{self, pool::Pool};
use crate::schedule::Schedule;
use crate::values::Values;
use crate::walk::{Inputs, Threads, Walk};
use crate::warm::Warmer;
use anser_model::{Op, Plan, Sequence, Step, StepError, WeightId};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// The precision and the kernels of an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Threaded, vectorised kernels. Activations that meet quantized weights are rounded to 8 bits, with a scale per 32
    /// elements.
    #[default]
    Fast,
    /// The threaded, vectorised kernels without that rounding: f32 throughout.
    Exact,
    /// The plain loops of [`crate::ops`], on one thread: slow, and the oracle.
    Reference,
}

/// The options of an executor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Threads; `None` means one per physical core that the process may use.
    pub n_threads: Option<usize>,
    /// The precision and the kernels.
    pub mode: Mode,
    /// Whether to measure the time of every operation, see [`Cpu::take_profile`].
    pub profile: bool,
}

/// The reason for which the executor could not be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The operating system refused to start threads.
    #[error("cannot start {n_threads} threads: {source}; ask for fewer")]
    Threads {
        /// The number of threads that was asked for.
        n_threads: usize,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// The elements of a new state that one task writes: 256 KiB.
const STATE_CHUNK_LEN: usize = 64 << 10;
/// The most memory of freed states that the executor keeps for new ones, in bytes: 28 states at 0.1B, 3 at 2.9B.
const MAX_FREED_BYTES: usize = 64 << 20;

/// Bytes that an executor has allocated, beside the weights in the mapped file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// States of sequences.
    pub states_n_bytes: u64,
    /// Values of a step, vectors of the model in f32, and memory kept for the next states.
    pub scratch_n_bytes: u64,
}

/// What [`Cpu::step_observing`] calls: with a matrix and the rows that it is multiplied with.
type Observer<'a> = dyn FnMut(WeightId, &[f32]) + 'a;

/// Index of a state slot.
pub type SlotId = usize;

/// A plan ready to run, with its working memory and the states of its sequences.
#[derive(Debug)]
pub struct Cpu {
    plan: Arc<Plan>,
    schedule: Schedule,
    mode: Mode,
    pool: Pool,
    /// For each state slot, the state in the order of the plan's layout; `None` if the slot is free.
    states: Vec<Option<Vec<f32>>>,
    /// Memory of freed states, used again for new ones: the page faults of new memory take longer than a short text.
    freed: Vec<Vec<f32>>,
    /// The buffers that the schedule gives to values.
    buffers: Vec<Vec<f32>>,
    inputs: Inputs,
    profile: Option<Profile>,
    /// The threads that touch the pages of the weights ahead of the first step, and the model's vectors in f32.
    warmer: Warmer,
}

/// The time of every operation over all layers, by the name of its node without the layer: `att.wkv` for example.
pub type Profile = BTreeMap<String, Duration>;

/// The data that all operations of one step share.
pub(crate) struct Run<'a> {
    pub(crate) step: &'a Step<'a>,
    /// For each sequence, the rows of its tokens.
    pub(crate) rows: Vec<Range<usize>>,
    /// For each sequence, its state, taken out of its slot for the time of the step.
    pub(crate) states: Vec<Vec<f32>>,
}

impl Cpu {
    /// Prepares `plan` and starts the threads. Other threads touch the file's pages, ahead of the first step, and copy
    /// the vectors (not the matrices) to f32. This call waits for them for 5 ms at most, or 1 ms if the pages come from
    /// a disk.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(plan: Arc<Plan>, options: Options) -> Result<Cpu, CpuError> {
        let (n_threads, n_warmers) = match options.mode {
            Mode::Fast | Mode::Exact => {
                let n = options.n_threads.unwrap_or_else(n_cores).max(1);
                (n, n)
            }
            Mode::Reference => (1, 0),
        };
        let warmer = Warmer::start(&plan, n_warmers);
        let schedule = Schedule::new(&plan);
        let buffers = vec![vec![]; schedule.n_buffers];
        let inputs = Inputs::default();
        let profile = options.profile.then(Profile::new);
        let mode = options.mode;
        warmer.wait();
        // After the wait: a worker that sleeps during it may be woken on the core of this thread, and stay there for
        // some steps.
        let pool = Pool::new(n_threads).map_err(|source| CpuError::Threads { n_threads, source })?;
        let (states, freed) = (vec![], vec![]);
        Ok(Cpu { plan, schedule, mode, pool, states, freed, buffers, inputs, profile, warmer })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Threads that compute.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// The vector instructions that the kernels use on this processor.
    pub fn instructions() -> &'static str {
        arch::name()
    }

    /// The profile since the last call; empty unless [`Options::profile`] is set. The time of matrix products that run
    /// together is under the name of the first of them.
    pub fn take_profile(&mut self) -> Profile {
        self.profile.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Bytes that the executor has allocated.
    pub fn memory(&self) -> MemoryUse {
        let n_bytes = |buffers: &[Vec<f32>]| buffers.iter().map(|b| 4 * b.capacity() as u64).sum::<u64>();
        let states = self.states.iter().flatten().map(|state| 4 * state.capacity() as u64);
        MemoryUse {
            states_n_bytes: states.sum(),
            scratch_n_bytes: n_bytes(&self.buffers) + n_bytes(&self.freed) + n_bytes(self.warmer.vectors()),
        }
    }

    /// A new slot with a fresh (zero) state.
    pub fn create_state(&mut self) -> SlotId {
        let mut state = self.freed.pop().unwrap_or_else(|| vec![0.0; self.plan.state.len()]);
        // Zeros are written rather than left to the system: a page that is read before it is written takes two page faults.
        self.pool.for_each(state.chunks_mut(STATE_CHUNK_LEN).collect(), |chunk| chunk.fill(0.0));
        let state = Some(state);
        match self.states.iter().position(Option::is_none) {
            Some(slot) => {
                self.states[slot] = state;
                slot
            }
            None => {
                self.states.push(state);
                self.states.len() - 1
            }
        }
    }

    /// Frees a slot. An unknown slot is ignored.
    pub fn drop_state(&mut self, slot: SlotId) {
        if let Some(state) = self.states.get_mut(slot).and_then(Option::take) {
            let n_bytes = size_of_val(&state[..]);
            if (self.freed.len() + 1) * n_bytes <= MAX_FREED_BYTES {
                self.freed.push(state);
            }
        }
    }

    /// The state in a slot, in the order of the plan's layout; `None` for an unknown slot.
    pub fn state(&self, slot: SlotId) -> Option<&[f32]> {
        self.states.get(slot)?.as_deref()
    }

    /// The state in a slot as [`Cpu::state`] gives it, for writing. Its length must not change.
    pub fn state_mut(&mut self, slot: SlotId) -> Option<&mut [f32]> {
        self.states.get_mut(slot)?.as_deref_mut()
    }

    /// Runs `step`: advances the states and returns the values of `step.reads`, in their order.
    ///
    /// # Errors
    /// If the step does not fit the plan; no state has changed then.
    pub fn step(&mut self, step: &Step) -> Result<Vec<Vec<f32>>, StepError> {
        self.step_for(step, |values| values.iter().map(|value| value.to_vec()).collect())
    }

    /// [`Cpu::step`] that calls `take` with the values instead of copying them: the logits of a step take new memory otherwise, which the
    /// system has to clear.
    ///
    /// # Errors
    /// As [`Cpu::step`].
    pub fn step_for<R>(&mut self, step: &Step, take: impl FnOnce(&[&[f32]]) -> R) -> Result<R, StepError> {
        self.run_step(step, None, take)
    }

    /// [`Cpu::step`] that also calls `observe` with the input of every matrix product that runs: the matrix, and x
    /// `[T or O, n_cols]`, row after row. Inputs are borrowed from the working memory while they lie there, so that observing all
    /// of them takes no memory.
    ///
    /// # Errors
    /// As [`Cpu::step`].
    pub fn step_observing(
        &mut self,
        step: &Step,
        mut observe: impl FnMut(WeightId, &[f32]),
    ) -> Result<Vec<Vec<f32>>, StepError> {
        self.run_step(step, Some(&mut observe), |values| values.iter().map(|value| value.to_vec()).collect())
    }

    fn run_step<R>(
        &mut self,
        step: &Step,
        mut observe: Option<&mut Observer>,
        take: impl FnOnce(&[&[f32]]) -> R,
    ) -> Result<R, StepError> {
        step.check(&self.plan, |slot| self.state(slot).is_some())?;
        let mut start = 0;
        let row_range = |s: &Sequence| {
            start += s.n_tokens;
            start - s.n_tokens..start
        };
        let rows = step.sequences.iter().map(row_range).collect();
        let states = step.sequences.iter().map(|s| self.states[s.slot].take().unwrap_or_default()).collect();
        let mut run = Run { step, rows, states };

        let Cpu { plan, schedule, mode, pool, buffers, inputs, profile, warmer, .. } = self;
        for &(id, data) in step.inputs {
            buffers[schedule.buffer(id)] = data.to_vec();
        }
        // Copies of the values whose buffers later operations use again.
        let mut copies: Vec<Option<Vec<f32>>> = vec![None; step.reads.len()];
        let n_nodes = plan.n_nodes_for(step.reads);
        let values = Values { plan, schedule, vectors: warmer.vectors(), buffers };
        let mut walk = Walk { values, threads: Threads { mode: *mode, pool }, inputs, profile: profile.as_mut() };
        let nodes_of = |wave: &[usize]| wave.iter().copied().filter(|&i| i < n_nodes).collect::<Vec<usize>>();
        let outputs_of = |nodes: Vec<usize>| nodes.into_iter().flat_map(|i| plan.nodes[i].op.outputs());
        for (at, wave) in schedule.waves.iter().enumerate() {
            let nodes = nodes_of(wave);
            walk.run_wave(&nodes, &mut run);
            if let Some(observe) = &mut observe {
                // The schedule gives the buffers that a wave reads to no value before the next wave.
                for &i in &nodes {
                    if let Op::MatMul { weight, x, .. } = plan.nodes[i].op {
                        observe(weight, walk.values.get(x));
                    }
                }
            }
            for id in outputs_of(nodes) {
                for (i, _) in step.reads.iter().enumerate().filter(|&(_, &r)| r == id) {
                    let mut later = schedule.waves[at + 1..].iter().flat_map(|wave| outputs_of(nodes_of(wave)));
                    let is_used_again = later.any(|other| schedule.buffer(other) == schedule.buffer(id));
                    copies[i] = is_used_again.then(|| walk.values.get(id).to_vec());
                }
            }
        }
        for (s, state) in step.sequences.iter().zip(run.states) {
            self.states[s.slot] = Some(state);
        }
        let kept = |id| &self.buffers[self.schedule.buffer(id)][..];
        let each = step.reads.iter().zip(&copies);
        Ok(take(&each.map(|(&id, copy)| copy.as_deref().unwrap_or_else(|| kept(id))).collect::<Vec<_>>()))
    }
}

/// The number of physical cores that the process may use. A second thread on a core shares its vector units and gains
/// nothing.
fn n_cores() -> usize {
    let n_allowed = std::thread::available_parallelism().map_or(1, |n| n.get());
    n_allowed.min(num_cpus::get_physical())
}
