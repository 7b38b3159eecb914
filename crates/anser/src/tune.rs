//! Measures on a GPU in which shapes a model's kernels are fastest.

use crate::device::Executor;
use crate::error::Error;
use crate::model::Model;
use crate::running::SharedExecutor;
use anser_format::ModelFile;
use anser_gpu::{DeviceKind, Gpu, GpuError, TunedStep, Tuner};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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
    /// choices give the same numbers in every run. A hardware GPU is also measured in the background, see
    /// [`crate::Options::cache_folder`]. Takes some seconds, in which other uses of the model wait for no more than
    /// a second each. `on_progress` is called with the parts of the work that are done and all of them, and may end it; what
    /// was measured until then stays.
    ///
    /// # Errors
    /// A model on the CPU, a GPU without a clock, weights that stream, or a lost device.
    pub fn tune(&self, mut on_progress: impl FnMut(usize, usize) -> ControlFlow<()>) -> Result<Tuned, Error> {
        self.finish_loading()?;
        let mut tuner = self.on_gpu(|gpu| Ok(Tuner::new(gpu, true)?))?;
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
        match &mut *self.executor_for_step()? {
            Executor::Gpu(gpu) => f(gpu),
            Executor::Cpu(_) => {
                let reason = "the kernels of the CPU have one shape each: there is nothing to measure".into();
                Err(Error::Option { option: "device", reason })
            }
        }
    }
}

/// A thread that measures the kernels of a model on its GPU while nobody uses it, for the next process.
#[derive(Debug)]
pub(crate) struct BackgroundTuner {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl BackgroundTuner {
    /// Starts the thread, if there is a GPU to measure and a place where it is kept. `n_uses` counts the uses of the executor.
    pub(crate) fn start(
        executor: &Arc<dyn SharedExecutor>,
        n_uses: &Arc<AtomicU64>,
        file: &Arc<ModelFile>,
    ) -> Option<BackgroundTuner> {
        let is_wanted = match &*executor.lock() {
            Executor::Gpu(gpu) => {
                gpu.device().keeps_measurements() && gpu.device().report().kind != DeviceKind::Software
            }
            Executor::Cpu(_) => false,
        };
        if !is_wanted {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut idle = Idle {
            executor: executor.clone(),
            n_uses: n_uses.clone(),
            file: file.clone(),
            stop: stop.clone(),
            last: 0,
            n_quiet: 0,
        };
        let work = move || {
            // The next step meets the same error, and its caller is told.
            let _ = idle.measure();
        };
        let thread = std::thread::Builder::new().name("anser-tune".into()).spawn(work).ok()?;
        Some(BackgroundTuner { stop, thread: Some(thread) })
    }
}

/// Waits for what is being measured: a process must not end amid calls of the driver.
impl Drop for BackgroundTuner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The panic hook has printed a panic of that thread.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// An executor, as a thread sees it that uses it only while nobody else does.
struct Idle {
    executor: Arc<dyn SharedExecutor>,
    n_uses: Arc<AtomicU64>,
    /// A step reads rows of the embedding table from it.
    file: Arc<ModelFile>,
    stop: Arc<AtomicBool>,
    /// `n_uses` when it was last looked at, and how often in a row it was the same.
    last: u64,
    n_quiet: u32,
}

impl Idle {
    fn measure(&mut self) -> Result<(), GpuError> {
        let Some(mut tuner) = self.when_idle(|gpu| Tuner::new(gpu, false)).transpose()? else { return Ok(()) };
        while tuner.n_left() > 0 {
            tuner.compile()?;
            if self.when_idle(|gpu| tuner.measure(gpu)).transpose()?.is_none() {
                break;
            }
        }
        match &mut *self.executor.lock() {
            Executor::Gpu(gpu) => tuner.finish(gpu),
            Executor::Cpu(_) => Ok(()),
        }
    }

    /// Calls `f` once the model has been used, and has then not been used for a while; `None` if the model is dropped before, or a file of it has changed.
    fn when_idle<R>(&mut self, f: impl FnOnce(&mut Gpu) -> R) -> Option<R> {
        const TICK: Duration = Duration::from_millis(50);
        const N_TICKS: u32 = 20;

        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let now = self.n_uses.load(Ordering::Relaxed);
            self.n_quiet = if now > 0 && now == self.last { self.n_quiet + 1 } else { 0 };
            self.last = now;
            if self.n_quiet >= N_TICKS {
                match self.executor.try_lock() {
                    Some(_) if self.file.check_unchanged().is_err() => return None,
                    Some(mut executor) => match &mut *executor {
                        Executor::Gpu(gpu) => return Some(f(gpu)),
                        Executor::Cpu(_) => return None,
                    },
                    None => self.n_quiet = 0,
                }
            }
            std::thread::sleep(TICK);
        }
    }
}
