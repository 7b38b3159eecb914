//! The engine's work on one HTTP request: one or several requests of the engine, whose updates come in one stream. Dropping it
//! cancels what is not complete.

use crate::answer::{EventReader, Update};
use crate::app::App;
use crate::error::ApiError;
use crate::meter::Meter;
use crate::served::Served;
use anser_engine::{Delivery, Event, Refusal, Request, Ticket};
use axum::http::StatusCode;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tokio::time::Sleep;

/// The most updates that wait for a client to take them.
const MAX_UPDATES: usize = 256;
/// How long a request of several waits before it is offered to an engine again whose queue was full.
const RETRY_TIME: Duration = Duration::from_millis(200);

/// The numbers of tokens of an HTTP request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) n_prompt: usize,
    pub(crate) n_cached: usize,
    pub(crate) n_generated: usize,
    pub(crate) n_reasoning: usize,
}

/// A request of the engine, with what reads its events.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) reader: EventReader,
}

/// The requests of the engine that belong to one HTTP request. Each has its index in the order in which they were given.
#[derive(Debug)]
pub(crate) struct Flight {
    app: Arc<App>,
    served: Arc<Served>,
    /// The identifier under which the log tells of it.
    id: String,
    /// `None` once all requests are with the engine: the channel then closes with the last of them.
    to: Option<Sender<(usize, Update)>>,
    from: Receiver<(usize, Update)>,
    /// Set when an update was not taken for lack of room.
    is_full: Arc<AtomicBool>,
    tickets: HashMap<usize, Ticket>,
    waiting: VecDeque<(usize, Job)>,
    waits_since: Instant,
    retry: Option<Pin<Box<Sleep>>>,
}

impl Flight {
    /// Gives `jobs` to the engine, as many at once as one client may; the others follow as these end.
    ///
    /// Errors: the engine refuses any of them for what it asks, or the first one for lack of room.
    pub(crate) fn start(app: &Arc<App>, served: &Arc<Served>, id: &str, jobs: Vec<Job>) -> Result<Flight, ApiError> {
        let (to, from) = mpsc::channel(MAX_UPDATES);
        let mut flight = Flight {
            app: app.clone(),
            served: served.clone(),
            id: id.to_owned(),
            to: Some(to),
            from,
            is_full: Arc::default(),
            tickets: HashMap::new(),
            waiting: jobs.into_iter().enumerate().collect(),
            waits_since: Instant::now(),
            retry: None,
        };
        flight.submit()?;
        Ok(flight)
    }

    /// Gives further requests to the engine while it takes them.
    fn submit(&mut self) -> Result<(), ApiError> {
        self.retry = None;
        while self.tickets.len() < self.served.max_at_once
            && let Some(to) = self.to.clone()
            && let Some((index, Job { request, reader })) = self.waiting.pop_front()
        {
            // Where others of this HTTP request follow or went before, the request is kept in case that the queue is full now.
            let kept = (index > 0).then(|| request.clone());
            let reader = Arc::new(Mutex::new((reader, Meter::new(self.app.clone(), self.id.clone()))));
            match self.served.engine.submit(request, self.callback(index, to, reader.clone())) {
                Ok(ticket) => {
                    self.waits_since = Instant::now();
                    self.tickets.insert(index, ticket);
                }
                Err(refusal) => {
                    let taken_back = Arc::into_inner(reader).and_then(|reader| reader.into_inner().ok());
                    let Some((reader, mut meter)) = taken_back else { return Err(refusal.into()) };
                    meter.refused();
                    let may_wait = self.waits_since.elapsed() < self.served.limits.max_wait;
                    match (refusal, kept) {
                        (Refusal::Full { .. }, Some(request)) if may_wait => {
                            self.waiting.push_front((index, Job { request, reader }));
                            self.retry = Some(Box::pin(tokio::time::sleep(RETRY_TIME)));
                            return Ok(());
                        }
                        (refusal, _) => return Err(refusal.into()),
                    }
                }
            }
        }
        if self.waiting.is_empty() {
            self.to = None;
        }
        Ok(())
    }

    /// What the engine calls with the events of the request `index`.
    fn callback(
        &self,
        index: usize,
        to: Sender<(usize, Update)>,
        reader: Arc<Mutex<(EventReader, Meter)>>,
    ) -> impl FnMut(Event) -> Delivery + Send + 'static {
        let is_full = self.is_full.clone();
        move |event| match to.try_reserve() {
            Ok(room) => {
                let (reader, meter) = &mut *reader.lock().unwrap_or_else(PoisonError::into_inner);
                meter.see(&event);
                if let Some(update) = reader.read(event) {
                    room.send((index, update));
                }
                Delivery::Taken
            }
            Err(TrySendError::Full(())) => {
                is_full.store(true, Ordering::Relaxed);
                Delivery::Full(event)
            }
            Err(TrySendError::Closed(())) => Delivery::Gone,
        }
    }

    /// The next update; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Option<(usize, Result<Update, ApiError>)> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Flight::next`] for streams.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Result<Update, ApiError>)>> {
        loop {
            if let Some(retry) = &mut self.retry
                && retry.as_mut().poll(context).is_ready()
                && let Err(error) = self.submit()
            {
                return Poll::Ready(Some((0, Err(error))));
            }
            if self.tickets.is_empty() && self.waiting.is_empty() {
                return Poll::Ready(None);
            }
            let update = match self.from.poll_recv(context) {
                Poll::Ready(update) => update,
                // A timer that was set above must be polled once to wake this task.
                Poll::Pending if self.retry.as_mut().is_some_and(|retry| retry.as_mut().poll(context).is_ready()) => {
                    continue;
                }
                Poll::Pending => return Poll::Pending,
            };
            if self.is_full.swap(false, Ordering::Relaxed) {
                self.tickets.values().for_each(Ticket::offer_again);
            }
            let Some((index, update)) = update else {
                // The engine has dropped the request, since its updates were not taken.
                let error =
                    ApiError::new(StatusCode::GATEWAY_TIMEOUT, Some("not_read"), "the answer was not read in time");
                return Poll::Ready(Some((0, Err(error))));
            };
            match update {
                Update::Failed(failure) => return Poll::Ready(Some((index, Err(failure.into())))),
                Update::Done(usage) => {
                    self.tickets.remove(&index);
                    let submitted = self.submit();
                    let done = submitted.map(|()| Update::Done(usage));
                    return Poll::Ready(Some((index, done)));
                }
                update => return Poll::Ready(Some((index, Ok(update)))),
            }
        }
    }
}
