//! How a model is loaded.

use crate::device::Device;
#[cfg(not(target_arch = "wasm32"))]
use crate::lora::Lora;
use crate::progress::OnLoad;
use anser_tokenizer::Tokenizer;
use std::path::PathBuf;

/// The options of loading a model.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The device to run it on.
    pub device: Device,
    /// The number of threads of the CPU executor; `None` means the environment's, or one per core
    /// ([`environment::threads`](crate::environment::threads)).
    pub n_threads: Option<usize>,
    /// The bytes of embeddings to cache, so that a text embedded again is not read again; 0, the default, caches none.
    pub embedding_cache_n_bytes: usize,
    /// A vocabulary file, instead of the file's own; see [`read_vocabulary`](crate::read_vocabulary).
    pub vocabulary: Option<PathBuf>,
    /// The model's tokenizer, in the place of any other. It must have no token that the model lacks.
    pub tokenizer: Option<Tokenizer>,
    /// Round no activations to 8 or 16 bits: slower, and as close to the model's formulas as floats are. Without it,
    /// products of quantized weights take activations in 8 bits (`docs/performance.md` says what that costs).
    pub exact: bool,
    /// The bytes of GPU memory for weights; `None` means as many as there are. Weights that do not fit stream from the
    /// file in every step, with the same results, so that a model larger than the GPU's memory runs. States and the
    /// values of a step, a few percent, come on top.
    pub gpu_memory: Option<u64>,
    /// Read the model's files into memory instead of mapping them: for files on a network or that other programs write. It
    /// takes as much memory as the files have bytes, and loading waits until they are read; afterwards no change of the
    /// files matters.
    pub in_memory: bool,
    /// Adapters that the model has, one after another; none by default. They are merged into the weights, which then lie in memory, or stay
    /// beside quantized ones ([`Lora::form`]). The model's states are not those of the model without them. `docs/lora.md` says what is read.
    #[cfg(not(target_arch = "wasm32"))]
    pub lora: Vec<Lora>,
    /// A callback that hears the progress of loading and can end it.
    pub on_load: Option<OnLoad>,
    /// A folder for what makes the next process start and run faster: compiled GPU kernels, and the shapes in which they were
    /// measured to be fastest. A model on a hardware GPU that was not measured yet is so in the background: each time that it has
    /// not been used for a second, one step runs, until all shapes are known. What is found changes sums by rounding, and only
    /// in models that are loaded later; the environment variable `ANSER_GPU_NO_TUNING` forbids it. Other users must not be
    /// able to write to the folder, since drivers trust its files. `None`, the default, keeps nothing and measures nothing.
    pub cache_folder: Option<PathBuf>,
}
