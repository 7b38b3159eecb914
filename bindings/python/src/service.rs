//! The engine of a model, which batches the calls of all threads and tasks, and how its events reach them.
//!
//! The engine's thread never waits for the GIL: it puts events into a mailbox. Threads wait for the mailbox without the GIL; for
//! tasks, another thread takes the GIL and calls what the task has left, which is `call_soon_threadsafe` of its loop.

use crate::detached::Detached;
use crate::error::{DeviceError, exception};
use crate::model::Opened;
use anser::{Error, Model};
use anser_engine::{CacheLimits, Delivery, Engine, Event, Failure, Limits, Refusal, Request, Ticket};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The events that wait for a caller; with more of them the request rests until the caller has taken half of them.
const MAX_EVENTS: usize = 64;

/// The engines of this process.
static RUNNING: Mutex<Vec<Weak<Service>>> = Mutex::new(vec![]);

/// Has Python end all engines before it exits: a step must not run while the process takes its libraries down. Only the first call
/// does something.
pub(crate) fn end_at_exit(py: Python<'_>) -> PyResult<()> {
    static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
    if IS_REGISTERED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let end = |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| args.py().detach(end_all);
    let end = PyCFunction::new_closure(py, None, None, end)?;
    py.import("atexit")?.call_method1("register", (end,)).map(drop)
}

fn end_all() {
    let running = RUNNING.try_lock().map(|mut all| std::mem::take(&mut *all)).unwrap_or_default();
    running.iter().filter_map(Weak::upgrade).for_each(|service| service.engine.drain(Instant::now()));
}

/// The engine of a model.
pub(crate) struct Service {
    engine: Engine,
    arrivals: Sender<Arc<Mailbox>>,
}

impl Service {
    /// Starts an engine for `model`, which was opened as `opened` says. The engine's thread, and the thread that wakes asyncio tasks, end
    /// when the last handle of the service is dropped.
    pub(crate) fn start(model: &Model, opened: &Opened) -> Detached<Arc<Service>> {
        let service = Arc::new(Service::of(model, opened));
        // A fork may have left the lock locked: then this engine is not ended before the process is.
        if let Ok(mut all) = RUNNING.try_lock() {
            all.retain(|service| service.strong_count() > 0);
            all.push(Arc::downgrade(&service));
        }
        Detached::new(service)
    }

    fn of(model: &Model, opened: &Opened) -> Service {
        // Whoever iterates over a text may take any time, and any number of threads and tasks may ask.
        let limits = Limits {
            max_waiting: Some(usize::MAX),
            max_waiting_per_tenant: usize::MAX,
            max_prompt_tokens: usize::MAX,
            max_wait: Duration::MAX,
            max_parked: Duration::MAX,
            cache: CacheLimits { host_n_bytes: opened.state_cache_n_bytes, ..CacheLimits::default() },
            turns: Some(opened.turns.clone()),
            ..Limits::default()
        };
        let (arrivals, arrived) = channel();
        // Without this thread, tasks would never wake; a system that starts no more threads starts none for the engine either.
        let wake = move || wake_tasks(&arrived);
        let _ = std::thread::Builder::new().name("anser-wake".into()).spawn(wake);
        Service { engine: Engine::start(model.clone(), limits), arrivals }
    }

    /// Hands a request to the engine.
    pub(crate) fn submit(&self, request: Request) -> PyResult<Served> {
        let mailbox = Arc::new(Mailbox::default());
        let writer = Writer { mailbox: mailbox.clone(), arrivals: self.arrivals.clone() };
        let on_event = move |event| writer.put(event);
        match self.engine.submit(request, on_event) {
            Ok(ticket) => Ok(Served { mailbox, ticket }),
            Err(Refusal::Invalid(error)) => Err(exception(error)),
            // It has ended, since the device was lost.
            Err(Refusal::Draining) => Err(DeviceError::new_err("the device was lost: load the model again")),
            Err(refusal @ (Refusal::Full { .. } | Refusal::TooLarge { .. })) => {
                Err(PyRuntimeError::new_err(refusal.to_string()))
            }
        }
    }
}

/// A request that the engine serves. Dropping it cancels the request.
pub(crate) struct Served {
    mailbox: Arc<Mailbox>,
    ticket: Ticket,
}

impl Served {
    /// The next event, if one is there.
    pub(crate) fn poll(&self) -> Option<Arrival> {
        let arrival = self.mailbox.lock().take();
        arrival.map(|(arrival, has_room_again)| self.taken(arrival, has_room_again))
    }

    fn taken(&self, arrival: Arrival, has_room_again: bool) -> Arrival {
        if has_room_again {
            self.ticket.offer_again();
        }
        arrival
    }

    /// Waits for the next event and looks for signals meanwhile. Call this without the GIL.
    pub(crate) fn wait(&self) -> PyResult<Arrival> {
        /// How long a signal may wait to be noticed.
        const LOOK_TIME: Duration = Duration::from_millis(100);

        loop {
            let state = self.mailbox.lock();
            let waited = self.mailbox.arrived.wait_timeout_while(state, LOOK_TIME, |state| !state.has_some());
            let arrival = waited.unwrap_or_else(PoisonError::into_inner).0.take();
            if let Some((arrival, has_room_again)) = arrival {
                return Ok(self.taken(arrival, has_room_again));
            }
            Python::attach(|py| py.check_signals())?;
        }
    }

    /// Has `call` called once when an event is there; false if one is there already.
    pub(crate) fn call_when_there(&self, call: Py<PyAny>) -> bool {
        let mut state = self.mailbox.lock();
        let waits = !state.has_some();
        if waits {
            // An earlier one belongs to a task that was cancelled.
            let earlier = state.call.replace(call);
            drop(state);
            drop(earlier);
        }
        waits
    }
}

/// What a caller finds in its mailbox.
pub(crate) enum Arrival {
    Event(Event),
    /// Nothing will come any more.
    End,
}

/// Events on their way from the engine to a caller.
#[derive(Default)]
struct Mailbox {
    state: Mutex<Mail>,
    arrived: Condvar,
}

#[derive(Default)]
struct Mail {
    events: VecDeque<Event>,
    /// The engine was told that there is no room.
    is_full: bool,
    /// Nothing will come any more.
    is_closed: bool,
    /// What a task has left to be called.
    call: Option<Py<PyAny>>,
}

impl Mail {
    fn has_some(&self) -> bool {
        self.is_closed || !self.events.is_empty()
    }

    /// The next event, and whether there is room again for others that the engine could not put here.
    fn take(&mut self) -> Option<(Arrival, bool)> {
        let Some(event) = self.events.pop_front() else {
            return self.is_closed.then_some((Arrival::End, false));
        };
        let has_room_again = self.is_full && self.events.len() <= MAX_EVENTS / 2;
        self.is_full &= !has_room_again;
        Some((Arrival::Event(event), has_room_again))
    }
}

impl Mailbox {
    /// Threads hold the lock for microseconds only, and no thread waits for the GIL while it holds it.
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's end of a mailbox.
struct Writer {
    mailbox: Arc<Mailbox>,
    arrivals: Sender<Arc<Mailbox>>,
}

impl Writer {
    fn put(&self, event: Event) -> Delivery {
        let mut state = self.mailbox.lock();
        if state.is_full || state.events.len() >= MAX_EVENTS {
            state.is_full = true;
            return Delivery::Full(event);
        }
        state.events.push_back(event);
        self.tell(state);
        Delivery::Taken
    }

    /// Wakes the thread or the task that waits for the mailbox.
    fn tell(&self, state: MutexGuard<'_, Mail>) {
        let is_task = state.call.is_some();
        drop(state);
        self.mailbox.arrived.notify_all();
        if is_task {
            // The thread that wakes tasks ends after all writers.
            let _ = self.arrivals.send(self.mailbox.clone());
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.mailbox.lock();
        state.is_closed = true;
        self.tell(state);
    }
}

/// Calls what tasks have left in mailboxes where something has arrived. Takes the GIL once for all that have.
fn wake_tasks(arrived: &Receiver<Arc<Mailbox>>) {
    while let Ok(first) = arrived.recv() {
        let mailboxes: Vec<_> = std::iter::once(first).chain(arrived.try_iter()).collect();
        // While Python shuts down no task waits any more.
        Python::try_attach(|py| {
            for mailbox in mailboxes {
                let call = mailbox.lock().call.take();
                // The loop of the task may have been closed.
                let _ = call.map(|call| call.call0(py));
            }
        });
    }
}

/// The exception for a request that failed.
pub(crate) fn failed(failure: Failure) -> PyErr {
    match failure {
        Failure::Model(Error::Cancelled) => exception(Error::Cancelled),
        Failure::Model(error) => exception(error),
        failure @ (Failure::DeviceLost { .. } | Failure::Step { .. } | Failure::Draining) => {
            DeviceError::new_err(failure.to_string())
        }
        failure @ (Failure::Waited { .. } | Failure::Deadline | Failure::NotTaken { .. }) => {
            PyRuntimeError::new_err(failure.to_string())
        }
    }
}
