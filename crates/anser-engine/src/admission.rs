//! Who gets the places on the device.

use crate::event::Failure;
use crate::job::{JobId, Place};
use crate::request::Tenant;
use crate::scheduler::{Scheduler, fail};
use anser::{Error, StoredRow};
use std::time::Instant;

impl Scheduler {
    /// Lets requests in while there are free places: the tenants take turns, and sequences that made room come back in the order of
    /// their waiting.
    pub(crate) fn admit(&mut self) -> Result<(), Error> {
        loop {
            let n_free = self.max_rows.saturating_sub(self.n_taken());
            let head = {
                let state = self.shared.lock();
                state.queue.peek().map(|waiting| (waiting.since, waiting.request.n_rows(), waiting.request.tenant))
            };
            let stored = self.longest_stored();
            let comes_back = match (stored, head) {
                (Some((_, _, since)), Some((waiting_since, ..))) => since <= waiting_since,
                (Some(_), None) => true,
                (None, _) => false,
            };
            match (stored, head) {
                (Some((id, choice, _)), _) if comes_back && n_free > 0 => {
                    if !self.come_back(id, choice)? {
                        return Ok(());
                    }
                }
                (_, Some((_, n_rows, _))) if !comes_back && n_rows <= n_free => {
                    if !self.let_in()? {
                        return Ok(());
                    }
                }
                (_, Some((since, _, tenant))) if !comes_back => {
                    if !self.make_room(Some((tenant, since)))? {
                        return Ok(());
                    }
                }
                (Some(_), _) if self.make_room(None)? => {}
                _ => return Ok(()),
            }
        }
    }

    /// Lets the next request in. Returns false if the device has no room for it.
    fn let_in(&mut self) -> Result<bool, Error> {
        let Some(waiting) = self.shared.lock().queue.pop() else { return Ok(false) };
        match self.begin(waiting) {
            Ok(()) => Ok(true),
            Err((waiting, error)) if error.is_device_lost() => {
                fail(*waiting, Failure::DeviceLost { reason: error.to_string() });
                self.shared.lock().stats.n_failed += 1;
                Err(error)
            }
            Err((waiting, error)) if error.is_out_of_memory() && self.n_taken() > 0 => {
                log::info!("fewer sequences at once, since the device is full: {error}");
                self.max_rows = self.n_taken();
                self.shared.lock().queue.put_back(*waiting);
                Ok(false)
            }
            Err((waiting, error)) => {
                fail(*waiting, Failure::Model(error));
                self.shared.lock().stats.n_failed += 1;
                Ok(true)
            }
        }
    }

    /// The sequence that has been in main memory for longest and whose events are taken: its request, which of its texts it is, and
    /// since when.
    fn longest_stored(&self) -> Option<(JobId, usize, Instant)> {
        let of_job = |(&id, job): (&JobId, &crate::job::Job)| {
            let is_full = job.outbox.is_full();
            let of_place = move |(at, place): (usize, &Place)| match place {
                Place::Stored(_, _, since) if !is_full => Some((id, at, *since)),
                Place::Stored(..) | Place::Batch(_) | Place::Parked(..) | Place::Nowhere => None,
            };
            let places: Vec<_> = job.places().into_iter().enumerate().filter_map(of_place).collect();
            places
        };
        self.jobs.iter().flat_map(of_job).min_by_key(|(_, _, since)| *since)
    }

    /// Brings a sequence back from main memory. Returns false if the device has no room for it.
    fn come_back(&mut self, id: JobId, at: usize) -> Result<bool, Error> {
        let model = self.model.clone();
        let Some(place) = self.jobs.get_mut(&id).and_then(|job| job.places_mut().into_iter().nth(at)) else {
            return Ok(false);
        };
        let Place::Stored(row, stored, since) = std::mem::replace(place, Place::Nowhere) else { return Ok(false) };
        match stored.restore(&model) {
            Ok(restored) => {
                *place = Place::Batch(row);
                self.rows.put_back(row, restored);
                Ok(true)
            }
            Err((_, error)) if error.is_device_lost() => Err(error),
            Err((stored, error)) if error.is_out_of_memory() => {
                *place = Place::Stored(row, stored, since);
                Ok(false)
            }
            Err((_, error)) => {
                self.fail_job(id, Failure::Model(error));
                Ok(true)
            }
        }
    }

    /// Moves a sequence to main memory: one whose events are not taken, or, for a request of a tenant that has nothing running and that
    /// has waited for long, one of a tenant that has several. `waiting`: the tenant, and since when the request waits. Returns whether
    /// it did.
    fn make_room(&mut self, waiting: Option<(Tenant, Instant)>) -> Result<bool, Error> {
        let parked = self
            .jobs
            .iter()
            .find_map(|(&id, job)| Some((id, job.movable(|place| matches!(place, Place::Parked(..)))?)));
        let victim = parked.or_else(|| {
            let (tenant, since) = waiting?;
            if since.elapsed() < self.limits.preempt_after || self.n_rows_of(tenant) > 0 {
                return None;
            }
            let of_job = |(&id, job): (&JobId, &crate::job::Job)| {
                let at = job.movable(|place| matches!(place, Place::Batch(_)))?;
                Some((self.n_rows_of(job.request.tenant), id, at))
            };
            let most = self.jobs.iter().filter_map(of_job).max();
            most.filter(|&(n_rows, ..)| n_rows > 1).map(|(_, id, at)| (id, at))
        });
        let Some((id, at)) = victim else { return Ok(false) };
        let Some(place) = self.jobs.get_mut(&id).and_then(|job| job.places_mut().into_iter().nth(at)) else {
            return Ok(false);
        };
        let taken = match std::mem::replace(place, Place::Nowhere) {
            Place::Batch(row) => self.rows.take(row)?.map(|taken| (row, taken)),
            Place::Parked(row, taken) => Some((row, *taken)),
            other => {
                *place = other;
                return Ok(false);
            }
        };
        let Some((row, taken)) = taken else { return Ok(false) };
        match taken.store() {
            Ok(stored) => {
                let stored: Box<StoredRow> = Box::new(stored);
                *place = Place::Stored(row, stored, Instant::now());
                Ok(true)
            }
            Err(error) if error.is_device_lost() => Err(error),
            Err(error) => {
                self.fail_job(id, Failure::Model(error));
                Ok(true)
            }
        }
    }
}
