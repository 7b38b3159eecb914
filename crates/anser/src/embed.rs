//! Embeddings: hidden rows pooled over a text. The head is never computed.
//!
//! Many texts are read together: every step takes some tokens of each of several sequences, so that weights are read
//! once for all of them.

use crate::error::Error;
use crate::heads::{CHUNK_LEN, END_OF_CHUNK, TaskHead};
use crate::model::Model;
use crate::now::now;
use crate::session::Session;
use anser_model::{Rows, Sequence, Step, ValueId};
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;

/// The way in which the rows of a text's tokens are reduced to one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Pooling {
    /// The last token's row.
    #[default]
    Last,
    /// The mean of all rows.
    Mean,
    /// The mean of the rows at this token, with which embedding models mark the positions to pool. A text without this
    /// token is read with one at its end.
    MeanOf(u32),
}

/// The rows that are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Layer {
    /// The output of the final norm.
    #[default]
    Final,
    /// The residual stream after this layer, 0 to L-1.
    Residual(usize),
}

/// The options of an embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EmbedOptions {
    /// The way in which the rows of a text's tokens are reduced to one row.
    pub pooling: Pooling,
    /// The rows that are pooled.
    pub layer: Layer,
    /// Whether to scale the result to length 1.
    pub normalize: bool,
    /// The head that makes the embedding of the pooled row, in models that have some; [`Model::task_heads`] tells. It was trained for
    /// [`Pooling::MeanOf`] and [`Layer::Final`]. `None` gives the pooled row.
    pub head: Option<TaskHead>,
    /// The most tokens of a text before a token of [`Pooling::MeanOf`]: a longer text without this token is cut into as few parts as are
    /// no longer, of equal lengths but for one token, and each of them gets the token at its end. `None` cuts none.
    pub chunk_len: Option<NonZeroUsize>,
}

impl EmbedOptions {
    /// The mean of the rows at token 65535, which is added at the end of every 512 tokens of a text, as EmbeddingRWKV was trained; no head.
    pub fn of_chunks() -> EmbedOptions {
        let chunk_len = NonZeroUsize::new(CHUNK_LEN);
        EmbedOptions { pooling: Pooling::MeanOf(END_OF_CHUNK), chunk_len, ..EmbedOptions::default() }
    }
}

/// The most sequences that are read side by side. More are no faster, and each has a state.
const MAX_SEQUENCES: usize = 32;

/// A text being read.
struct Reading<'a> {
    /// Index among the texts.
    text: usize,
    tokens: &'a [u32],
    n_read: usize,
    session: Session,
    /// The sum of the pooled rows, `[C]`.
    sum: Vec<f64>,
    /// The number of rows in `sum`.
    n_rows: usize,
}

impl Model {
    /// The embedding `[C]` of `tokens`, read from a fresh state. An empty list is read as [`Model::document_start`].
    ///
    /// # Errors
    /// An id or a layer out of range; [`Error::NotFinite`] if the model computed a number that is not finite.
    pub fn embed(&self, tokens: &[u32], options: &EmbedOptions) -> Result<Vec<f32>, Error> {
        self.embed_batch(&[tokens], options)
    }

    /// [`Model::embed`], for where nothing may block.
    ///
    /// # Errors
    /// As [`Model::embed`].
    pub async fn embed_async(&self, tokens: &[u32], options: &EmbedOptions) -> Result<Vec<f32>, Error> {
        self.embed_batch_async(&[tokens], options).await
    }

    /// The embeddings `[n, C]` of several texts, each read from a fresh state, in their order.
    ///
    /// # Errors
    /// As [`Model::embed`].
    pub fn embed_batch<T: AsRef<[u32]>>(&self, texts: &[T], options: &EmbedOptions) -> Result<Vec<f32>, Error> {
        self.embed_batch_for(texts, options, |_, _| ControlFlow::Continue(()))
    }

    /// [`Model::embed_batch`], for where nothing may block.
    ///
    /// # Errors
    /// As [`Model::embed`].
    pub async fn embed_batch_async<T: AsRef<[u32]>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Vec<f32>, Error> {
        self.embed_batch_for_async(texts, options, |_, _| ControlFlow::Continue(())).await
    }

    /// [`Model::embed_batch`] with a callback: `progress(texts done, total)` is called after every step and may end the
    /// call.
    ///
    /// # Errors
    /// As [`Model::embed`]; [`Error::Cancelled`] if `progress` returned `Break`.
    pub fn embed_batch_for<T: AsRef<[u32]>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, Error> {
        self.may_block()?;
        now(self.embed_batch_for_async(texts, options, progress))
    }

    /// [`Model::embed_batch_for`], for where nothing may block.
    ///
    /// # Errors
    /// As [`Model::embed_batch_for`].
    pub async fn embed_batch_for_async<T: AsRef<[u32]>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, Error> {
        // This check comes before the cache's lock, which may be locked for ever in a forked child.
        self.check_process()?;
        let texts: Vec<Vec<u32>> =
            texts.iter().map(|t| tokens_to_read(t.as_ref(), options, self.document_start())).collect();
        let value = self.checked_value(options)?;
        let mut found = self.embeddings().look_up(&texts, options);
        let missing: Vec<usize> = (0..texts.len()).filter(|&i| found[i].is_none()).collect();
        let mut n_done = texts.len() - missing.len();
        let mut reader = Reader::new(self, &texts, missing, value, *options)?;
        while let Some(finished) = reader.step().await? {
            n_done += finished.len();
            for (i, embedding) in finished {
                self.embeddings().insert(&texts[i], options, &embedding);
                found[i] = Some(embedding);
            }
            if progress(n_done, texts.len()).is_break() && n_done < texts.len() {
                return Err(Error::Cancelled);
            }
        }
        Ok(found.into_iter().flatten().flatten().collect())
    }

    /// Checks that the model has what `options` name.
    ///
    /// # Errors
    /// A layer out of range; a head that the model does not have, or that was not trained for the pooling.
    pub fn check_embed_options(&self, options: &EmbedOptions) -> Result<(), Error> {
        self.checked_value(options).map(drop)
    }

    /// How the model was trained to embed texts: an embedding model by the mean of the rows at token 65535, which ends every 512 tokens of a
    /// text, and by its head for retrieval. Other models by the last token's row.
    pub fn usual_embed_options(&self) -> EmbedOptions {
        let heads = self.task_heads();
        let head = heads.iter().find(|head| **head == TaskHead::Retr).or(heads.first()).copied();
        match head {
            None => EmbedOptions::default(),
            head => EmbedOptions { head, ..EmbedOptions::of_chunks() },
        }
    }

    /// The tasks that the model has heads for; none but in embedding models.
    pub fn task_heads(&self) -> Vec<TaskHead> {
        self.heads().tasks().collect()
    }

    /// The value that `options` pool, if the model has all that they name.
    fn checked_value(&self, options: &EmbedOptions) -> Result<ValueId, Error> {
        if let Some(head) = options.head {
            let known: Vec<&str> = self.task_heads().into_iter().map(TaskHead::name).collect();
            let reason = if known.is_empty() {
                Some(format!("{} has no heads for tasks; leave it out", self.name()))
            } else if !known.contains(&head.name()) {
                Some(format!("the model has no head {:?}; it has {}", head.name(), known.join(", ")))
            } else if !matches!(options.pooling, Pooling::MeanOf(_)) || options.layer != Layer::Final {
                Some("heads take the mean of the final norm's rows at the token that ends chunks; leave pooling and layer out".into())
            } else {
                None
            };
            if let Some(reason) = reason {
                return Err(Error::Option { option: "head", reason });
            }
        }
        self.embedded_value(options.layer)
    }

    fn embedded_value(&self, layer: Layer) -> Result<ValueId, Error> {
        let plan = self.plan();
        let value = match layer {
            Layer::Final => plan.hidden,
            Layer::Residual(layer) => plan.residuals.get(layer).copied(),
        };
        let reason = || format!("layer out of range: the model has layers 0 to {}", plan.residuals.len() - 1);
        value.ok_or_else(|| Error::Option { option: "layer", reason: reason() })
    }
}

/// A text's index and its embedding `[C]`.
type Embedded = (usize, Vec<f32>);

/// The texts that are being read side by side, and those that wait.
struct Reader<'a> {
    model: &'a Model,
    texts: &'a [Vec<u32>],
    /// Indices of texts, the longest first.
    waiting: VecDeque<usize>,
    reading: Vec<Reading<'a>>,
    value: ValueId,
    options: EmbedOptions,
    /// The number of tokens for one step.
    step_len: usize,
}

impl<'a> Reader<'a> {
    /// A reader of the texts with the indices `indices`.
    fn new(
        model: &'a Model,
        texts: &'a [Vec<u32>],
        mut indices: Vec<usize>,
        value: ValueId,
        options: EmbedOptions,
    ) -> Result<Self, Error> {
        indices.sort_by_key(|&i| std::cmp::Reverse(texts[i].len()));
        let step_len = model.executor()?.preferred_step_len();
        Ok(Reader { model, texts, waiting: indices.into(), reading: vec![], value, options, step_len })
    }

    /// Reads some tokens of some texts. Returns the embeddings of the texts that end with this step; `None` when all
    /// are read.
    async fn step(&mut self) -> Result<Option<Vec<Embedded>>, Error> {
        while let Some(text) = self.waiting.pop_front_if(|_| self.reading.len() < MAX_SEQUENCES) {
            let (tokens, sum) = (&self.texts[text][..], vec![0.0; self.model.config().n_embd]);
            self.reading.push(Reading { text, tokens, n_read: 0, session: self.model.session()?, sum, n_rows: 0 });
        }
        if self.reading.is_empty() {
            return Ok(None);
        }
        self.read().await?;
        let done = self.reading.extract_if(.., |r| r.n_read == r.tokens.len());
        let mut embedded = vec![];
        for reading in done {
            let text = reading.text;
            let embedding = match self.options.head {
                None => reading.pooled(self.options.normalize),
                Some(head) => {
                    let made = self.model.heads().apply(head, &reading.pooled(false))?.unwrap_or_default();
                    if self.options.normalize { scaled(&made) } else { made }
                }
            };
            if let Some((i, &value)) = embedding.iter().enumerate().find(|(_, x)| !x.is_finite()) {
                let what = format!("element {i} of the embedding of text {text}");
                return Err(Error::NotFinite { file: self.model.name().into(), what, value });
            }
            embedded.push((text, embedding));
        }
        Ok(Some(embedded))
    }

    /// Runs one step of about `step_len` tokens. Every sequence reads as many of them as the others; those that a
    /// shorter sequence does not need go to longer ones.
    async fn read(&mut self) -> Result<(), Error> {
        let Reader { model, reading, value, .. } = self;
        let mut budget = self.step_len.max(reading.len());
        let mut order: Vec<usize> = (0..reading.len()).collect();
        order.sort_by_key(|&i| reading[i].remaining());
        let mut lengths = vec![0; reading.len()];
        for (n_before, &i) in order.iter().enumerate() {
            let equal_part = budget / (order.len() - n_before);
            lengths[i] = reading[i].remaining().min(equal_part.max(1));
            budget = budget.saturating_sub(lengths[i]);
        }
        let (mut tokens, mut sequences, mut outputs) = (vec![], vec![], vec![]);
        let mut n_pooled = vec![];
        for (r, &n) in reading.iter().zip(&lengths) {
            let chunk = &r.tokens[r.n_read..][..n];
            let is_pooled = |at: usize| match self.options.pooling {
                Pooling::Last => r.n_read + at + 1 == r.tokens.len(),
                Pooling::Mean => true,
                Pooling::MeanOf(token) => chunk[at] == token,
            };
            let rows = (0..n).filter(|&at| is_pooled(at)).map(|at| (tokens.len() + at) as u32);
            let n_before = outputs.len();
            outputs.extend(rows);
            n_pooled.push(outputs.len() - n_before);
            sequences.push(Sequence { slot: r.session.slot(), n_tokens: n });
            tokens.extend_from_slice(chunk);
        }
        // A step in which no row is pooled reads no values, so that the executor runs only the operations that change
        // the states.
        let reads = if outputs.is_empty() { &[][..] } else { &[*value] };
        let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads, inputs: &[] };
        let rows = model.executor_for_step()?.step(&step).await?.pop().unwrap_or_default();
        let n_embd = model.config().n_embd;
        let of_tokens = model.plan().value(*value).rows == Rows::Tokens;
        let mut at = outputs.iter().enumerate().map(|(o, &row)| if of_tokens { row as usize } else { o });
        for ((r, &n), &n_rows) in reading.iter_mut().zip(&lengths).zip(&n_pooled) {
            r.n_read += n;
            r.n_rows += n_rows;
            for row in at.by_ref().take(n_rows) {
                let row = &rows[row * n_embd..][..n_embd];
                r.sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
            }
        }
        Ok(())
    }
}

impl Reading<'_> {
    fn remaining(&self) -> usize {
        self.tokens.len() - self.n_read
    }

    fn pooled(self, normalize: bool) -> Vec<f32> {
        let length = self.sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = if !normalize {
            1.0 / self.n_rows as f64
        } else if length == 0.0 {
            0.0
        } else {
            // Sums that are not finite stay so, or become NaN.
            1.0 / length
        };
        self.sum.into_iter().map(|x| (x * scale) as f32).collect()
    }
}

/// The row scaled to length 1; zeros stay zeros.
fn scaled(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let scale = if length == 0.0 { 0.0 } else { 1.0 / length };
    row.iter().map(|&x| (f64::from(x) * scale) as f32).collect()
}

/// The tokens that are read for a text: `start` for an empty one; with [`Pooling::MeanOf`] its token at the end of every chunk if the
/// text has none.
fn tokens_to_read(tokens: &[u32], options: &EmbedOptions, start: u32) -> Vec<u32> {
    match options.pooling {
        Pooling::MeanOf(token) if !tokens.contains(&token) => {
            let n_chunks = options.chunk_len.map_or(1, |len| tokens.len().div_ceil(len.get()).max(1));
            let at = |chunk: usize| chunk * tokens.len() / n_chunks;
            let chunk = |i: usize| tokens[at(i)..at(i + 1)].iter().copied().chain([token]);
            (0..n_chunks).flat_map(chunk).collect()
        }
        _ if tokens.is_empty() => vec![start],
        _ => tokens.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_into_equal_chunks() {
        let options = |chunk_len| EmbedOptions {
            pooling: Pooling::MeanOf(9),
            chunk_len: NonZeroUsize::new(chunk_len),
            ..EmbedOptions::default()
        };
        for (tokens, chunk_len, expected) in [
            (&[1, 2, 3, 4, 5][..], 0, &[1, 2, 3, 4, 5, 9][..]),
            (&[1, 2, 3, 4, 5], 5, &[1, 2, 3, 4, 5, 9]),
            (&[1, 2, 3, 4, 5], 4, &[1, 2, 9, 3, 4, 5, 9]),
            (&[1, 2, 3, 4, 5], 2, &[1, 9, 2, 3, 9, 4, 5, 9]),
            (&[1, 9, 3, 4, 5], 2, &[1, 9, 3, 4, 5]),
            (&[], 2, &[9]),
        ] {
            assert_eq!(tokens_to_read(tokens, &options(chunk_len), 0), expected, "{tokens:?} {chunk_len}");
        }
        assert_eq!(tokens_to_read(&[], &EmbedOptions::default(), 7), [7]);
    }
}
