//! Walks a plan: buffers, state slots, and which kernel computes which operation.

use crate::matmul::{Epilogue, matmul};
use crate::ops;
use crate::tiles::column_tiles;
use anser_model::{Op, Plan, Rows, Sequence, StateRef, Step, StepError, ValueId, WeightId};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// How operations are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Threaded, vectorised kernels.
    #[default]
    Fast,
    /// The plain loops of [`ops`], on one thread: slow, and the oracle.
    Reference,
}

/// How to set up the executor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Worker threads; `None` means one per core the process may use.
    pub n_threads: Option<usize>,
    /// How operations are computed.
    pub mode: Mode,
}

/// Why the executor could not be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The operating system refused to start threads.
    #[error("cannot start {n_threads} threads: {reason}; ask for fewer")]
    Threads {
        /// Threads asked for, 0 for the default.
        n_threads: usize,
        /// The system's word.
        reason: String,
    },
}

/// Index of a state slot.
pub type SlotId = usize;

/// Rows of one operation up to this many elements are computed on the calling thread.
const MIN_PARALLEL_ELEMENTS: usize = 1 << 15;

/// A plan ready to run, with its working memory and the states of its sequences.
#[derive(Debug)]
pub struct Cpu {
    plan: Arc<Plan>,
    mode: Mode,
    pool: rayon::ThreadPool,
    /// Per weight: its elements if it is a vector, else empty.
    vectors: Vec<Vec<f32>>,
    /// Per state slot: the state in the order of the plan's layout; `None` if the slot is free.
    states: Vec<Option<Vec<f32>>>,
    /// Per plan slot: the value it holds now.
    buffers: Vec<Vec<f32>>,
}

/// What the operations of one step share.
struct Run<'a> {
    step: &'a Step<'a>,
    /// Token rows of every sequence.
    rows: Vec<Range<usize>>,
    /// State of every sequence, taken out of its slot for the step.
    states: Vec<Vec<f32>>,
}

impl Cpu {
    /// Prepares `plan`: copies its vectors (not its matrices) to f32 and starts the threads.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(plan: Arc<Plan>, options: Options) -> Result<Cpu, CpuError> {
        let n_threads = match options.mode {
            Mode::Fast => options.n_threads.unwrap_or(0),
            Mode::Reference => 1,
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .thread_name(|i| format!("anser-cpu-{i}"))
            .build()
            .map_err(|e| CpuError::Threads { n_threads, reason: e.to_string() })?;
        let vectors = plan.weights.iter().map(|w| if w.n_rows() == 1 { w.to_f32() } else { vec![] }).collect();
        let buffers = vec![vec![]; plan.slots.len()];
        Ok(Cpu { plan, mode: options.mode, pool, vectors, states: vec![], buffers })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Worker threads.
    pub fn n_threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// A new slot with a fresh (zero) state.
    pub fn create_state(&mut self) -> SlotId {
        let state = Some(vec![0.0; self.plan.state.len()]);
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
        if let Some(state) = self.states.get_mut(slot) {
            *state = None;
        }
    }

    /// The state in a slot, in the order of the plan's layout; `None` for an unknown slot.
    pub fn state(&self, slot: SlotId) -> Option<&[f32]> {
        self.states.get(slot)?.as_deref()
    }

    /// The same, to be written; its length must stay.
    pub fn state_mut(&mut self, slot: SlotId) -> Option<&mut [f32]> {
        self.states.get_mut(slot)?.as_deref_mut()
    }

    /// Runs `step`: advances the states and returns the values of `step.reads`, in their order.
    ///
    /// # Errors
    /// If the step does not fit the plan; no state has changed then.
    pub fn step(&mut self, step: &Step) -> Result<Vec<Vec<f32>>, StepError> {
        step.check(&self.plan, |slot| self.state(slot).is_some())?;
        let mut start = 0;
        let row_range = |s: &Sequence| {
            start += s.n_tokens;
            start - s.n_tokens..start
        };
        let rows = step.sequences.iter().map(row_range).collect();
        let states = step.sequences.iter().map(|s| self.states[s.slot].take().unwrap_or_default()).collect();
        let mut run = Run { step, rows, states };

        let plan = self.plan.clone();
        for &(id, data) in step.inputs {
            self.buffers[plan.value(id).slot] = data.to_vec();
        }
        let mut read = vec![vec![]; step.reads.len()];
        let n_nodes = plan.n_nodes_for(step.reads);
        let Cpu { pool, vectors, buffers, mode, .. } = self;
        pool.install(|| {
            let mut walk = Walk { plan: &plan, mode: *mode, vectors, buffers };
            for node in &plan.nodes[..n_nodes] {
                walk.run(&node.op, &mut run);
                for id in node.op.outputs() {
                    for (i, _) in step.reads.iter().enumerate().filter(|&(_, &r)| r == id) {
                        read[i] = walk.value(id).to_vec();
                    }
                }
            }
        });
        for (s, state) in step.sequences.iter().zip(run.states) {
            self.states[s.slot] = Some(state);
        }
        Ok(read)
    }
}

/// The executor's parts that operations work on.
struct Walk<'a> {
    plan: &'a Plan,
    mode: Mode,
    vectors: &'a [Vec<f32>],
    buffers: &'a mut [Vec<f32>],
}

impl Walk<'_> {
    fn value(&self, id: ValueId) -> &[f32] {
        &self.buffers[self.plan.value(id).slot]
    }

    fn vector(&self, id: WeightId) -> &[f32] {
        &self.vectors[id.index()]
    }

    /// Takes the memory for `id` out of its slot, so that the other slots can be read while it is written.
    fn take(&mut self, id: ValueId, run: &Run) -> Vec<f32> {
        let value = self.plan.value(id);
        let n_rows = match value.rows {
            Rows::Tokens => run.step.tokens.len(),
            Rows::Outputs => run.step.outputs.len(),
        };
        let mut buffer = std::mem::take(&mut self.buffers[value.slot]);
        buffer.resize(n_rows * value.n_cols, 0.0);
        buffer
    }

    fn put(&mut self, id: ValueId, buffer: Vec<f32>) {
        self.buffers[self.plan.value(id).slot] = buffer;
    }

    fn run(&mut self, op: &Op, run: &mut Run) {
        match op {
            Op::Embed { table, out } => {
                let table = self.plan.weight(*table);
                let mut o = self.take(*out, run);
                self.rows(&mut o, table.n_cols(), |t, o| ops::embed(table, run.step.tokens[t], o));
                self.put(*out, o);
            }
            Op::LayerNorm { x, weight, bias, eps, out } => {
                let mut o = self.take(*out, run);
                let (x, weight, bias) = (self.value(*x), self.vector(*weight), self.vector(*bias));
                let c = weight.len();
                self.rows(&mut o, c, |t, o| ops::layer_norm(&x[t * c..][..c], weight, bias, *eps, o));
                self.put(*out, o);
            }
            Op::TokenShift { x, state, mix, out } => self.token_shift(*x, *state, mix, out, run),
            Op::MatMul { weight, x, bias, activation, residual, out } => {
                let mut o = self.take(*out, run);
                let epilogue = Epilogue {
                    bias: bias.map(|b| self.vector(b)),
                    activation: *activation,
                    residual: residual.map(|r| self.value(r)),
                };
                let weight = self.plan.weight(*weight);
                match self.mode {
                    Mode::Fast => matmul(weight, self.value(*x), epilogue, &mut o),
                    Mode::Reference => {
                        ops::matmul(weight, self.value(*x), &mut o);
                        let n = weight.n_rows();
                        o.chunks_exact_mut(n).enumerate().for_each(|(t, row)| epilogue.apply(row, t, 0, n));
                    }
                }
                self.put(*out, o);
            }
            Op::ValueResidual { v, v_first, gate, out } => {
                let mut o = self.take(*out, run);
                ops::value_residual(self.value(*v), self.value(*v_first), self.value(*gate), &mut o);
                self.put(*out, o);
            }
            Op::KeyControl { k, a, k_k, k_a, head_size, kk, k_out } => {
                let (mut kk_o, mut k_o) = (self.take(*kk, run), self.take(*k_out, run));
                let (k, a, k_k, k_a) = (self.value(*k), self.value(*a), self.vector(*k_k), self.vector(*k_a));
                let c = k_k.len();
                for (t, (kk, k_out)) in kk_o.chunks_exact_mut(c).zip(k_o.chunks_exact_mut(c)).enumerate() {
                    let row = t * c..(t + 1) * c;
                    ops::key_control(&k[row.clone()], &a[row], k_k, k_a, *head_size, kk, k_out);
                }
                self.put(*kk, kk_o);
                self.put(*k_out, k_o);
            }
            Op::Wkv7 { r, w, k, v, kk, a, state, head_size, out } => {
                let mut o = self.take(*out, run);
                let values = [r, w, k, v, kk, a].map(|id| self.value(*id));
                self.wkv7(values, *state, *head_size, &mut o, run);
                self.put(*out, o);
            }
            Op::NormBonusGate { y, r, k, v, g, r_k, weight, bias, eps, head_size, out } => {
                let mut o = self.take(*out, run);
                let [y, r, k, v, g] = [y, r, k, v, g].map(|id| self.value(*id));
                let [r_k, weight, bias] = [r_k, weight, bias].map(|id| self.vector(*id));
                let c = r_k.len();
                self.rows(&mut o, c, |t, o| {
                    let [y, r, k, v, g] = [y, r, k, v, g].map(|x| &x[t * c..][..c]);
                    let row = ops::NormBonusGate { y, r, k, v, g, r_k, weight, bias };
                    ops::norm_bonus_gate(row, *eps, *head_size, o);
                });
                self.put(*out, o);
            }
            Op::Select { x, out } => {
                let mut o = self.take(*out, run);
                let (x, c) = (self.value(*x), self.plan.value(*x).n_cols);
                for (o, &row) in o.chunks_exact_mut(c).zip(run.step.outputs) {
                    o.copy_from_slice(&x[row as usize * c..][..c]);
                }
                self.put(*out, o);
            }
        }
    }

    /// Calls `f(t, row t)` for every row of `out`, in parallel where that pays.
    fn rows(&self, out: &mut [f32], n_cols: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        if self.mode == Mode::Reference || out.len() < MIN_PARALLEL_ELEMENTS {
            out.chunks_exact_mut(n_cols).enumerate().for_each(|(t, row)| f(t, row));
        } else {
            out.par_chunks_exact_mut(n_cols).enumerate().for_each(|(t, row)| f(t, row));
        }
    }

    fn token_shift(&mut self, x: ValueId, state: StateRef, mix: &[WeightId], out: &[ValueId], run: &mut Run) {
        let range = self.plan.state.range(state);
        let c = range.len();
        for (&mix, &id) in mix.iter().zip(out) {
            let mut o = self.take(id, run);
            let (x, mix) = (self.value(x), self.vector(mix));
            for (rows, state) in run.rows.iter().zip(&run.states) {
                for t in rows.clone() {
                    let prev = if t == rows.start { &state[range.clone()] } else { &x[(t - 1) * c..][..c] };
                    ops::token_shift(&x[t * c..][..c], prev, mix, &mut o[t * c..][..c]);
                }
            }
            self.put(id, o);
        }
        let x = self.value(x);
        for (rows, state) in run.rows.iter().zip(&mut run.states) {
            state[range.clone()].copy_from_slice(&x[(rows.end - 1) * c..][..c]);
        }
    }

    /// Heads and sequences are independent: one task for each pair.
    fn wkv7(&self, values: [&[f32]; 6], state: StateRef, n: usize, out: &mut [f32], run: &mut Run) {
        let c = self.plan.state.parts[state.part].layer_len() / n;
        let range = self.plan.state.range(state);
        let states = run.states.iter_mut().map(|s| &mut s[range.clone()]).map(|s| s.chunks_exact_mut(n * n));
        let mut states: Vec<_> = states.collect();
        let mut tasks = vec![];
        for (head, mut pieces) in column_tiles(out, c, n).into_iter().enumerate() {
            for (rows, states) in run.rows.iter().zip(&mut states) {
                let rest = pieces.split_off(rows.len());
                tasks.extend(states.next().map(|s| (head, rows.clone(), s, std::mem::replace(&mut pieces, rest))));
            }
        }
        let task = |(head, rows, s, pieces): (usize, Range<usize>, &mut [f32], Vec<&mut [f32]>)| {
            for (t, out) in rows.zip(pieces) {
                let [r, w, k, v, kk, a] = values.map(|x| &x[t * c + head * n..][..n]);
                ops::wkv7(ops::Wkv7Token { r, w, k, v, kk, a }, s, out);
            }
        };
        if self.mode == Mode::Reference || out_len(&tasks) * n < MIN_PARALLEL_ELEMENTS {
            tasks.into_iter().for_each(task);
        } else {
            tasks.into_par_iter().for_each(task);
        }
    }
}

/// Elements that the tasks of [`Walk::wkv7`] write.
fn out_len(tasks: &[(usize, Range<usize>, &mut [f32], Vec<&mut [f32]>)]) -> usize {
    tasks.iter().map(|(_, _, _, pieces)| pieces.iter().map(|p| p.len()).sum::<usize>()).sum()
}
