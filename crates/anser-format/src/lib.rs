//! Model files as named, validated, borrowed tensor views.
//!
//! [`ModelFile::open`] maps a GGUF or safetensors file, whatever its name, checks its header once and then hands out
//! [`TensorView`]s that borrow from the mapping. Nothing is copied and no tensor data is touched by opening: a file of
//! several gigabytes needs memory for its index only. This crate knows files, not models: which tensors a model needs,
//! and of which shapes, is decided above.
//!
//! [`quant`] defines every quantized format: block layout, dequantization and, for the common types, quantization.
//! [`GgufWriter`] writes GGUF files.
//!
//! Files are hostile until checked: every count and length is compared with the bytes that are left before anything is
//! allocated, arithmetic is checked, and errors name the file, the entry, what was expected and what was found.

mod bytes;
mod error;
mod file;
mod gguf;
mod index;
mod metadata;
#[cfg(not(target_arch = "wasm32"))]
mod mmap;
pub mod quant;
mod safetensors;
mod sniff;
mod tensor;

pub use error::{FormatError, TensorProblem};
pub use file::{FileKind, ModelFile, Tensor};
pub use gguf::{GgufDataWriter, GgufWriteError, GgufWriter};
pub use metadata::{MetaArray, MetaValue, StrArray};
pub use tensor::{DType, TensorView};
