//! States after token prefixes, so that a prompt which several requests share is read once.

use crate::cache::{Bounded, CacheStats};
use crate::error::Error;
use crate::model::Model;
use crate::session::{Session, Want};
use anser_model::State;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The least number of tokens of a shared prefix whose state is kept: reading fewer tokens takes little longer than
/// copying a state.
const MIN_SHARED_LEN: usize = 32;

/// A bounded trie of token prefixes with the states after them.
///
/// Reuse is exact: a state is used only for the same tokens that led to it. The cache drops the least recently used
/// state first.
///
/// Reading a text keeps the state at its end. If a later text shares only a beginning with it, reading the later text
/// also keeps the state after that beginning, and from the third text on reading continues from there.
#[derive(Debug)]
pub struct PrefixCache {
    model: Model,
    trie: Trie,
    states: Bounded<NodeId, Kept>,
    on_device: bool,
    /// Memory for the next states, which the system has given already.
    spare: Vec<Vec<f32>>,
}

/// A cached state, with the last token's logits.
#[derive(Debug)]
enum Kept {
    Host(State, Vec<f32>),
    /// A session that holds the state on the device and reads no more tokens.
    Device(Session),
}

impl PrefixCache {
    /// An empty cache for at most `max_n_bytes` bytes of states in main memory.
    pub fn new(model: &Model, max_n_bytes: usize) -> PrefixCache {
        let (trie, states) = (Trie::new(), Bounded::new(max_n_bytes));
        PrefixCache { model: model.clone(), trie, states, on_device: false, spare: vec![] }
    }

    /// An empty cache for at most `max_n_bytes` bytes of states in the device's memory, which saves copies to and from
    /// the host.
    pub fn on_device(model: &Model, max_n_bytes: usize) -> PrefixCache {
        PrefixCache { on_device: true, ..PrefixCache::new(model, max_n_bytes) }
    }

    /// A session that has read `tokens` from a fresh state, beginning with the longest cached prefix; the state after
    /// all of them is cached. Returns the session and the number of tokens that came from the cache.
    ///
    /// # Errors
    /// An id out of range; no memory for another state.
    pub fn read(&mut self, tokens: &[u32]) -> Result<(Session, usize), Error> {
        let (mut session, n_reused) = self.longest(tokens)?;
        let mut n_read = n_reused;
        for end in self.stops(tokens, n_reused) {
            self.go_on(&mut session, tokens, n_read, end)?;
            n_read = end;
        }
        Ok((session, n_reused))
    }

    /// The numbers of tokens after which a reader of `tokens` caches the state, in rising order, if it has a session that has read the first
    /// `n_reused` of them: where the tokens stop to be those of a text that was read before, and at their end. [`PrefixCache::read`] is such a
    /// reader; one that shares the cache with other threads reads without it and inserts.
    pub fn stops(&self, tokens: &[u32], n_reused: usize) -> Vec<usize> {
        let n_shared = self.trie.walk(&key(0, tokens)).n_matched.saturating_sub(OWNER_LEN);
        let shared = (n_shared >= n_reused + MIN_SHARED_LEN && n_shared < tokens.len()).then_some(n_shared);
        let end = (n_reused < tokens.len()).then_some(tokens.len());
        shared.into_iter().chain(end).collect()
    }

    /// Reads the tokens from `start` to `end`, and caches the state after them.
    fn go_on(&mut self, session: &mut Session, tokens: &[u32], start: usize, end: usize) -> Result<(), Error> {
        session.feed_for(&tokens[start..end], Want::LOGITS, |_, _| ControlFlow::Continue(()))?;
        self.insert(&tokens[..end], session)
    }

    /// A session that has read the longest cached prefix of `tokens`, and the length of this prefix.
    ///
    /// # Errors
    /// No memory for another state.
    pub fn longest(&mut self, tokens: &[u32]) -> Result<(Session, usize), Error> {
        self.longest_of(0, tokens)
    }

    /// [`PrefixCache::longest`] among the prefixes that [`PrefixCache::insert_of`] cached for `owner`. Those of others are not
    /// looked at.
    ///
    /// # Errors
    /// As [`PrefixCache::longest`].
    pub fn longest_of(&mut self, owner: u64, tokens: &[u32]) -> Result<(Session, usize), Error> {
        let Some((node, n_tokens)) = self.find(owner, tokens) else {
            self.states.count(0, 1);
            return Ok((self.model.session()?, 0));
        };
        let session = match self.states.get(&node) {
            Some(Kept::Device(kept)) => kept.fork()?,
            Some(Kept::Host(state, logits)) => {
                let mut session = self.model.session()?;
                session.resume(state, logits)?;
                session
            }
            None => return Ok((self.model.session()?, 0)),
        };
        self.states.count(1, 0);
        Ok((session, n_tokens))
    }

    /// The length of the longest cached prefix of `tokens` that `owner` has.
    pub fn longest_len(&self, owner: u64, tokens: &[u32]) -> usize {
        self.find(owner, tokens).map_or(0, |(_, n_tokens)| n_tokens)
    }

    /// The node of the longest prefix of `tokens` that has a state, and its length.
    fn find(&self, owner: u64, tokens: &[u32]) -> Option<(NodeId, usize)> {
        let path = self.trie.walk(&key(owner, tokens)).path;
        let &(node, len) = path.iter().rev().find(|(node, _)| self.states.contains(node))?;
        Some((node, len.saturating_sub(OWNER_LEN)))
    }

    /// Caches `session`'s state as the one after `tokens`, which the session must have read from a fresh state.
    ///
    /// # Errors
    /// If the device fails; a session of another model.
    pub fn insert(&mut self, tokens: &[u32], session: &mut Session) -> Result<(), Error> {
        self.insert_of(0, tokens, session)
    }

    /// [`PrefixCache::insert`] for `owner` alone.
    ///
    /// # Errors
    /// As [`PrefixCache::insert`].
    pub fn insert_of(&mut self, owner: u64, tokens: &[u32], session: &mut Session) -> Result<(), Error> {
        if !session.model().is(&self.model) {
            let (found, expected) = (session.model().name(), self.model.name());
            let reason = format!("it is a session of {found}, this is a cache for {expected}");
            return Err(Error::Option { option: "session", reason });
        }
        session.flush()?;
        let n_bytes = 4 * (tokens.len() + self.model.state_layout().len() + session.logits().len());
        if tokens.is_empty() || !self.states.has_room_for(n_bytes) {
            return Ok(());
        }
        let kept = match self.on_device {
            true => Kept::Device(session.fork()?),
            false => Kept::Host(session.state_in(self.spare.pop().unwrap_or_default())?, session.logits().to_vec()),
        };
        let node = self.trie.insert(&key(owner, tokens));
        for gone in self.states.insert(node, kept, n_bytes) {
            self.trie.remove(gone, |node| self.states.contains(&node));
        }
        Ok(())
    }

    /// Takes memory for the next two states from the system, if the cache has none at hand, for a caller with nothing else to do: new memory
    /// costs a page fault for every 4 KiB that are first written, some 10 ms for a state of 6 MB on virtual machines, which a text would wait
    /// for. Caches on a device do nothing here.
    pub fn prepare(&mut self) {
        const N_SPARE: usize = 2;

        let len = self.model.state_layout().len();
        if self.on_device || !self.states.has_room_for(4 * len) {
            return;
        }
        while self.spare.len() < N_SPARE {
            // Zeros would be left to the system.
            self.spare.push(vec![1.0; len]);
        }
    }

    /// The cache for `model`, another load of the same files: it keeps the states in main memory, and drops those on the device.
    #[must_use]
    pub fn for_model(mut self, model: &Model) -> PrefixCache {
        if self.on_device {
            let max_n_bytes = self.states.max_n_bytes();
            return PrefixCache::on_device(model, max_n_bytes);
        }
        self.model = model.clone();
        self
    }

    /// The counts of the cache.
    pub fn stats(&self) -> CacheStats {
        self.states.stats()
    }
}

/// The key of a prefix: its owner comes first, so that prefixes of two owners have nothing in common but parts of these numbers.
fn key(owner: u64, tokens: &[u32]) -> Vec<u32> {
    [&[owner as u32, (owner >> 32) as u32], tokens].concat()
}

/// The numbers of a key that name its owner.
const OWNER_LEN: usize = 2;

type NodeId = usize;

/// A trie of token sequences. A node keeps its id until it is removed.
#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
}

#[derive(Debug, Default)]
struct Node {
    parent: NodeId,
    /// The tokens on the edge from the parent; empty for the root only.
    tokens: Vec<u32>,
    /// The children by the first tokens of their edges.
    children: BTreeMap<u32, NodeId>,
}

/// The part of a text that is in a trie.
struct Walk {
    /// The nodes that the text passes, without the root, each with the number of the text's tokens up to it.
    path: Vec<(NodeId, usize)>,
    /// The number of tokens in common with the nearest text of the trie. The last of them may lie on an edge between
    /// two nodes.
    n_matched: usize,
}

const ROOT: NodeId = 0;

impl Trie {
    fn new() -> Trie {
        Trie { nodes: vec![Node::default()], free: vec![] }
    }

    fn walk(&self, tokens: &[u32]) -> Walk {
        let mut walk = Walk { path: vec![], n_matched: 0 };
        let mut at = ROOT;
        while let Some(&child) = tokens.get(walk.n_matched).and_then(|first| self.nodes[at].children.get(first)) {
            let edge = &self.nodes[child].tokens;
            let n_common = edge.iter().zip(&tokens[walk.n_matched..]).take_while(|(a, b)| a == b).count();
            walk.n_matched += n_common;
            if n_common < edge.len() {
                break;
            }
            walk.path.push((child, walk.n_matched));
            at = child;
        }
        walk
    }

    /// The node of `tokens`, which is made if there is none.
    fn insert(&mut self, tokens: &[u32]) -> NodeId {
        let Walk { path, n_matched } = self.walk(tokens);
        let (mut at, n_passed) = path.last().copied().unwrap_or((ROOT, 0));
        if n_matched > n_passed {
            at = self.split(self.nodes[at].children[&tokens[n_passed]], n_matched - n_passed);
        }
        match &tokens[n_matched..] {
            [] => at,
            rest => self.add(at, rest.to_vec()),
        }
    }

    fn add(&mut self, parent: NodeId, tokens: Vec<u32>) -> NodeId {
        let first = tokens[0];
        let node = Node { parent, tokens, children: BTreeMap::new() };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id] = node;
                id
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.nodes[parent].children.insert(first, id);
        id
    }

    /// Inserts a node after the first `n` tokens of `node`'s edge.
    fn split(&mut self, node: NodeId, n: usize) -> NodeId {
        let rest = self.nodes[node].tokens.split_off(n);
        let upper = std::mem::replace(&mut self.nodes[node].tokens, rest);
        let middle = self.add(self.nodes[node].parent, upper);
        self.hang(node, middle);
        middle
    }

    fn hang(&mut self, node: NodeId, parent: NodeId) {
        self.nodes[node].parent = parent;
        let first = self.nodes[node].tokens[0];
        self.nodes[parent].children.insert(first, node);
    }

    /// Removes `node`, whose state was dropped, and the nodes that only led to it. `is_kept` tells which nodes have states.
    fn remove(&mut self, mut node: NodeId, is_kept: impl Fn(NodeId) -> bool) {
        while node != ROOT && !is_kept(node) {
            let parent = self.nodes[node].parent;
            match self.nodes[node].children.values().copied().collect::<Vec<_>>()[..] {
                [] => {
                    let first = self.nodes[node].tokens[0];
                    self.nodes[parent].children.remove(&first);
                }
                [child] => {
                    let upper = std::mem::take(&mut self.nodes[node].tokens);
                    self.nodes[child].tokens.splice(..0, upper);
                    self.hang(child, parent);
                }
                _ => return,
            }
            self.nodes[node] = Node::default();
            self.free.push(node);
            node = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ROOT, Trie};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Every node but the root has tokens, knows its parent, and is a fork, an end or kept.
    fn check(trie: &Trie, kept: &BTreeMap<Vec<u32>, usize>) {
        let mut stack = vec![ROOT];
        let mut n_nodes = 0;
        while let Some(id) = stack.pop() {
            n_nodes += 1;
            let node = &trie.nodes[id];
            assert!(id == ROOT || node.children.len() > 1 || kept.values().any(|&k| k == id));
            for (&first, &child) in &node.children {
                assert_eq!((trie.nodes[child].parent, trie.nodes[child].tokens[0]), (id, first));
                stack.push(child);
            }
        }
        assert_eq!(n_nodes + trie.free.len(), trie.nodes.len());
    }

    proptest! {
        /// The trie agrees with a plain list of the texts.
        #[test]
        fn a_trie_finds_what_a_list_of_texts_has(
            texts in prop::collection::vec(prop::collection::vec(0u32..3, 1..12), 1..40),
            order in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 40..120),
        ) {
            let mut trie = Trie::new();
            let mut kept = BTreeMap::new();
            for (is_insert, index) in order {
                let text = index.get(&texts);
                if is_insert {
                    kept.insert(text.clone(), trie.insert(text));
                } else if let Some(node) = kept.remove(text) {
                    trie.remove(node, |node| kept.values().any(|&k| k == node));
                }
                check(&trie, &kept);
                for text in &texts {
                    let walk = trie.walk(text);
                    let common = |other: &Vec<u32>| other.iter().zip(text).take_while(|(a, b)| a == b).count();
                    prop_assert_eq!(walk.n_matched, kept.keys().map(common).max().unwrap_or(0));
                    let is_kept = |node| kept.values().any(|&k| k == node);
                    let found: Vec<_> = walk.path.into_iter().filter(|&(node, _)| is_kept(node)).collect();
                    let expected: Vec<_> =
                        kept.iter().filter(|(k, _)| text.starts_with(k)).map(|(k, &node)| (node, k.len())).collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
