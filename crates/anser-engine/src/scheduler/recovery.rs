//! Goes on after a lost device or a panic in a step.

use super::Scheduler;
use crate::cache::TurnCache;
use crate::event::Failure;
use anser::Rows;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The most times that the model is loaded again in [`RELOAD_WINDOW`].
const MAX_RELOADS: usize = 3;
const RELOAD_WINDOW: Duration = Duration::from_secs(600);

impl Scheduler {
    /// The device was lost or a step panicked: all that runs fails, and the model is loaded again. Returns false if it cannot be.
    pub(super) fn recover(&mut self, reason: &str) -> bool {
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
}

/// What a panic says.
pub(super) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("a step panicked: {}", text.unwrap_or("without a message"))
}
