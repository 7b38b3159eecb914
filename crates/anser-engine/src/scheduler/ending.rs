//! The ends of texts and of requests, wanted or not.

use super::{Scheduler, fail, saved};
use crate::event::{Event, Failure};
use crate::job::{Job, JobId, Phase, Place};
use crate::queue::Waiting;
use anser::{Error, FinishReason, RowId};
use std::time::Instant;

impl Scheduler {
    /// Drops requests that were cancelled, and fails those whose time is over.
    pub(super) fn drop_what_is_over(&mut self) {
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

    /// A text has ended.
    pub(super) fn has_ended(
        &mut self,
        id: JobId,
        choice: usize,
        row: RowId,
        reason: FinishReason,
    ) -> Result<(), Error> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let begins_document = job.request.start.begins_document();
        let Phase::Generating(choices) = &mut job.phase else { return Ok(()) };
        let Some(of_choice) = choices.get_mut(choice) else { return Ok(()) };
        of_choice.place = Place::Nowhere;
        self.owners.remove(&row);
        let caches = job.request.keep.answer && begins_document && !job.request.prompt.is_empty();
        let mut state = None;
        if caches || job.request.keep.state {
            let Some(mut session) = self.rows.leave(row)? else { return Ok(()) };
            let kept = if caches {
                let tokens = [&job.request.prompt[..], &of_choice.tokens].concat();
                let owner = job.request.start.cached_for(job.request.tenant);
                self.cache.insert(owner, &tokens, &mut session)
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
    pub(super) fn fail_or(&mut self, id: JobId, error: Error) -> Result<(), Error> {
        if error.is_device_lost() {
            return Err(error);
        }
        self.fail_job(id, Failure::Model(error));
        Ok(())
    }

    /// A request has all that it asked for. It stays until its events are taken.
    pub(super) fn complete(&mut self, id: JobId) {
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
    pub(super) fn finish(&mut self, id: JobId) {
        let Some(mut job) = self.remove(id) else { return };
        if job.outbox.is_full() && !job.outbox.is_gone() {
            job.phase = Phase::Finished;
            self.jobs.insert(id, job);
        }
    }

    /// Takes a request out with its rows.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
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

    pub(super) fn fail_all(&mut self, failure: impl Fn() -> Failure) {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        ids.into_iter().for_each(|id| self.fail_job(id, failure()));
    }
}
