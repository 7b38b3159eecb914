//! A cache bounded by bytes: it drops the least recently used entry first.

use crate::embed::EmbedOptions;
use lru::LruCache;
use std::hash::Hash;

/// The counts of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// The number of look-ups that found an entry.
    pub n_hits: u64,
    /// The number of look-ups that found none.
    pub n_misses: u64,
    /// The number of entries now.
    pub n_entries: usize,
    /// The bytes of keys and contents now.
    pub n_bytes: usize,
}

/// Entries with their sizes, the least recently used last.
#[derive(Debug)]
pub(crate) struct Bounded<K: Hash + Eq, T> {
    entries: LruCache<K, (T, usize)>,
    stats: CacheStats,
    max_n_bytes: usize,
}

impl<K: Hash + Eq, T> Bounded<K, T> {
    pub(crate) fn new(max_n_bytes: usize) -> Self {
        Bounded { entries: LruCache::unbounded(), stats: CacheStats::default(), max_n_bytes }
    }

    /// The item at `key`, which is now the most recently used.
    pub(crate) fn get(&mut self, key: &K) -> Option<&T> {
        self.entries.get(key).map(|(item, _)| item)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.entries.contains(key)
    }

    /// Adds to the numbers of look-ups.
    pub(crate) fn count(&mut self, n_hits: u64, n_misses: u64) {
        self.stats.n_hits += n_hits;
        self.stats.n_misses += n_misses;
    }

    pub(crate) fn max_n_bytes(&self) -> usize {
        self.max_n_bytes
    }

    /// Whether an item of this size can be entered at all.
    pub(crate) fn has_room_for(&self, n_bytes: usize) -> bool {
        n_bytes <= self.max_n_bytes
    }

    /// Enters `item` if it is no larger than the cache, and returns the keys of the entries that were dropped for it.
    pub(crate) fn insert(&mut self, key: K, item: T, n_bytes: usize) -> Vec<K> {
        let mut gone = vec![];
        if !self.has_room_for(n_bytes) {
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

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats { n_entries: self.entries.len(), ..self.stats }
    }
}

/// A cache of embeddings. Its size is 0 unless the options of the model set one.
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
        let found: Vec<_> = texts.iter().map(|t| cache.get(&(t.clone(), *options)).cloned()).collect();
        let n_hits = found.iter().flatten().count() as u64;
        cache.count(n_hits, texts.len() as u64 - n_hits);
        found
    }

    pub(crate) fn insert(&mut self, text: &[u32], options: &EmbedOptions, embedding: &[f32]) {
        self.0.insert((text.to_vec(), *options), embedding.to_vec(), 4 * (text.len() + embedding.len()));
    }

    pub(crate) fn stats(&self) -> CacheStats {
        self.0.stats()
    }
}
