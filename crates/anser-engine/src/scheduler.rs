//! The engine's thread: turn by turn it takes requests in, runs a step for all of them, and hands out what the step gave.

use crate::cache::TurnCache;
use crate::event::{Event, Failure, Saved};
use crate::job::{Choice, Job, JobId, Phase, Place};
use crate::limits::Limits;
use crate::queue::{Shared, Waiting};
use crate::request::{Start, Tenant, Work};
use anser::{EmbedOptions, Error, FinishReason, Model, RowEvent, RowEventKind, RowId, RowTask, Rows, Session};
use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;
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
/// The most times that the model is loaded again in [`RELOAD_WINDOW`].
const MAX_RELOADS: usize = 3;
const RELOAD_WINDOW: Duration = Duration::from_secs(600);
/// The number of texts from which on further requests for embeddings wait for the next time.
const MAX_EMBEDDED: usize = 32;

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
        let began = Instant::now();
        self.shared.wait(at_most);
        if idle.is_some() && began.elapsed() >= IDLE_TIME {
            self.rows.rest_device()?;
        }
        Ok(())
    }

    /// Drops requests that were cancelled, and fails those whose time is over.
    fn drop_what_is_over(&mut self) {
        let now = Instant::now();
        let max_wait = self.limits.max_wait;
        let is_over = |waiting: &Waiting| {
            let is_late = waiting.request.deadline.is_some_and(|deadline| deadline <= now);
            waiting.is_cancelled() || is_late || now.duration_since(waiting.since) >= max_wait
        };
        let over = self.shared.lock().queue.extract(is_over);
        let (mut n_cancelled, mut n_failed) = (0, 0);
        for waiting in over {
            if waiting.is_cancelled() {
                n_cancelled += 1;
                continue;
            }
            n_failed += 1;
            let is_late = waiting.request.deadline.is_some_and(|deadline| deadline <= now);
            let waited = now.duration_since(waiting.since);
            fail(waiting, if is_late { Failure::Deadline } else { Failure::Waited { waited } });
        }
        let cancelled: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.is_cancelled()).map(|(&id, _)| id).collect();
        n_cancelled += cancelled.len() as u64;
        cancelled.into_iter().for_each(|id| drop(self.remove(id)));
        let mut late = vec![];
        for (&id, job) in &self.jobs {
            let parked = job.outbox.full_for();
            if job.request.deadline.is_some_and(|deadline| deadline <= now) && !job.has_finished() {
                late.push((id, Failure::Deadline));
            } else if parked > self.limits.max_parked {
                late.push((id, Failure::NotTaken { parked }));
            }
        }
        late.into_iter().for_each(|(id, failure)| self.fail_job(id, failure));
        let stats = &mut self.shared.lock().stats;
        stats.n_cancelled += n_cancelled;
        stats.n_failed += n_failed;
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
        let max_prompt_tokens = self.shared.lock().pace.max_prompt_tokens(n_drawing);
        let n_unread = self.rows.n_unread();
        let began = Instant::now();
        #[cfg(test)]
        self.fail_for_a_test()?;
        let events = self.rows.step(max_prompt_tokens)?;
        let elapsed = began.elapsed();
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

    /// A request has left the queue: finds what is cached of its prompt, and begins to read the rest. Errors: the request, which did
    /// not fit, with the reason.
    pub(crate) fn begin(&mut self, waiting: Waiting) -> Result<(), (Box<Waiting>, Error)> {
        if waiting.request.embedding().is_some() {
            self.enter(Job::new(waiting), 0);
            return Ok(());
        }
        let request = &waiting.request;
        let found = match &request.start {
            Start::Fresh if matches!(request.work, Work::Score { .. }) => {
                self.model.session().map(|session| (session, 0))
            }
            Start::Fresh => {
                let needs_logits = matches!(request.work, Work::Generate { .. });
                self.cache.longest(request.tenant, &request.prompt, needs_logits)
            }
            Start::State(saved) => self.model.session().and_then(|mut session| {
                session.resume(&saved.state, &saved.logits)?;
                Ok((session, 0))
            }),
        };
        let (session, n_cached) = match found {
            Ok(found) => found,
            Err(error) => return Err((Box::new(waiting), error)),
        };
        let n_prompt = request.prompt.len();
        let is_fresh = matches!(request.start, Start::Fresh);
        let is_read_in_parts = is_fresh && !matches!(request.work, Work::Score { .. });
        let mut ends: Vec<usize> = request.keep.turns.iter().copied().filter(|_| is_read_in_parts).collect();
        ends.push(n_prompt);
        ends.retain(|&end| end > n_cached && end <= n_prompt);
        ends.sort_unstable();
        ends.dedup();
        let mut job = Job::new(waiting);
        job.phase = Phase::Reading { place: Place::Nowhere, ends: ends.into() };
        let id = self.enter(job, n_cached);
        if let Err(error) = self.read_on(id, session, n_cached) {
            self.fail_job(id, Failure::Model(error));
        }
        Ok(())
    }

    fn enter(&mut self, mut job: Job, n_cached: usize) -> JobId {
        let id = self.next_job;
        self.next_job += 1;
        job.usage.n_cached = n_cached;
        job.outbox.send(Event::Started { n_cached });
        self.shared.lock().stats.n_cached_tokens += n_cached as u64;
        self.jobs.insert(id, job);
        id
    }

    /// Reads the next part of a request's prompt in `session`, which has read the first `n_read` tokens.
    fn read_on(&mut self, id: JobId, session: Session, n_read: usize) -> Result<(), Error> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let Phase::Reading { place, ends } = &mut job.phase else { return Ok(()) };
        let prompt = &job.request.prompt;
        let is_cut = |end: usize| job.request.keep.turns.contains(&end) && matches!(job.request.start, Start::Fresh);
        let is_last = ends.len() <= 1;
        let part = ends.front().map_or(&[][..], |&end| &prompt[n_read..end]);
        let task = match &job.request.work {
            Work::Generate { choices, n_top }
                if is_last && choices.len() == 1 && !ends.front().is_some_and(|&end| is_cut(end)) =>
            {
                RowTask::Generate { options: choices[0].clone(), n_top: *n_top }
            }
            Work::Score { n_top } => RowTask::Score { n_top: *n_top },
            // An empty prompt of a fresh session is token 0, which is read before the session is copied.
            Work::Generate { .. } if !part.is_empty() || session.is_fresh() => RowTask::Read,
            Work::State if !part.is_empty() => RowTask::Read,
            Work::Generate { .. } | Work::State | Work::Embed(_) | Work::EmbedMany { .. } => {
                return self.has_read_all(id, session);
            }
        };
        if let (RowTask::Score { .. }, []) = (&task, part) {
            return self.has_read_all(id, session);
        }
        let generates = matches!(task, RowTask::Generate { .. });
        let row = self.rows.join(session, part, &task)?;
        self.owners.insert(row, (id, 0));
        if generates {
            job.phase = Phase::Generating(vec![Choice { place: Place::Batch(row), tokens: vec![] }]);
        } else {
            *place = Place::Batch(row);
        }
        Ok(())
    }

    /// A row has read its part of a prompt.
    fn has_read_part(&mut self, id: JobId, row: RowId) -> Result<(), Error> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let Phase::Reading { place, ends } = &mut job.phase else { return Ok(()) };
        *place = Place::Nowhere;
        let end = ends.pop_front().unwrap_or(job.request.prompt.len());
        let is_last = ends.is_empty();
        self.owners.remove(&row);
        let Some(mut session) = self.rows.leave(row)? else { return Ok(()) };
        if job.request.keep.turns.contains(&end) && matches!(job.request.start, Start::Fresh) {
            self.cache.insert(job.request.tenant, &job.request.prompt[..end], &mut session)?;
        }
        let went_on = match is_last {
            true => self.has_read_all(id, session),
            false => self.read_on(id, session, end),
        };
        went_on.or_else(|error| self.fail_or(id, error))
    }

    /// A session has read all of a request's prompt, outside of the batch.
    fn has_read_all(&mut self, id: JobId, mut session: Session) -> Result<(), Error> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        match &job.request.work {
            Work::Generate { choices, n_top } => {
                let mut sessions = vec![];
                for _ in 1..choices.len() {
                    sessions.push(session.fork()?);
                }
                sessions.push(session);
                let mut placed = vec![];
                for (choice, (options, session)) in choices.iter().zip(sessions).enumerate() {
                    let task = RowTask::Generate { options: options.clone(), n_top: *n_top };
                    let row = self.rows.join(session, &[], &task)?;
                    self.owners.insert(row, (id, choice));
                    placed.push(Choice { place: Place::Batch(row), tokens: vec![] });
                }
                job.phase = Phase::Generating(placed);
                Ok(())
            }
            Work::State => {
                let saved = saved(&mut session)?;
                job.outbox.send(Event::State(saved));
                self.complete(id);
                Ok(())
            }
            Work::Score { .. } | Work::Embed(_) | Work::EmbedMany { .. } => {
                self.complete(id);
                Ok(())
            }
        }
    }

    /// A text has ended.
    fn has_ended(&mut self, id: JobId, choice: usize, row: RowId, reason: FinishReason) -> Result<(), Error> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let is_fresh = matches!(job.request.start, Start::Fresh);
        let Phase::Generating(choices) = &mut job.phase else { return Ok(()) };
        let Some(of_choice) = choices.get_mut(choice) else { return Ok(()) };
        of_choice.place = Place::Nowhere;
        self.owners.remove(&row);
        let caches = job.request.keep.answer && is_fresh && !job.request.prompt.is_empty();
        let mut state = None;
        if caches || job.request.keep.state {
            let Some(mut session) = self.rows.leave(row)? else { return Ok(()) };
            let kept = if caches {
                let tokens = [&job.request.prompt[..], &of_choice.tokens].concat();
                self.cache.insert(job.request.tenant, &tokens, &mut session)
            } else {
                Ok(())
            };
            let kept = kept.and_then(|()| job.request.keep.state.then(|| saved(&mut session)).transpose());
            match kept {
                Ok(saved) => state = saved,
                Err(error) => return self.fail_or(id, error),
            }
        } else {
            self.rows.discard(row);
        }
        job.outbox.send(Event::Ended { choice, reason, state });
        let all_ended = choices.iter().all(|choice| matches!(choice.place, Place::Nowhere));
        if all_ended {
            self.complete(id);
        }
        Ok(())
    }

    /// Fails a request for an error of its own; hands an error of the device back.
    fn fail_or(&mut self, id: JobId, error: Error) -> Result<(), Error> {
        if error.is_device_lost() {
            return Err(error);
        }
        self.fail_job(id, Failure::Model(error));
        Ok(())
    }

    /// Embeds some of the texts that wait for it, while the others go on between its steps. Returns whether there was one.
    fn embed(&mut self) -> Result<bool, Error> {
        let waits = |(&id, job): (&JobId, &Job)| match job.phase {
            Phase::Embedding(options) => Some((id, options)),
            Phase::Reading { .. } | Phase::Generating(_) | Phase::Finished => None,
        };
        let waiting: Vec<(JobId, EmbedOptions)> = self.jobs.iter().filter_map(waits).collect();
        let Some(&(_, options)) = waiting.first() else { return Ok(false) };
        let same = waiting.into_iter().filter(|(_, other)| *other == options).map(|(id, _)| id);
        // For each request the number of its texts.
        let (mut ids, mut texts) = (vec![], vec![]);
        for id in same {
            if texts.len() >= MAX_EMBEDDED {
                break;
            }
            let of_job = self.jobs.get(&id).and_then(|job| job.request.embedding()).map_or(&[][..], |(_, texts)| texts);
            ids.push((id, of_job.len()));
            texts.extend(of_job.iter().cloned());
        }
        let model = self.model.clone();
        let mut served = Ok(());
        let embeddings = model.embed_batch_for(&texts, &options, |_, _| {
            served = self.serve();
            let nobody_waits = !ids.iter().any(|(id, _)| self.jobs.contains_key(id));
            if served.is_err() || nobody_waits || self.has_to_end() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        served?;
        let embeddings = match embeddings {
            Ok(embeddings) => embeddings,
            Err(Error::Cancelled) => return Ok(true),
            Err(error) if error.is_device_lost() => return Err(error),
            Err(error) => {
                let reason = error.to_string();
                let mut error = Some(error);
                for (id, _) in ids {
                    let failure = match error.take() {
                        Some(error) => Failure::Model(error),
                        None => Failure::Step { reason: reason.clone() },
                    };
                    self.fail_job(id, failure);
                }
                return Ok(true);
            }
        };
        let mut rest = &embeddings[..];
        for (id, n_texts) in ids {
            let (of_job, others) = rest.split_at((n_texts * model.config().n_embd).min(rest.len()));
            rest = others;
            if let Some(job) = self.jobs.get_mut(&id) {
                job.outbox.send(Event::Embedding(of_job.to_vec()));
                self.complete(id);
            }
        }
        Ok(true)
    }

    /// A request has all that it asked for. It stays until its events are taken.
    fn complete(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let usage = job.usage;
        job.outbox.send(Event::Done(usage));
        let elapsed = job.began.elapsed();
        {
            let mut state = self.shared.lock();
            state.stats.n_done += 1;
            state.pace.has_served(elapsed);
        }
        self.finish(id);
    }

    pub(crate) fn fail_job(&mut self, id: JobId, failure: Failure) {
        let is_not_taken = matches!(failure, Failure::NotTaken { .. });
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.has_finished() {
            drop(self.remove(id));
            return;
        }
        job.outbox.send(Event::Failed(failure));
        self.shared.lock().stats.n_failed += 1;
        if is_not_taken {
            drop(self.remove(id));
        } else {
            self.finish(id);
        }
    }

    /// Frees what a request has on the device. It stays, as one that generates nothing more, until its last events are taken.
    fn finish(&mut self, id: JobId) {
        let Some(mut job) = self.remove(id) else { return };
        if job.outbox.is_full() && !job.outbox.is_gone() {
            job.phase = Phase::Finished;
            self.jobs.insert(id, job);
        }
    }

    /// Takes a request out with its rows.
    fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        for place in job.places() {
            match place {
                Place::Batch(row) => {
                    self.rows.discard(*row);
                    self.owners.remove(row);
                }
                Place::Parked(row, _) | Place::Stored(row, ..) => {
                    self.owners.remove(row);
                }
                Place::Nowhere => {}
            }
        }
        Some(job)
    }

    fn fail_all(&mut self, failure: impl Fn() -> Failure) {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        ids.into_iter().for_each(|id| self.fail_job(id, failure()));
    }

    /// The device was lost or a step panicked: all that runs fails, and the model is loaded again. Returns false if it cannot be.
    fn recover(&mut self, reason: &str) -> bool {
        log::error!("{reason}");
        self.fail_all(|| Failure::DeviceLost { reason: reason.into() });
        self.reloads.retain(|at| at.elapsed() < RELOAD_WINDOW);
        let is_often = self.reloads.len() >= MAX_RELOADS;
        self.reloads.push_back(Instant::now());
        let Some(reload) = self.limits.reload.clone().filter(|_| !is_often) else { return false };
        let model = match catch_unwind(AssertUnwindSafe(|| reload.load())) {
            Ok(Ok(model)) => model,
            Ok(Err(error)) => {
                log::error!("the model cannot be loaded again: {error}");
                return false;
            }
            Err(panic) => {
                log::error!("loading the model again panicked: {}", text_of(&*panic));
                return false;
            }
        };
        let rows = std::mem::replace(&mut self.rows, Rows::new(&model));
        // What is left of the old device may fail in any way.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(rows)));
        self.owners.clear();
        let cache = std::mem::replace(&mut self.cache, TurnCache::new(&model, &Default::default()));
        self.cache = cache.for_model(&model);
        self.model = model.clone();
        let mut state = self.shared.lock();
        state.model = model;
        state.stats.n_reloads += 1;
        true
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

/// What a panic says.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("a step panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests;
