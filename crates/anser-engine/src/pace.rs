//! How long steps take, and how many tokens of prompts a step may therefore read.

use std::time::Duration;

/// Moving means of the times of steps.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Seconds of a step that only draws.
    decode_s: Option<f64>,
    /// Seconds for each token of a prompt, beyond the time of drawing.
    per_prompt_token_s: Option<f64>,
    /// Seconds of a request from its first step to its end.
    request_s: Option<f64>,
}

/// The least time that a chunk of a prompt may take. Shorter chunks read weights for few tokens.
const MIN_CHUNK_S: f64 = 0.020;
/// The tokens of a chunk before anything was measured.
const FIRST_CHUNK_LEN: usize = 32;
/// The least tokens of a chunk, however slow the device is.
const MIN_CHUNK_LEN: usize = 4;
/// The part of a new measurement in a mean.
const NEW: f64 = 0.2;

impl Pace {
    /// The most tokens of prompts for the next step, in which `n_drawing` texts draw: as many as take no longer than drawing
    /// itself, or 20 ms. Where no text draws tokens, none is delayed, and a step has as many tokens as the executor prefers.
    pub(crate) fn max_prompt_tokens(&self, n_drawing: usize) -> usize {
        if n_drawing == 0 {
            return usize::MAX;
        }
        let Some(per_token) = self.per_prompt_token_s.filter(|&s| s > 0.0) else { return FIRST_CHUNK_LEN };
        let time = self.decode_s.unwrap_or(0.0).max(MIN_CHUNK_S);
        ((time / per_token) as usize).max(MIN_CHUNK_LEN)
    }

    /// Notes the time of a step.
    pub(crate) fn has_stepped(&mut self, n_drawing: usize, n_prompt_tokens: usize, elapsed: Duration) {
        let elapsed = elapsed.as_secs_f64();
        if n_prompt_tokens > 0 {
            let of_drawing = if n_drawing > 0 { self.decode_s.unwrap_or(0.0) } else { 0.0 };
            let of_prompts = (elapsed - of_drawing).max(0.1 * elapsed);
            mean(&mut self.per_prompt_token_s, of_prompts / n_prompt_tokens as f64);
        } else if n_drawing > 0 {
            mean(&mut self.decode_s, elapsed);
        }
    }

    /// Notes the time of a request.
    pub(crate) fn has_served(&mut self, elapsed: Duration) {
        mean(&mut self.request_s, elapsed.as_secs_f64());
    }

    /// The time after which one of `n_waiting` requests will most likely have left the queue, in whole seconds from 1 to 120.
    pub(crate) fn retry_after(&self, n_waiting: usize, max_rows: usize) -> Duration {
        let seconds = self.request_s.unwrap_or(1.0) * n_waiting as f64 / max_rows.max(1) as f64;
        Duration::from_secs(seconds.ceil().clamp(1.0, 120.0) as u64)
    }
}

fn mean(mean: &mut Option<f64>, new: f64) {
    *mean = Some(mean.map_or(new, |old| old + NEW * (new - old)));
}

#[cfg(test)]
mod tests {
    use super::{FIRST_CHUNK_LEN, MIN_CHUNK_LEN, Pace};
    use std::time::Duration;

    #[test]
    fn chunks_take_as_long_as_drawing_or_20_ms() {
        let mut pace = Pace::default();
        assert_eq!((pace.max_prompt_tokens(0), pace.max_prompt_tokens(3)), (usize::MAX, FIRST_CHUNK_LEN));
        pace.has_stepped(0, 100, Duration::from_millis(100));
        assert_eq!(pace.max_prompt_tokens(1), 20);
        pace.has_stepped(5, 0, Duration::from_millis(50));
        assert_eq!(pace.max_prompt_tokens(5), 50);
        // A step of 60 ms in which drawing takes 50 has read 10 tokens in 10 ms, as before.
        pace.has_stepped(5, 10, Duration::from_millis(60));
        assert!((49..=50).contains(&pace.max_prompt_tokens(5)));
        for _ in 0..50 {
            pace.has_stepped(0, 1, Duration::from_secs(1));
        }
        assert_eq!(pace.max_prompt_tokens(5), MIN_CHUNK_LEN);
    }

    #[test]
    fn a_full_queue_says_when_to_come_again() {
        let mut pace = Pace::default();
        pace.has_served(Duration::from_secs(2));
        assert_eq!(pace.retry_after(32, 8), Duration::from_secs(8));
        assert_eq!(pace.retry_after(0, 8), Duration::from_secs(1));
        assert_eq!(pace.retry_after(1_000_000, 8), Duration::from_secs(120));
    }
}
