//! The tokens of a vocabulary, by id, and the rules that every vocabulary must keep.

use thiserror::Error;

use crate::escape::EscapeError;

/// The largest number of ids that a vocabulary may have. The World vocabulary has 65,536.
pub const MAX_VOCAB_SIZE: usize = 1 << 20;
/// The largest number of bytes that one token may have. The longest World token has 128.
pub const MAX_TOKEN_LEN: usize = 255;
/// The largest number of bytes that all tokens together may have. The World tokens have 373,358.
pub const MAX_TEXT_LEN: usize = 1 << 23;

/// The reason for which a list of tokens is no usable vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// The list has more than [`MAX_VOCAB_SIZE`] ids.
    #[error("the vocabulary has more than {MAX_VOCAB_SIZE} tokens, the most that are supported")]
    TooManyTokens,
    /// A token is longer than [`MAX_TOKEN_LEN`].
    #[error("token {id} has {n_bytes} bytes; expected at most {MAX_TOKEN_LEN}")]
    TokenTooLong {
        /// Id of the token.
        id: usize,
        /// Its length in bytes.
        n_bytes: usize,
    },
    /// All tokens together are longer than [`MAX_TEXT_LEN`].
    #[error("the vocabulary has more than {MAX_TEXT_LEN} bytes of token text, the most that are supported")]
    TextTooLong,
    /// The tokens branch in so many ways that their prefix tree outgrows its addresses.
    #[error("the vocabulary's tokens branch in too many ways to be indexed; use fewer or shorter tokens")]
    TooIrregular,
    /// No token is this single byte, so that a text holding it could not be encoded.
    #[error(
        "no token of the vocabulary is the single byte 0x{byte:02x}, so not every text could be encoded; \
         a byte-complete vocabulary such as RWKV World is needed"
    )]
    ByteNotCovered {
        /// The lowest byte that no token covers.
        byte: u8,
    },
    /// The text of a GGUF token cannot be unescaped.
    #[error("token {id}: {source}")]
    Escape {
        /// Id of the token.
        id: usize,
        /// The fault of its text.
        source: EscapeError,
    },
    /// A vocabulary file is not text in UTF-8.
    #[error("a vocabulary file must be UTF-8 text, found {found} at byte {at}; save it as UTF-8")]
    NotUtf8 {
        /// A description of the bytes that are there instead.
        found: &'static str,
        /// Their position in the file, in bytes from 0.
        at: usize,
    },
    /// A vocabulary file in JSON cannot be read.
    #[error("not a vocabulary in JSON: {problem}")]
    Json {
        /// The fault, with its line and column.
        problem: String,
    },
    /// A merge of a byte-level BPE names a token that the vocabulary does not have.
    #[error("merge {rank} joins tokens that the vocabulary does not have; the tokenizer is incomplete or damaged")]
    Merge {
        /// Which, from 0.
        rank: usize,
    },
    /// A byte-level BPE that splits texts in a way that is not known.
    #[error("texts are split as {found:?}, but gpt-2 and qwen2 are read")]
    Pattern {
        /// Its name in the file.
        found: String,
    },
    /// A line of a vocabulary file cannot be read.
    #[error("vocabulary line {line}: {problem}")]
    Line {
        /// The line's number, from 1.
        line: usize,
        /// The fault of the line.
        problem: LineError,
    },
}

/// The reason for which a line of a vocabulary file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LineError {
    /// The line is not made of three fields.
    #[error("expected `ID LITERAL LENGTH`, for example `33 ' ' 1`")]
    Shape,
    /// The first field is no id.
    #[error("expected an id from 0 to {}, found `{found}`", MAX_VOCAB_SIZE - 1)]
    Id {
        /// The field as written.
        found: String,
    },
    /// An earlier line has the same id.
    #[error("id {id} was already given by an earlier line")]
    RepeatedId {
        /// The id.
        id: usize,
    },
    /// The second field is neither a quoted string nor a quoted byte string.
    #[error("expected a Python literal: '…', \"…\", b'…' or b\"…\"")]
    Literal,
    /// The literal holds an escape that cannot be read.
    #[error(transparent)]
    Escape(#[from] EscapeError),
    /// The literal's bytes are more or fewer than the third field says.
    #[error("the token has {n_bytes} bytes but its length field says `{found}`")]
    Length {
        /// Length of the literal in bytes.
        n_bytes: usize,
        /// The length field as written.
        found: String,
    },
}

/// The tokens' bytes, end to end in id order; ids without text are empty.
#[derive(Clone, Copy)]
pub(crate) struct Vocabulary<'a> {
    /// All tokens' bytes.
    pub(crate) text: &'a [u8],
    /// The position at which each token begins in `text`, and the length of `text` at the end: [V + 1], little-endian u32.
    pub(crate) offsets: &'a [[u8; 4]],
    /// Length of the longest token in bytes.
    pub(crate) max_token_len: usize,
}

impl<'a> Vocabulary<'a> {
    /// Number of ids, V.
    pub(crate) fn size(self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The token's bytes (empty for an id without text), or `None` when `id` ≥ V.
    pub(crate) fn token(self, id: usize) -> Option<&'a [u8]> {
        let start = u32::from_le_bytes(*self.offsets.get(id)?) as usize;
        let end = u32::from_le_bytes(*self.offsets.get(id + 1)?) as usize;
        self.text.get(start..end)
    }
}

/// The buffers that a [`Vocabulary`] borrows if it is not the embedded one.
#[derive(Default)]
pub(crate) struct VocabularyBuf {
    text: Vec<u8>,
    offsets: Vec<[u8; 4]>,
    max_token_len: usize,
}

impl VocabularyBuf {
    /// Collects tokens in id order; `None` is an id without text.
    pub(crate) fn collect<B: AsRef<[u8]>>(
        tokens: impl IntoIterator<Item = Result<Option<B>, VocabularyError>>,
    ) -> Result<Self, VocabularyError> {
        let mut vocabulary = Self { offsets: vec![[0; 4]], ..Self::default() };
        for (id, token) in tokens.into_iter().enumerate() {
            if id == MAX_VOCAB_SIZE {
                return Err(VocabularyError::TooManyTokens);
            }
            if let Some(token) = token? {
                let token = token.as_ref();
                if token.len() > MAX_TOKEN_LEN {
                    return Err(VocabularyError::TokenTooLong { id, n_bytes: token.len() });
                }
                if token.len() > MAX_TEXT_LEN - vocabulary.text.len() {
                    return Err(VocabularyError::TextTooLong);
                }
                vocabulary.text.extend_from_slice(token);
                vocabulary.max_token_len = vocabulary.max_token_len.max(token.len());
            }
            // MAX_TEXT_LEN keeps every offset far below 2^32.
            vocabulary.offsets.push((vocabulary.text.len() as u32).to_le_bytes());
        }
        Ok(vocabulary)
    }

    pub(crate) fn view(&self) -> Vocabulary<'_> {
        Vocabulary { text: &self.text, offsets: &self.offsets, max_token_len: self.max_token_len }
    }
}
