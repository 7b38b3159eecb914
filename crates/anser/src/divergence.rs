//! How far apart the distributions of two models are, token by token.

use crate::error::Error;
use crate::model::Model;
use crate::perplexity::{Perplexity, negative_log_likelihood};
use crate::session::{Want, Which};
use std::num::NonZero;
use std::ops::ControlFlow;
use std::panic::resume_unwind;

/// The number of tokens whose logits are kept at a time: `CHUNK · V` numbers of each model.
const CHUNK: usize = 64;

/// The Kullback-Leibler divergences of a second model's distributions from a first's, and whether both find the same token most likely.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Divergence {
    /// For each token that was compared Σ p_A · (ln p_A − ln p_B) over the vocabulary, in nats, at least 0.
    pub kl: Vec<f64>,
    /// The number of these tokens at which the most likely token is the same; of equally likely ones the lowest id counts.
    pub n_same_top: usize,
}

impl Divergence {
    /// Compares rows of logits, `[T, V]` each, on all cores.
    pub(crate) fn add(&mut self, a: &[f32], b: &[f32], n_vocab: usize) {
        let n_rows = a.len() / n_vocab;
        let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let n_at_once = n_rows.div_ceil(n_threads).max(1) * n_vocab;
        let rows = |a: &[f32], b: &[f32]| -> Vec<(f64, bool)> {
            let rows = a.chunks_exact(n_vocab).zip(b.chunks_exact(n_vocab));
            rows.map(|(a, b)| (kl(a, b), top(a) == top(b))).collect()
        };
        let parts: Vec<Vec<(f64, bool)>> = if n_threads == 1 {
            vec![rows(a, b)]
        } else {
            std::thread::scope(|scope| {
                let parts = a.chunks(n_at_once).zip(b.chunks(n_at_once));
                let threads: Vec<_> = parts.map(|(a, b)| scope.spawn(move || rows(a, b))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
            })
        };
        for (kl, is_same) in parts.into_iter().flatten() {
            self.kl.push(kl);
            self.n_same_top += usize::from(is_same);
        }
    }

    /// The mean over all tokens, in nats; not a number if there are none.
    pub fn mean(&self) -> f64 {
        self.kl.iter().sum::<f64>() / self.kl.len() as f64
    }

    /// The value that a share `q` of the tokens does not exceed, 0 ≤ q ≤ 1, in nats: the smallest one that at least that share is at
    /// most.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.kl.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// The share of tokens at which both models find the same token most likely.
    pub fn same_top(&self) -> f64 {
        self.n_same_top as f64 / self.kl.len() as f64
    }
}

/// Two models on one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// How well the first model predicts the text.
    pub a: Perplexity,
    /// How well the second one does.
    pub b: Perplexity,
    /// The divergences of the second from the first, for the tokens that the perplexities are of.
    pub divergence: Divergence,
}

impl Model {
    /// Reads pieces of text, each from a fresh state, with this model and `other`, and compares what they predict for each token but the
    /// first of a piece. `progress(read, total)`, in tokens, may end the call.
    ///
    /// # Errors
    /// If there is no piece of two tokens or more; vocabularies of different sizes; an id out of range; [`Error::NotFinite`];
    /// [`Error::Cancelled`] if `progress` returned `Break`.
    pub fn compare(
        &self,
        other: &Model,
        pieces: &[&[u32]],
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Comparison, Error> {
        let n_vocab = self.config().n_vocab;
        if other.config().n_vocab != n_vocab {
            let (a, b, found) = (self.name(), other.name(), other.config().n_vocab);
            let reason = format!("{a} has {n_vocab} tokens and {b} {found}; compare models of one vocabulary");
            return Err(Error::Option { option: "models", reason });
        }
        let total: usize = pieces.iter().map(|piece| piece.len().saturating_sub(1)).sum();
        if total == 0 {
            let reason = "a comparison needs at least two tokens in a piece".into();
            return Err(Error::Option { option: "text", reason });
        }
        let want = Want { logits: Which::All, hidden: Which::None };
        let (mut a, mut b) = (Perplexity { nll: vec![] }, Perplexity { nll: vec![] });
        let mut divergence = Divergence::default();
        for piece in pieces {
            let mut sessions = [self.session()?, other.session()?];
            let (Some((_, predicted)), Some((_, read))) = (piece.split_first(), piece.split_last()) else { continue };
            for (read, predicted) in read.chunks(CHUNK).zip(predicted.chunks(CHUNK)) {
                let mut feed = |i: usize| sessions[i].feed_for(read, want, |_, _| ControlFlow::Continue(()));
                let [of_a, of_b] = [feed(0)?.logits, feed(1)?.logits];
                for (nll, logits) in [(&mut a.nll, &of_a), (&mut b.nll, &of_b)] {
                    let rows = logits.chunks_exact(n_vocab).zip(predicted);
                    nll.extend(rows.map(|(row, &id)| negative_log_likelihood(row, id as usize)));
                }
                divergence.add(&of_a, &of_b, n_vocab);
                if progress(a.nll.len(), total).is_break() && a.nll.len() < total {
                    return Err(Error::Cancelled);
                }
            }
        }
        Ok(Comparison { a, b, divergence })
    }
}

/// Σ p · (ln p − ln q) of the softmaxes p and q of two rows of logits a and b `[V]`, in nats: Σ p · (a − b) − (ln Σ e^a − ln Σ e^b), which is
/// exactly 0 for equal rows. Rounding may leave other sums below 0, which no divergence is, so that such sums are 0.
fn kl(a: &[f32], b: &[f32]) -> f64 {
    let [max_a, max_b] = [a, b].map(|row| f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max)));
    let [mut sum_a, mut sum_b, mut sum_difference] = [0.0f64; 3];
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        let p = (a - max_a).exp();
        sum_a += p;
        sum_b += (b - max_b).exp();
        // What is impossible for the first model does not count: p · ln p tends to 0.
        if p > 0.0 {
            sum_difference += p * (a - b);
        }
    }
    let log_sums = (sum_a.ln() + max_a) - (sum_b.ln() + max_b);
    (sum_difference / sum_a - log_sums).max(0.0)
}

/// The index of the largest logit; of equal ones the first.
fn top(logits: &[f32]) -> usize {
    let mut top = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[top] {
            top = i;
        }
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;

    /// p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): Σ p ln(p/q) = ½ ln 2 + 0 + ¼ ln ½ = ¼ ln 2.
    #[test]
    fn the_divergence_of_known_distributions() {
        let logits = |p: [f32; 3], shift: f32| p.map(|p| p.ln() + shift);
        let (p, q) = (logits([0.5, 0.25, 0.25], 3.0), logits([0.25, 0.25, 0.5], -1.0));
        let mut found = Divergence::default();
        found.add(&[p, p, p].concat(), &[q, p, logits([0.3, 0.3, 0.4], 0.0)].concat(), 3);
        assert!((found.kl[0] - 0.25 * 2f64.ln()).abs() < 1e-7, "{found:?}");
        assert!(found.kl[1] < 1e-14, "{found:?}");
        assert_eq!(found.n_same_top, 1);
    }

    #[test]
    fn quantiles_are_values_of_tokens() {
        let found = Divergence { kl: (0..100).rev().map(f64::from).collect(), n_same_top: 50 };
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|q| found.quantile(q)), [0.0, 49.0, 98.0, 99.0]);
        assert_eq!((found.mean(), found.same_top()), (49.5, 0.5));
        assert!(Divergence::default().quantile(0.5).is_nan());
    }

    #[test]
    fn impossible_tokens_do_not_count() {
        assert_eq!(kl(&[0.0, f32::NEG_INFINITY], &[0.0, f32::NEG_INFINITY]), 0.0);
        assert_eq!(kl(&[0.0, 0.0], &[0.0, f32::NEG_INFINITY]), f64::INFINITY);
    }
}
