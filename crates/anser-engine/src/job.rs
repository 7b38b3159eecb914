//! A request that has left the queue: its sequences, its events, and how far it has come.

use crate::delivery::{Delivery, OnEvent};
use crate::event::{Event, Usage};
use crate::queue::Waiting;
use crate::request::Request;
use anser::{EmbedOptions, Row, RowId, StoredRow};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) type JobId = u64;

/// A request that has left the queue.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) outbox: Outbox,
    is_cancelled: Arc<AtomicBool>,
    pub(crate) began: Instant,
    pub(crate) phase: Phase,
    pub(crate) usage: Usage,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// It reads its prompt, in parts that end where a state is cached. `ends`: the lengths of the prompt up to the ends of the parts
    /// that have not been read.
    Reading { place: Place, ends: VecDeque<usize> },
    /// It generates its texts.
    Generating(Vec<Choice>),
    /// It waits to be embedded.
    Embedding(EmbedOptions),
    /// It has all that it asked for, or failed, and its last events were not taken yet.
    Finished,
}

/// One of the texts of a request.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) place: Place,
    /// The tokens drawn so far, but for a stop token.
    pub(crate) tokens: Vec<u32>,
}

/// Where a sequence is.
#[derive(Debug)]
pub(crate) enum Place {
    /// In the batch.
    Batch(RowId),
    /// On the device, outside of the batch: its events are not taken.
    Parked(RowId, Box<Row>),
    /// In main memory.
    Stored(RowId, Box<StoredRow>, Instant),
    /// Nowhere: it has ended, or is between two places.
    Nowhere,
}

impl Place {
    /// Whether it takes one of the places on the device.
    pub(crate) fn takes_slot(&self) -> bool {
        match self {
            Place::Batch(_) | Place::Parked(..) => true,
            Place::Stored(..) | Place::Nowhere => false,
        }
    }
}

impl Job {
    pub(crate) fn new(waiting: Waiting) -> Job {
        let Waiting { request, on_event, is_cancelled, since: _ } = waiting;
        let n_embedded = request.embedding().map(|(_, texts)| texts.iter().map(Vec::len).sum());
        let usage = Usage { n_prompt: n_embedded.unwrap_or(request.prompt.len()), ..Usage::default() };
        let phase = match request.embedding() {
            Some((options, _)) => Phase::Embedding(options),
            None => Phase::Reading { place: Place::Nowhere, ends: VecDeque::new() },
        };
        Job { request, outbox: Outbox::new(on_event), is_cancelled, began: Instant::now(), phase, usage }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.outbox.is_gone || self.is_cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn places(&self) -> Vec<&Place> {
        match &self.phase {
            Phase::Reading { place, .. } => vec![place],
            Phase::Generating(choices) => choices.iter().map(|choice| &choice.place).collect(),
            Phase::Embedding(_) | Phase::Finished => vec![],
        }
    }

    pub(crate) fn places_mut(&mut self) -> Vec<&mut Place> {
        match &mut self.phase {
            Phase::Reading { place, .. } => vec![place],
            Phase::Generating(choices) => choices.iter_mut().map(|choice| &mut choice.place).collect(),
            Phase::Embedding(_) | Phase::Finished => vec![],
        }
    }

    /// The places on the device that it takes, or will take when its prompt is read.
    pub(crate) fn n_slots(&self) -> usize {
        match &self.phase {
            Phase::Reading { place: Place::Stored(..), .. } => 0,
            Phase::Reading { .. } => self.request.n_rows(),
            Phase::Generating(choices) => choices.iter().filter(|choice| choice.place.takes_slot()).count(),
            Phase::Embedding(_) | Phase::Finished => 0,
        }
    }

    /// The first of its places for which `holds`, if its sequence can be moved to main memory by itself: one that reads the prompt of
    /// several texts has the places of all of them.
    pub(crate) fn movable(&self, holds: impl Fn(&Place) -> bool) -> Option<usize> {
        match self.phase {
            Phase::Reading { .. } if self.request.n_rows() > 1 => None,
            Phase::Reading { .. } | Phase::Generating(_) | Phase::Embedding(_) | Phase::Finished => {
                self.places().into_iter().position(holds)
            }
        }
    }

    /// Whether it has nothing more to give.
    pub(crate) fn has_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }
}

/// The events of a request that its caller has not taken yet.
pub(crate) struct Outbox {
    on_event: OnEvent,
    /// Events that were not taken, in order.
    backlog: VecDeque<Event>,
    full_since: Option<Instant>,
    is_gone: bool,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("backlog", &self.backlog).finish_non_exhaustive()
    }
}

impl Outbox {
    pub(crate) fn new(on_event: OnEvent) -> Outbox {
        Outbox { on_event, backlog: VecDeque::new(), full_since: None, is_gone: false }
    }

    /// Sends an event, after those that were not taken yet.
    pub(crate) fn send(&mut self, event: Event) {
        self.backlog.push_back(event);
        if self.backlog.len() == 1 {
            self.retry();
        }
    }

    /// Offers the events that were not taken. A callback that panics wants no more.
    pub(crate) fn retry(&mut self) {
        while !self.is_gone {
            let Some(event) = self.backlog.pop_front() else { break };
            let on_event = &mut self.on_event;
            match catch_unwind(AssertUnwindSafe(|| on_event(event))) {
                Ok(Delivery::Taken) => {}
                Ok(Delivery::Full(event)) => {
                    self.backlog.push_front(event);
                    self.full_since.get_or_insert_with(Instant::now);
                    return;
                }
                Ok(Delivery::Gone) | Err(_) => self.is_gone = true,
            }
        }
        self.backlog.clear();
        self.full_since = None;
    }

    /// Whether an event waits to be taken.
    pub(crate) fn is_full(&self) -> bool {
        !self.backlog.is_empty()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// The time for which an event has waited.
    pub(crate) fn full_for(&self) -> Duration {
        self.full_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
