//! Byte-level BPE, as GPT-2 introduced it: a text is split into pieces by a pattern, and in each piece neighbouring tokens are
//! merged, the most frequent pair first, beginning with single bytes.

mod alphabet;
mod json;
mod split;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use crate::vocabulary::{MAX_VOCAB_SIZE, Vocabulary, VocabularyBuf, VocabularyError};

pub(crate) use alphabet::token_bytes;
pub(crate) use json::{is_tokenizer_json, parse};
pub(crate) use split::Pattern;

/// A vocabulary with its merges.
pub(crate) struct Bpe {
    vocabulary: VocabularyBuf,
    pattern: Pattern,
    /// The token of every single byte.
    bytes: [u32; 256],
    /// By pair of tokens: the merge's rank (the lowest comes first), and the token that it makes.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// By its bytes, the id of a token that is found in a text before it is split.
    added: HashMap<Vec<u8>, u32>,
    /// The lengths in bytes that these tokens have, the longest first: at most
    /// [`MAX_TOKEN_LEN`](crate::MAX_TOKEN_LEN) of them, however many tokens a file adds.
    added_lens: Vec<usize>,
    /// By its name, the id of a token that no text becomes.
    control: HashMap<String, u32>,
    /// Whether an added token begins with this byte.
    begins_added: [bool; 256],
}

/// What a tokenizer is made of.
pub(crate) struct Parts {
    /// The bytes of tokens in id order; `None` for those that have no text.
    pub(crate) tokens: Vec<Option<Vec<u8>>>,
    /// Pairs of tokens' bytes, the first to merge first.
    pub(crate) merges: Vec<[Vec<u8>; 2]>,
    /// Ids of tokens that are found in a text before it is split.
    pub(crate) added: Vec<u32>,
    /// Names and ids of tokens that no text becomes.
    pub(crate) control: HashMap<String, u32>,
    pub(crate) pattern: Pattern,
}

impl Bpe {
    /// The token of this name that no text becomes, or that is found in a text before it is split.
    pub(crate) fn special_token(&self, name: &str) -> Option<u32> {
        self.control.get(name).or_else(|| self.added.get(name.as_bytes())).copied()
    }

    pub(crate) fn new(parts: Parts) -> Result<Bpe, VocabularyError> {
        let Parts { tokens, merges, added, control, pattern } = parts;
        let vocabulary = VocabularyBuf::collect(tokens.iter().map(|token| Ok(token.as_deref())))?;
        // Of equal tokens the first one counts.
        let mut ids: HashMap<&[u8], u32> = HashMap::new();
        let is_added: HashSet<u32> = added.iter().copied().collect();
        for (id, token) in tokens.iter().enumerate() {
            if let Some(token) = token.as_deref().filter(|_| !is_added.contains(&(id as u32))) {
                ids.entry(token).or_insert(id as u32);
            }
        }
        let mut bytes = [0; 256];
        for (byte, id) in (0..=u8::MAX).zip(&mut bytes) {
            *id = *ids.get(&[byte][..]).ok_or(VocabularyError::ByteNotCovered { byte })?;
        }
        let problem = |rank: usize| VocabularyError::Merge { rank };
        if merges.len() > MAX_VOCAB_SIZE {
            return Err(problem(MAX_VOCAB_SIZE));
        }
        let mut ranked = HashMap::with_capacity(merges.len());
        for (rank, [left, right]) in merges.iter().enumerate() {
            let find = |token: &[u8]| ids.get(token).copied().ok_or_else(|| problem(rank));
            let pair = (find(left)?, find(right)?);
            let merged = find(&[&left[..], right].concat())?;
            ranked.entry(pair).or_insert((rank as u32, merged));
        }
        let text = |&id: &u32| tokens.get(id as usize)?.as_deref().filter(|token| !token.is_empty());
        let added: HashMap<Vec<u8>, u32> =
            added.iter().rev().filter_map(|id| Some((text(id)?.to_vec(), *id))).collect();
        let added_lens: BTreeSet<usize> = added.keys().map(Vec::len).collect();
        let added_lens = added_lens.into_iter().rev().collect();
        let mut begins_added = [false; 256];
        added.keys().for_each(|token| begins_added[usize::from(token[0])] = true);
        Ok(Bpe { vocabulary, pattern, bytes, merges: ranked, added, added_lens, control, begins_added })
    }

    pub(crate) fn vocabulary(&self) -> Vocabulary<'_> {
        self.vocabulary.view()
    }

    /// Appends the ids of the first `n_bytes` bytes of `text`, or of somewhat more, and returns the text after them. To go on
    /// with that text gives the ids that one call for the whole text gives.
    pub(crate) fn encode<'a>(&self, text: &'a [u8], n_bytes: usize, ids: &mut Vec<u32>) -> &'a [u8] {
        let mut rest = text;
        while !rest.is_empty() && text.len() - rest.len() < n_bytes {
            let (start, n_added) = self.next_added(rest);
            let segment = &rest[..start];
            let limit = n_bytes - (text.len() - rest.len());
            let left = self.encode_segment(segment, limit, ids);
            if !left.is_empty() {
                return &rest[segment.len() - left.len()..];
            }
            let (token, after) = rest[start..].split_at(n_added);
            ids.extend(self.added.get(token));
            rest = after;
        }
        rest
    }

    /// Where the first added token begins, and its length in bytes; the end of the text and 0 if there is none. Of several that begin
    /// there it is the longest.
    fn next_added(&self, text: &[u8]) -> (usize, usize) {
        let candidates = text.iter().enumerate().filter(|(_, byte)| self.begins_added[usize::from(**byte)]);
        for (at, _) in candidates {
            let is_added = |len: &&usize| text[at..].get(..**len).is_some_and(|token| self.added.contains_key(token));
            if let Some(&len) = self.added_lens.iter().find(is_added) {
                return (at, len);
            }
        }
        (text.len(), 0)
    }

    /// The same for text without added tokens.
    fn encode_segment<'a>(&self, text: &'a [u8], n_bytes: usize, ids: &mut Vec<u32>) -> &'a [u8] {
        let mut n_done = 0;
        for chunk in text.utf8_chunks() {
            let mut valid = chunk.valid();
            while !valid.is_empty() {
                if n_done >= n_bytes {
                    return &text[n_done..];
                }
                let (piece, rest) = valid.split_at(self.pattern.piece_len(valid));
                self.encode_piece(piece.as_bytes(), ids);
                n_done += piece.len();
                valid = rest;
            }
            self.encode_piece(chunk.invalid(), ids);
            n_done += chunk.invalid().len();
        }
        &text[n_done..]
    }

    /// Merges the tokens of a piece: always the pair of the lowest rank, of equal ones the first.
    fn encode_piece(&self, piece: &[u8], ids: &mut Vec<u32>) {
        /// Stands for a token that was merged into the one before it.
        const MERGED: u32 = u32::MAX;
        if piece.len() < 2 {
            ids.extend(piece.iter().map(|&byte| self.bytes[usize::from(byte)]));
            return;
        }
        let mut tokens: Vec<u32> = piece.iter().map(|&byte| self.bytes[usize::from(byte)]).collect();
        // Neighbours of every token that is left.
        let mut next: Vec<usize> = (1..=tokens.len()).collect();
        let mut previous: Vec<usize> = (0..tokens.len()).map(|at| at.wrapping_sub(1)).collect();
        let merge_of = |left: u32, right: u32| self.merges.get(&(left, right)).copied();
        let mut heap = BinaryHeap::new();
        for at in 0..tokens.len() - 1 {
            if let Some((rank, merged)) = merge_of(tokens[at], tokens[at + 1]) {
                heap.push(Reverse((rank, at, merged, (tokens[at], tokens[at + 1]))));
            }
        }
        while let Some(Reverse((_, at, merged, (left, right)))) = heap.pop() {
            let second = next[at];
            // One of the two may have been merged with another meanwhile.
            if tokens[at] != left || second >= tokens.len() || tokens[second] != right {
                continue;
            }
            tokens[at] = merged;
            tokens[second] = MERGED;
            next[at] = next[second];
            if let Some(previous) = previous.get_mut(next[at]) {
                *previous = at;
            }
            let before = previous[at];
            for (first, second) in [(before, at), (at, next[at])] {
                if first < tokens.len()
                    && second < tokens.len()
                    && let Some((rank, merged)) = merge_of(tokens[first], tokens[second])
                {
                    heap.push(Reverse((rank, first, merged, (tokens[first], tokens[second]))));
                }
            }
        }
        ids.extend(tokens.into_iter().filter(|&token| token != MERGED));
    }
}
