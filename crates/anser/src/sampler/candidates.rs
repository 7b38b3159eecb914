//! The tokens that can still be drawn, and the filters that reduce them without sorting them all.

use super::race::Race;
use super::softmax::{exp_of_at_most_0, exp_weights, inverse, max_logit, sum_of_weighted_exponents};
use super::{SamplerError, SamplerOptions, SamplerOrder};

/// The number of tokens that one test covers.
const CHUNK: usize = 16;

/// A factor that makes bounds on weights safe against rounding.
const BELOW: f64 = 0.999;

/// One row of logits, from which a token is to be drawn.
///
/// `keys` holds the candidates in any order. A key is an integer that sorts by rank: the wanted measure in its upper
/// half (most likely first), the token in its lower half, so that equals keep the order of their ids and one integer
/// comparison decides.
#[derive(Debug, Clone, Default)]
pub(super) struct Candidates {
    /// Logits after bias and penalties. \[V\]
    pub(super) logits: Vec<f32>,
    /// Not yet normalised probabilities; the most likely token of all has 1. \[V\]
    weights: Vec<f32>,
    keys: Vec<u64>,
}

impl Candidates {
    /// Makes all tokens impossible whose bits are not set in `allowed`, 32 bits a word, the lowest first.
    pub(super) fn keep_only(&mut self, allowed: &[u32]) {
        const N_BITS: usize = u32::BITS as usize;
        let n_covered = (N_BITS * allowed.len()).min(self.logits.len());
        for (word, logits) in allowed.iter().zip(self.logits.chunks_mut(N_BITS)) {
            match *word {
                0 => logits.fill(f32::NEG_INFINITY),
                u32::MAX => {}
                // Every logit is written, so that the compiler makes vectors of this.
                word => logits.iter_mut().enumerate().for_each(|(bit, logit)| {
                    *logit = if word >> bit & 1 == 0 { f32::NEG_INFINITY } else { *logit };
                }),
            }
        }
        self.logits[n_covered..].fill(f32::NEG_INFINITY);
    }

    /// The largest logit.
    pub(super) fn max_logit(&self) -> Result<f32, SamplerError> {
        let n_vocab = self.logits.len();
        match max_logit(&self.logits) {
            Ok(max) if max > f32::NEG_INFINITY => Ok(max),
            Ok(_) => Err(SamplerError::NoCandidate { n_vocab }),
            Err(token) => Err(SamplerError::NotANumber { token, found: self.logits[token] }),
        }
    }

    /// The lowest token whose logit is `max`.
    pub(super) fn most_likely(&self, max: f32) -> u32 {
        (0..).zip(&self.logits).find(|&(_, &logit)| logit == max).map_or(0, |(token, _)| token)
    }

    /// The token that `options` draw with the random number `seed`; `None` if there is no candidate.
    pub(super) fn draw(&mut self, options: &SamplerOptions, max: f32, seed: u32) -> Option<u32> {
        let mut race = Race::new(seed);
        if options.has_filter() {
            self.filter(options, max);
            self.keys.iter().for_each(|&key| race.enter(token_of(key), self.weights[token_of(key) as usize]));
        } else {
            self.weigh(max, options.temperature);
            race.enter_all(&self.weights);
        }
        race.winner()
    }

    /// The candidates that `options` leave with their probabilities, the most likely first.
    pub(super) fn distribution(mut self, options: &SamplerOptions, max: f32) -> Vec<(u32, f32)> {
        let sum = if options.has_filter() {
            self.filter(options, max);
            self.sum()
        } else {
            let sum = self.weigh(max, options.temperature);
            self.gather(0.0);
            sum
        };
        self.keys.sort_unstable();
        let probability = |token: u32| (f64::from(self.weights[token as usize]) / sum) as f32;
        self.keys.iter().map(|&key| (token_of(key), probability(token_of(key)))).collect()
    }

    /// Computes the weights of all tokens and returns their sum.
    fn weigh(&mut self, max: f32, temperature: f32) -> f64 {
        self.weights.resize(self.logits.len(), 0.0);
        exp_weights(&self.logits, max, temperature, &mut self.weights)
    }

    /// Computes the candidates that the filters of `options` leave, and their final weights.
    fn filter(&mut self, options: &SamplerOptions, max: f32) {
        let tempers_last = options.order == SamplerOrder::Rwkv;
        let temperature = if tempers_last { 1.0 } else { options.temperature };
        let whole = self.weigh(max, temperature);
        let renormalizes = options.order == SamplerOrder::Common;
        let mut sum = whole;
        if options.typical_p < 1.0 {
            self.gather_typical(options.typical_p.into(), max, temperature, sum);
            sum = if renormalizes { self.sum() } else { sum };
        } else {
            let lowest = self.lowest_useful_weight(options, sum);
            self.gather(lowest);
        }
        if options.top_k > 0 {
            if options.top_k < self.keys.len() {
                self.keys.select_nth_unstable(options.top_k);
                self.keys.truncate(options.top_k);
            }
            sum = if renormalizes { self.sum() } else { sum };
        }
        if options.top_p < 1.0 {
            self.keep_prefix(f64::from(options.top_p) * sum);
        }
        if options.min_p > 0.0 {
            self.keep_above(options.min_p);
        }
        if tempers_last && options.temperature != 1.0 {
            self.temper(max, options.temperature);
        }
    }

    /// A weight below which no token can pass top-k, top-p and min-p.
    fn lowest_useful_weight(&mut self, options: &SamplerOptions, sum: f64) -> f32 {
        let of_top_k = if options.top_k > 0 { self.reached_by(options.top_k) } else { 0.0 };
        if options.top_k > 0 && options.order == SamplerOrder::Common {
            return of_top_k; // the sum that top-p refers to is that of all top-k tokens, however unlikely
        }
        self.unreached(options.top_p.into(), sum).max(options.min_p).max(of_top_k)
    }

    /// A weight that at least `n` tokens reach, since each of `n` chunks has a token of that weight; 0 if there are
    /// fewer chunks.
    fn reached_by(&mut self, n: usize) -> f32 {
        let heaviest = |chunk: &[f32]| chunk.iter().fold(0.0, |max, &w| if w > max { w } else { max });
        self.keys.clear();
        self.keys.extend(self.weights.chunks(CHUNK).map(|chunk| u64::from(!heaviest(chunk).to_bits())));
        if n > self.keys.len() {
            return 0.0;
        }
        let (_, &mut nth, _) = self.keys.select_nth_unstable(n - 1);
        f32::from_bits(!(nth as u32)) * BELOW as f32
    }

    /// A weight such that the tokens from it upwards make up `share` of `sum`: those below (1 − share)·sum/V weigh less
    /// than (1 − share)·sum together.
    fn unreached(&self, share: f64, sum: f64) -> f32 {
        ((1.0 - share) * sum / self.logits.len() as f64 * BELOW) as f32
    }

    /// Makes the tokens of at least `lowest` weight the candidates; never those of weight 0.
    fn gather(&mut self, lowest: f32) {
        let lowest = lowest.max(f32::MIN_POSITIVE);
        self.keys.clear();
        let mut first = 0;
        for (weights, logits) in self.weights.chunks(CHUNK).zip(self.logits.chunks(CHUNK)) {
            // Almost all chunks hold no candidate, so one test covers a chunk.
            if weights.iter().fold(false, |any, &w| any | (w >= lowest)) {
                for ((token, &weight), &logit) in (first..).zip(weights).zip(logits) {
                    if weight >= lowest {
                        self.keys.push(key_of(descending(logit), token));
                    }
                }
            }
            first += CHUNK as u32;
        }
    }

    /// Typical-p. The information of a token is −ln p = ln Z − s with s = (logit − max)/temperature, the entropy is its
    /// mean: their difference is mean(s) − s, without a logarithm.
    ///
    /// The tokens that are not `unreached` would do. The farthest of them from the mean is either the least likely one
    /// or the most likely of all, at s = 0: a token below them that also has s < 2·mean(s) is farther than both.
    fn gather_typical(&mut self, typical_p: f64, max: f32, temperature: f32, sum: f64) {
        let mean = sum_of_weighted_exponents(&self.logits, max, temperature, &self.weights) / sum;
        self.gather(self.unreached(typical_p, sum).min(((2.0 * mean).exp() * BELOW) as f32));
        let scale = inverse(temperature);
        let scaled = |token: u32| f64::from((self.logits[token as usize] - max) * scale);
        for key in &mut self.keys {
            let distance = (mean - scaled(token_of(*key))).abs() as f32;
            *key = key_of(distance.to_bits(), token_of(*key)); // bits of numbers ≥ 0 sort like the numbers
        }
        self.keep_prefix(typical_p * sum);
        for key in &mut self.keys {
            *key = key_of(descending(self.logits[token_of(*key) as usize]), token_of(*key));
        }
    }

    /// Keeps the first candidates that together reach `target`.
    fn keep_prefix(&mut self, target: f64) {
        let n = prefix_reaching(&mut self.keys, &self.weights, target);
        self.keys.truncate(n);
    }

    /// Min-p: keeps the tokens that weigh at least `min_p` times the heaviest one.
    fn keep_above(&mut self, min_p: f32) {
        let weights = &self.weights;
        let weight = |key: &u64| weights[token_of(*key) as usize];
        let heaviest = self.keys.iter().map(weight).fold(0.0, f32::max);
        self.keys.retain(|key| weight(key) >= min_p * heaviest);
    }

    /// Replaces weights by p^(1/temperature), computed from the logits, and drops the candidates whose weight becomes 0.
    fn temper(&mut self, max: f32, temperature: f32) {
        let best = self.keys.iter().min().map_or(max, |&key| self.logits[token_of(key) as usize]);
        let scale = inverse(temperature);
        for &key in &self.keys {
            let token = token_of(key) as usize;
            self.weights[token] = exp_of_at_most_0((self.logits[token] - best) * scale);
        }
        self.keys.retain(|&key| self.weights[token_of(key) as usize] > 0.0);
    }

    fn sum(&self) -> f64 {
        self.keys.iter().map(|&key| f64::from(self.weights[token_of(key) as usize])).sum()
    }
}

/// The smallest number of first keys (by rank, at least one if there are any) whose weights reach `target`; those keys
/// are moved to the front, the last of them last.
///
/// Like quickselect it halves the range that contains the border, so its time is proportional to the number of keys.
fn prefix_reaching(keys: &mut [u64], weights: &[f32], target: f64) -> usize {
    let weigh = |keys: &[u64]| keys.iter().map(|&key| f64::from(weights[token_of(key) as usize])).sum::<f64>();
    let (mut start, mut end) = (0, keys.len());
    let mut before = 0.0; // weight of keys[..start]
    while end - start > 1 {
        let middle = start + (end - start) / 2;
        keys[start..end].select_nth_unstable(middle - start);
        let half = weigh(&keys[start..middle]);
        if before + half >= target {
            end = middle;
        } else {
            before += half;
            start = middle;
        }
    }
    end
}

fn key_of(rank: u32, token: u32) -> u64 {
    u64::from(rank) << 32 | u64::from(token)
}

fn token_of(key: u64) -> u32 {
    key as u32
}

/// Bits that sort in descending order of the logits; 0 and −0 are equal.
fn descending(logit: f32) -> u32 {
    const SIGN: u32 = 1 << 31;
    let bits = (logit + 0.0).to_bits();
    if bits & SIGN == 0 { !(bits | SIGN) } else { bits }
}
