//! A model's executor, which its sessions use one at a time.

use crate::device::Executor;
use crate::error::Error;
use crate::model::Model;
#[cfg(not(target_arch = "wasm32"))]
use crate::tune::BackgroundTuner;
use anser_cpu::SlotId;
use anser_format::ModelFile;
use std::ops::{Deref, DerefMut};
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An executor that several threads use, one at a time. It is a trait so that a compiler which asks whether a [`Model`] may go to
/// another thread need not look through all types of the graphics driver, which are nested too deeply for its usual limit.
pub(crate) trait SharedExecutor: OfAnyThread {
    /// Waits for the executor. The lock's poison is ignored: a panic in another thread's step leaves only buffers that the next
    /// step overwrites.
    #[cfg(not(target_arch = "wasm32"))]
    fn lock(&self) -> MutexGuard<'_, Executor>;

    /// The executor; `None` while another call has it.
    fn try_lock(&self) -> Option<MutexGuard<'_, Executor>>;
}

/// What any thread may use; in a browser, whose GPU belongs to one worker, everything.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) trait OfAnyThread: Send + Sync {}

#[cfg(not(target_arch = "wasm32"))]
impl<T: Send + Sync> OfAnyThread for T {}

/// What any thread may use; in a browser, whose GPU belongs to one worker, everything.
#[cfg(target_arch = "wasm32")]
pub(crate) trait OfAnyThread {}

#[cfg(target_arch = "wasm32")]
impl<T> OfAnyThread for T {}

impl SharedExecutor for Mutex<Executor> {
    #[cfg(not(target_arch = "wasm32"))]
    fn lock(&self) -> MutexGuard<'_, Executor> {
        Mutex::lock(self).unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Executor>> {
        match Mutex::try_lock(self) {
            Ok(executor) => Some(executor),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// The lock of the executor that one call holds, also across an await. Natively the call blocks its thread there, so that threads which wait
/// for the lock wait no longer than for a step. In a browser other calls run during the await; they do not wait for the lock, and end
/// with [`Error::Busy`].
pub(crate) struct InUse<'a>(MutexGuard<'a, Executor>);

impl Deref for InUse<'_> {
    type Target = Executor;

    fn deref(&self) -> &Executor {
        &self.0
    }
}

impl DerefMut for InUse<'_> {
    fn deref_mut(&mut self) -> &mut Executor {
        &mut self.0
    }
}

/// The executor, and what else runs for it. Fields are dropped in their order: the thread ends before the executor.
pub(crate) struct Running {
    #[cfg(not(target_arch = "wasm32"))]
    _tuner: Option<BackgroundTuner>,
    executor: Arc<dyn SharedExecutor>,
    /// Uses of the executor so far.
    #[cfg(not(target_arch = "wasm32"))]
    n_uses: Arc<AtomicU64>,
    /// Whether it answers later, as a browser's GPU does.
    #[cfg(target_arch = "wasm32")]
    waits: bool,
    /// States of sessions that were dropped while another call had the executor. The next call that takes it frees them.
    #[cfg(target_arch = "wasm32")]
    unneeded: Mutex<Vec<SlotId>>,
}

impl Running {
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn new(executor: Executor, _: &Arc<ModelFile>) -> Running {
        let waits = matches!(executor, Executor::Gpu(_));
        Running { executor: Arc::new(Mutex::new(executor)), waits, unneeded: Mutex::default() }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn new(executor: Executor, file: &Arc<ModelFile>) -> Running {
        let executor: Arc<dyn SharedExecutor> = Arc::new(Mutex::new(executor));
        let n_uses = Arc::new(AtomicU64::new(0));
        Running { _tuner: BackgroundTuner::start(&executor, &n_uses, file), executor, n_uses }
    }
}

impl Model {
    /// The executor, for a step. Every function that reads weights takes the executor from here, so that a model whose
    /// files changed computes nothing any more.
    ///
    /// # Errors
    /// If a file of the model has changed since it was opened; as [`Model::executor`].
    pub(crate) fn executor_for_step(&self) -> Result<InUse<'_>, Error> {
        let executor = self.executor()?;
        self.file().check_unchanged()?;
        Ok(executor)
    }

    /// The executor, for functions that read no weights.
    ///
    /// # Errors
    /// [`Error::Forked`], before the lock is taken; in a browser [`Error::Busy`] while another call has it and waits for the GPU.
    pub(crate) fn executor(&self) -> Result<InUse<'_>, Error> {
        let running = self.running()?;
        #[cfg(not(target_arch = "wasm32"))]
        {
            running.n_uses.fetch_add(1, Ordering::Relaxed);
            Ok(InUse(running.executor.lock()))
        }
        #[cfg(target_arch = "wasm32")]
        {
            let mut executor = running.executor.try_lock().ok_or(Error::Busy)?;
            let mut unneeded = running.unneeded.lock().unwrap_or_else(PoisonError::into_inner);
            unneeded.drain(..).for_each(|slot| executor.drop_state(slot));
            Ok(InUse(executor))
        }
    }

    /// Frees a state. A forked child has none.
    pub(crate) fn drop_state(&self, slot: SlotId) {
        match self.executor() {
            Ok(mut executor) => executor.drop_state(slot),
            #[cfg(target_arch = "wasm32")]
            Err(Error::Busy) => {
                let running = self.running();
                running.iter().for_each(|running| {
                    running.unneeded.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
                });
            }
            Err(_) => {}
        }
    }

    /// Checks that a function may wait for the executor.
    ///
    /// # Errors
    /// [`Error::MustWait`] for a GPU in a browser.
    pub(crate) fn may_block(&self) -> Result<(), Error> {
        #[cfg(target_arch = "wasm32")]
        if self.running()?.waits {
            return Err(Error::MustWait);
        }
        Ok(())
    }
}
