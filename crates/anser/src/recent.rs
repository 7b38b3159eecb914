//! The last tokens of a sequence.

/// The tokens that a session has read last. Look-up and draft models propose the next tokens by them. Their number is bounded, so that
/// a session takes the same memory after any number of tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent(Vec<u32>);

/// The most tokens that are kept.
const MAX_LEN: usize = 4096;

impl Recent {
    /// Appends tokens.
    pub(crate) fn extend(&mut self, tokens: &[u32]) {
        self.0.extend_from_slice(last(tokens));
        // Older tokens are removed many at a time, since the others move to the front.
        if self.0.len() >= 2 * MAX_LEN {
            self.0.drain(..self.0.len() - MAX_LEN);
        }
    }

    /// Forgets all tokens.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The last tokens, [`MAX_LEN`] at most.
    pub(crate) fn tokens(&self) -> &[u32] {
        last(&self.0)
    }
}

fn last(tokens: &[u32]) -> &[u32] {
    &tokens[tokens.len().saturating_sub(MAX_LEN)..]
}

#[cfg(test)]
mod tests {
    use super::{MAX_LEN, Recent};

    #[test]
    fn the_last_tokens_are_kept() {
        let (mut recent, mut all) = (Recent::default(), vec![]);
        for len in [3, MAX_LEN - 4, 1, 1, MAX_LEN, 5 * MAX_LEN, 7] {
            let tokens: Vec<u32> = (0..len as u32).map(|i| i + all.len() as u32).collect();
            recent.extend(&tokens);
            all.extend(tokens);
            assert_eq!(recent.tokens(), &all[all.len().saturating_sub(MAX_LEN)..]);
            assert!(recent.0.len() < 2 * MAX_LEN);
        }
        recent.clear();
        assert!(recent.tokens().is_empty());
    }
}
