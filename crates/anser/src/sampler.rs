//! From logits to the next token: penalties, filters, temperature and a seeded draw.
//!
//! Everything here is arithmetic on its arguments: no clock, no file, no thread. Logits \[V\] are read, never changed.
//! A draw costs two passes over the row and a selection among the few tokens that matter; the row is never sorted.

mod candidates;
mod on_device;
mod options;
mod race;
mod seen;
mod softmax;
#[cfg(test)]
mod tests;

use anser_tokenizer::Tokenizer;
use candidates::Candidates;
pub use options::{SamplerError, SamplerOptions, SamplerOrder};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use seen::Seen;
use std::hash::{BuildHasher, RandomState};

/// Draws tokens, and counts the tokens of the text for the penalties.
///
/// The random numbers come from PCG (the PCG-XSL-RR-128/64 generator of `rand_pcg`): small, without dependencies of its
/// own, and defined by integer arithmetic only, so that a seed means the same tokens on every platform.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplerOptions,
    /// Tokens that count for the presence penalty and not for the frequency penalty; sorted.
    uncounted: Vec<u32>,
    seen: Seen,
    seed: u64,
    rng: Pcg64,
    candidates: Candidates,
}

impl Sampler {
    /// A sampler that has seen no token. `uncounted` lists the tokens whose count stays 0, see [`uncounted_tokens`].
    ///
    /// `options` are taken as they are: call [`SamplerOptions::validate`] first where they come from outside.
    pub fn new(options: SamplerOptions, uncounted: Vec<u32>) -> Self {
        let mut uncounted = uncounted;
        uncounted.sort_unstable();
        let seed = options.seed.unwrap_or_else(fresh_seed);
        Sampler {
            options,
            uncounted,
            seen: Seen::default(),
            seed,
            rng: Pcg64::seed_from_u64(seed),
            candidates: Candidates::default(),
        }
    }

    /// The options it draws with.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// The seed in use: that of the options, or the fresh one taken in its place. With it the same draws can be
    /// repeated.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Counts `token` for the penalties, after letting all counts so far decay. Call it for every generated token; for
    /// those of the prompt only if they shall be penalised too.
    pub fn accept(&mut self, token: u32) {
        let amount = if self.uncounted.binary_search(&token).is_ok() { 0.0 } else { 1.0 };
        self.seen.count(token, amount, self.options.penalty_decay);
    }

    /// Goes on as `other`, a sampler of the same options, does: with its counts and its next random numbers.
    pub(crate) fn follow(&mut self, other: &Sampler) {
        self.seen.clone_from(&other.seen);
        self.rng.clone_from(&other.rng);
    }

    /// Draws the next token from `logits` \[V\]. Does not count it: see [`Sampler::accept`].
    ///
    /// # Errors
    /// A logit is NaN or +∞, or all are −∞.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SamplerError> {
        self.sample_allowed(logits, None)
    }

    /// [`Sampler::sample`] from the tokens whose bits are set in `allowed`, if it is given: 32 bits a word, the lowest first. Tokens
    /// beyond the last word are forbidden.
    pub(crate) fn sample_allowed(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> Result<u32, SamplerError> {
        let candidates = &mut self.candidates;
        load(candidates, logits, &self.options, &self.seen);
        allowed.into_iter().for_each(|allowed| candidates.keep_only(allowed));
        let max = candidates.max_logit()?;
        if self.options.is_greedy() {
            return Ok(candidates.most_likely(max));
        }
        let seed = seed_of_draw(&mut self.rng);
        candidates.draw(&self.options, max, seed).ok_or(SamplerError::NoCandidate { n_vocab: logits.len() })
    }

    /// The tokens that [`Sampler::sample`] would draw from for `logits` \[V\], with their probabilities, the most likely
    /// first. Allocates.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn distribution(&self, logits: &[f32]) -> Result<Vec<(u32, f32)>, SamplerError> {
        let mut candidates = Candidates::default();
        load(&mut candidates, logits, &self.options, &self.seen);
        let max = candidates.max_logit()?;
        if self.options.is_greedy() {
            return Ok(vec![(candidates.most_likely(max), 1.0)]);
        }
        Ok(candidates.distribution(&self.options, max))
    }

    /// Forgets all counted tokens and starts the random numbers again: from the seed of the options, or from another
    /// fresh one if they have none.
    pub fn reset(&mut self) {
        self.seen.clear();
        self.seed = self.options.seed.unwrap_or_else(fresh_seed);
        self.rng = Pcg64::seed_from_u64(self.seed);
    }
}

/// The tokens that RWKV's own inference code never counts for the frequency penalty: those whose text is a part of
/// `" \t0123456789"`, so that numbers and tables may repeat. The presence penalty still applies to them.
pub fn uncounted_tokens(tokenizer: &Tokenizer) -> Vec<u32> {
    const UNCOUNTED: &[u8] = b" \t0123456789";
    let ends = |start: usize| start + 1..=UNCOUNTED.len();
    let parts = (0..UNCOUNTED.len()).flat_map(|start| ends(start).map(move |end| &UNCOUNTED[start..end]));
    let tokens = parts.filter_map(|part| match tokenizer.encode(part)[..] {
        [token] => Some(token),
        _ => None,
    });
    tokens.collect()
}

/// Copies `logits` and applies the biases and penalties of single tokens.
fn load(candidates: &mut Candidates, logits: &[f32], options: &SamplerOptions, seen: &Seen) {
    candidates.logits.clear();
    candidates.logits.extend_from_slice(logits);
    for &(token, bias) in &options.logit_bias {
        if let Some(logit) = candidates.logits.get_mut(token as usize) {
            *logit += bias;
        }
    }
    seen.penalize(&mut candidates.logits, options);
}

/// The random number of one draw, from which those of the tokens are made.
fn seed_of_draw(rng: &mut impl Rng) -> u32 {
    (rng.next_u64() >> 32) as u32
}

/// A seed that differs from call to call: the keys that the standard library draws for its hash maps. In a browser
/// those are poor; give a seed there.
fn fresh_seed() -> u64 {
    RandomState::new().hash_one(0u8)
}
