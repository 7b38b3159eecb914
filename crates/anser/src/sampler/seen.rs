//! Which tokens were seen, how often, and what that costs them.

use super::SamplerOptions;

/// Counts of the tokens seen so far. Counts fade, presence does not.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// (token, count), by token: few compared with the vocabulary, so that a sampler stays small.
    counts: Vec<(u32, f32)>,
}

impl Seen {
    /// Lets all counts fade by `decay`, then counts `token` by `amount`.
    pub(super) fn count(&mut self, token: u32, amount: f32, decay: f32) {
        for (_, count) in &mut self.counts {
            *count *= decay;
        }
        match self.counts.binary_search_by_key(&token, |&(t, _)| t) {
            Ok(at) => self.counts[at].1 += amount,
            Err(at) => self.counts.insert(at, (token, amount)),
        }
    }

    /// Applies the repetition, presence and frequency penalties to `logits` \[V\].
    pub(super) fn penalize(&self, logits: &mut [f32], options: &SamplerOptions) {
        for &(token, count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            if *logit > 0.0 {
                *logit /= options.repetition_penalty;
            } else {
                *logit *= options.repetition_penalty;
            }
            *logit -= options.presence_penalty + count * options.frequency_penalty;
        }
    }

    /// (token, count), by token.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn counts(&self) -> &[(u32, f32)] {
        &self.counts
    }

    pub(super) fn clear(&mut self) {
        self.counts.clear();
    }
}
