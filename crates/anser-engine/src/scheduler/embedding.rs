//! Embeddings, which are computed between the steps of the other requests.

use super::Scheduler;
use crate::event::{Event, Failure};
use crate::job::{Job, JobId, Phase};
use anser::{EmbedOptions, Error};
use std::ops::ControlFlow;

/// The number of texts from which on further requests for embeddings wait for the next time.
const MAX_EMBEDDED: usize = 32;

impl Scheduler {
    /// Embeds some of the texts that wait for it, while the others go on between its steps. Returns whether there was one.
    pub(super) fn embed(&mut self) -> Result<bool, Error> {
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
}
