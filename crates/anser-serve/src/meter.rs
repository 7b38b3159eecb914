//! Measures a request of the engine, and writes a line of the log when it ends.

use crate::app::App;
use anser_engine::{Event, Failure, Usage};
use std::sync::Arc;
use std::time::Instant;

/// Sees all events of a request. If it is dropped before the last one, the client has left.
#[derive(Debug)]
pub(crate) struct Meter {
    app: Arc<App>,
    /// The identifier of the answer.
    id: String,
    accepted: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    n_tokens: u64,
    has_ended: bool,
}

impl Meter {
    pub(crate) fn new(app: Arc<App>, id: String) -> Meter {
        Meter {
            app,
            id,
            accepted: Instant::now(),
            started: None,
            first_token: None,
            last_token: None,
            n_tokens: 0,
            has_ended: false,
        }
    }

    /// Counts an event as it is handed out.
    pub(crate) fn see(&mut self, event: &Event) {
        let metrics = &self.app.metrics;
        match event {
            Event::Started { .. } => {
                metrics.left_queue(self.accepted.elapsed());
                self.started = Some(Instant::now());
            }
            Event::Token { .. } => {
                if self.first_token.is_none() {
                    metrics.first_token(self.accepted.elapsed());
                    self.first_token = Some(Instant::now());
                }
                self.last_token = Some(Instant::now());
                self.n_tokens += 1;
                metrics.generated_tokens.inc();
            }
            Event::Done(usage) => {
                metrics.prompt_tokens.inc_by(usage.n_prompt as u64);
                metrics.cached_tokens.inc_by(usage.n_cached as u64);
                if let (Some(first), Some(last), 2..) = (self.first_token, self.last_token, self.n_tokens) {
                    metrics.per_token((last - first) / (self.n_tokens as u32 - 1));
                }
                self.end("done", *usage);
            }
            Event::Failed(failure) => {
                let why = why(failure);
                metrics.cancelled(why);
                self.end(why, Usage { n_generated: self.n_tokens as usize, ..Usage::default() });
            }
            Event::Text { .. } | Event::Ended { .. } | Event::Scored(_) | Event::Embedding(_) | Event::State(_) => {}
        }
    }

    /// A request that was not accepted: nothing is told of it here.
    pub(crate) fn refused(&mut self) {
        self.has_ended = true;
    }

    fn end(&mut self, outcome: &str, usage: Usage) {
        self.has_ended = true;
        let ms = |at: Option<Instant>| at.map_or(0, |at| (at - self.accepted).as_millis());
        log::info!(
            "{} {outcome}: {} prompt tokens ({} cached), {} generated; queue {} ms, first token {} ms, total {} ms",
            self.id,
            usage.n_prompt,
            usage.n_cached,
            usage.n_generated,
            ms(self.started),
            ms(self.first_token),
            self.accepted.elapsed().as_millis(),
        );
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.has_ended {
            self.app.metrics.cancelled("client_left");
            self.end("left by its client", Usage { n_generated: self.n_tokens as usize, ..Usage::default() });
        }
    }
}

fn why(failure: &Failure) -> &'static str {
    match failure {
        Failure::Model(_) | Failure::Step { .. } => "failed",
        Failure::Waited { .. } => "queue_timeout",
        Failure::Deadline => "request_timeout",
        Failure::NotTaken { .. } => "not_read",
        Failure::DeviceLost { .. } => "device_lost",
        Failure::Draining => "draining",
    }
}
