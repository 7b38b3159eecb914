//! Errors of opening a model file. Every message names the file, what was found and what to do.

use std::io;

use safetensors::SafeTensorError;

use crate::stored::StoredType;

/// Why a file cannot be opened as a model.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operating system refused to open, measure or map the file.
    #[error("{file}: {source}")]
    Io {
        /// Path of the file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not what it was when it was opened.
    #[error("{file}: it changed after it was opened ({found}), so its weights cannot be trusted; load the model again")]
    Changed {
        /// Path of the file.
        file: String,
        /// What changed.
        found: String,
    },
    /// The content is recognisably something else than a model in a supported format.
    #[error("{file}: this is {found}; {advice}")]
    NotAModel {
        /// Path or given name of the file.
        file: String,
        /// What the file seems to be, for example "a Git LFS pointer".
        found: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// A GGUF file of a version or byte order that is not read.
    #[error("{file}: {found}, but GGUF version 2 or 3 in little-endian byte order is needed; {advice}")]
    GgufVersion {
        /// Path or given name of the file.
        file: String,
        /// The version as found, in words.
        found: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The file ends before an item is complete, or an item claims an impossible length.
    #[error(
        "{file}: {item} at byte {at} needs {n_bytes} bytes but only {n_left} are left; \
         the file is cut short or damaged, get it again"
    )]
    Truncated {
        /// Path or given name of the file.
        file: String,
        /// What was being read.
        item: String,
        /// Where it starts, in bytes from the start of the file.
        at: u64,
        /// How many bytes it needs.
        n_bytes: u64,
        /// How many bytes the file has from there on.
        n_left: u64,
    },
    /// An entry of the header is not valid.
    #[error("{file}: {item}: {problem}")]
    Header {
        /// Path or given name of the file.
        file: String,
        /// Which entry.
        item: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// A part of a model in several files is not there.
    #[error(
        "{file}: the model's part {number} of {count} is missing: {part} is not there; \
         get it, since all parts must lie in one folder"
    )]
    MissingPart {
        /// Path or given name of the file that was to be opened.
        file: String,
        /// Path or expected name of the missing part.
        part: String,
        /// Which part it is, from 1.
        number: usize,
        /// How many parts the model has.
        count: usize,
    },
    /// The file is well formed but holds no tensors.
    #[error("{file}: there are no tensors in this file; it may be a vocabulary or a configuration instead of a model")]
    NoTensors {
        /// Path or given name of the file.
        file: String,
    },
    /// A tensor's entry is not valid.
    #[error("{file}: tensor {tensor}: {problem}")]
    Tensor {
        /// Path or given name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong with it.
        problem: TensorProblem,
    },
    /// The header of a safetensors file is not valid.
    #[error("{file}: the safetensors header is not valid: {source}; the file is damaged, get it again")]
    Safetensors {
        /// Path or given name of the file.
        file: String,
        /// What the parser said.
        source: SafeTensorError,
    },
}

/// What is wrong with one tensor's entry.
#[derive(Debug, thiserror::Error)]
pub enum TensorProblem {
    /// Rows of a quantized type must be whole blocks.
    #[error("its rows of {n_cols} elements are no multiple of {stored}'s block of {block_len} elements")]
    RowLength {
        /// Elements per row.
        n_cols: usize,
        /// The tensor's type.
        stored: StoredType,
        /// Elements of a block of this type.
        block_len: usize,
    },
    /// More or fewer dimensions than allowed.
    #[error("it has {found} dimensions, but 1 to {limit} are allowed")]
    NDims {
        /// Number of dimensions in the file.
        found: u64,
        /// The most that is allowed.
        limit: usize,
    },
    /// The number of bytes is beyond what this machine can address.
    #[error("its size overflows: dimensions {shape:?} of {stored}")]
    TooLarge {
        /// Shape, slowest dimension first.
        shape: Vec<u64>,
        /// The tensor's type.
        stored: StoredType,
    },
    /// The data lies outside of the file.
    #[error(
        "its data, {n_bytes} bytes at offset {offset} of the data section, ends after the end of that section \
         ({section_n_bytes} bytes); the file is cut short or damaged, get it again"
    )]
    OutOfBounds {
        /// Offset in the data section.
        offset: u64,
        /// Bytes that the tensor needs.
        n_bytes: u64,
        /// Bytes that the data section has.
        section_n_bytes: u64,
    },
    /// The data does not start at a multiple of the file's alignment.
    #[error("its offset {offset} is no multiple of the file's alignment {alignment}")]
    Misaligned {
        /// Offset in the data section.
        offset: u64,
        /// Alignment that the file announces, in bytes.
        alignment: usize,
    },
    /// Two tensors share bytes.
    #[error("its data overlaps that of tensor {other}")]
    Overlap {
        /// Name of the other tensor.
        other: String,
    },
    /// Type and shape ask for another number of bytes than the entry sets aside.
    #[error("{stored} of shape {shape:?} needs {expected} bytes, but its entry sets {found} aside")]
    Length {
        /// The tensor's type.
        stored: StoredType,
        /// Shape, slowest dimension first.
        shape: Vec<usize>,
        /// Bytes that type and shape need.
        expected: u64,
        /// Bytes between the start and the end that the entry gives.
        found: u64,
    },
    /// The data neither starts the data section nor follows that of another tensor.
    #[error("its data is at offsets {start} to {end}, but the tensor before it ends at {expected}")]
    Gap {
        /// Where the data starts, in bytes from the start of the data section.
        start: u64,
        /// Where it ends.
        end: u64,
        /// Where it should start.
        expected: u64,
    },
    /// The entry cannot be understood.
    #[error("its entry cannot be read: {message}")]
    Entry {
        /// What the parser said.
        message: String,
    },
    /// The name occurs twice.
    #[error("the file has two tensors of this name")]
    Duplicate,
    /// The name occurs in two parts of a model.
    #[error("{other}, another part of the model, has a tensor of this name, too; get both parts again")]
    InTwoParts {
        /// Path or given name of the other part.
        other: String,
    },
    /// The index of a model in several files says that the tensor is in this file.
    #[error("the index {index} lists it for this file, which does not have it; get both files again")]
    NotInShard {
        /// Path of the index.
        index: String,
    },
}
