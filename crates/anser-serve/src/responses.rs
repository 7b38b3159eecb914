//! The answers of the Responses API that are kept, so that later requests go on from them.

use crate::options::Bounds;
use anser::chat::Message;
use anser_engine::Tenant;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes of all that is kept.
const MAX_N_BYTES: usize = 256 << 20;

/// One request of a conversation and its answer. Responses that go on from it share it.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The turns that the request added, and the answer.
    pub(crate) messages: Vec<Message>,
}

/// An answer that is kept. It never changes: going on from it makes another one.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) tenant: Tenant,
    /// The conversation up to its end, without instructions.
    pub(crate) turns: Vec<Arc<Turn>>,
    /// The object that the client got.
    pub(crate) response: Value,
    /// What the request read, as the client sent it.
    pub(crate) input: Vec<Value>,
    stored: Instant,
    _bytes: Counted,
}

/// Bytes that count as kept while it lives.
#[derive(Debug)]
struct Counted {
    n_bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(self.n_bytes, Ordering::Relaxed);
    }
}

/// The answers of all tenants, within bounds of number, age and bytes: the oldest goes first.
#[derive(Debug)]
pub(crate) struct ResponseStore {
    kept: Mutex<Kept>,
    n_bytes: Arc<AtomicUsize>,
    max_len: usize,
    max_age: Duration,
}

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<String, Arc<Stored>>,
    /// The identifiers from the oldest one on; some were deleted.
    order: VecDeque<String>,
}

/// An answer that is about to be kept.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) id: String,
    pub(crate) tenant: Tenant,
    pub(crate) turns: Vec<Arc<Turn>>,
    pub(crate) response: Value,
    pub(crate) input: Vec<Value>,
}

impl ResponseStore {
    pub(crate) fn new(bounds: &Bounds) -> ResponseStore {
        ResponseStore {
            kept: Mutex::default(),
            n_bytes: Arc::default(),
            max_len: bounds.max_responses,
            max_age: bounds.response_age,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of this identifier, if it is the tenant's.
    pub(crate) fn get(&self, tenant: Tenant, id: &str) -> Option<Arc<Stored>> {
        let mut kept = self.lock();
        self.shrink(&mut kept);
        kept.by_id.get(id).filter(|stored| stored.tenant == tenant).cloned()
    }

    /// Deletes an answer; those that go on from it stay. Returns whether the tenant had it.
    pub(crate) fn delete(&self, tenant: Tenant, id: &str) -> bool {
        let mut kept = self.lock();
        let is_there = kept.by_id.get(id).is_some_and(|stored| stored.tenant == tenant);
        if is_there {
            kept.by_id.remove(id);
        }
        is_there
    }

    pub(crate) fn insert(&self, new: New) {
        let New { id, tenant, turns, response, input } = new;
        let of_turn = turns.last().map_or(0, |turn| turn.messages.iter().map(|m| m.content.len() + 64).sum());
        let of_json = response.to_string().len() + input.iter().map(|item| item.to_string().len()).sum::<usize>();
        let n_bytes = of_turn + of_json + 8 * turns.len() + 512;
        self.n_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        let bytes = Counted { n_bytes, all: self.n_bytes.clone() };
        let stored = Stored { tenant, turns, response, input, stored: Instant::now(), _bytes: bytes };
        let mut kept = self.lock();
        kept.order.push_back(id.clone());
        kept.by_id.insert(id, Arc::new(stored));
        self.shrink(&mut kept);
    }

    /// Drops what is too old or too much.
    fn shrink(&self, kept: &mut Kept) {
        while let Some(oldest) = kept.order.front() {
            let is_over = match kept.by_id.get(oldest) {
                None => true,
                Some(stored) => {
                    kept.by_id.len() > self.max_len
                        || stored.stored.elapsed() > self.max_age
                        || self.n_bytes.load(Ordering::Relaxed) > MAX_N_BYTES
                }
            };
            if !is_over {
                return;
            }
            if let Some(id) = kept.order.pop_front() {
                kept.by_id.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{New, ResponseStore, Turn};
    use crate::options::Bounds;
    use anser::chat::Message;
    use anser_engine::Tenant;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    fn new(id: &str, tenant: u64) -> New {
        let turn = Arc::new(Turn { messages: vec![Message::user("hello")] });
        let (id, tenant) = (id.to_owned(), Tenant(tenant));
        New { id, tenant, turns: vec![turn], response: serde_json::json!({}), input: vec![] }
    }

    #[test]
    fn answers_belong_to_their_tenants() {
        let store = ResponseStore::new(&Bounds::default());
        store.insert(new("a", 1));
        assert!(store.get(Tenant(1), "a").is_some() && store.get(Tenant(2), "a").is_none());
        assert!(!store.delete(Tenant(2), "a") && store.delete(Tenant(1), "a") && !store.delete(Tenant(1), "a"));
        assert_eq!(store.n_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_oldest_goes_first() {
        let store = ResponseStore::new(&Bounds { max_responses: 2, ..Bounds::default() });
        ["a", "b", "c"].iter().for_each(|id| store.insert(new(id, 0)));
        let is_there = |id| store.get(Tenant(0), id).is_some();
        assert_eq!(["a", "b", "c"].map(is_there), [false, true, true]);
        let brief = ResponseStore::new(&Bounds { response_age: Duration::ZERO, ..Bounds::default() });
        brief.insert(new("a", 0));
        assert!(brief.get(Tenant(0), "a").is_none());
    }
}
