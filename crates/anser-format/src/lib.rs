//! Model files as named, validated, borrowed tensor views.
//!
//! [`ModelFile::open`] maps a GGUF, safetensors or PyTorch file, whatever its name, checks its header once and then hands out
//! [`TensorView`]s that borrow from the mapping. Nothing is copied and no tensor data is touched by opening: a file of
//! several gigabytes needs memory for its index only. Only tensors that a PyTorch file has in another than row-major order
//! are copied, when they are first asked for. A model in several files is one [`ModelFile`] over several mappings; a folder may be named instead of the files in it. A file that
//! is neither mapped nor in memory is read piece by piece ([`ReadAt`]).
//! This crate knows files, not models: which tensors a model needs, and of which shapes, is decided above. Tensors may
//! have any type; those of a type that the engine does not compute with are listed ([`StoredType`]) and not handed out.
//!
//! [`quant`] defines every quantized format: block layout, dequantization and quantization. [`GgufWriter`] writes GGUF files, and
//! [`SafetensorsHeader`] what stands before the data in a safetensors file.
//!
//! Files are hostile until checked: every count and length is compared with the bytes that are left before anything is
//! allocated, arithmetic is checked, and errors name the file, the entry, what was expected and what was found. An index
//! takes no more memory than it takes bytes in the file, and some 150 bytes for each of at most 65,536 tensors and 65,536
//! metadata entries.

mod bytes;
mod error;
mod file;
#[cfg(not(target_arch = "wasm32"))]
mod folder;
mod gguf;
mod index;
mod metadata;
#[cfg(not(target_arch = "wasm32"))]
mod mmap;
#[cfg(not(target_arch = "wasm32"))]
mod parts;
pub mod quant;
mod safetensors;
mod safetensors_header;
#[cfg(not(target_arch = "wasm32"))]
mod shards;
mod sniff;
mod stored;
mod strided;
mod tensor;
mod torch;

pub use bytes::ReadAt;
pub use error::{FormatError, TensorProblem};
pub use file::{FileKind, ModelFile, Replacement, Tensor, TorchContainer};
pub use gguf::{GgufDataWriter, GgufWriteError, GgufWriter};
pub use metadata::{BytesArray, MetaArray, MetaValue, StrArray};
pub use safetensors_header::{SafetensorsHeader, SafetensorsWriteError};
pub use stored::StoredType;
pub use tensor::{DType, TensorInfo, TensorView};
