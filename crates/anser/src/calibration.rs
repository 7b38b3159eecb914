//! What other weights in a model's place would cost: the divergence of its distributions on a text.

use crate::divergence::Divergence;
use crate::error::Error;
use crate::model::Model;
use anser_cpu::{Cpu, Mode};
use anser_model::{Plan, Sequence, State, Step, Weight, gguf_name};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The tokens of a step, for which logits are computed together.
const STEP_LEN: usize = 128;

/// A text and what a model predicts for each of its tokens. [`Calibration::divergence`] then says how far from it the model is with other
/// weights. All is computed on the CPU in f32, so that the rounding of activations does not hide what weights do.
///
/// The logits are kept: V · 4 bytes for each token, 262 kB for RWKV's own vocabulary.
pub struct Calibration {
    name: String,
    plan: Arc<Plan>,
    options: anser_cpu::Options,
    initial_state: Option<State>,
    pieces: Vec<Vec<u32>>,
    logits: Vec<f32>,
}

impl Calibration {
    /// Reads pieces of text, each from a fresh state, with `model` and this many threads, or as many as the environment says.
    /// `progress(read, total)`, in tokens, may end the call.
    ///
    /// # Errors
    /// If there is no token, or an id out of range; if a logit is not finite; if the threads cannot be started; [`Error::Cancelled`].
    pub fn new(
        model: &Model,
        pieces: &[&[u32]],
        n_threads: Option<usize>,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Calibration, Error> {
        model.check_process()?;
        model.file().check_unchanged()?;
        if pieces.iter().all(|piece| piece.is_empty()) {
            let reason = "a calibration needs at least one token".into();
            return Err(Error::Option { option: "text", reason });
        }
        let n_threads = crate::environment::threads(n_threads)?;
        let mut calibration = Calibration {
            name: model.name().into(),
            plan: model.plan().clone(),
            options: anser_cpu::Options { n_threads, mode: Mode::Exact, ..Default::default() },
            initial_state: model.initial_state().cloned(),
            pieces: pieces.iter().map(|piece| piece.to_vec()).collect(),
            logits: vec![],
        };
        let mut all = vec![];
        calibration.run(calibration.plan.clone(), progress, |logits, _| all.extend_from_slice(logits))?;
        calibration.logits = all;
        Ok(calibration)
    }

    /// The number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// How far the model's distributions are from its own if `weights` stand in the place of those of the same names, BlinkDL's or
    /// GGUF's, and shapes.
    /// `progress(read, total)`, in tokens, may end the call.
    ///
    /// # Errors
    /// If the model has no such weight; as [`Calibration::new`].
    pub fn divergence(
        &self,
        weights: &[Weight],
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Divergence, Error> {
        let mut plan = (*self.plan).clone();
        for weight in weights {
            let mut is_used = false;
            for place in plan.weights.iter_mut().filter(|place| is_named(place, weight.name())) {
                if [place.n_rows(), place.n_cols()] == [weight.n_rows(), weight.n_cols()] {
                    *place = weight.clone();
                    is_used = true;
                }
            }
            if !is_used {
                let reason = format!("{} has no matrix {} of this shape", self.name, weight.name());
                return Err(Error::Option { option: "weights", reason });
            }
        }
        let mut divergence = Divergence::default();
        let n_vocab = self.plan.n_vocab;
        self.run(Arc::new(plan), progress, |logits, first| {
            divergence.add(&self.logits[first * n_vocab..][..logits.len()], logits, n_vocab);
        })?;
        Ok(divergence)
    }

    /// Reads all pieces by `plan`; `take` gets the logits of each step `[T, V]` and the number of its first token in the text.
    fn run(
        &self,
        plan: Arc<Plan>,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
        mut take: impl FnMut(&[f32], usize),
    ) -> Result<(), Error> {
        let (total, mut n_read) = (self.n_tokens(), 0);
        let reads: Vec<_> = plan.logits.into_iter().collect();
        let mut cpu = Cpu::new(plan, self.options)?;
        for piece in &self.pieces {
            let slot = cpu.create_state();
            if let (Some(initial), Some(state)) = (&self.initial_state, cpu.state_mut(slot)) {
                state.copy_from_slice(initial.data());
            }
            for tokens in piece.chunks(STEP_LEN) {
                let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
                let sequences = [Sequence { slot, n_tokens: tokens.len() }];
                let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
                let is_finite = cpu.step_for(&step, |values| {
                    let logits = values.first().copied().unwrap_or_default();
                    take(logits, n_read);
                    anser_model::all_finite(logits)
                })?;
                if !is_finite {
                    let what = format!("a logit of a token from {n_read} on");
                    return Err(Error::NotFinite { file: self.name.clone(), what, value: f32::NAN });
                }
                n_read += tokens.len();
                if progress(n_read, total).is_break() && n_read < total {
                    return Err(Error::Cancelled);
                }
            }
            cpu.drop_state(slot);
        }
        Ok(())
    }
}

/// Whether the plan's weight has this name, as BlinkDL or as GGUF files spell it.
fn is_named(weight: &Weight, name: &str) -> bool {
    weight.name() == name || gguf_name(weight.name()).is_some_and(|(spelled, row)| row.is_none() && spelled == name)
}
