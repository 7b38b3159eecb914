//! Prompts: what is cached of them, and the parts in which the rest is read.

use super::{Scheduler, saved};
use crate::event::{Event, Failure};
use crate::job::{Choice, Job, JobId, Phase, Place};
use crate::queue::Waiting;
use crate::request::Work;
use anser::{Error, RowId, RowTask, Session};

impl Scheduler {
    /// A request has left the queue: finds what is cached of its prompt, and begins to read the rest. Errors: the request, which did
    /// not fit, with the reason.
    pub(crate) fn begin(&mut self, waiting: Waiting) -> Result<(), (Box<Waiting>, Error)> {
        if waiting.request.embedding().is_some() {
            self.enter(Job::new(waiting), 0);
            return Ok(());
        }
        let request = &waiting.request;
        let found = match &request.start {
            start if !start.begins_document() || matches!(request.work, Work::Score { .. }) => {
                start.session(&self.model).map(|session| (session, 0))
            }
            start => {
                // Whoever goes on from a state without another token draws from its logits.
                let needs_logits = matches!(request.work, Work::Generate { .. } | Work::State);
                let found = self.cache.longest(start.cached_for(request.tenant), &request.prompt, needs_logits);
                match found {
                    Ok((_, 0)) => start.session(&self.model).map(|session| (session, 0)),
                    found => found,
                }
            }
        };
        let found = found.and_then(|(mut session, n_cached)| {
            // What has led to a cached state, for proposals of next tokens.
            (n_cached > 0).then(|| session.recall(&request.prompt[..n_cached])).transpose()?;
            Ok((session, n_cached))
        });
        let (session, n_cached) = match found {
            Ok(found) => found,
            Err(error) => return Err((Box::new(waiting), error)),
        };
        let n_prompt = request.prompt.len();
        let is_read_in_parts = request.start.begins_document() && !matches!(request.work, Work::Score { .. });
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

    pub(super) fn enter(&mut self, mut job: Job, n_cached: usize) -> JobId {
        let id = self.next_job;
        self.next_job += 1;
        job.usage.n_cached = n_cached;
        job.outbox.send(Event::Started { n_cached });
        self.shared.lock().stats.n_cached_tokens += n_cached as u64;
        self.jobs.insert(id, job);
        id
    }

    /// Reads the next part of a request's prompt in `session`, which has read the first `n_read` tokens.
    pub(super) fn read_on(&mut self, id: JobId, session: Session, n_read: usize) -> Result<(), Error> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let Phase::Reading { place, ends } = &mut job.phase else { return Ok(()) };
        let prompt = &job.request.prompt;
        let is_cut = |end: usize| job.request.keep.turns.contains(&end) && job.request.start.begins_document();
        let is_last = ends.len() <= 1;
        let part = ends.front().map_or(&[][..], |&end| &prompt[n_read..end]);
        let task = match &job.request.work {
            Work::Generate { choices, n_top }
                if is_last && choices.len() == 1 && !ends.front().is_some_and(|&end| is_cut(end)) =>
            {
                RowTask::Generate { options: choices[0].clone(), n_top: *n_top }
            }
            Work::Score { n_top } => RowTask::Score { n_top: *n_top },
            // An empty prompt of a fresh session is the token that begins a document, which is read before the session is copied.
            // A state that is cached on the way is gone on from with the tokens that follow, so that its logits are not needed.
            Work::Generate { .. } if !part.is_empty() || session.is_fresh() => RowTask::Read { wants_logits: is_last },
            Work::State if !part.is_empty() => RowTask::Read { wants_logits: is_last },
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
    pub(super) fn has_read_part(&mut self, id: JobId, row: RowId) -> Result<(), Error> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let Phase::Reading { place, ends } = &mut job.phase else { return Ok(()) };
        *place = Place::Nowhere;
        let end = ends.pop_front().unwrap_or(job.request.prompt.len());
        let is_last = ends.is_empty();
        self.owners.remove(&row);
        let Some(mut session) = self.rows.leave(row)? else { return Ok(()) };
        if job.request.keep.turns.contains(&end) && job.request.start.begins_document() {
            let owner = job.request.start.cached_for(job.request.tenant);
            self.cache.insert(owner, &job.request.prompt[..end], &mut session)?;
        }
        let went_on = match is_last {
            true => self.has_read_all(id, session),
            false => self.read_on(id, session, end),
        };
        went_on.or_else(|error| self.fail_or(id, error))
    }

    /// A session has read all of a request's prompt, outside of the batch.
    pub(super) fn has_read_all(&mut self, id: JobId, mut session: Session) -> Result<(), Error> {
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
}
