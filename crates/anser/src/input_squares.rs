//! The squares of what a model's matrices are multiplied with, summed over a text: what importance matrices are made of.

use crate::error::Error;
use crate::model::Model;
use anser_cpu::{Cpu, Mode};
use anser_model::{Op, Plan, Sequence, State, Step, ValueId, WeightId};
use std::sync::Arc;

/// The most tokens of a step: enough that every weight is read for many tokens, few enough that activations stay small.
const STEP_LEN: usize = 512;

/// The sums of one matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct SquareSums {
    /// BlinkDL's name of the matrix, e.g. `blocks.3.att.key.weight`.
    pub name: String,
    /// For each column j of the matrix, Σ x_j² over the rows x that it was multiplied with, `[n_cols]`.
    pub sums: Vec<f64>,
    /// The number of these rows: one for each token.
    pub n_rows: u64,
}

/// Sums the squared inputs of every matrix product of a model over texts. It computes on the CPU in f32, whatever the model's own
/// executor does, so that the sums do not depend on how a device rounds.
pub struct InputSquares {
    name: String,
    plan: Arc<Plan>,
    cpu: Cpu,
    initial_state: Option<State>,
    /// The head, and its input. The sums need no logits, so the head is not run, and nothing observes it.
    head: Option<(WeightId, ValueId)>,
    /// For each weight of the plan its sums; empty if nothing was multiplied with it.
    sums: Vec<Sums>,
}

#[derive(Clone, Default)]
struct Sums {
    columns: Vec<f64>,
    n_rows: u64,
}

impl Sums {
    /// Adds the squares of rows `[·, n_cols]`.
    fn add(&mut self, x: &[f32], n_cols: usize) {
        self.columns.resize(n_cols, 0.0);
        for row in x.chunks_exact(n_cols) {
            for (sum, &x) in self.columns.iter_mut().zip(row) {
                *sum += f64::from(x) * f64::from(x);
            }
        }
        self.n_rows += (x.len() / n_cols) as u64;
    }
}

impl InputSquares {
    /// For `model`, with this many threads, or as many as the environment says.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(model: &Model, n_threads: Option<usize>) -> Result<InputSquares, Error> {
        model.check_process()?;
        model.file().check_unchanged()?;
        let plan = model.plan().clone();
        let n_threads = crate::environment::threads(n_threads)?;
        let cpu = Cpu::new(plan.clone(), anser_cpu::Options { n_threads, mode: Mode::Exact, ..Default::default() })?;
        let head = plan.nodes.iter().find_map(|node| match node.op {
            Op::MatMul { weight, x, out, .. } if Some(out) == plan.logits => Some((weight, x)),
            _ => None,
        });
        Ok(InputSquares {
            name: model.name().into(),
            sums: vec![Sums::default(); plan.weights.len()],
            initial_state: model.initial_state().cloned(),
            plan,
            cpu,
            head,
        })
    }

    /// Reads a piece of text from a fresh state and adds the squares of all its tokens.
    ///
    /// # Errors
    /// An id that the vocabulary does not have; [`Error::NotFinite`] if the model computes a number that is not finite, which leaves
    /// sums that cannot be used.
    pub fn read(&mut self, tokens: &[u32]) -> Result<(), Error> {
        let slot = self.cpu.create_state();
        if let (Some(initial), Some(state)) = (&self.initial_state, self.cpu.state_mut(slot)) {
            state.copy_from_slice(initial.data());
        }
        let read = tokens.chunks(STEP_LEN).try_for_each(|tokens| self.step(slot, tokens));
        self.cpu.drop_state(slot);
        read?;
        self.check_finite()
    }

    fn step(&mut self, slot: usize, tokens: &[u32]) -> Result<(), Error> {
        let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
        let sequences = [Sequence { slot, n_tokens: tokens.len() }];
        let reads: Vec<ValueId> = self.head.iter().map(|&(_, x)| x).collect();
        let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        let (plan, sums) = (&self.plan, &mut self.sums);
        let mut add = |weight: WeightId, x: &[f32]| sums[weight.index()].add(x, plan.weight(weight).n_cols());
        let read = self.cpu.step_observing(&step, &mut add)?;
        if let (Some((head, _)), Some(x)) = (self.head, read.first()) {
            add(head, x);
        }
        Ok(())
    }

    fn check_finite(&self) -> Result<(), Error> {
        for (weight, sums) in self.plan.weights.iter().zip(&self.sums) {
            if let Some(column) = sums.columns.iter().position(|sum| !sum.is_finite()) {
                let what = format!("the sum of squares of column {column} of the input of {}", weight.name());
                return Err(Error::NotFinite { file: self.name.clone(), what, value: sums.columns[column] as f32 });
            }
        }
        Ok(())
    }

    /// The sums so far, of every matrix that the text was multiplied with, in the order of the plan. Matrices that a file stacks in one
    /// tensor (RWKV-6's `time_maa_w1` and `time_maa_w2`) have one name and an entry each.
    pub fn sums(&self) -> Vec<SquareSums> {
        let used = self.plan.weights.iter().zip(&self.sums).filter(|(_, sums)| sums.n_rows > 0);
        let of = |(weight, sums): (&anser_model::Weight, &Sums)| SquareSums {
            name: weight.name().into(),
            sums: sums.columns.clone(),
            n_rows: sums.n_rows,
        };
        used.map(of).collect()
    }
}
