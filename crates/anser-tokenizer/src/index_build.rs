//! Makes an [`Index`](crate::index::Index). Runs at compile time for the World vocabulary, at load time for others.
//!
//! Time and memory are bounded for any vocabulary within the caps: the perfect hash may leave tokens out (the trie
//! finds them too), and the trie gives up at the end of its address space.

use std::collections::VecDeque;

use crate::index::{self, IndexBuf, KEY_LEN, MAX_KEYED_LEN, Node, ROOT_BASE, SLOT_LEN};
use crate::vocabulary::{Vocabulary, VocabularyError};

/// Builds the tables. Of equal tokens the lowest id wins; empty ones are never matched.
pub(crate) fn build(vocabulary: Vocabulary<'_>) -> Result<IndexBuf, VocabularyError> {
    let tokens = sorted_tokens(vocabulary);
    let covers = |byte: &u8| tokens.binary_search_by(|token| token.bytes.cmp(&[*byte])).is_ok();
    if let Some(byte) = (0..=u8::MAX).find(|byte| !covers(byte)) {
        return Err(VocabularyError::ByteNotCovered { byte });
    }
    let (pilots, slots) = perfect_hash(&tokens);
    Ok(IndexBuf { cuts: cuts(&tokens), pilots, slots, trie: trie(&tokens)? })
}

/// A token that can be matched.
struct Token<'a> {
    bytes: &'a [u8],
    id: u32,
}

/// The tokens in the order of their bytes, without empty ones and repetitions.
fn sorted_tokens(vocabulary: Vocabulary<'_>) -> Vec<Token<'_>> {
    let mut tokens: Vec<_> = (0..vocabulary.size())
        .filter_map(|id| Some(Token { bytes: vocabulary.token(id)?, id: id as u32 }))
        .filter(|token| !token.bytes.is_empty())
        .collect();
    tokens.sort_unstable_by_key(|token| (token.bytes, token.id));
    tokens.dedup_by_key(|token| token.bytes);
    tokens
}

/// Marks the byte pairs that no token holds.
fn cuts(tokens: &[Token<'_>]) -> Box<[u8; 1 << 16]> {
    let mut cuts = Box::new([1; 1 << 16]);
    for pair in tokens.iter().flat_map(|token| token.bytes.windows(2)) {
        cuts[usize::from(u16::from_le_bytes([pair[0], pair[1]]))] = 0;
    }
    cuts
}

/// Pilots and slots of the perfect hash over all tokens of at most [`MAX_KEYED_LEN`] bytes.
///
/// The method is hash and displace: for each bucket of a few keys, the fullest bucket first, pilots are tried until all
/// its keys fall on free slots. A fifth of the slots stays free, so that the last buckets need few tries, too.
fn perfect_hash(tokens: &[Token<'_>]) -> (Vec<[u8; 2]>, Vec<[u8; SLOT_LEN]>) {
    /// The largest pilot that is tried. The keys of a bucket for which none fits are left to the trie.
    const MAX_PILOT: u16 = 4095;
    /// The most keys of a bucket. Only keys that were chosen to collide exceed it; the surplus is left to the trie.
    const MAX_BUCKET_LEN: usize = 24;

    let keyed = tokens.iter().filter(|token| token.bytes.len() <= MAX_KEYED_LEN);
    let n_keys = keyed.clone().count();
    let n_buckets = (n_keys / 4).next_power_of_two();
    let n_slots = n_keys + n_keys / 4;

    let mut buckets = vec![Vec::new(); n_buckets];
    for token in keyed {
        let mut bytes = [0; KEY_LEN];
        bytes[..token.bytes.len()].copy_from_slice(token.bytes);
        let key = index::key(&bytes, token.bytes.len());
        let bucket: &mut Vec<_> = &mut buckets[index::bucket(index::hash(key), n_buckets)];
        if bucket.len() < MAX_BUCKET_LEN {
            bucket.push((key, token.id));
        }
    }
    let mut order: Vec<_> = (0..n_buckets).collect();
    order.sort_by_key(|&bucket| std::cmp::Reverse(buckets[bucket].len()));

    let mut pilots = vec![[0; 2]; n_buckets];
    let mut slots = vec![[0; SLOT_LEN]; n_slots];
    let mut is_taken = vec![false; n_slots];
    let mut chosen = Vec::with_capacity(MAX_BUCKET_LEN);
    for bucket in order {
        let keys = &buckets[bucket];
        let suits = |pilot: &u16| {
            chosen.clear();
            keys.iter().all(|&(key, _)| {
                let slot = index::slot(index::hash(key), *pilot, n_slots);
                let is_free = !is_taken[slot] && !chosen.contains(&slot);
                chosen.push(slot);
                is_free
            })
        };
        if let Some(pilot) = (0..=MAX_PILOT).find(suits) {
            pilots[bucket] = pilot.to_le_bytes();
            for (&slot, &(key, id)) in chosen.iter().zip(keys) {
                is_taken[slot] = true;
                slots[slot] = index::pack_slot(key, id);
            }
        }
    }
    (pilots, slots)
}

/// A node whose children are still to be placed.
struct Open<'a, 'b> {
    slot: usize,
    byte: u8,
    depth: usize,
    /// The tokens that begin with the node's bytes; the first is the node's own, if it is a token.
    tokens: &'b [Token<'a>],
    /// Id and length of the longest token on the way to the node, itself included.
    best: (u32, usize),
}

impl<'a, 'b> Open<'a, 'b> {
    fn new(slot: usize, byte: u8, depth: usize, tokens: &'b [Token<'a>], inherited: (u32, usize)) -> Self {
        match tokens {
            [token, longer @ ..] if token.bytes.len() == depth => {
                Self { slot, byte, depth, tokens: longer, best: (token.id, depth) }
            }
            _ => Self { slot, byte, depth, tokens, best: inherited },
        }
    }

    /// The node's tokens grouped by the byte that follows the node's own bytes.
    fn children(&self) -> impl Iterator<Item = (u8, &'b [Token<'a>])> + use<'a, 'b> {
        let depth = self.depth;
        self.tokens
            .chunk_by(move |a, b| a.bytes.get(depth) == b.bytes.get(depth))
            .filter_map(move |tokens| Some((*tokens.first()?.bytes.get(depth)?, tokens)))
    }
}

/// The double array, nodes placed breadth first so that the often-used upper ones lie together.
fn trie(tokens: &[Token<'_>]) -> Result<Vec<[u8; 8]>, VocabularyError> {
    let mut slots = Slots::new();
    let root = Open { slot: 0, byte: 0, depth: 0, tokens, best: (0, 0) };
    // The root takes slot 0 only while its children are not placed: a look-up finds them through ROOT_BASE.
    let mut queue = VecDeque::from([root]);
    let mut bytes = Vec::with_capacity(256);
    while let Some(node) = queue.pop_front() {
        bytes.clear();
        bytes.extend(node.children().map(|(byte, _)| byte));
        let base = match node.depth {
            0 => slots.take(ROOT_BASE, &bytes),
            _ if bytes.is_empty() => 0,
            _ => slots.place(&bytes)?,
        };
        queue.extend(
            node.children()
                .map(|(byte, tokens)| Open::new(base ^ usize::from(byte), byte, node.depth + 1, tokens, node.best)),
        );
        if node.depth > 0 {
            let (id, len) = node.best;
            slots.nodes[node.slot] = Node::new(node.byte, id, node.depth - len, base).to_le_bytes();
        }
    }
    Ok(slots.nodes)
}

/// The double array while it fills. It grows by blocks of 256: a base and its children share a block.
struct Slots {
    nodes: Vec<[u8; 8]>,
    /// Whether the slot is some node's child.
    used: Vec<bool>,
    /// Whether the slot number is some node's base: no two nodes may share one.
    is_base: Vec<bool>,
    /// The slot at which the search for a base begins; the slots before it are nearly all taken.
    search_from: usize,
}

impl Slots {
    /// The number of bases that are tried before the array grows by a block.
    const MAX_TRIES: usize = 1024;
    /// The number of tries after which the next search begins later, and the number of slots by which it does.
    const MANY_TRIES: usize = 128;
    const STEP: usize = 32;

    fn new() -> Self {
        let mut slots = Self { nodes: Vec::new(), used: Vec::new(), is_base: Vec::new(), search_from: 2 * ROOT_BASE };
        slots.grow(2 * ROOT_BASE);
        slots
    }

    fn grow(&mut self, n_slots: usize) {
        self.nodes.resize(n_slots, [0; 8]);
        self.used.resize(n_slots, false);
        self.is_base.resize(n_slots, false);
    }

    /// Takes `base` and the slots of its children.
    fn take(&mut self, base: usize, bytes: &[u8]) -> usize {
        self.is_base[base] = true;
        for &byte in bytes {
            self.used[base ^ usize::from(byte)] = true;
        }
        base
    }

    /// Finds a base whose slots for `bytes` are free, and takes it.
    fn place(&mut self, bytes: &[u8]) -> Result<usize, VocabularyError> {
        let is_free =
            |base: &usize| !self.is_base[*base] && bytes.iter().all(|&byte| !self.used[*base ^ usize::from(byte)]);
        let end = self.nodes.len();
        let tried_end = end.min(self.search_from + Self::MAX_TRIES);
        let base = (self.search_from..tried_end).find(is_free).unwrap_or(end);
        if base - self.search_from > Self::MANY_TRIES {
            self.search_from += Self::STEP;
        }
        if base == end {
            if end + 256 > Node::BASE_END {
                return Err(VocabularyError::TooIrregular);
            }
            self.grow(end + 256);
        }
        Ok(self.take(base, bytes))
    }
}
