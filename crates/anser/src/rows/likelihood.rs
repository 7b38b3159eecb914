//! How likely a token was, by the model's own logits.

/// The log-probability of a token after the tokens before it, and the tokens that were most likely there.
///
/// Log-probabilities are natural logarithms of the softmax over the model's logits, before any bias, penalty, filter or
/// temperature of a sampler.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// The token.
    pub token: u32,
    /// Its log-probability, at most 0.
    pub log_probability: f32,
    /// The most likely tokens with their log-probabilities, the most likely first; of equal ones the lower id first.
    pub top: Vec<(u32, f32)>,
}

impl Likelihood {
    /// The likelihood of `token` by `logits`, `[V]`, with the `n_top` most likely tokens. `token` is below V.
    pub fn new(logits: &[f32], token: u32, n_top: usize) -> Likelihood {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
        let log_sum = f64::from(max) + sum.ln();
        let log_probability = |id: u32| {
            let logit = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
            (f64::from(logit) - log_sum) as f32
        };
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        let more_likely = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let n_top = n_top.min(ids.len());
        if n_top < ids.len() {
            ids.select_nth_unstable_by(n_top, more_likely);
            ids.truncate(n_top);
        }
        ids.sort_unstable_by(more_likely);
        let top = ids.into_iter().map(|id| (id, log_probability(id))).collect();
        Likelihood { token, log_probability: log_probability(token), top }
    }
}

#[cfg(test)]
mod tests {
    use super::Likelihood;

    /// ln(p) of p = 1/8, 1/2, 1/4, 1/8, of logits that are these but for a constant.
    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let p = [0.125f32, 0.5, 0.25, 0.125];
        let logits = p.map(|p| p.ln() + 7.0);
        for (token, p) in p.iter().enumerate() {
            let found = Likelihood::new(&logits, token as u32, 3);
            assert!((found.log_probability - p.ln()).abs() < 1e-6, "{found:?}");
            assert_eq!(found.top.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [1, 2, 0]);
            assert!((found.top[1].1 - 0.25f32.ln()).abs() < 1e-6, "{found:?}");
        }
        assert!(Likelihood::new(&logits, 0, 0).top.is_empty());
        assert_eq!(Likelihood::new(&logits, 0, 9).top.len(), 4);
    }

    #[test]
    fn a_forbidden_token_is_impossible() {
        let found = Likelihood::new(&[0.0, f32::NEG_INFINITY], 1, 1);
        assert_eq!((found.log_probability, found.top), (f32::NEG_INFINITY, vec![(0, 0.0)]));
    }
}
