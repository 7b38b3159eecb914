//! Decides how many tokens a draft model proposes, by the times that steps took and by how many proposals were right.
//!
//! A draft pays if a step that verifies its tokens, with the steps of the draft model before it, draws more tokens a second than plain
//! steps do. All of these are measured as they happen. Where drafting does not pay the draft model rests, and is tried again after 8
//! steps, then 16, up to 256.

use std::collections::BTreeMap;
use std::time::Instant;

/// The most tokens that are proposed for a text in a step.
const MAX_PROPOSED: usize = 8;
/// The number of tokens that are proposed where a trial is to show whether drafting pays.
const N_IN_TRIAL: usize = 2;
/// The number of proposals of a trial: of the first one, whose times begin with pages and caches that are cold, and of later ones.
const N_FIRST_TRIALS: usize = 3;
const N_TRIALS: usize = 2;
/// The number of steps that the draft model rests at first and at most.
const MIN_REST: usize = 8;
const MAX_REST: usize = 256;
/// The part of the time of the rest that reading the tokens which the draft model has missed may take.
const MAX_CATCH_UP: f64 = 1.0 / 16.0;
/// The number of steps with proposals after which a plain one measures what it takes now.
const MAX_SINCE_PLAIN: usize = 64;

/// What is known of a model and its draft model.
#[derive(Debug)]
pub(crate) struct DraftPace {
    /// Seconds of a step of the model, with what is drawn, by the number of tokens of texts that it reads.
    model: StepTimes,
    /// Seconds of a step of the draft model, with what is drawn, by the number of tokens that it reads.
    draft: StepTimes,
    /// The share of the proposed tokens before the first wrong one, with it, that were right lately.
    acceptance: f64,
    /// The number of steps with proposals since the last plain one.
    n_since_plain: usize,
    /// The number of proposals that the trial still has.
    n_trials: usize,
    /// The number of steps without proposals that remain, and that follow if the next trial does not pay.
    rest: usize,
    next_rest: usize,
    /// The seconds of plain steps since the last proposal.
    rested_seconds: f64,
}

/// What is known of how well the draft model proposes tokens for a text.
#[derive(Debug)]
pub(super) struct TextPace {
    acceptance: f64,
    /// The most tokens to propose next.
    max_len: usize,
}

/// A text for which the draft model may propose tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// The chance that a proposed token is right if those before it are.
    pub(super) acceptance: f64,
    /// The most tokens to propose, at least one.
    pub(super) max_len: usize,
    /// The number of tokens that the draft model reads first.
    pub(super) n_unread: usize,
}

impl Default for DraftPace {
    fn default() -> DraftPace {
        DraftPace {
            model: StepTimes::default(),
            draft: StepTimes::default(),
            acceptance: 0.75,
            n_since_plain: 0,
            n_trials: N_FIRST_TRIALS,
            rest: 0,
            next_rest: MIN_REST,
            rested_seconds: 0.0,
        }
    }
}

impl DraftPace {
    /// What is known of a text that begins.
    pub(super) fn new_text(&self) -> TextPace {
        TextPace { acceptance: self.acceptance, max_len: N_IN_TRIAL }
    }

    /// Notes how many of the tokens that were proposed for a text were right.
    pub(super) fn has_verified(&mut self, n_proposed: usize, n_right: usize) {
        update_acceptance(&mut self.acceptance, 1.0 / 64.0, n_proposed, n_right);
    }

    /// Notes the seconds of a step of the draft model that read `n_tokens` tokens.
    pub(super) fn has_drafted(&mut self, n_tokens: usize, seconds: f64) {
        self.draft.note(n_tokens, seconds);
    }

    /// Notes the seconds of a step of the model that read `n_tokens` tokens of texts; `n_drafted` of them were proposed by the draft
    /// model.
    pub(super) fn has_stepped(&mut self, n_tokens: usize, n_drafted: usize, seconds: f64) {
        self.model.note(n_tokens, seconds);
        if n_drafted == 0 {
            self.n_since_plain = 0;
            self.rested_seconds += seconds;
        } else {
            self.n_since_plain += 1;
            self.rested_seconds = 0.0;
            self.n_trials = self.n_trials.saturating_sub(1);
        }
    }

    /// For each of `texts` the number of tokens that the draft model is to propose, in a step that draws for `n_rows` texts and reads
    /// `n_tokens` tokens of them without the draft.
    pub(super) fn choose(&mut self, n_rows: usize, n_tokens: usize, texts: &[Candidate]) -> Vec<usize> {
        if !Stopwatch::IS_THERE {
            return texts.iter().map(|text| text.max_len).collect();
        }
        let nothing = vec![0; texts.len()];
        let Some(plain) = self.model.of(n_tokens).filter(|_| self.n_since_plain < MAX_SINCE_PLAIN) else {
            return nothing;
        };
        if self.rest > 0 {
            self.rest -= 1;
            self.n_trials = N_TRIALS;
            return nothing;
        }
        if self.n_trials > 0 {
            let n_unread: usize = texts.iter().map(|text| text.n_unread).sum();
            let comes_from_rest = self.next_rest > MIN_REST && self.n_trials == N_TRIALS;
            let max_seconds = MAX_CATCH_UP * self.rested_seconds;
            if comes_from_rest && self.draft.of_many(n_unread).is_some_and(|seconds| seconds > max_seconds) {
                self.rest = MIN_REST;
                return nothing;
            }
            return texts.iter().map(|text| text.max_len.min(N_IN_TRIAL)).collect();
        }
        let (rate, lengths) = self.best(n_rows, n_tokens, texts);
        if rate > n_rows as f64 / plain {
            self.next_rest = MIN_REST;
            return lengths;
        }
        self.rest = self.next_rest;
        self.next_rest = (2 * self.next_rest).min(MAX_REST);
        nothing
    }

    /// The numbers of tokens to propose that promise the most tokens a second, and this rate.
    fn best(&self, n_rows: usize, n_tokens: usize, texts: &[Candidate]) -> (f64, Vec<usize>) {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by(|&a, &b| texts[b].acceptance.total_cmp(&texts[a].acceptance));
        let mut best = (0.0, vec![0; texts.len()]);
        for max_len in 1..=MAX_PROPOSED {
            // The number of tokens to verify, of those that are expected to be right, and of texts by the length of the proposal.
            let (mut n_verified, mut n_right) = (n_tokens, 0.0);
            let mut n_of_len = [0; MAX_PROPOSED];
            let mut n_first = 0;
            for (i, &text) in order.iter().enumerate() {
                let Candidate { acceptance, n_unread, .. } = texts[text];
                let len = texts[text].max_len.min(max_len);
                n_verified += len;
                n_right += (1..=len as i32).map(|n| acceptance.powi(n)).sum::<f64>();
                n_of_len[..len].iter_mut().for_each(|n| *n += 1);
                n_first += n_unread.clamp(1, 2);
                let further: f64 = n_of_len[1..].iter().filter(|&&n| n > 0).filter_map(|&n| self.draft.of(n)).sum();
                let drafting = self.draft.of(n_first).unwrap_or(0.0) + further;
                let seconds = drafting + self.model.of(n_verified).unwrap_or(0.0);
                let rate = (n_rows as f64 + n_right) / seconds;
                if rate > best.0 {
                    let mut lengths = vec![0; texts.len()];
                    order[..=i].iter().for_each(|&text| lengths[text] = texts[text].max_len.min(max_len));
                    best = (rate, lengths);
                }
            }
        }
        best
    }
}

/// Measures the time of a step. In a browser there is no clock: what a draft model proposes is always verified there.
#[derive(Debug)]
pub(super) struct Stopwatch(Option<Instant>);

impl Stopwatch {
    const IS_THERE: bool = cfg!(not(target_arch = "wasm32"));

    pub(super) fn start() -> Stopwatch {
        Stopwatch(Stopwatch::IS_THERE.then(Instant::now))
    }

    /// The seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.0.map_or(0.0, |began| began.elapsed().as_secs_f64())
    }
}

impl TextPace {
    /// The text as one for which up to `max_len` tokens may be proposed, after the draft model has read `n_unread` tokens.
    pub(super) fn candidate(&self, max_len: usize, n_unread: usize) -> Candidate {
        Candidate { acceptance: self.acceptance, max_len: self.max_len.min(max_len), n_unread }
    }

    /// Notes how many of the tokens that were proposed were right, and lets more or fewer be proposed next.
    pub(super) fn has_verified(&mut self, n_proposed: usize, n_right: usize) {
        update_acceptance(&mut self.acceptance, 1.0 / 16.0, n_proposed, n_right);
        self.max_len = match n_right == n_proposed {
            true => (2 * self.max_len).min(MAX_PROPOSED),
            false => (n_right + 1).clamp(N_IN_TRIAL, MAX_PROPOSED),
        };
    }
}

/// Moves `acceptance` towards what a proposal says, by the part `weight` for each token that was compared.
fn update_acceptance(acceptance: &mut f64, weight: f64, n_proposed: usize, n_right: usize) {
    for i in 0..n_proposed.min(n_right + 1) {
        let found = if i < n_right { 1.0 } else { 0.0 };
        *acceptance += weight * (found - *acceptance);
    }
}

/// Seconds of steps by the number of tokens that they read.
#[derive(Debug, Default)]
struct StepTimes(BTreeMap<usize, f64>);

impl StepTimes {
    /// Notes a step. Other programs and cold caches make steps slower and never faster, so that times fall at once and rise slowly.
    fn note(&mut self, n_tokens: usize, seconds: f64) {
        let adapt = |known: &mut f64| {
            let weight = if seconds < *known { 0.75 } else { 0.125 };
            *known += weight * (seconds - *known);
        };
        self.0.entry(n_tokens).and_modify(adapt).or_insert(seconds);
    }

    /// The seconds of a step of `n_tokens` tokens: those measured, or what those of the next smaller and the next larger step say. More
    /// tokens than were ever measured count like the most that were, so that they are tried. `None` before any step.
    fn of(&self, n_tokens: usize) -> Option<f64> {
        let below = self.0.range(..=n_tokens).next_back();
        let above = self.0.range(n_tokens..).next();
        match (below, above) {
            (Some((&n, &seconds)), Some((&n_above, &seconds_above))) if n < n_above => {
                let part = (n_tokens - n) as f64 / (n_above - n) as f64;
                Some(seconds + part * (seconds_above - seconds))
            }
            (Some((_, &seconds)), _) | (None, Some((_, &seconds))) => Some(seconds),
            (None, None) => None,
        }
    }

    /// [`StepTimes::of`] where more tokens than were ever measured take more time in proportion.
    fn of_many(&self, n_tokens: usize) -> Option<f64> {
        let (&most, &seconds) = self.0.last_key_value()?;
        if n_tokens > most { Some(seconds * n_tokens as f64 / most as f64) } else { self.of(n_tokens) }
    }
}

#[cfg(test)]
mod tests {
    use super::{DraftPace, MAX_REST, TextPace};

    /// Seconds of steps of a model and its draft model by their tokens, and whether the draft is right about a token of a text.
    struct World {
        model: fn(usize) -> f64,
        draft: fn(usize) -> f64,
        agrees: fn(usize) -> bool,
    }

    impl World {
        /// Generates `n_tokens` tokens. Returns the seconds a token, and the share of steps that had proposals.
        fn generate(&self, pace: &mut DraftPace, n_tokens: usize, n_prompt: usize) -> (f64, f64) {
            let mut text: TextPace = pace.new_text();
            let (mut seconds, mut n_unread, mut n_drawn) = (0.0, n_prompt + 1, 1);
            let (mut n_steps, mut n_drafted) = (0.0, 0.0);
            while n_drawn < n_tokens {
                let len = pace.choose(1, 1, &[text.candidate(n_tokens - n_drawn, n_unread)])[0];
                for i in 0..len {
                    let n_read = if i == 0 { n_unread } else { 1 };
                    pace.has_drafted(n_read, (self.draft)(n_read));
                    seconds += (self.draft)(n_read);
                }
                let n_right = (0..len).take_while(|i| (self.agrees)(n_drawn + i)).count();
                seconds += (self.model)(1 + len);
                pace.has_stepped(1 + len, len, (self.model)(1 + len));
                if len > 0 {
                    pace.has_verified(len, n_right);
                    text.has_verified(len, n_right);
                    n_unread = 0;
                    n_drafted += 1.0;
                }
                n_unread += n_right + 1;
                n_drawn += n_right + 1;
                n_steps += 1.0;
            }
            (seconds / n_tokens as f64, n_drafted / n_steps)
        }
    }

    /// As of a large model whose steps are bound by reading its weights, and a draft model of a tenth of its size that is right about
    /// four of five tokens.
    #[test]
    fn a_draft_that_pays_is_used() {
        let agrees = |i: usize| !i.wrapping_mul(2_654_435_761).is_multiple_of(5);
        let world = World { model: |n| 0.03 + 0.002 * n as f64, draft: |n| 0.003 + 0.0002 * n as f64, agrees };
        let mut pace = DraftPace::default();
        for n_prompt in [10, 1000] {
            let (seconds, share) = world.generate(&mut pace, 500, n_prompt);
            assert!(seconds < 0.7 * 0.032 && share > 0.9, "{seconds} s a token, {share} of steps, {n_prompt}");
        }
    }

    /// The model itself as its draft model, and one that is never right.
    #[test]
    fn a_draft_that_does_not_pay_rests() {
        let (model, draft) = (|n: usize| 0.01 * n as f64, |n: usize| 0.001 * n as f64);
        for world in [World { model, draft: model, agrees: |_| true }, World { model, draft, agrees: |_| false }] {
            let mut pace = DraftPace::default();
            let (_, share) = world.generate(&mut pace, 500, 10);
            assert!(share < 0.1, "{share} of steps");
            let (seconds, share) = world.generate(&mut pace, 2000, 10);
            assert!(seconds < 1.03 * 0.01 && share < 0.03, "{seconds} s a token, {share} of steps");
        }
    }

    /// A text that becomes predictable is noticed after a rest, and one that is no more so is left alone.
    #[test]
    fn a_rest_ends() {
        let agrees = |i: usize| i > 1000;
        let world = World { model: |_| 0.03, draft: |_| 0.001, agrees };
        let mut pace = DraftPace::default();
        let (seconds, _) = world.generate(&mut pace, 1000 + 8 * MAX_REST, 10);
        // Plain steps until the text becomes predictable and the rest ends, then at most half the time of them.
        let n_plain = 1000 + MAX_REST + 7 * MAX_REST / 2;
        assert!(seconds * ((1000 + 8 * MAX_REST) as f64) < 1.1 * 0.03 * n_plain as f64, "{seconds} s a token");
    }

    /// Of texts side by side those are chosen that gain.
    #[test]
    fn the_draft_proposes_for_texts_that_it_knows() {
        let mut pace = DraftPace::default();
        (1..40).for_each(|n| pace.has_stepped(n, usize::from(n > 2), 0.01 + 0.01 * n as f64));
        (1..40).for_each(|n| pace.has_drafted(n, 0.001));
        pace.n_since_plain = 0;
        let texts = [0.1, 0.99].map(|acceptance| TextPace { acceptance, max_len: 8 }.candidate(100, 1));
        let lengths = pace.choose(2, 2, &texts);
        assert!(lengths[0] == 0 && lengths[1] > 2, "{lengths:?}");
        let lengths = pace.choose(2, 2, &texts.map(|text| super::Candidate { max_len: 1, ..text }));
        assert_eq!(lengths, [0, 1]);
    }
}
