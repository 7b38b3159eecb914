//! Perplexity: a measure of how well the model predicts a text.

use crate::error::Error;
use crate::model::Model;
use crate::session::{Want, Which};
use std::ops::ControlFlow;

/// The log-likelihoods of a text's tokens under a model, and the perplexity.
#[derive(Debug, Clone, PartialEq)]
pub struct Perplexity {
    /// −ln p of every token but the first, given the tokens before it, in nats.
    pub nll: Vec<f32>,
}

/// The number of tokens whose logits are kept at a time: `CHUNK · V` numbers.
const CHUNK: usize = 64;

impl Perplexity {
    /// Mean of the negative log-likelihoods, nats per token.
    pub fn mean_nll(&self) -> f64 {
        self.nll.iter().map(|&x| f64::from(x)).sum::<f64>() / self.nll.len() as f64
    }

    /// e to the mean negative log-likelihood.
    pub fn perplexity(&self) -> f64 {
        self.mean_nll().exp()
    }
}

impl Model {
    /// Reads `tokens` from a fresh state and scores each but the first. `progress(read, total)` may end the call.
    ///
    /// # Errors
    /// Fewer than two tokens, an id out of range; [`Error::Cancelled`] if `progress` returned `Break`.
    pub fn perplexity(
        &self,
        tokens: &[u32],
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Perplexity, Error> {
        if tokens.len() < 2 {
            return Err(Error::Option { option: "text", reason: "a perplexity needs at least two tokens".into() });
        }
        let mut session = self.session()?;
        let n_vocab = self.config().n_vocab;
        let want = Want { logits: Which::All, hidden: Which::None };
        let (read, predicted) = (&tokens[..tokens.len() - 1], &tokens[1..]);
        let mut nll = Vec::with_capacity(predicted.len());
        for (read, predicted) in read.chunks(CHUNK).zip(predicted.chunks(CHUNK)) {
            let fed = session.feed_for(read, want, |_, _| ControlFlow::Continue(()))?;
            let rows = fed.logits.chunks_exact(n_vocab);
            nll.extend(rows.zip(predicted).map(|(row, &id)| negative_log_likelihood(row, id as usize)));
            if progress(nll.len(), tokens.len() - 1).is_break() && nll.len() < tokens.len() - 1 {
                return Err(Error::Cancelled);
            }
        }
        Ok(Perplexity { nll })
    }
}

/// ln Σ e^logit − logit of `id`
pub(crate) fn negative_log_likelihood(logits: &[f32], id: usize) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    (sum.ln() + f64::from(max) - f64::from(logits.get(id).copied().unwrap_or(f32::NEG_INFINITY))) as f32
}
