//! Embeddings: hidden rows after the final norm, pooled over a text. The head is never computed.

use crate::error::Error;
use crate::model::Model;
use crate::session::{Want, Which};
use std::ops::ControlFlow;

/// How the rows of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pooling {
    /// The last token's row.
    #[default]
    Last,
    /// The mean of all rows.
    Mean,
}

/// How to embed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmbedOptions {
    /// How the rows of a text's tokens become one.
    pub pooling: Pooling,
    /// Whether to scale the result to length 1.
    pub normalize: bool,
}

impl Model {
    /// The embedding `[C]` of `tokens`, read from a fresh state. An empty list is read as token 0.
    ///
    /// # Errors
    /// An id out of range.
    pub fn embed(&self, tokens: &[u32], options: &EmbedOptions) -> Result<Vec<f32>, Error> {
        let tokens = if tokens.is_empty() { &[crate::generate::END_OF_TEXT] } else { tokens };
        let hidden = match options.pooling {
            Pooling::Last => Which::Last,
            Pooling::Mean => Which::All,
        };
        let want = Want { hidden, logits: Which::None };
        let rows = self.session()?.feed_for(tokens, want, |_, _| ControlFlow::Continue(()))?.hidden;
        let n_embd = self.config().n_embd;
        let n_rows = rows.len() / n_embd;
        let mut pooled = vec![0.0f64; n_embd];
        for row in rows.chunks_exact(n_embd) {
            pooled.iter_mut().zip(row).for_each(|(p, &x)| *p += f64::from(x) / n_rows as f64);
        }
        let length = pooled.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = if options.normalize && length > 0.0 { 1.0 / length } else { 1.0 };
        Ok(pooled.into_iter().map(|x| (x * scale) as f32).collect())
    }
}
