//! GGUF, version 2 and 3, little-endian.
//!
//! ```text
//! "GGUF"  version: u32  n_tensors: u64  n_metadata: u64
//! n_metadata × { key: string, type: u32, value }
//! n_tensors  × { name: string, n_dims: u32, dims: [u64; n_dims] (fastest first), type: u32, offset: u64 }
//! padding to a multiple of the alignment (metadata general.alignment, else 32)
//! data section; every offset is relative to its start and a multiple of the alignment
//! ```
//! A string is a `u64` length and that many bytes of UTF-8, without a terminator.
//!
//! A model may lie in several such files; [`split`] says how.

mod cursor;
mod reader;
pub(crate) mod split;
mod writer;

pub(crate) use reader::read;
pub use writer::{GgufDataWriter, GgufWriteError, GgufWriter};

/// The bytes that every GGUF file starts with.
const MAGIC: &[u8; 4] = b"GGUF";

/// The version that is written.
const VERSION: u32 = 3;

/// Metadata key of the alignment of tensor data.
const ALIGNMENT_KEY: &str = "general.alignment";

/// Alignment of tensor data in bytes, where the metadata does not say otherwise.
const DEFAULT_ALIGNMENT: usize = 32;

/// The most dimensions of a tensor; ggml has no more either.
const MAX_N_DIMS: usize = 4;

/// The longest metadata key in bytes, as the specification has it.
const MAX_KEY_N_BYTES: u64 = 65_535;

/// The longest tensor name in bytes. The specification allows 64; some room is left for other writers.
const MAX_NAME_N_BYTES: u64 = 1024;

/// How deep arrays may lie in arrays.
const MAX_ARRAY_DEPTH: usize = 8;

/// Numbers that stand for the types of metadata values.
mod meta_type {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const STR: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;
}
