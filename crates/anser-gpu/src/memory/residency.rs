//! Makes weights resident in the background, in the order in which the plan reads them, while steps already run with those
//! that are there; and keeps streaming those that the device has no memory for.
//!
//! Copies and steps go through one queue, so that a step may be submitted as soon as the copies of what it reads are, and a
//! copy into memory that steps read as soon as the last of them is: no thread waits for the device.

use crate::error::GpuError;
use crate::memory::upload::{MAX_THREADS, Scratch, Stage};
use crate::memory::upload_plan::{Progress, UploadPlan};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The threads that upload.
pub(crate) struct Residency {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    uploads: UploadPlan,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while progress is told, so that it is told in order.
    telling: Mutex<()>,
}

/// Uses are those of [`Order`].
#[derive(Debug, Default)]
struct State {
    /// The next chunk to take: its use, and its number in it.
    next: (usize, usize),
    /// Chunks that were taken but not submitted, of uses from `n_uploaded` on.
    missing: VecDeque<usize>,
    /// Number of uses, from the first, whose chunks are all submitted.
    n_uploaded: usize,
    /// Number of those of the first pass that were reported to `on_progress`.
    n_told: usize,
    /// Number of uses, from the first, that no step reads any more.
    n_over: usize,
    /// Number of the pass that runs, or runs next.
    pass: usize,
    /// The memory of the first buffers of weights; streamed ones share some.
    targets: Vec<wgpu::Buffer>,
    stop: bool,
    failure: Option<GpuError>,
}

impl Residency {
    /// Starts uploading to memory that is provided later, one buffer after another.
    ///
    /// # Errors
    /// If the system starts no threads.
    pub(crate) fn start(uploads: UploadPlan) -> Result<Residency, GpuError> {
        let n_chunks = uploads.chunks.iter().map(Vec::len).sum::<usize>();
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(n_chunks);
        let (state, changed, telling) = Default::default();
        let shared = Arc::new(Shared { uploads, state, changed, telling });
        let mut residency = Residency { shared, threads: vec![] };
        for _ in 0..n_threads {
            let shared = residency.shared.clone();
            let thread = std::thread::Builder::new().name("anser-upload".into()).spawn(move || shared.run());
            let failed =
                |e: std::io::Error| residency.shared.uploads.device.failed("starting a thread", &e.to_string());
            residency.threads.push(thread.map_err(failed)?);
        }
        Ok(residency)
    }

    /// Adds memory for the next buffer of weights.
    ///
    /// # Errors
    /// None: its twin for browsers uploads here.
    pub(crate) async fn provide(&mut self, target: wgpu::Buffer) -> Result<(), GpuError> {
        self.shared.lock().targets.push(target);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Whether all weights are on the device, or on their way, and stay there.
    ///
    /// # Errors
    /// Why loading failed.
    pub(crate) fn is_settled(&self) -> Result<bool, GpuError> {
        let state = self.shared.lock();
        let is_complete = state.n_uploaded >= self.shared.uploads.order.n_buffers();
        state.failure.clone().map_or(Ok(is_complete && !self.shared.uploads.order.streams()), Err)
    }

    /// Waits until every weight has been on its way to the device once, and that was told.
    ///
    /// # Errors
    /// Why loading failed.
    pub(crate) fn wait(&self) -> Result<(), GpuError> {
        let order = &self.shared.uploads.order;
        let n_buffers = if order.streams() { order.n_at_once() } else { order.n_buffers() };
        self.shared.wait(|state| (state.n_told >= n_buffers).then_some(()))
    }

    /// Begins reading the weights once, in order.
    pub(crate) fn pass(&self) -> Pass<'_> {
        Pass { shared: &self.shared }
    }
}

impl Drop for Residency {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Residency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Residency")
            .field("order", &self.shared.uploads.order)
            .field("state", &*self.shared.lock())
            .finish()
    }
}

/// Reading the weights once, in order; over when dropped, however far it got.
pub(crate) struct Pass<'a> {
    shared: &'a Shared,
}

impl Pass<'_> {
    /// Waits until the first `n_buffers` buffers can be read, and returns how many can, which may be more.
    ///
    /// # Errors
    /// Why loading failed.
    pub(crate) fn wait_for(&self, n_buffers: usize) -> Result<usize, GpuError> {
        let order = &self.shared.uploads.order;
        self.shared.wait(|state| {
            let is_there = state.n_uploaded >= order.n_uses(state.pass, n_buffers);
            is_there.then(|| order.n_readable(state.pass, state.n_uploaded))
        })
    }

    /// What reads the first `n_buffers` buffers in this pass has been submitted.
    pub(crate) fn release(&self, n_buffers: usize) {
        let mut state = self.shared.lock();
        state.n_over = state.n_over.max(self.shared.uploads.order.n_uses(state.pass, n_buffers));
        self.shared.changed.notify_all();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.release(self.shared.uploads.order.n_buffers());
        self.shared.lock().pass += 1;
    }
}

impl Shared {
    /// The state is complete at any moment, so that a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` returns something.
    fn wait<R>(&self, mut done: impl FnMut(&mut State) -> Option<R>) -> Result<R, GpuError> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if let Some(result) = done(&mut state) {
                return Ok(result);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One thread of the upload.
    fn run(&self) {
        if let Err(error) = self.upload() {
            let mut state = self.lock();
            state.failure.get_or_insert(error);
            state.stop = true;
        }
        self.changed.notify_all();
    }

    fn upload(&self) -> Result<(), GpuError> {
        let UploadPlan { plan, device, order, chunks, .. } = &self.uploads;
        let largest = chunks.iter().flatten().map(|chunk| chunk.n_bytes).max().unwrap_or(0);
        let (mut stages, mut scratch) = (vec![], Scratch::default());
        for turn in 0.. {
            let Some((use_, buffer, chunk)) = self.take()? else { break };
            // One is filled while the device empties the other.
            if turn < 2 {
                stages.push(Stage::new(device, largest)?);
            }
            let (chunk, stage) = (&chunks[buffer][chunk], &mut stages[turn % 2]);
            stage.fill(device, plan, chunk, &mut scratch)?;
            let replaced = order.replaces(use_);
            let is_free = |state: &State| replaced.is_none_or(|earlier| earlier < state.n_over.min(state.n_uploaded));
            let target = |state: &mut State| match state.targets.get(buffer) {
                _ if state.stop => Some(None),
                Some(target) if is_free(state) => Some(Some(target.clone())),
                Some(_) | None => None,
            };
            let Some(target) = self.wait(target)? else { break };
            stage.send(device, chunk, &target)?;
            self.submitted(use_)?;
        }
        Ok(())
    }

    /// The next chunk: its use, the buffer, and its number in it. `None` if there is nothing to do any more.
    fn take(&self) -> Result<Option<(usize, usize, usize)>, GpuError> {
        let mut state = self.lock();
        let (use_, chunk) = state.next;
        let Some(buffer) = self.uploads.order.buffer(use_).filter(|_| !state.stop) else { return Ok(None) };
        let n_chunks = self.uploads.chunks[buffer].len();
        if chunk == 0 {
            if use_ == 0 {
                self.check_file()?;
            }
            state.missing.push_back(n_chunks);
        }
        state.next = if chunk + 1 < n_chunks { (use_, chunk + 1) } else { (use_ + 1, 0) };
        Ok(Some((use_, buffer, chunk)))
    }

    /// A chunk of `use_` is on its way.
    fn submitted(&self, use_: usize) -> Result<(), GpuError> {
        let n_buffers = self.uploads.order.n_buffers();
        let before = {
            let mut state = self.lock();
            let at = use_ - state.n_uploaded;
            state.missing[at] -= 1;
            let before = state.n_uploaded;
            while state.missing.front() == Some(&0) {
                state.missing.pop_front();
                state.n_uploaded += 1;
            }
            if state.n_uploaded == before {
                return Ok(());
            }
            before
        };
        self.changed.notify_all();
        if before < n_buffers {
            self.tell()?;
        }
        Ok(())
    }

    /// Tells how far the first pass has got; at its end, looks whether the file was changed meanwhile.
    fn tell(&self) -> Result<(), GpuError> {
        let UploadPlan { plan, order, blocks, on_progress, .. } = &self.uploads;
        let _in_order = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let n_uploaded = self.lock().n_uploaded.min(order.n_buffers());
        if n_uploaded == order.n_buffers() {
            self.check_file()?;
        }
        let progress = Progress {
            n_bytes: (0..n_uploaded).map(|buffer| order.size(buffer)).sum(),
            total_n_bytes: order.total_n_bytes(),
            layer: blocks.get(n_uploaded).map_or(plan.residuals.len(), |&block| block),
        };
        if on_progress.as_ref().is_some_and(|tell| tell(progress).is_break()) {
            return Err(GpuError::Cancelled);
        }
        self.lock().n_told = n_uploaded;
        self.changed.notify_all();
        Ok(())
    }

    /// Whether the model file is still what it was when it was opened.
    fn check_file(&self) -> Result<(), GpuError> {
        let unchanged = self.uploads.plan.weights.first().map_or(Ok(()), |weight| weight.file().check_unchanged());
        unchanged.map_err(|e| GpuError::File { reason: e.to_string() })
    }
}
