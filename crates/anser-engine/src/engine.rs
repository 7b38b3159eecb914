//! The handle of the engine's thread.

use crate::delivery::Delivery;
use crate::event::Event;
use crate::limits::Limits;
use crate::queue::{Shared, Waiting};
use crate::request::{Refusal, Request};
use crate::scheduler::Scheduler;
use crate::stats::Stats;
use crate::ticket::Ticket;
use anser::Model;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// A thread that serves requests with one model. Clones share it; when the last one is dropped, what runs is cancelled and the
/// thread ends.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    limits: Limits,
    max_rows: usize,
    /// The process that has the thread.
    process_id: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Panics
    /// If the system starts no thread.
    pub fn start(model: Model, limits: Limits) -> Engine {
        let max_rows = limits.max_rows(&model);
        let shared = Arc::new(Shared::new(model.clone(), max_rows));
        let scheduler = Scheduler::new(model, limits.clone(), max_rows, shared.clone());
        let run = move || scheduler.run();
        let thread = std::thread::Builder::new().name("anser-engine".into()).spawn(run);
        let thread = Mutex::new(Some(thread.expect("the system can start a thread")));
        Engine { inner: Arc::new(Inner { shared, limits, max_rows, process_id: std::process::id(), thread }) }
    }

    /// Takes a request in. `on_event` is called in the engine's thread with what the request gives, and must not block; see
    /// [`channel`](crate::channel) for one. All that can be checked is checked here, before anything is read.
    ///
    /// # Errors
    /// The reason for which the request was not taken in; `on_event` is not called then.
    pub fn submit(
        &self,
        request: Request,
        on_event: impl FnMut(Event) -> Delivery + Send + 'static,
    ) -> Result<Ticket, Refusal> {
        let Inner { shared, limits, max_rows, .. } = &*self.inner;
        // In a forked child the lock below may be locked for ever.
        let model = self.model()?;
        request.validate(&model, limits, *max_rows)?;
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let waiting = Waiting {
            request,
            on_event: Box::new(on_event),
            is_cancelled: is_cancelled.clone(),
            since: Instant::now(),
        };
        shared.enter(waiting, limits.max_waiting(*max_rows), limits.max_waiting_per_tenant)?;
        Ok(Ticket { is_cancelled, shared: shared.clone(), outlives: false })
    }

    /// The model; another load of it after a device was lost.
    fn model(&self) -> Result<Model, Refusal> {
        self.inner.check_process().map_err(Refusal::Invalid)?;
        Ok(self.inner.shared.lock().model.clone())
    }

    /// A snapshot of the counts. Never waits for a step.
    pub fn stats(&self) -> Stats {
        match self.inner.check_process() {
            Ok(()) => self.inner.shared.lock().stats,
            Err(_) => Stats::default(),
        }
    }

    /// Whether the thread has ended: after [`Engine::drain`], or because the device failed and the model could not be loaded again.
    pub fn has_ended(&self) -> bool {
        self.inner.check_process().is_err() || self.inner.shared.lock().has_ended
    }

    /// Takes no more requests in, waits until those inside are complete, and ends the thread. What is not complete at `deadline`
    /// fails then.
    pub fn drain(&self, deadline: Instant) {
        if self.inner.check_process().is_ok() {
            self.inner.stop(deadline);
            self.inner.shared.wait_for_end();
        }
    }
}

impl Inner {
    /// Errors: in a child that was forked after the engine was started.
    fn check_process(&self) -> Result<(), anser::Error> {
        if std::process::id() == self.process_id { Ok(()) } else { Err(anser::Error::Forked) }
    }

    fn stop(&self, deadline: Instant) {
        let mut state = self.shared.lock();
        state.drains_by = Some(state.drains_by.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(state);
        self.shared.wake();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if self.check_process().is_err() {
            // A forked child has no such thread to wait for.
            std::mem::forget(thread);
            return;
        }
        self.stop(Instant::now());
        // A callback may drop the last handle in the thread itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // The thread catches panics.
            let _ = thread.join();
        }
    }
}
