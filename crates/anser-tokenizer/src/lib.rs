//! The RWKV World tokenizer: bytes to token ids by greedy longest match, and back. Byte-level BPE, for models older than that and
//! for those made of others, is behind the same [`Tokenizer`].
//!
//! ```
//! use anser_tokenizer::{Tokenizer, Utf8Stream};
//!
//! let world = Tokenizer::world();
//! let ids = world.encode("Hello, 世界!".as_bytes());
//!
//! // A reply arrives token by token; a token may end within a character.
//! let mut stream = Utf8Stream::new();
//! let mut reply = String::new();
//! for id in ids {
//!     reply += stream.push(world.token_bytes(id).unwrap());
//! }
//! reply += stream.finish();
//! assert_eq!(reply, "Hello, 世界!");
//! ```
//!
//! # How encoding works
//!
//! Greedy longest match looks sequential: the start of a token is known only after the token before it has been found,
//! and each step down a trie waits for the memory access of the last step. Most of that waiting can be avoided.
//!
//! 1. **Cuts.** Only 8,333 of the 65,536 byte pairs occur inside a World token. Wherever another pair stands in a text,
//!    *every* parse has a token boundary between its two bytes. One look-up per neighbouring pair, in a 64 KiB table of
//!    which a text uses little, finds these cuts without a branch that depends on the text. They divide it into pieces
//!    that can be encoded on their own, one after another or overlapping, as the processor likes.
//! 2. **Pieces.** 82 to 90 % of the pieces of Chinese, code and English are exactly one token of at most 15 bytes. A
//!    piece and its length make a 128-bit key; a perfect hash (a 32 KiB table of pilots, then one slot of 20 bytes with
//!    key and id) tells in one probe whether that is a token, and which.
//! 3. **Trie.** The others begin with their longest token, found in a double array whose 64-bit nodes also hold the
//!    longest token passed on the way, so that no byte is walked twice. The rest of the piece is looked up as in 2.
//!
//! The answers are exactly those of the naive method: cuts are no heuristic, and 2 is only a shortcut through 3.
//! Any vocabulary with all 256 single bytes works; where few pairs are cuts, more is left to the trie.
//!
//! # How fast that is
//!
//! On one core of a Xeon with AMX (a virtual machine, 2 MiB L2), texts of 1,000,000 bytes, medians; all give the same
//! ids. The Python packages' figures include making the list that they return.
//!
//! | | English MB/s | Chinese MB/s | code MB/s | e-mail of 1,000 characters, µs | ready after, ms |
//! |---|---|---|---|---|---|
//! | anser-tokenizer | 285 | 284 | 299 | 1.54 | 0.05 |
//! | PyPI rwkv-tokenizer 0.11.0 | 43 | 117 | 81 | 5.2 | 780 |
//! | PyPI pyrwkv-tokenizer 0.9.1 | 45 | 108 | 81 | 4.9 | 520 |
//! | PyPI rwkv 0.8.32 (Python) | 3.2 | 5.2 | 6.5 | 122 | 1640 |
//!
//! The same double array walked from the first byte to the last reaches 175, 265 and 212 MB/s: cuts and keys give the
//! rest. The World tables are made by the build script and are part of the program (3.4 MB, used in place). A
//! vocabulary of the same size from a file is ready after some 40 ms.

mod bpe;
mod encode;
mod escape;
mod index;
mod index_build;
mod tokenizer;
mod utf8_stream;
mod vocab_json;
mod vocab_text;
mod vocabulary;
#[cfg(feature = "world-vocab")]
mod world;

pub use escape::{EscapeError, unescape_gguf_token};
pub use tokenizer::{DecodeError, Tokenizer};
pub use utf8_stream::Utf8Stream;
pub use vocabulary::{LineError, MAX_TEXT_LEN, MAX_TOKEN_LEN, MAX_VOCAB_SIZE, VocabularyError};
