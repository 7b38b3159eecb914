//! How long steps take, and how many tokens of prompts a step may therefore read.

use std::collections::BTreeMap;
use std::time::Duration;

/// What steps take, by measurements.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Seconds of a step that only draws, by the logarithm to base 2 of the number of texts.
    decode_s: BTreeMap<u32, Estimate>,
    /// What chunks of prompts take beyond the time of drawing, by the logarithm to base 2 of their tokens.
    chunks: BTreeMap<u32, Chunk>,
    /// Whether the last step read prompts. A device has drawn ahead meanwhile, so that the next step seems to take next to no time.
    has_just_read: bool,
    /// Seconds of a request from its first step to its end.
    request_s: Option<f64>,
}

/// The usual value of what was measured some times.
#[derive(Debug, Clone, Copy)]
struct Estimate {
    value: f64,
    /// Whether it was measured once: a device compiles kernels in the first step of a size, which may take a hundred times as long.
    is_first: bool,
}

/// The usual chunk of a prompt among those of a size.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    n_tokens: f64,
    seconds: Estimate,
}

/// The time that a chunk of a prompt may take, in times of drawing: the longest time between two tokens of a text is then 2.8 times the
/// usual one.
const MAX_CHUNK: f64 = 1.8;
/// The least time that a chunk of a prompt may take. Shorter chunks read all weights for few tokens.
const MIN_CHUNK_S: f64 = 0.010;
/// How many times longer a chunk may take where more texts wait for their prompts to be read than are delayed by it.
const MAX_BURST: f64 = 3.0;
/// The tokens that kernels compute together: a chunk of at least three times as many has a multiple of these.
const TILE_LEN: usize = 32;
/// The tokens of a chunk before anything was measured.
const FIRST_CHUNK_LEN: usize = 32;
/// The least tokens of a chunk, however slow the device is.
const MIN_CHUNK_LEN: usize = 4;
/// The part of a new measurement in a mean.
const NEW: f64 = 0.2;
/// The part of a new measurement in an estimate that was too high.
const NEW_LOWER: f64 = 0.5;
/// The part by which the estimates of longer chunks approach the time of a chunk that was read instead of them, so that one which
/// was too high is measured again some steps later.
const FORGOTTEN: f64 = 1.0 / 16.0;
/// How many times the estimate a measurement counts for at most: a step may have waited for something that will not come again.
const MAX_RISE: f64 = 2.0;

impl Estimate {
    fn of_first(value: f64) -> Estimate {
        Estimate { value, is_first: true }
    }

    /// Adds a measurement, and returns the part that it has in the estimate.
    fn add(&mut self, new: f64) -> f64 {
        let old = self.value;
        let part = match self.is_first {
            true => 1.0,
            false if new < old => NEW_LOWER,
            false => NEW,
        };
        let new = if self.is_first { new } else { new.min(MAX_RISE * old) };
        self.value = old + part * (new - old);
        self.is_first = false;
        part
    }
}

impl Pace {
    /// The most tokens of prompts for the next step, in which `n_drawing` texts draw and `n_reading` others have prompts to read: as
    /// many as take 1.8 times as long as drawing does, or 10 ms, and up to three times as many where more texts read than draw. Where
    /// no text draws tokens, none is delayed, and a step has as many tokens as the executor prefers. It has none as long as fewer
    /// than two steps that only drew for `n_drawing` texts (by power of two) were measured; the first such step after a prompt is not.
    pub(crate) fn max_prompt_tokens(&self, n_drawing: usize, n_reading: usize) -> usize {
        if n_drawing == 0 {
            return usize::MAX;
        }
        if self.decode_s.get(&n_drawing.ilog2()).is_none_or(|seconds| seconds.is_first) {
            return 0;
        }
        let burst = (n_reading as f64 / n_drawing as f64).clamp(1.0, MAX_BURST);
        let time = burst * (MAX_CHUNK * self.decode_s(n_drawing)).max(MIN_CHUNK_S);
        let Some(n_tokens) = self.longest_chunk(time) else { return FIRST_CHUNK_LEN };
        match n_tokens as usize {
            len if len >= 3 * TILE_LEN => len / TILE_LEN * TILE_LEN,
            len => len.max(MIN_CHUNK_LEN),
        }
    }

    /// The seconds of a step that reads no prompts and draws for `n_drawing` texts, whose number counts by its power of two. If no such
    /// step was measured: those of the next smaller power that was, else of the next larger one; 0 if none was.
    fn decode_s(&self, n_drawing: usize) -> f64 {
        let Some(bucket) = n_drawing.checked_ilog2() else { return 0.0 };
        let nearest = self.decode_s.range(..=bucket).next_back().or_else(|| self.decode_s.range(bucket..).next());
        nearest.map_or(0.0, |(_, seconds)| seconds.value)
    }

    /// The tokens of the longest chunk that takes at most `time` seconds; `None` before any was measured twice. A short chunk reads all
    /// weights for few tokens, so that its time hardly depends on its length: between two chunks that were measured the time is taken to be
    /// linear, and below the shortest and above the longest one to be in proportion to the tokens.
    fn longest_chunk(&self, time: f64) -> Option<f64> {
        let measured = self.chunks.values().filter(|chunk| !chunk.seconds.is_first);
        let mut measured: Vec<(f64, f64)> = measured.map(|chunk| (chunk.n_tokens, chunk.seconds.value)).collect();
        // A chunk takes no longer than a longer one.
        let mut least = f64::INFINITY;
        for (_, seconds) in measured.iter_mut().rev() {
            least = least.min(*seconds);
            *seconds = least;
        }
        let n_fitting = measured.partition_point(|&(_, seconds)| seconds <= time);
        let proportional = |(n, seconds): (f64, f64)| n * time / seconds;
        match (n_fitting.checked_sub(1).map(|i| measured[i]), measured.get(n_fitting).copied()) {
            (Some((n, s)), Some((longer, more))) => Some(n + (longer - n) * (time - s) / (more - s)),
            (Some(only), None) | (None, Some(only)) => Some(proportional(only)),
            (None, None) => None,
        }
    }

    /// Notes the time of a step.
    pub(crate) fn has_stepped(&mut self, n_drawing: usize, n_prompt_tokens: usize, elapsed: Duration) {
        let elapsed = elapsed.as_secs_f64();
        let has_just_read = std::mem::replace(&mut self.has_just_read, n_prompt_tokens > 0);
        if n_prompt_tokens > 0 {
            let of_prompts = (elapsed - self.decode_s(n_drawing)).max(0.1 * elapsed);
            self.has_read(n_prompt_tokens, of_prompts);
        } else if let Some(bucket) = n_drawing.checked_ilog2().filter(|_| !has_just_read) {
            let add = |estimate: &mut Estimate| _ = estimate.add(elapsed);
            self.decode_s.entry(bucket).and_modify(add).or_insert(Estimate::of_first(elapsed));
        }
    }

    /// Notes that `n_tokens` tokens of prompts took `seconds` seconds.
    fn has_read(&mut self, n_tokens: usize, seconds: f64) {
        let (bucket, n_tokens) = (n_tokens.ilog2(), n_tokens as f64);
        let Some(chunk) = self.chunks.get_mut(&bucket) else {
            self.chunks.insert(bucket, Chunk { n_tokens, seconds: Estimate::of_first(seconds) });
            return;
        };
        let part = chunk.seconds.add(seconds);
        chunk.n_tokens += part * (n_tokens - chunk.n_tokens);
        let usual = chunk.seconds.value;
        for longer in self.chunks.range_mut(bucket + 1..).map(|(_, chunk)| &mut chunk.seconds.value) {
            *longer -= FORGOTTEN * (*longer - usual).max(0.0);
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

    /// Some texts draw in `ms`, after a step whose tokens were drawn before.
    fn draw(pace: &mut Pace, n_drawing: usize, ms: f64) {
        for ms in [0.1, ms, ms] {
            pace.has_stepped(n_drawing, 0, Duration::from_secs_f64(1e-3 * ms));
        }
    }

    #[test]
    fn chunks_take_in_proportion_to_drawing_or_10_ms() {
        let ms = |ms: u64| Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!((pace.max_prompt_tokens(0, 9), pace.max_prompt_tokens(3, 1)), (usize::MAX, 0));
        draw(&mut pace, 3, 1.0);
        assert_eq!(pace.max_prompt_tokens(3, 1), FIRST_CHUNK_LEN);
        pace.has_stepped(0, 1000, ms(7000));
        assert_eq!(pace.max_prompt_tokens(3, 1), FIRST_CHUNK_LEN, "kernels may have been compiled");
        pace.has_stepped(0, 1000, ms(100));
        assert_eq!(pace.max_prompt_tokens(3, 1), 96, "100 tokens take 10 ms");
        draw(&mut pace, 5, 50.0);
        assert_eq!(pace.max_prompt_tokens(5, 1), 896, "900 tokens take 1.8 times 50 ms");
        // Twice as many texts read as draw, or many more.
        assert_eq!((pace.max_prompt_tokens(5, 10), pace.max_prompt_tokens(5, 1000)), (1792, 2688));
        // A step of 60 ms in which drawing takes 50 has read 100 tokens in 10 ms, as before.
        pace.has_stepped(5, 100, ms(60));
        assert!((864..=896).contains(&pace.max_prompt_tokens(5, 1)));
        // More texts take longer to draw. Sixteen have not drawn yet.
        draw(&mut pace, 64, 100.0);
        assert!((1760..=1792).contains(&pace.max_prompt_tokens(127, 1)));
        assert_eq!(pace.max_prompt_tokens(16, 1), 0);
        // A device that gets slower is noticed.
        for _ in 0..90 {
            pace.has_stepped(0, 1000, Duration::from_secs(1000));
            pace.has_stepped(0, 100, Duration::from_secs(100));
        }
        assert_eq!(pace.max_prompt_tokens(5, 1), MIN_CHUNK_LEN);
    }

    /// Eight texts draw in 3 ms. A chunk takes 2 ms and 0.05 ms a token, but for the first of each size, which takes a second.
    #[test]
    fn steps_that_compile_kernels_do_not_make_chunks_short_for_long() {
        let mut pace = Pace::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut lens = vec![];
        for _ in 0..20 {
            draw(&mut pace, 8, 3.0);
            let len = pace.max_prompt_tokens(8, 1);
            lens.push(len);
            let ms = if seen.insert(len.ilog2()) { 1000.0 } else { 2.0 + 0.05 * len as f64 };
            pace.has_stepped(8, len, Duration::from_secs_f64(1e-3 * (3.0 + ms)));
        }
        // 160 tokens take 10 ms.
        assert!(lens[12..].iter().all(|len| (128..=160).contains(len)), "{lens:?}");
    }

    /// A chunk takes 6 ms and 0.07 ms a token beside texts that draw in 5.5 ms, and the first ones of a size 0.3 s. Whatever else was
    /// measured by mistake, the chunks soon take the 10 ms that they may.
    #[test]
    fn chunks_grow_where_a_few_tokens_take_as_long_as_one() {
        for spoilt in [None, Some(4), Some(16), Some(32), Some(64)] {
            let mut pace = Pace::default();
            let mut seen = std::collections::BTreeSet::new();
            pace.has_stepped(0, 2048, Duration::from_millis(214));
            pace.has_stepped(20, 2, Duration::from_millis(63));
            let mut lens = vec![];
            for step in 0..200 {
                draw(&mut pace, 20, 5.5);
                let len = pace.max_prompt_tokens(20, 1);
                lens.push(len);
                let is_spoilt = step < 20 && spoilt.is_some_and(|spoilt| len >= spoilt);
                let is_slow = seen.insert(len.ilog2()) || is_spoilt;
                let ms = if is_slow { 300.0 } else { 6.0 + 0.07 * len as f64 };
                pace.has_stepped(20, len, Duration::from_secs_f64(1e-3 * (5.5 + ms)));
            }
            // (10 - 6) / 0.07 = 57.
            assert!(lens[100..].iter().all(|len| (27..=64).contains(len)), "{spoilt:?}: {lens:?}");
        }
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
