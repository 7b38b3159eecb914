//! The tokens of the text with their counts, and the penalties for them.

use super::SamplerOptions;

/// The counts of the tokens seen so far. Counts decay; the presence of a token does not.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// (token, count), sorted by token. A text has few different tokens compared with the vocabulary, so this list
    /// stays small.
    counts: Vec<(u32, f32)>,
}

impl Seen {
    /// Multiplies all counts by `decay`, then adds `amount` to the count of `token`.
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

    /// (token, count), sorted by token.
    pub(super) fn counts(&self) -> &[(u32, f32)] {
        &self.counts
    }

    pub(super) fn clear(&mut self) {
        self.counts.clear();
    }
}
