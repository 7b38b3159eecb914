//! Ranking documents by how well they answer a query: EmbeddingRWKV's reranker, which reads the states of a text model.
//!
//! ```text
//! S = the text model's state after  Instruct: …  Document: …  Query: …  <65535>
//! x = the reranker's one learned token, read from S (matrices of the chosen layers; shifts are zero)
//! logit = w2 · tanh(W0 · LN(x; ln_out) + b0),  score = σ(logit)
//! ```
//!
//! The document comes before the query, so that the state after it is kept and only the query is read for the next one.

use crate::cache::CacheStats;
use crate::error::Error;
use crate::heads::{END_OF_CHUNK, numbers, products, tensor};
use crate::model::Model;
use crate::now::now;
use crate::prefix::PrefixCache;
use crate::session::{Session, Want};
use anser_format::{MetaValue, ModelFile};
use anser_model::{ModelError, Sequence, StateRef, Step};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the authors' prompts ask for.
const INSTRUCTION: &str = "Given a query, retrieve documents that answer the query";
/// Documents that are read side by side. More are no faster, and each has a state.
const MAX_SEQUENCES: usize = 32;
/// The key under which a file names the text model's layers whose states are read.
const LAYERS_KEY: &str = "reranker_layer_idx";
/// The tensors of a reranker's head.
const HEAD: [&str; 3] = ["reranker.head.0.weight", "reranker.head.0.bias", "reranker.head.2.weight"];

/// A document's place among those that were given, and how well it answers the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Its number among the documents, from 0.
    pub index: usize,
    /// σ(`logit`), from 0 to 1.
    pub score: f32,
    /// The reranker's output.
    pub logit: f32,
}

/// A text model with a reranker, and the states after documents that were read before.
#[derive(Debug)]
pub struct Reranker {
    text: Model,
    scorer: Model,
    /// The text model's layers whose states the reranker's layers begin from.
    layers: Vec<usize>,
    /// `[C, C]`, `[C]` and `[C]`
    head: [Vec<f32>; 3],
    kept: Mutex<PrefixCache>,
}

impl Reranker {
    /// The reranker in the file at `path` for `text`, the embedding model that it was trained with. At most `max_n_bytes` bytes of documents'
    /// states are kept in main memory.
    ///
    /// # Errors
    /// If the file is no reranker, or one for another model.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(
        text: &Model,
        path: impl AsRef<std::path::Path>,
        options: &crate::options::Options,
        max_n_bytes: usize,
    ) -> Result<Reranker, Error> {
        // Adapters are the text model's.
        let options = crate::options::Options { lora: vec![], ..options.clone() };
        Reranker::new(text, Model::load(path, &options)?, max_n_bytes)
    }

    /// The reranker that `scorer` is, for `text`.
    ///
    /// # Errors
    /// As [`Reranker::load`].
    pub fn new(text: &Model, scorer: Model, max_n_bytes: usize) -> Result<Reranker, Error> {
        let file = scorer.file();
        let refuse = |what: &str, advice: &str| ModelError::Unsupported {
            file: file.name().into(),
            what: what.into(),
            advice: advice.into(),
        };
        if file.info(HEAD[0]).is_none() {
            return Err(refuse("a model without a reranker's head", "name a file with the tensors reranker.*").into());
        }
        let is_head = |name: &str| name.starts_with("reranker.head.");
        if let Some(other) = file.tensors().find(|info| is_head(info.name) && !HEAD.contains(&info.name)) {
            return Err(refuse(&format!("a reranker's head with the tensor {}", other.name), "a head has three").into());
        }
        let c = scorer.config().n_embd;
        let head = [
            numbers(&tensor(file, HEAD[0], &[c, c])?)?,
            numbers(&tensor(file, HEAD[1], &[c])?)?,
            numbers(&tensor(file, HEAD[2], &[1, c])?)?,
        ];
        let (ours, theirs) = (scorer.config(), text.config());
        let layers = layers(file, theirs.n_layer)?;
        for (what, expected, found) in [
            ("number of layers", layers.len(), ours.n_layer),
            ("number of heads", theirs.n_head, ours.n_head),
            ("head size", theirs.head_size, ours.head_size),
        ] {
            if expected != found {
                return Err(ModelError::Metadata {
                    file: file.name().into(),
                    key: what.into(),
                    expected: format!("{expected}, for the text model {}", text.name()),
                    found: found.to_string(),
                }
                .into());
            }
        }
        if text.state_layout().part("wkv").is_none_or(|part| text.state_layout().parts[part].shape.len() != 3) {
            return Err(Error::Option {
                option: "reranker",
                reason: format!("{} has states without matrices, which a reranker cannot read", text.name()),
            });
        }
        let kept = Mutex::new(PrefixCache::new(text, max_n_bytes));
        Ok(Reranker { text: text.clone(), scorer, layers, head, kept })
    }

    /// The text model.
    pub fn model(&self) -> &Model {
        &self.text
    }

    /// The counts of the cache of documents' states.
    pub fn stats(&self) -> CacheStats {
        self.kept().stats()
    }

    /// The tokens of `document`, up to where the query begins.
    ///
    /// # Errors
    /// As [`Model::tokenizer`].
    pub fn document_tokens(&self, document: &str) -> Result<Vec<u32>, Error> {
        // No token of the World vocabulary holds a colon and what follows it here, so the parts' tokens are those of the whole prompt.
        self.text.encode(format!("Instruct: {INSTRUCTION}\nDocument: {document}\nQuery:"))
    }

    /// The tokens of `query`, which follow those of a document.
    ///
    /// # Errors
    /// As [`Model::tokenizer`].
    pub fn query_tokens(&self, query: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = self.text.encode(format!(" {query}"))?;
        tokens.push(END_OF_CHUNK);
        Ok(tokens)
    }

    /// The documents by how well they answer `query`, the best one first.
    ///
    /// # Errors
    /// As [`Reranker::logits`].
    pub fn rank<D: AsRef<str>>(&self, query: &str, documents: &[D]) -> Result<Vec<Ranked>, Error> {
        self.rank_for(query, documents, |_, _| ControlFlow::Continue(()))
    }

    /// [`Reranker::rank`] with a callback: `progress(documents done, all)` is called after every step and may end the call.
    ///
    /// # Errors
    /// As [`Reranker::logits`]; [`Error::Cancelled`] if `progress` returned `Break`.
    pub fn rank_for<D: AsRef<str>>(
        &self,
        query: &str,
        documents: &[D],
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Ranked>, Error> {
        self.rank_of(0, query, documents, progress)
    }

    /// [`Reranker::rank_for`] for `owner`: documents' states are kept for it alone, and those that others have are not looked at, so that the
    /// time of a call tells nothing of their documents.
    ///
    /// # Errors
    /// As [`Reranker::rank_for`].
    pub fn rank_of<D: AsRef<str>>(
        &self,
        owner: u64,
        query: &str,
        documents: &[D],
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Ranked>, Error> {
        let tokens = |document: &D| self.document_tokens(document.as_ref());
        let documents = documents.iter().map(tokens).collect::<Result<Vec<_>, _>>()?;
        let logits = self.logits_of(owner, &self.query_tokens(query)?, &documents, progress)?;
        let ranked = |(index, logit): (usize, f32)| Ranked { index, score: 1.0 / (1.0 + (-logit).exp()), logit };
        let mut ranked: Vec<Ranked> = logits.into_iter().enumerate().map(ranked).collect();
        ranked.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.index.cmp(&b.index)));
        Ok(ranked)
    }

    /// The logit of each of `documents`, followed by `query`, in their order. Documents whose state is kept are not read again.
    ///
    /// # Errors
    /// An id out of range, no tokens, a device that fails; [`Error::NotFinite`] if a model computed a number that is not finite.
    pub fn logits<T: AsRef<[u32]>>(&self, query: &[u32], documents: &[T]) -> Result<Vec<f32>, Error> {
        self.logits_of(0, query, documents, |_, _| ControlFlow::Continue(()))
    }

    fn logits_of<T: AsRef<[u32]>>(
        &self,
        owner: u64,
        query: &[u32],
        documents: &[T],
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, Error> {
        // This check comes before the lock, which may be locked for ever in a forked child.
        self.text.check_process()?;
        if query.is_empty() {
            return Err(Error::Option { option: "query", reason: "it has no tokens; expected at least one".into() });
        }
        let mut logits = Vec::with_capacity(documents.len());
        for some in documents.chunks(MAX_SEQUENCES) {
            let done = logits.len();
            let mut after_step = || progress(done, documents.len());
            let mut sessions = self.read_documents(owner, some, &mut after_step)?;
            let mut feeds: Vec<_> = sessions.iter_mut().map(|session| (session, query)).collect();
            self.text.feed_batch_for(&mut feeds, Want::NOTHING, |_, _| after_step())?;
            logits.extend(self.score(&sessions)?);
            if progress(logits.len(), documents.len()).is_break() && logits.len() < documents.len() {
                return Err(Error::Cancelled);
            }
        }
        if let Some((i, &value)) = logits.iter().enumerate().find(|(_, logit)| !logit.is_finite()) {
            let (file, what) = (self.scorer.name().into(), format!("the logit of document {i}"));
            return Err(Error::NotFinite { file, what, value });
        }
        Ok(logits)
    }

    /// Sessions that have read the documents, from kept states where there are some.
    fn read_documents<T: AsRef<[u32]>>(
        &self,
        owner: u64,
        documents: &[T],
        after_step: &mut impl FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<Session>, Error> {
        let mut sessions = vec![];
        let mut rests = vec![];
        for document in documents {
            let document = document.as_ref();
            let (session, n_kept) = self.kept().longest_of(owner, document)?;
            sessions.push(session);
            rests.push(&document[n_kept..]);
        }
        let unread = sessions.iter_mut().zip(&rests).filter(|(_, rest)| !rest.is_empty());
        let mut feeds: Vec<_> = unread.map(|(session, rest)| (session, *rest)).collect();
        self.text.feed_batch_for(&mut feeds, Want::NOTHING, |_, _| after_step())?;
        for ((session, rest), document) in sessions.iter_mut().zip(rests).zip(documents) {
            if !rest.is_empty() {
                self.kept().insert_of(owner, document.as_ref(), session)?;
            }
        }
        Ok(sessions)
    }

    /// The logits of the states in `sessions`: the reranker reads its one token from each of them, side by side.
    fn score(&self, sessions: &[Session]) -> Result<Vec<f32>, Error> {
        self.text.may_block()?;
        self.scorer.may_block()?;
        let (layout, ours) = (self.text.state_layout(), self.scorer.state_layout());
        let part_of = |layout: &anser_model::StateLayout| layout.part("wkv").unwrap_or_default();
        let (theirs_part, ours_part) = (part_of(layout), part_of(ours));
        let mut scorers = vec![];
        for session in sessions {
            let state = now(self.text.executor()?.read_state(session.slot(), layout, vec![]))?;
            let mut begin = vec![0.0; ours.len()];
            for (layer, &of_text) in self.layers.iter().enumerate() {
                let from = layout.range(StateRef { part: theirs_part, layer: of_text });
                let to = ours.range(StateRef { part: ours_part, layer });
                begin[to].copy_from_slice(&state.data()[from]);
            }
            let scorer = self.scorer.session()?;
            self.scorer.executor()?.write_state(scorer.slot(), &begin)?;
            scorers.push(scorer);
        }
        let plan = self.scorer.plan();
        let reads: Vec<_> = plan.hidden.into_iter().collect();
        let tokens = vec![0; scorers.len()];
        let sequences: Vec<_> = scorers.iter().map(|s| Sequence { slot: s.slot(), n_tokens: 1 }).collect();
        let outputs: Vec<u32> = (0..scorers.len() as u32).collect();
        let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        let rows = now(self.scorer.executor_for_step()?.step(&step))?.pop().unwrap_or_default();
        Ok(rows.chunks_exact(self.scorer.config().n_embd).map(|row| self.logit(row)).collect())
    }

    /// w2 · tanh(W0 · row + b0)
    fn logit(&self, row: &[f32]) -> f32 {
        let [w0, b0, w2] = &self.head;
        let hidden = products(w0, row).zip(b0).map(|(x, b)| (x + b).tanh());
        hidden.zip(w2).map(|(x, w)| x * w).sum()
    }

    fn kept(&self) -> MutexGuard<'_, PrefixCache> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text model's layers whose states the reranker in `file` reads: all of `n_layer`, unless the file names some.
fn layers(file: &Arc<ModelFile>, n_layer: usize) -> Result<Vec<usize>, Error> {
    let Some(value) = file.metadata(LAYERS_KEY) else { return Ok((0..n_layer).collect()) };
    let named = match value {
        MetaValue::Str(text) => serde_json::from_str(text).ok(),
        value => value.as_i64_array(),
    };
    let layer = |layer: i64| usize::try_from(layer).ok().filter(|&layer| layer < n_layer);
    let layers = named.and_then(|named: Vec<i64>| named.into_iter().map(layer).collect());
    layers.ok_or_else(|| {
        ModelError::Metadata {
            file: file.name().into(),
            key: LAYERS_KEY.into(),
            expected: format!("a list of the text model's layers, 0 to {}", n_layer.saturating_sub(1)),
            found: value.to_string(),
        }
        .into()
    })
}
