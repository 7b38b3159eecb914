//! Reads vocabulary files.

use crate::error::Error;
use crate::files;
use anser_tokenizer::Tokenizer;
use std::path::Path;

/// The most bytes that a vocabulary file may have. That of the World vocabulary has about a million.
pub const MAX_VOCABULARY_N_BYTES: u64 = 64 << 20;

/// The tokenizer of the vocabulary file at `path`: lines as in `rwkv_vocab_v20230424.txt`, or JSON as web-rwkv reads it;
/// see [`Tokenizer::from_vocab_text`].
///
/// # Errors
/// If the file cannot be read, has more than [`MAX_VOCABULARY_N_BYTES`] bytes or is no usable vocabulary.
pub fn read_vocabulary(path: impl AsRef<Path>) -> Result<Tokenizer, Error> {
    let path = path.as_ref();
    let bytes = files::read_at_most(path, MAX_VOCABULARY_N_BYTES, "a vocabulary file")?;
    let refuse = |e: anser_tokenizer::VocabularyError| Error::Tokenizer {
        file: path.display().to_string(),
        reason: e.to_string(),
    };
    Tokenizer::from_vocab_file(&bytes).map_err(refuse)
}
