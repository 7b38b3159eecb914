//! The requests that wait, and what the engine's thread and its callers share.

use crate::delivery::OnEvent;
use crate::pace::Pace;
use crate::request::{Refusal, Request, Tenant};
use crate::stats::Stats;
use anser::Model;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A request that waits.
pub(crate) struct Waiting {
    pub(crate) request: Request,
    pub(crate) on_event: OnEvent,
    pub(crate) is_cancelled: Arc<AtomicBool>,
    pub(crate) since: Instant,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("request", &self.request).finish_non_exhaustive()
    }
}

/// The requests that wait: the tenants take turns, and each one's requests are served in their order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    of_tenants: BTreeMap<Tenant, VecDeque<Waiting>>,
    /// The tenant that was served last.
    last: Option<Tenant>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.of_tenants.values().map(VecDeque::len).sum()
    }

    pub(crate) fn len_of(&self, tenant: Tenant) -> usize {
        self.of_tenants.get(&tenant).map_or(0, VecDeque::len)
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.of_tenants.entry(waiting.request.tenant).or_default().push_back(waiting);
    }

    /// Puts a request back that was the next one.
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        let tenant = waiting.request.tenant;
        self.of_tenants.entry(tenant).or_default().push_front(waiting);
        // Its tenant stays the next one: the one that was served last is the one before it in the order of turns.
        self.last = self.of_tenants.range(..tenant).next_back().or(self.of_tenants.last_key_value()).map(|(&t, _)| t);
    }

    /// The tenant whose turn it is: the next one after the last, in a circle.
    fn next_tenant(&self) -> Option<Tenant> {
        use std::ops::Bound::{Excluded, Unbounded};

        let after = self.last.map_or(Unbounded, Excluded);
        self.of_tenants
            .range((after, Unbounded))
            .next()
            .or(self.of_tenants.first_key_value())
            .map(|(&tenant, _)| tenant)
    }

    /// The next request, without taking it.
    pub(crate) fn peek(&self) -> Option<&Waiting> {
        self.of_tenants.get(&self.next_tenant()?)?.front()
    }

    /// Takes the next request.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let tenant = self.next_tenant()?;
        let waiting = self.of_tenants.get_mut(&tenant)?.pop_front();
        self.last = Some(tenant);
        self.of_tenants.retain(|_, queue| !queue.is_empty());
        waiting
    }

    /// Takes out the requests for which `is_over` holds.
    pub(crate) fn extract(&mut self, is_over: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let mut over = vec![];
        for queue in self.of_tenants.values_mut() {
            let (gone, rest): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(queue).into_iter().partition(|waiting| is_over(waiting));
            over.extend(gone);
            *queue = rest;
        }
        self.of_tenants.retain(|_, queue| !queue.is_empty());
        over
    }
}

/// What the engine's thread and its callers share. The lock is held for moments only, never for a step.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: Queue,
    pub(crate) pace: Pace,
    pub(crate) stats: Stats,
    /// The model, which a loss of the device replaces.
    pub(crate) model: Model,
    /// The time at which all requests end, if no more are taken.
    pub(crate) drains_by: Option<Instant>,
    /// The engine's thread has ended.
    pub(crate) has_ended: bool,
    /// Something has changed since the thread looked last.
    is_new: bool,
}

impl Shared {
    pub(crate) fn new(model: Model, max_rows: usize) -> Shared {
        let stats = Stats { max_rows, ..Stats::default() };
        let state = State {
            queue: Queue::default(),
            pace: Pace::default(),
            stats,
            model,
            drains_by: None,
            has_ended: false,
            is_new: false,
        };
        Shared { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the thread, and those that wait for its end, that something has changed.
    pub(crate) fn wake(&self) {
        self.lock().is_new = true;
        self.changed.notify_all();
    }

    /// Waits until something has changed, for `at_most` if given. Only the engine's thread calls this.
    pub(crate) fn wait(&self, at_most: Option<Duration>) {
        let mut state = self.lock();
        if !state.is_new {
            state = match at_most {
                Some(time) => {
                    let waited = self.changed.wait_timeout_while(state, time, |state| !state.is_new);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait_while(state, |state| !state.is_new).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.is_new = false;
    }

    /// Waits until the thread has ended.
    pub(crate) fn wait_for_end(&self) {
        let ended = self.changed.wait_while(self.lock(), |state| !state.has_ended);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes no more requests in, and returns those that wait.
    pub(crate) fn close(&self) -> Vec<Waiting> {
        let mut state = self.lock();
        state.drains_by.get_or_insert_with(Instant::now);
        state.queue.extract(|_| true)
    }

    /// Tells that the thread has ended.
    pub(crate) fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// Takes in a request, if there is room.
    pub(crate) fn enter(&self, waiting: Waiting, max: usize, max_of_tenant: usize) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.drains_by.is_some() || state.has_ended {
            return Err(Refusal::Draining);
        }
        let full = |n_waiting, state: &State| Refusal::Full {
            n_waiting,
            retry_after: state.pace.retry_after(n_waiting, state.stats.max_rows),
        };
        let (n, n_of_tenant) = (state.queue.len(), state.queue.len_of(waiting.request.tenant));
        if n >= max {
            return Err(full(n, &state));
        }
        if n_of_tenant >= max_of_tenant {
            return Err(full(n_of_tenant, &state));
        }
        state.queue.push(waiting);
        state.stats.n_waiting = state.queue.len();
        state.is_new = true;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }
}

impl Waiting {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Queue, Waiting};
    use crate::delivery::Delivery;
    use crate::request::{Request, Tenant, Work};
    use std::time::Instant;

    fn waiting(tenant: u64, mark: u32) -> Waiting {
        let request = Request { tenant: Tenant(tenant), ..Request::new(vec![mark], Work::State) };
        let on_event = Box::new(|_| Delivery::Taken);
        Waiting { request, on_event, is_cancelled: Default::default(), since: Instant::now() }
    }

    fn marks(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).map(|waiting| waiting.request.prompt[0]).collect()
    }

    #[test]
    fn tenants_take_turns_and_each_keeps_its_order() {
        let mut queue = Queue::default();
        for (tenant, mark) in [(1, 10), (1, 11), (1, 12), (2, 20), (3, 30), (3, 31)] {
            queue.push(waiting(tenant, mark));
        }
        assert_eq!((queue.len(), queue.len_of(Tenant(1)), queue.len_of(Tenant(9))), (6, 3, 0));
        let first = queue.pop().unwrap();
        assert_eq!(first.request.prompt, [10]);
        // One that could not be served is the next again.
        let second = queue.pop().unwrap();
        assert_eq!(second.request.prompt, [20]);
        queue.put_back(second);
        assert_eq!(queue.peek().unwrap().request.prompt, [20]);
        assert_eq!(marks(&mut queue), [20, 30, 11, 31, 12]);
        assert!(queue.peek().is_none());
    }

    #[test]
    fn a_tenant_that_came_late_is_served_next() {
        let mut queue = Queue::default();
        (0..5).for_each(|i| queue.push(waiting(7, i)));
        queue.pop();
        queue.push(waiting(3, 100));
        assert_eq!(marks(&mut queue), [100, 1, 2, 3, 4]);
    }

    #[test]
    fn requests_that_are_over_leave() {
        let mut queue = Queue::default();
        (0..6).for_each(|i| queue.push(waiting(u64::from(i % 2), i)));
        let over = queue.extract(|waiting| waiting.request.prompt[0] < 3);
        assert_eq!(over.len(), 3);
        assert_eq!(marks(&mut queue), [4, 3, 5]);
    }
}
