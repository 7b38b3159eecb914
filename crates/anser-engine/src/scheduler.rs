//! The engine's thread: turn by turn it takes requests in, runs a step for all of them, and hands out what the step gave.

mod embedding;
mod ending;
mod reading;
mod recovery;

use crate::cache::TurnCache;
use crate::event::{Event, Failure, Saved};
use crate::job::{Job, JobId, Phase, Place};
use crate::limits::Limits;
use crate::queue::{Shared, Waiting};
use crate::request::Tenant;
use crate::turns::Turns;
use anser::{Error, Model, RowEvent, RowEventKind, RowId, Rows, Session};
use recovery::text_of;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The engine's thread has all of this to itself.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) model: Model,
    pub(crate) limits: Limits,
    /// The most sequences on the device. A device that is full lowers it.
    pub(crate) max_rows: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) rows: Rows,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// For each row, its request and which of its texts it is.
    pub(crate) owners: HashMap<RowId, (JobId, usize)>,
    pub(crate) cache: TurnCache,
    next_job: JobId,
    /// How long the thread sleeps next where events are not taken.
    retry_time: Duration,
    /// The times at which the model was loaded again.
    reloads: VecDeque<Instant>,
    /// A step that a test lets fail.
    #[cfg(test)]
    pub(crate) fault: Option<tests::Fault>,
}

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// There is more to do.
    GoesOn,
    /// The engine ends.
    Ends,
}

/// How long the drawing on the device is kept where nothing runs.
const IDLE_TIME: Duration = Duration::from_secs(1);
/// How long the thread sleeps before it offers events again that were not taken, where nothing else is to do: at first, and at most,
/// where it doubles each time.
const RETRY_TIME: Duration = Duration::from_millis(2);
const MAX_RETRY_TIME: Duration = Duration::from_millis(64);

impl Scheduler {
    pub(crate) fn new(model: Model, limits: Limits, max_rows: usize, shared: Arc<Shared>) -> Scheduler {
        Scheduler {
            rows: Rows::new(&model),
            cache: TurnCache::new(&model, &limits.cache),
            model,
            limits,
            max_rows,
            shared,
            jobs: BTreeMap::new(),
            owners: HashMap::new(),
            next_job: 0,
            retry_time: RETRY_TIME,
            reloads: VecDeque::new(),
            #[cfg(test)]
            fault: None,
        }
    }

    /// Serves until the engine ends.
    pub(crate) fn run(mut self) {
        loop {
            let goes_on = match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Ok(Turn::GoesOn)) => true,
                Ok(Ok(Turn::Ends)) => false,
                Ok(Err(error)) if error.is_device_lost() => self.recover(&error.to_string()),
                Ok(Err(error)) => {
                    let reason = error.to_string();
                    self.fail_all(|| Failure::Step { reason: reason.clone() });
                    true
                }
                Err(panic) => self.recover(&text_of(&*panic)),
            };
            if !goes_on {
                break;
            }
        }
        self.fail_all(|| Failure::Draining);
        // The lock is not held while callbacks run, which may drop tickets.
        let waiting = self.shared.close();
        waiting.into_iter().for_each(|waiting| fail(waiting, Failure::Draining));
        self.publish();
        self.shared.end();
    }

    /// Does all that is to do once. Errors: the device has failed, and with it everything that runs.
    fn turn(&mut self) -> Result<Turn, Error> {
        if self.has_to_end() {
            return Ok(Turn::Ends);
        }
        self.serve()?;
        if !self.embed()? && self.rows.n_going() == 0 {
            self.rest()?;
        }
        Ok(Turn::GoesOn)
    }

    /// Takes requests in and runs a step, if a sequence has something to do.
    fn serve(&mut self) -> Result<(), Error> {
        self.drop_what_is_over();
        self.offer_again();
        self.admit()?;
        if self.rows.n_going() > 0 {
            self.retry_time = RETRY_TIME;
            self.step()?;
        }
        self.publish();
        Ok(())
    }

    /// Whether the engine drains and nothing runs, or its time is over.
    fn has_to_end(&self) -> bool {
        let state = self.shared.lock();
        state.drains_by.is_some_and(|by| {
            let is_idle = state.queue.len() == 0 && self.jobs.is_empty();
            is_idle || Instant::now() >= by
        })
    }

    /// Waits for something to do.
    fn rest(&mut self) -> Result<(), Error> {
        let n_free = self.max_rows.saturating_sub(self.n_taken());
        let fits = self.shared.lock().queue.peek().is_some_and(|waiting| waiting.request.n_rows() <= n_free);
        if fits || self.has_to_end() {
            return Ok(());
        }
        let by = self.shared.lock().drains_by.map(|by| by.saturating_duration_since(Instant::now()));
        let unfinished = self.jobs.values().filter(|job| !job.has_finished());
        let deadline = unfinished.filter_map(|job| job.request.deadline).min();
        let until_deadline = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let retry = self.jobs.values().any(|job| job.outbox.is_full()).then_some(self.retry_time);
        // A request that waits though nothing runs needs more places than are free: those of stored or parked sequences.
        let queued = (self.shared.lock().queue.len() > 0).then_some(self.retry_time);
        self.retry_time = (2 * self.retry_time).min(MAX_RETRY_TIME);
        let idle = (self.rows.has_drawing()).then_some(IDLE_TIME);
        let at_most = [by, until_deadline, retry, queued, idle].into_iter().flatten().min();
        self.cache.prepare();
        let began = Instant::now();
        self.shared.wait(at_most);
        if idle.is_some() && began.elapsed() >= IDLE_TIME {
            self.rows.rest_device()?;
        }
        Ok(())
    }

    /// Offers events again that were not taken, and takes the sequences of requests that do not take theirs out of the batch until
    /// they do.
    fn offer_again(&mut self) {
        for job in self.jobs.values_mut() {
            if job.outbox.is_full() {
                job.outbox.retry();
            }
            let parks = job.outbox.is_full();
            for place in job.places_mut() {
                match std::mem::replace(place, Place::Nowhere) {
                    Place::Batch(row) if parks => {
                        *place = match self.rows.discard(row) {
                            Some(taken) => Place::Parked(row, Box::new(taken)),
                            None => Place::Nowhere,
                        };
                    }
                    Place::Parked(id, row) if !parks => {
                        self.rows.put_back(id, *row);
                        *place = Place::Batch(id);
                    }
                    other => *place = other,
                }
            }
        }
        self.jobs.retain(|_, job| !job.has_finished() || job.outbox.is_full());
    }

    /// Runs a step and hands out what it gave.
    fn step(&mut self) -> Result<(), Error> {
        let n_drawing = self.rows.n_drawing();
        let n_reading = self.rows.n_going().saturating_sub(n_drawing);
        let max_prompt_tokens = self.shared.lock().pace.max_prompt_tokens(n_drawing, n_reading);
        let n_unread = self.rows.n_unread();
        let turns = self.limits.turns.clone();
        let turn = turns.as_ref().map(Turns::take);
        let began = Instant::now();
        #[cfg(test)]
        self.fail_for_a_test()?;
        let events = self.rows.step(max_prompt_tokens)?;
        let elapsed = began.elapsed();
        drop(turn);
        let n_read = n_unread.saturating_sub(self.rows.n_unread());
        {
            let mut state = self.shared.lock();
            state.pace.has_stepped(n_drawing, n_read, elapsed);
            state.stats.n_steps += 1;
            state.stats.n_prompt_tokens += n_read as u64;
        }
        for RowEvent { row, kind } in events {
            let Some(&(id, choice)) = self.owners.get(&row) else { continue };
            self.hand_out(id, choice, row, kind)?;
        }
        Ok(())
    }

    fn hand_out(&mut self, id: JobId, choice: usize, row: RowId, kind: RowEventKind) -> Result<(), Error> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        match kind {
            RowEventKind::PromptRead => self.has_read_part(id, row)?,
            RowEventKind::Scored(scores) => job.outbox.send(Event::Scored(scores)),
            RowEventKind::Token(drawn) => {
                job.usage.n_generated += 1;
                if let Phase::Generating(choices) = &mut job.phase
                    && let Some(choice) = choices.get_mut(choice)
                {
                    choice.tokens.push(drawn.id);
                }
                job.outbox.send(Event::Token { choice, drawn });
                self.shared.lock().stats.n_generated_tokens += 1;
            }
            RowEventKind::Text(piece) => job.outbox.send(Event::Text { choice, piece }),
            RowEventKind::Ended(reason) => self.has_ended(id, choice, row, reason)?,
            RowEventKind::Failed(error) => self.fail_job(id, Failure::Model(error)),
        }
        Ok(())
    }

    /// The number of sequences of a tenant on the device.
    pub(crate) fn n_rows_of(&self, tenant: Tenant) -> usize {
        self.jobs.values().filter(|job| job.request.tenant == tenant).map(Job::n_slots).sum()
    }

    /// The number of places on the device that are taken.
    pub(crate) fn n_taken(&self) -> usize {
        self.jobs.values().map(Job::n_slots).sum()
    }

    /// Makes the counts visible to callers.
    fn publish(&mut self) {
        let places = || self.jobs.values().flat_map(Job::places);
        let n_parked = places().filter(|place| matches!(place, Place::Parked(..))).count();
        let n_stored = places().filter(|place| matches!(place, Place::Stored(..))).count();
        let n_rows = places().filter(|place| place.takes_slot()).count();
        let mut state = self.shared.lock();
        let n_waiting = state.queue.len();
        let stats = &mut state.stats;
        (stats.n_parked, stats.n_stored, stats.n_rows, stats.max_rows) = (n_parked, n_stored, n_rows, self.max_rows);
        (stats.n_waiting, stats.n_running) = (n_waiting, self.jobs.len());
        self.cache.add_to(stats);
    }
}

/// The state of a session in main memory.
fn saved(session: &mut Session) -> Result<Arc<Saved>, Error> {
    let state = session.state()?;
    Ok(Arc::new(Saved { state, logits: session.logits().to_vec() }))
}

/// Tells a request that has not left the queue that it failed.
pub(crate) fn fail(waiting: Waiting, failure: Failure) {
    // What is not taken now never is: nothing stays of such a request.
    crate::job::Outbox::new(waiting.on_event).send(Event::Failed(failure));
}

#[cfg(test)]
mod tests;
