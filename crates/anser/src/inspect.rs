//! Tools for work on the engine: the time of every kernel, and the first operation whose results differ between two
//! executors.

use crate::device::Executor;
use crate::error::Error;
use crate::session::Session;
use anser_cpu::{Cpu, Mode};
use anser_gpu::KernelTime;
use anser_model::cases::nmse;
use anser_model::{Sequence, Step, ValueId};

/// The difference between a value on the GPU and the same value by the plain loops of the CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The operation, e.g. `blocks.3.att.wkv`.
    pub node: String,
    /// The value that it wrote.
    pub value: String,
    /// Normalised mean squared error.
    pub nmse: f64,
}

impl Session {
    /// Reads `tokens` in one step with every kernel timed on its own. The session's state advances.
    ///
    /// # Errors
    /// If the model does not run on a GPU, or on one without timestamps.
    pub fn profile(&mut self, tokens: &[u32]) -> Result<Vec<KernelTime>, Error> {
        let plan = self.model().plan().clone();
        let sequences = [Sequence { slot: self.slot(), n_tokens: tokens.len() }];
        let outputs = [tokens.len().saturating_sub(1) as u32];
        let reads: Vec<ValueId> = plan.logits.into_iter().collect();
        let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        match &mut *self.model().executor_for_step()? {
            Executor::Gpu(gpu) => Ok(gpu.profile(&step)?),
            Executor::Cpu(_) => Err(needs_gpu()),
        }
    }

    /// Reads `tokens` in one step on the GPU and by the plain loops of the CPU from the same state, and compares the
    /// values that every operation wrote, in execution order.
    ///
    /// # Errors
    /// If the model does not run on a GPU.
    pub fn compare_with_reference(&mut self, tokens: &[u32]) -> Result<Vec<Difference>, Error> {
        let state = self.state()?;
        let plan = self.model().plan().clone();
        let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
        let reads: Vec<ValueId> = plan.nodes.iter().flat_map(|node| node.op.outputs()).collect();

        let mut cpu = Cpu::new(plan.clone(), anser_cpu::Options { mode: Mode::Reference, ..Default::default() })?;
        let slot = cpu.create_state();
        if let Some(reference) = cpu.state_mut(slot) {
            reference.copy_from_slice(state.data());
        }
        let sequences = [Sequence { slot, n_tokens: tokens.len() }];
        let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        let mut expected = cpu.step(&step)?.into_iter();

        let sequences = [Sequence { slot: self.slot(), n_tokens: tokens.len() }];
        let step = Step { sequences: &sequences, ..step };
        let mut differences = vec![];
        match &mut *self.model().executor_for_step()? {
            Executor::Gpu(gpu) => gpu.trace(&step, |node, value, actual| {
                let nmse = nmse(actual, &expected.next().unwrap_or_default());
                differences.push(Difference { node: node.name.clone(), value: plan.value(value).name.clone(), nmse });
            })?,
            Executor::Cpu(_) => return Err(needs_gpu()),
        }
        Ok(differences)
    }
}

fn needs_gpu() -> Error {
    Error::Option { option: "device", reason: "this looks at a GPU's kernels; use gpu, gpu:NUMBER or gpu:NAME".into() }
}
