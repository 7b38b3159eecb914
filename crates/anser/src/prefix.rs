//! States after token prefixes, so that a prompt which several requests share is read once.

use crate::cache::{Bounded, CacheStats};
use crate::error::Error;
use crate::model::Model;
use crate::session::{Session, Want};
use anser_model::State;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A prefix that two texts turn out to share is remembered from this length on: reading fewer tokens costs little more
/// than copying a state.
const MIN_SHARED_LEN: usize = 32;

/// A bounded trie of token prefixes with the states after them.
///
/// Reuse is exact: a state is taken only for the very tokens that led to it. The least recently used state goes first.
///
/// A text's end is remembered when it is read. Where a later text leaves it half-way, the second reading also remembers
/// the state at that place, and from the third on texts with this beginning go on from there.
#[derive(Debug)]
pub struct PrefixCache {
    model: Model,
    trie: Trie,
    states: Bounded<NodeId, Kept>,
    on_device: bool,
}

/// A state that is kept, with the last token's logits.
#[derive(Debug)]
enum Kept {
    Host(State, Vec<f32>),
    /// A session that reads no more.
    Device(Session),
}

impl PrefixCache {
    /// An empty cache of at most `max_n_bytes` of states in main memory.
    pub fn new(model: &Model, max_n_bytes: usize) -> PrefixCache {
        PrefixCache { model: model.clone(), trie: Trie::new(), states: Bounded::new(max_n_bytes), on_device: false }
    }

    /// The same with the states in the device's memory: nothing is carried there and back.
    pub fn on_device(model: &Model, max_n_bytes: usize) -> PrefixCache {
        PrefixCache { on_device: true, ..PrefixCache::new(model, max_n_bytes) }
    }

    /// Reads `tokens` from a fresh state, as much as possible from the cache, and remembers the state after all of
    /// them. Returns the session and how many tokens came from the cache.
    ///
    /// # Errors
    /// An id out of range; no memory for another state.
    pub fn read(&mut self, tokens: &[u32]) -> Result<(Session, usize), Error> {
        let (mut session, n_reused) = self.longest(tokens)?;
        let n_shared = self.trie.walk(tokens).n_matched;
        let mut n_read = n_reused;
        if n_shared >= n_reused + MIN_SHARED_LEN {
            self.go_on(&mut session, tokens, n_read, n_shared)?;
            n_read = n_shared;
        }
        if n_read < tokens.len() {
            self.go_on(&mut session, tokens, n_read, tokens.len())?;
        }
        Ok((session, n_reused))
    }

    /// Reads on from token `start` to `end`, and remembers the state there.
    fn go_on(&mut self, session: &mut Session, tokens: &[u32], start: usize, end: usize) -> Result<(), Error> {
        session.feed_for(&tokens[start..end], Want::LOGITS, |_, _| ControlFlow::Continue(()))?;
        self.insert(&tokens[..end], session)
    }

    /// A session that has read the longest cached prefix of `tokens`, and the length of that.
    ///
    /// # Errors
    /// No memory for another state.
    pub fn longest(&mut self, tokens: &[u32]) -> Result<(Session, usize), Error> {
        let path = self.trie.walk(tokens).path;
        let Some(&(node, n_tokens)) = path.iter().rev().find(|(node, _)| self.states.contains(node)) else {
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

    /// Remembers `session`'s state as the one after `tokens`, which it must have read from a fresh state.
    ///
    /// # Errors
    /// If the device fails; a session of another model.
    pub fn insert(&mut self, tokens: &[u32], session: &mut Session) -> Result<(), Error> {
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
            false => Kept::Host(session.state()?, session.logits().to_vec()),
        };
        let node = self.trie.insert(tokens);
        for gone in self.states.insert(node, kept, n_bytes) {
            self.trie.remove(gone, |node| self.states.contains(&node));
        }
        Ok(())
    }

    /// How it has done.
    pub fn stats(&self) -> CacheStats {
        self.states.stats()
    }
}

type NodeId = usize;

/// Token sequences by their common beginnings. A node keeps its id as long as it is there.
#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
}

#[derive(Debug, Default)]
struct Node {
    parent: NodeId,
    /// Tokens from the parent to here; empty at the root alone.
    tokens: Vec<u32>,
    /// By their first tokens.
    children: BTreeMap<u32, NodeId>,
}

/// How far a trie knows a text.
struct Walk {
    /// Nodes that the text passes, with the number of its tokens there, without the root.
    path: Vec<(NodeId, usize)>,
    /// Tokens in common with the nearest text of the trie; the last of them may lie between two nodes.
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

    /// The node of `tokens`; made where there is none.
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

    /// A new node after the first `n` tokens of `node`'s edge.
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

    /// Takes away `node`, whose state is gone, and what only led to it. `is_kept` tells which nodes have states.
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
        /// Against a plain list of the texts.
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
