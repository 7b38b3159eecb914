use thiserror::Error;

/// Why a file is not a model that can be run. Every message names the file, the place in it, what was expected and what
/// was found.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum ModelError {
    /// The file holds something else than an RWKV model.
    #[error("{file}: not an RWKV model: {reason}")]
    NotRwkv {
        /// Name of the file.
        file: String,
        /// What tells so.
        reason: String,
    },
    /// An RWKV model of a kind that this version of Anser does not run.
    #[error("{file}: {what} is not supported; {advice}")]
    Unsupported {
        /// Name of the file.
        file: String,
        /// The kind of model or feature.
        what: String,
        /// What the user can do instead.
        advice: String,
    },
    /// A tensor that the architecture needs is not there.
    #[error("{file}: tensor {tensor} is missing; the file is incomplete or of another architecture")]
    MissingTensor {
        /// Name of the file.
        file: String,
        /// Name of the tensor as this kind of file spells it.
        tensor: String,
    },
    /// A tensor that the architecture needs has a type that the engine does not compute with.
    #[error(
        "{file}: {tensor}: its type {found} is not supported; convert the model to F16, BF16, Q8_0, Q6_K, Q5_K or Q4_K"
    )]
    Type {
        /// Name of the file.
        file: String,
        /// Name of the tensor as this kind of file spells it.
        tensor: String,
        /// The type, as the file's format calls it.
        found: String,
    },
    /// A tensor has another shape than the architecture gives it.
    #[error("{file}: {tensor}: expected shape {expected}, found {found:?}")]
    Shape {
        /// Name of the file.
        file: String,
        /// Name of the tensor as this kind of file spells it.
        tensor: String,
        /// The expected shape, slowest dimension first, `_` for a free dimension.
        expected: String,
        /// The shape in the file, slowest dimension first.
        found: Vec<usize>,
    },
    /// An adapter cannot be merged into the model.
    #[error("{file}: {problem}")]
    Adapter {
        /// Name of the adapter's file, or of the model's if the merged weights are at fault.
        file: String,
        /// The tensor, the fault, and what to do.
        problem: String,
    },
    /// A metadata entry contradicts the tensors, or is out of range.
    #[error("{file}: metadata {key}: expected {expected}, found {found}")]
    Metadata {
        /// Name of the file.
        file: String,
        /// Metadata key.
        key: String,
        /// What the tensors or the architecture ask for.
        expected: String,
        /// What the file says.
        found: String,
    },
}
