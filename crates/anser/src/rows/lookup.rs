//! Proposes the next tokens of a text: those that followed its last ones earlier in the prompt or the text.
//!
//! A step that reads proposed tokens behind the last one of the text gives the logits after each of them. The sampler draws from the
//! first, and as long as it draws what was proposed, from the next: the tokens are those that it would have drawn one by one.

use std::collections::HashMap;

/// The number of last tokens that are looked up.
const N_GRAM_LEN: usize = 3;
/// The most tokens that are proposed.
const MAX_PROPOSED: usize = 8;
/// The number of proposals in a row without a right token after which none are made for some steps.
const MAX_MISSES: usize = 2;
/// How many steps these are at first and at most: they double each time.
const MIN_REST: usize = 8;
const MAX_REST: usize = 256;

/// The tokens of a prompt and its text, with an index of where they stand.
#[derive(Debug)]
pub(crate) struct Lookup {
    tokens: Vec<u32>,
    /// For the tokens of an n-gram the place of the token that followed last.
    next: HashMap<[u32; N_GRAM_LEN], usize>,
    /// The number of tokens to propose.
    n_proposed: usize,
    n_misses: usize,
    /// The number of steps without a proposal that remain, and that follow on the next misses.
    rest: usize,
    next_rest: usize,
}

impl Lookup {
    pub(crate) fn new(prompt: &[u32]) -> Lookup {
        let (tokens, next) = (Vec::with_capacity(prompt.len()), HashMap::new());
        let mut lookup = Lookup { tokens, next, n_proposed: 2, n_misses: 0, rest: 0, next_rest: MIN_REST };
        prompt.iter().for_each(|&token| lookup.push(token));
        lookup
    }

    /// Appends a token to the text.
    pub(crate) fn push(&mut self, token: u32) {
        if let Some(&n_gram) = self.tokens.last_chunk() {
            self.next.insert(n_gram, self.tokens.len());
        }
        self.tokens.push(token);
    }

    /// The tokens that may follow, `max_len` of them at most.
    pub(crate) fn propose(&mut self, max_len: usize) -> &[u32] {
        if self.rest > 0 {
            self.rest -= 1;
            return &[];
        }
        let n_gram: Option<&[u32; N_GRAM_LEN]> = self.tokens.last_chunk();
        let Some(&start) = n_gram.and_then(|n_gram| self.next.get(n_gram)) else { return &[] };
        let end = (start + self.n_proposed.min(max_len)).min(self.tokens.len());
        &self.tokens[start..end]
    }

    /// Notes how many of the tokens that were proposed were drawn, and proposes more or fewer from now on.
    pub(crate) fn has_verified(&mut self, n_proposed: usize, n_right: usize) {
        if n_right == 0 {
            self.n_proposed = 2;
            self.n_misses += 1;
            if self.n_misses >= MAX_MISSES {
                self.rest = self.next_rest;
                self.next_rest = (2 * self.next_rest).min(MAX_REST);
            }
            return;
        }
        (self.n_misses, self.next_rest) = (0, MIN_REST);
        self.n_proposed = if n_right == n_proposed { 2 * self.n_proposed } else { n_right + 1 }.min(MAX_PROPOSED);
    }
}

#[cfg(test)]
mod tests {
    use super::{Lookup, MIN_REST};

    #[test]
    fn what_followed_last_is_proposed() {
        let mut lookup = Lookup::new(&[1, 2, 3, 4, 5, 1, 2, 3, 6, 7, 8, 9]);
        assert!(lookup.propose(8).is_empty(), "7, 8, 9 stand nowhere before");
        [1, 2, 3].into_iter().for_each(|token| lookup.push(token));
        assert_eq!(lookup.propose(8), [6, 7]);
        assert_eq!(lookup.propose(1), [6]);
        lookup.has_verified(2, 2);
        assert_eq!(lookup.propose(8), [6, 7, 8, 9]);
        lookup.has_verified(4, 1);
        assert_eq!(lookup.propose(8), [6, 7]);
        assert!(Lookup::new(&[1, 2]).propose(8).is_empty() && Lookup::new(&[]).propose(8).is_empty());
        // What was proposed may reach to the end of the text, and not beyond.
        assert_eq!(Lookup::new(&[5, 5, 5, 5]).propose(8), [5]);
    }

    #[test]
    fn proposals_that_are_wrong_pause() {
        let mut lookup = Lookup::new(&[1, 2, 3, 4, 1, 2, 3]);
        // The number of steps without a proposal, and then one that is wrong or right.
        let mut rests_before = |n_right: usize| {
            let n_empty = (0..100).take_while(|_| lookup.propose(8).is_empty()).count();
            lookup.has_verified(2, n_right);
            n_empty
        };
        assert_eq!([0; 4].map(&mut rests_before), [0, 0, MIN_REST, 2 * MIN_REST]);
        assert_eq!(rests_before(1), 4 * MIN_REST);
        assert_eq!([0; 3].map(&mut rests_before), [0, 0, MIN_REST]);
    }
}
