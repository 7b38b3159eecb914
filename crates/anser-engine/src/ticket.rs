//! The handle of a request that was accepted.

use crate::queue::Shared;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stands for a request that was accepted. Dropping it cancels the request: its place on the device is free after the step that
/// runs then.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) is_cancelled: Arc<AtomicBool>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) outlives: bool,
}

impl Ticket {
    /// Tells the engine that there is room again for events which were not taken. Without it the engine finds out by itself, some
    /// milliseconds later.
    pub fn offer_again(&self) {
        self.shared.wake();
    }

    /// Lets the request go on after this handle is dropped: it ends when it is complete, or when its caller takes no events for longer than the limits allow.
    pub fn detach(mut self) {
        self.outlives = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.outlives {
            self.is_cancelled.store(true, Ordering::Relaxed);
            self.shared.wake();
        }
    }
}
