//! The tokenizer: a vocabulary and its index behind one handle.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use thiserror::Error;

use crate::bpe::{self, Bpe, Parts, Pattern};
use crate::escape::unescape_gguf_token;
use crate::index::IndexBuf;
use crate::vocabulary::{Vocabulary, VocabularyBuf, VocabularyError};
#[cfg(feature = "world-vocab")]
use crate::world;
use crate::{encode, index_build, vocab_json, vocab_text};

/// GGUF's `tokenizer.ggml.token_type` of control tokens, which steer a model. A text never encodes to one.
const GGUF_TYPE_CONTROL: i32 = 3;
/// GGUF's `tokenizer.ggml.token_type` of tokens that a user of a BPE has added, with a text that is found before others.
const GGUF_TYPE_USER_DEFINED: i32 = 4;
/// GGUF's `tokenizer.ggml.token_type` of unused ids, which only pad the vocabulary.
const GGUF_TYPE_UNUSED: i32 = 5;

/// Bytes of text that [`Tokenizer::encode_for`] encodes between two calls of its callback.
const PROGRESS_N_BYTES: usize = 4 << 20;
/// The byte order mark, which some editors write at the start of a UTF-8 text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Encodes bytes as token ids, by greedy longest match or by byte-level BPE, and decodes them.
///
/// Cloning is cheap: clones share their tables.
#[derive(Clone)]
pub struct Tokenizer(Source);

#[derive(Clone)]
enum Source {
    #[cfg(feature = "world-vocab")]
    World,
    Own(Arc<Tables>),
    Bpe(Arc<Bpe>),
}

struct Tables {
    vocabulary: VocabularyBuf,
    index: IndexBuf,
}

impl Tokenizer {
    /// The number of ids of the RWKV World vocabulary.
    pub const WORLD_VOCAB_SIZE: usize = 1 << 16;

    /// The RWKV World tokenizer, 65,536 ids. Its tables are part of the program, so this call takes no time.
    ///
    /// ```
    /// let world = anser_tokenizer::Tokenizer::world();
    /// let ids = world.encode(b"Hello, world!");
    /// assert_eq!(ids, [33155, 45, 40213, 34]);
    /// assert_eq!(world.decode(&ids).unwrap(), b"Hello, world!");
    /// ```
    #[cfg(feature = "world-vocab")]
    #[must_use]
    pub fn world() -> Self {
        Self(Source::World)
    }

    /// A tokenizer for tokens in id order. `None` is an id without text: it is never matched and decodes to nothing.
    ///
    /// Of equal tokens the lowest id is matched; an empty token is never matched. The World vocabulary is recognised,
    /// and its embedded tables are used instead of new ones.
    ///
    /// # Errors
    /// When a single byte is no token (some texts could not be encoded then), or when the list is larger than
    /// [`MAX_VOCAB_SIZE`](crate::MAX_VOCAB_SIZE), [`MAX_TOKEN_LEN`](crate::MAX_TOKEN_LEN) or
    /// [`MAX_TEXT_LEN`](crate::MAX_TEXT_LEN) allow.
    pub fn from_tokens<B: AsRef<[u8]>>(tokens: impl IntoIterator<Item = Option<B>>) -> Result<Self, VocabularyError> {
        Self::from_vocabulary(VocabularyBuf::collect(tokens.into_iter().map(Ok))?)
    }

    /// A tokenizer for the `tokenizer.ggml.tokens` of a GGUF file, each with its `tokenizer.ggml.token_type`.
    ///
    /// Control and unused tokens (types 3 and 5) have no text here: `<s>` in a prompt is three characters, never the
    /// end of text.
    ///
    /// # Errors
    /// As [`from_tokens`](Self::from_tokens), and when a token's text cannot be unescaped.
    pub fn from_gguf<S: AsRef<[u8]>>(tokens: impl IntoIterator<Item = (S, i32)>) -> Result<Self, VocabularyError> {
        let tokens = tokens.into_iter().enumerate().map(|(id, (text, token_type))| match token_type {
            GGUF_TYPE_CONTROL | GGUF_TYPE_UNUSED => Ok(None),
            _ => unescape_gguf_token(text).map(Some).map_err(|source| VocabularyError::Escape { id, source }),
        });
        Self::from_vocabulary(VocabularyBuf::collect(tokens)?)
    }

    /// A tokenizer for the `tokenizer.ggml.tokens` of a GGUF file whose `tokenizer.ggml.model` is `gpt2`, each with its
    /// `tokenizer.ggml.token_type`; with its `tokenizer.ggml.merges` and `tokenizer.ggml.pre`.
    ///
    /// Control and unused tokens (types 3 and 5) have no text here. Tokens that were added to the vocabulary (type 4) are found in a text
    /// before it is split.
    ///
    /// # Errors
    /// When a single byte is no token, a merge names others than these, or texts are split in another way than GPT-2 or
    /// Qwen2 do.
    pub fn from_gguf_bpe<'a>(
        tokens: impl IntoIterator<Item = (&'a str, i32)>,
        merges: impl IntoIterator<Item = &'a str>,
        pre: &str,
    ) -> Result<Self, VocabularyError> {
        let pattern = Pattern::from_llama(pre).ok_or_else(|| VocabularyError::Pattern { found: pre.into() })?;
        let (mut added, mut control) = (vec![], HashMap::new());
        let token = |(id, (text, token_type)): (usize, (&str, i32))| match token_type {
            GGUF_TYPE_CONTROL => {
                control.insert(text.to_owned(), id as u32);
                None
            }
            GGUF_TYPE_UNUSED => None,
            GGUF_TYPE_USER_DEFINED => {
                added.push(id as u32);
                Some(text.as_bytes().to_vec()) // This is the only type whose text is not in the alphabet of bytes.
            }
            _ => bpe::token_bytes(text).or_else(|| Some(text.as_bytes().to_vec())),
        };
        let pair = |(rank, merge): (usize, &str)| {
            let (left, right) = merge.split_once(' ').ok_or(VocabularyError::Merge { rank })?;
            match (bpe::token_bytes(left), bpe::token_bytes(right)) {
                (Some(left), Some(right)) => Ok([left, right]),
                _ => Err(VocabularyError::Merge { rank }),
            }
        };
        let tokens = tokens.into_iter().enumerate().map(token).collect();
        let merges = merges.into_iter().enumerate().map(pair).collect::<Result<_, _>>()?;
        Ok(Self(Source::Bpe(Arc::new(Bpe::new(Parts { tokens, merges, added, control, pattern })?))))
    }

    /// A tokenizer for the text of a vocabulary file. Three formats are told apart by their content:
    ///
    /// - lines, as in `rwkv_vocab_v20230424.txt`: one `ID LITERAL LENGTH` per line, the literal in Python's notation;
    /// - JSON, as web-rwkv and its server read it: one object from ids to tokens, each a text or a list of bytes;
    /// - `tokenizer.json` of the package `tokenizers`, if it is a byte-level BPE that splits texts as GPT-2 (GPT-NeoX 20B) or
    ///   Qwen2 do.
    ///
    /// The vocabulary ends with the highest id named; ids left out have no text. A byte order mark, empty lines at the
    /// end and the kind of line ends do not matter.
    ///
    /// # Errors
    /// As [`from_tokens`](Self::from_tokens), and when the text cannot be read: the error names the line, and for JSON
    /// the column, too.
    pub fn from_vocab_text(text: &str) -> Result<Self, VocabularyError> {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let is_json = text.trim_start().starts_with(['{', '[']);
        if is_json && bpe::is_tokenizer_json(text) {
            return Ok(Self(Source::Bpe(Arc::new(Bpe::new(bpe::parse(text)?)?))));
        }
        Self::from_tokens(if is_json { vocab_json::parse(text)? } else { vocab_text::parse(text)? })
    }

    /// A tokenizer for the bytes of a vocabulary file; see [`from_vocab_text`](Self::from_vocab_text).
    ///
    /// # Errors
    /// As [`from_vocab_text`](Self::from_vocab_text), and when the bytes are not UTF-8.
    pub fn from_vocab_file(bytes: &[u8]) -> Result<Self, VocabularyError> {
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(VocabularyError::NotUtf8 { found: "the byte order mark of UTF-16", at: 0 });
        }
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|e| VocabularyError::NotUtf8 { found: "other bytes", at: e.valid_up_to() })?;
        Self::from_vocab_text(text)
    }

    fn from_vocabulary(vocabulary: VocabularyBuf) -> Result<Self, VocabularyError> {
        let view = vocabulary.view();
        #[cfg(feature = "world-vocab")]
        if view.offsets == world::VOCABULARY.offsets && view.text == world::VOCABULARY.text {
            return Ok(Self::world());
        }
        let index = index_build::build(view)?;
        Ok(Self(Source::Own(Arc::new(Tables { vocabulary, index }))))
    }

    fn vocabulary(&self) -> Vocabulary<'_> {
        match &self.0 {
            #[cfg(feature = "world-vocab")]
            Source::World => world::VOCABULARY,
            Source::Own(tables) => tables.vocabulary.view(),
            Source::Bpe(bpe) => bpe.vocabulary(),
        }
    }

    /// Appends the ids of the first `n_bytes` bytes of `text`, or of somewhat more, and returns the text after them.
    fn encode_some<'a>(&self, text: &'a [u8], n_bytes: usize, ids: &mut Vec<u32>) -> &'a [u8] {
        match &self.0 {
            #[cfg(feature = "world-vocab")]
            Source::World => encode::encode(world::INDEX, text, n_bytes, ids),
            Source::Own(tables) => encode::encode(tables.index.view(), text, n_bytes, ids),
            Source::Bpe(bpe) => bpe.encode(text, n_bytes, ids),
        }
    }

    /// The ids of `text`: at each place the longest token that matches, or as the merges of a BPE make them. Any bytes can be
    /// encoded, and [`decode`](Self::decode) gives them back.
    #[must_use]
    pub fn encode(&self, text: &[u8]) -> Vec<u32> {
        // Prose and code have three to four bytes a token.
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
        self.encode_into(text, &mut ids);
        ids
    }

    /// Appends the ids of `text` to `ids`.
    pub fn encode_into(&self, text: &[u8], ids: &mut Vec<u32>) {
        self.encode_some(text, usize::MAX, ids);
    }

    /// The ids of `text`, as [`encode`](Self::encode) gives them; `None` if `progress` returned `Break`. `progress` is
    /// called with the number of bytes encoded so far, every 4 MiB (some 15 ms) and at the end.
    pub fn encode_for(&self, text: &[u8], mut progress: impl FnMut(usize) -> ControlFlow<()>) -> Option<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
        let mut rest = text;
        while !rest.is_empty() {
            rest = self.encode_some(rest, PROGRESS_N_BYTES, &mut ids);
            if progress(text.len() - rest.len()).is_break() {
                return None;
            }
        }
        Some(ids)
    }

    /// The bytes that `ids` stand for, which need not be UTF-8; [`Utf8Stream`](crate::Utf8Stream) makes text of them.
    /// Ids without text stand for nothing.
    ///
    /// # Errors
    /// When an id is not below [`vocab_size`](Self::vocab_size).
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, DecodeError> {
        let vocabulary = self.vocabulary();
        let mut text = Vec::with_capacity(ids.len().saturating_mul(4));
        for &id in ids {
            let token = vocabulary.token(id as usize);
            text.extend_from_slice(token.ok_or(DecodeError { id, vocab_size: vocabulary.size() })?);
        }
        Ok(text)
    }

    /// The bytes of a token, empty for an id without text; `None` when the id is not below
    /// [`vocab_size`](Self::vocab_size).
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocabulary().token(id as usize)
    }

    /// The token that a byte-level BPE's file calls `name` and that is no ordinary text, such as the mark of a chat's turns `<|im_end|>`.
    #[must_use]
    pub fn special_token(&self, name: &str) -> Option<u32> {
        match &self.0 {
            #[cfg(feature = "world-vocab")]
            Source::World => None,
            Source::Own(_) => None,
            Source::Bpe(bpe) => bpe.special_token(name),
        }
    }

    /// Number of ids, V, those without text included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocabulary().size()
    }

    /// Whether it is a byte-level BPE; otherwise tokens are matched greedily.
    #[must_use]
    pub fn is_bpe(&self) -> bool {
        match self.0 {
            #[cfg(feature = "world-vocab")]
            Source::World => false,
            Source::Own(_) => false,
            Source::Bpe(_) => true,
        }
    }

    /// Length of the longest token in bytes.
    #[must_use]
    pub fn max_token_len(&self) -> usize {
        self.vocabulary().max_token_len
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

/// An id that the vocabulary does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("token id {id} is not in the vocabulary; expected an id below {vocab_size}")]
pub struct DecodeError {
    /// The id.
    pub id: u32,
    /// Number of ids that the vocabulary has.
    pub vocab_size: usize,
}

#[cfg(all(test, feature = "world-vocab"))]
mod tests {
    use super::*;

    #[test]
    fn a_list_equal_to_world_costs_no_building() {
        let list = || (0..65536).map(|id| Some(world::VOCABULARY.token(id).unwrap()).filter(|token| !token.is_empty()));
        assert!(matches!(Tokenizer::from_tokens(list()).unwrap().0, Source::World));
        assert!(matches!(Tokenizer::from_tokens(list().take(65535)).unwrap().0, Source::Own(_)));
        let changed =
            list().enumerate().map(|(id, token)| if id == 65000 { Some(b"changed".as_slice()) } else { token });
        assert!(matches!(Tokenizer::from_tokens(changed).unwrap().0, Source::Own(_)));
    }
}
