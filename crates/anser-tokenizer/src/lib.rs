//! The RWKV World tokenizer.

mod encode;
mod escape;
mod index;
mod index_build;
mod tokenizer;
mod utf8_stream;
mod vocab_text;
mod vocabulary;
mod world;

pub use escape::{EscapeError, unescape_gguf_token};
pub use tokenizer::{DecodeError, Tokenizer};
pub use utf8_stream::Utf8Stream;
pub use vocabulary::{LineError, MAX_TEXT_LEN, MAX_TOKEN_LEN, MAX_VOCAB_SIZE, VocabularyError};
