//! Why a model cannot be converted or quantized. Every message names the file, the place in it, what was expected and what to do.

use anser_format::quant::QuantizeError;
use anser_format::{DType, FormatError, GgufWriteError, SafetensorsWriteError};
use anser_model::ModelError;

/// Why a model cannot be converted or quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The file is no model that Anser reads.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file cannot be opened or read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The layout has no form for such a model.
    #[error("{file}: {what} has no form in {layout}; {advice}")]
    NoForm {
        /// Name of the model's file.
        file: String,
        /// The kind of model, or what it has.
        what: String,
        /// The layout that was asked for.
        layout: &'static str,
        /// What the user can do instead.
        advice: String,
    },
    /// The model's vocabulary is not known.
    #[error(
        "{file}: it has no tokenizer, and its vocabulary of {n_vocab} is not the World one of {n_world}, but a GGUF file carries its \
         tokens; name a vocabulary file with --vocab, or leave the tokens out with --vocab none"
    )]
    NoVocabulary {
        /// Name of the model's file.
        file: String,
        /// Number of tokens of the model.
        n_vocab: usize,
        /// Number of tokens of the World vocabulary.
        n_world: usize,
    },
    /// The given vocabulary has more tokens than the model.
    #[error(
        "{file}: the vocabulary that was given has {found} tokens, the model only {n_vocab}; name the model's own vocabulary"
    )]
    VocabularyTooLarge {
        /// Name of the model's file.
        file: String,
        /// Number of tokens of the model.
        n_vocab: usize,
        /// Number of tokens of the vocabulary.
        found: usize,
    },
    /// A tensor's elements are stored in a type that cannot be read.
    #[error("{file}: tensor {tensor}: its type {found} cannot be read; take the model in F16, BF16 or F32")]
    Type {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// The type, as the file's format calls it.
        found: String,
    },
    /// A number is not finite.
    #[error(
        "{file}: tensor {tensor}: element {index} is {value}, but numbers are needed; the file is damaged, get it again"
    )]
    NotFinite {
        /// Name of the file.
        file: String,
        /// Name of the tensor in the output.
        tensor: String,
        /// Number of the element, from 0, in row-major order.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// A number is beyond the range of the type.
    #[error("{file}: tensor {tensor}: element {index} is {value}, but {dtype} holds numbers up to {limit}; {advice}")]
    TooLarge {
        /// Name of the file.
        file: String,
        /// Name of the tensor in the output.
        tensor: String,
        /// Number of the element, from 0, in row-major order.
        index: usize,
        /// What it is.
        value: f32,
        /// The type asked for.
        dtype: DType,
        /// The largest number of that type.
        limit: f32,
        /// What the user can do instead.
        advice: &'static str,
    },
    /// A row cannot be quantized.
    #[error("{file}: tensor {tensor}: {source}")]
    Quantize {
        /// Name of the file.
        file: String,
        /// Name of the tensor in the output.
        tensor: String,
        /// What is wrong with the row.
        source: QuantizeError,
    },
    /// The tensor is quantized already.
    #[error(
        "{file}: tensor {tensor} is {found} already, and quantizing it to {dtype} would add a second error to the first; start from \
         the model in F16, BF16 or F32, or allow it with --allow-requantize"
    )]
    Requantize {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        found: DType,
        /// The type asked for.
        dtype: DType,
    },
    /// The file type is usable with an importance matrix only.
    #[error(
        "{file}: tensor {tensor} would be {dtype}, which the file type {file_type} gives with an importance matrix only; name one with --imatrix, or take Q2_K"
    )]
    NeedsMatrix {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// The type asked for.
        dtype: DType,
        /// The file type's name.
        file_type: &'static str,
    },
    /// A rule for types cannot be followed.
    #[error("{rule}: {problem}")]
    Rule {
        /// The rule as it was given.
        rule: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// An importance matrix cannot be used.
    #[error("{file}: {problem}")]
    Matrix {
        /// Name of the importance matrix.
        file: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A GGUF file cannot be written.
    #[error(transparent)]
    Gguf(#[from] GgufWriteError),
    /// A safetensors file cannot be written.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsWriteError),
    /// The output refused the bytes.
    #[error("cannot write: {0}")]
    Io(#[from] std::io::Error),
    /// The caller has cancelled it.
    #[error("cancelled")]
    Cancelled,
}
