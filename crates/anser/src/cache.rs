//! What has been computed once: embeddings of whole texts, and states after prefixes. Both are bounded by bytes, and
//! the least recently used goes first.

use crate::embed::EmbedOptions;
use crate::error::Error;
use crate::model::Model;
use crate::session::{Session, Want};
use anser_model::State;
use lru::LruCache;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::ControlFlow;

/// How a cache has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Look-ups that found something.
    pub n_hits: u64,
    /// Look-ups that did not.
    pub n_misses: u64,
    /// Entries now.
    pub n_entries: usize,
    /// Bytes of keys and contents now.
    pub n_bytes: usize,
}

/// Entries with their sizes, the least recently used last.
#[derive(Debug)]
struct Bounded<K: Hash + Eq, T> {
    entries: LruCache<K, (T, usize)>,
    stats: CacheStats,
    max_n_bytes: usize,
}

impl<K: Hash + Eq, T> Bounded<K, T> {
    fn new(max_n_bytes: usize) -> Self {
        Bounded { entries: LruCache::unbounded(), stats: CacheStats::default(), max_n_bytes }
    }

    /// Enters `item`, and returns the keys that had to go for it.
    fn insert(&mut self, key: K, item: T, n_bytes: usize) -> Vec<K> {
        let mut gone = vec![];
        if n_bytes > self.max_n_bytes {
            return gone;
        }
        if let Some((_, old)) = self.entries.put(key, (item, n_bytes)) {
            self.stats.n_bytes -= old;
        }
        self.stats.n_bytes += n_bytes;
        while self.stats.n_bytes > self.max_n_bytes {
            let Some((key, (_, n_bytes))) = self.entries.pop_lru() else { break };
            self.stats.n_bytes -= n_bytes;
            gone.push(key);
        }
        gone
    }

    fn stats(&self) -> CacheStats {
        CacheStats { n_entries: self.entries.len(), ..self.stats }
    }
}

/// Embeddings of texts that were embedded before. Off (of no size) unless asked for.
#[derive(Debug)]
pub(crate) struct EmbeddingCache(Bounded<(Vec<u32>, EmbedOptions), Vec<f32>>);

impl EmbeddingCache {
    pub(crate) fn new(max_n_bytes: usize) -> Self {
        EmbeddingCache(Bounded::new(max_n_bytes))
    }

    pub(crate) fn look_up(&mut self, texts: &[Vec<u32>], options: &EmbedOptions) -> Vec<Option<Vec<f32>>> {
        let cache = &mut self.0;
        if cache.max_n_bytes == 0 {
            return vec![None; texts.len()];
        }
        let found: Vec<_> =
            texts.iter().map(|t| cache.entries.get(&(t.clone(), *options)).map(|(e, _)| e.clone())).collect();
        let n_hits = found.iter().flatten().count() as u64;
        cache.stats.n_hits += n_hits;
        cache.stats.n_misses += texts.len() as u64 - n_hits;
        found
    }

    pub(crate) fn insert(&mut self, text: &[u32], options: &EmbedOptions, embedding: &[f32]) {
        self.0.insert((text.to_vec(), *options), embedding.to_vec(), 4 * (text.len() + embedding.len()));
    }

    pub(crate) fn stats(&self) -> CacheStats {
        self.0.stats()
    }
}

/// States after token prefixes, so that a prompt which several requests share is read once.
///
/// Reuse is exact: a state is taken only for the very tokens that led to it.
#[derive(Debug)]
pub struct PrefixCache {
    model: Model,
    states: Bounded<Vec<u32>, (State, Vec<f32>)>,
    /// How many entries have a length: a look-up tries these lengths only, the longest first.
    lengths: BTreeMap<usize, usize>,
}

impl PrefixCache {
    /// An empty cache of at most `max_n_bytes` of states.
    pub fn new(model: &Model, max_n_bytes: usize) -> PrefixCache {
        PrefixCache { model: model.clone(), states: Bounded::new(max_n_bytes), lengths: BTreeMap::new() }
    }

    /// Reads `tokens` from a fresh state, as much as possible from the cache, and remembers the state after all of
    /// them. Returns the session and how many tokens came from the cache.
    ///
    /// # Errors
    /// An id out of range.
    pub fn read(&mut self, tokens: &[u32]) -> Result<(Session, usize), Error> {
        let (mut session, n_reused) = self.longest_prefix(tokens)?;
        session.feed_for(&tokens[n_reused..], Want::LOGITS, |_, _| ControlFlow::Continue(()))?;
        if n_reused < tokens.len() {
            self.insert(tokens, &mut session)?;
        }
        Ok((session, n_reused))
    }

    /// Remembers `session`'s state as the one after `tokens`, which it must have read from a fresh state.
    ///
    /// # Errors
    /// If the device fails.
    pub fn insert(&mut self, tokens: &[u32], session: &mut Session) -> Result<(), Error> {
        let state = session.state()?;
        let logits = session.logits().to_vec();
        let n_bytes = 4 * (tokens.len() + state.data().len() + logits.len());
        if n_bytes > self.states.max_n_bytes || tokens.is_empty() {
            return Ok(());
        }
        if !self.states.entries.contains(tokens) {
            *self.lengths.entry(tokens.len()).or_default() += 1;
        }
        for gone in self.states.insert(tokens.to_vec(), (state, logits), n_bytes) {
            if let Some(n) = self.lengths.get_mut(&gone.len()) {
                *n -= 1;
            }
        }
        self.lengths.retain(|_, n| *n > 0);
        Ok(())
    }

    /// A session that has read the longest cached prefix of `tokens`, and its length.
    fn longest_prefix(&mut self, tokens: &[u32]) -> Result<(Session, usize), Error> {
        let mut session = self.model.session()?;
        for &n in self.lengths.range(..=tokens.len()).rev().map(|(n, _)| n) {
            if let Some(((state, logits), _)) = self.states.entries.get(&tokens[..n]) {
                session.resume(state, logits)?;
                self.states.stats.n_hits += 1;
                return Ok((session, n));
            }
        }
        self.states.stats.n_misses += 1;
        Ok((session, 0))
    }

    /// How it has done.
    pub fn stats(&self) -> CacheStats {
        self.states.stats()
    }
}
