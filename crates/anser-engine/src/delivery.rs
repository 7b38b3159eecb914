//! How events reach those who asked.

use crate::event::Event;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};

/// What became of an event that the engine offered.
#[derive(Debug)]
pub enum Delivery {
    /// It was taken.
    Taken,
    /// There is no room for it now. The engine offers it again later; until then the request rests and the others go on.
    Full(Event),
    /// Nobody wants it or any other: the request is cancelled.
    Gone,
}

/// A function that offers events, which must not block: it runs in the engine's thread.
pub(crate) type OnEvent = Box<dyn FnMut(Event) -> Delivery + Send>;

/// A callback for [`Engine::submit`](crate::Engine::submit) that puts events into a channel for at most `bound` of them, and the
/// end of the channel to read. The request is cancelled when that end is dropped.
pub fn channel(bound: usize) -> (impl FnMut(Event) -> Delivery + Send + 'static, Receiver<Event>) {
    let (to, from) = sync_channel(bound.max(1));
    let offer = move |event| match to.try_send(event) {
        Ok(()) => Delivery::Taken,
        Err(TrySendError::Full(event)) => Delivery::Full(event),
        Err(TrySendError::Disconnected(_)) => Delivery::Gone,
    };
    (offer, from)
}
