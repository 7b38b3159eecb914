//! Synthetic RWKV models of versions 4 to 7: official shapes, the World vocabulary, random weights.
//!
//! The speed of an engine does not depend on the values of weights, so these files replace real models of any size in
//! benchmarks, and in tests that need a shape but no trained weights. [`Synth`] describes a model and writes it as GGUF
//! with the metadata keys, tensor names, shapes and types of llama.cpp's converter and quantizer, as a `.pth` file like
//! BlinkDL's, or as a Hugging Face folder.
//!
//! Weights follow normal distributions whose spread keeps activations finite and logits in the range of real models.
//! In quantized types the blocks are made directly, with random quants and scales of plausible distribution: no floats
//! are quantized. A file depends on shape, type, seed and sparsity only, never on the number of threads.

mod blocks;
mod folder;
mod older;
mod pth;
mod random;
mod recipe;
mod shape;
mod synth;

pub use recipe::{TensorRecipe, Values};
pub use shape::{FileType, Form, Shape, Version};
pub use synth::{Synth, SynthError};
