//! The demo model of Anser as the bytes of its GGUF file: a small RWKV-7 model that is there so that the command, the
//! tests and the examples work at once. `anser::Model::embedded` runs it.

#![no_std]

/// The file `demo-q8_0.gguf`, 43,341,824 bytes: 6 layers, width 256, the vocabulary RWKV World, Q8_0.
pub static MODEL: &[u8] = include_bytes!("demo-q8_0.gguf");
