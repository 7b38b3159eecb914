//! Measures on a GPU in which shapes a model's kernels are fastest.

use crate::device::Executor;
use crate::error::Error;
use crate::model::Model;
use anser_gpu::{Gpu, TUNED_LENGTHS, TunedStep, Tuner};
use std::ops::ControlFlow;

/// What measuring a model's kernels has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// Cores of the device: an estimate.
    pub n_cores: u32,
    /// Whether it is kept for models that are loaded later: there is a folder for it, and the environment does not forbid it.
    pub is_kept: bool,
    /// What was found for steps of each number of tokens.
    pub steps: Vec<TunedStep>,
}

impl Model {
    /// Measures in which shapes the kernels of this model are fastest on its GPU, in steps of 1 to 2,048 tokens, and keeps in
    /// [`crate::Options::cache_folder`] what makes steps faster: models that are loaded after that run so. This model does not
    /// change. A shape decides in which order numbers are added, so that results differ by rounding before and after; the same
    /// choices give the same numbers in every run. Takes some seconds, in which other uses of the model wait for no more than
    /// one step each. `on_progress` is called with the parts of the work that are done and all of them, and may end it; what
    /// was measured until then stays.
    ///
    /// # Errors
    /// A model on the CPU, a GPU without a clock, weights that stream, or a lost device.
    pub fn tune(&self, mut on_progress: impl FnMut(usize, usize) -> ControlFlow<()>) -> Result<Tuned, Error> {
        self.finish_loading()?;
        let mut tuner = self.on_gpu(|gpu| Ok(Tuner::new(gpu, &TUNED_LENGTHS)?))?;
        let n_cores = self.on_gpu(|gpu| Ok(gpu.device().tune_size()?))?;
        let (total, mut steps) = (tuner.n_left(), vec![]);
        while tuner.n_left() > 0 && on_progress(total - tuner.n_left(), total).is_continue() {
            tuner.compile()?;
            steps.extend(self.on_gpu(|gpu| Ok(tuner.measure(gpu)?))?);
        }
        let _ = on_progress(total - tuner.n_left(), total);
        self.on_gpu(|gpu| Ok(tuner.finish(gpu)?))?;
        let is_kept = self.on_gpu(|gpu| Ok(gpu.device().keeps_measurements()))?;
        Ok(Tuned { n_cores, is_kept, steps })
    }

    /// Uses the model's GPU while nobody else does.
    fn on_gpu<R>(&self, f: impl FnOnce(&mut Gpu) -> Result<R, Error>) -> Result<R, Error> {
        match &mut *self.executor()? {
            Executor::Gpu(gpu) => f(gpu),
            Executor::Cpu(_) => {
                let reason = "the kernels of the CPU have one shape each: there is nothing to measure".into();
                Err(Error::Option { option: "device", reason })
            }
        }
    }
}
