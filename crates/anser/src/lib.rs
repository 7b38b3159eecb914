//! RWKV inference: load a model, feed tokens, sample text, keep and restore states.
//!
//! ```no_run
//! use anser::{GenerateOptions, Model, Options};
//!
//! let model = Model::load("rwkv7-g1-0.4b-q8_0.gguf", &Options::default())?;
//! let mut session = model.session()?;
//! let mut generation = session.generate_text("Once upon a time", &GenerateOptions::default())?;
//! while let Some(piece) = generation.next() {
//!     print!("{}", piece?.text);
//! }
//! # Ok::<(), anser::Error>(())
//! ```
//!
//! The calls block. A [`Model`] is cheap to clone and may be shared between threads; each [`Session`] has its own state.

// To find out whether a `Model` may be shared between threads, the compiler and rustdoc examine all types of wgpu,
// which are nested more than 128 levels deep.
#![recursion_limit = "256"]

mod batch;
mod cache;
#[cfg(not(target_arch = "wasm32"))]
mod calibration;
mod conversation;
mod device;
mod divergence;
mod draft;
mod embed;
mod error;
mod generate;
mod grammar;
mod heads;
#[cfg(not(target_arch = "wasm32"))]
mod input_squares;
#[cfg(not(target_arch = "wasm32"))]
mod inspect;
#[cfg(not(target_arch = "wasm32"))]
mod kernel_bench;
#[cfg(not(target_arch = "wasm32"))]
mod lora;
mod memory;
mod model;
mod now;
mod options;
mod perplexity;
mod prefix;
mod process;
mod progress;
mod recent;
mod rerank;
mod rows;
mod running;
mod session;
mod state_file;
mod state_import;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
mod vocabulary;
#[cfg(not(target_arch = "wasm32"))]
mod weight_errors;

pub mod chat;
pub mod environment;
pub mod files;
pub mod sampler;
pub mod stop;

pub use anser_gpu::{
    AdapterReport, Device as GpuDevice, DeviceChoice, DeviceKind, GpuError, KernelTime, MemoryUse, switch,
};
#[cfg(not(target_arch = "wasm32"))]
pub use anser_gpu::{TunedKernel, TunedStep};
pub use anser_model::{Config, Identity, Plan, State, StateLayout, Version, Weight};
pub use anser_tokenizer::{Tokenizer, Utf8Stream};
pub use cache::CacheStats;
#[cfg(not(target_arch = "wasm32"))]
pub use calibration::Calibration;
pub use conversation::{Answer, AnswerPiece, Conversation, ConversationOptions};
pub use device::Device;
#[cfg(not(target_arch = "wasm32"))]
pub use device::keep_open;
pub use divergence::{Comparison, Divergence};
pub use draft::Draft;
pub use embed::{EmbedOptions, Layer, Pooling};
pub use error::Error;
pub use generate::{CancelToken, END_OF_TEXT, FinishReason, GenerateOptions, Generation, Generations, Piece};
pub use grammar::Grammar;
pub use heads::TaskHead;
#[cfg(not(target_arch = "wasm32"))]
pub use input_squares::{InputSquares, SquareSums};
#[cfg(not(target_arch = "wasm32"))]
pub use inspect::Difference;
#[cfg(not(target_arch = "wasm32"))]
pub use kernel_bench::{Ceilings, KernelRow, measure_ceilings, measure_kernels};
#[cfg(not(target_arch = "wasm32"))]
pub use lora::{Lora, LoraForm, with_loras};
pub use memory::HostMemory;
pub use model::Model;
pub use options::Options;
pub use perplexity::Perplexity;
pub use prefix::PrefixCache;
pub use progress::{LoadProgress, OnLoad};
pub use rerank::{Ranked, Reranker};
pub use rows::{Drawn, Likelihood, Proposals, Row, RowEvent, RowEventKind, RowId, RowTask, Rows, StoredRow};
pub use sampler::{Sampler, SamplerOptions, SamplerOrder};
pub use session::{Activation, Fed, Session, Want, Which};
pub use state_file::{LoadedState, StateOrigin};
#[cfg(not(target_arch = "wasm32"))]
pub use tune::Tuned;
pub use vocabulary::{MAX_VOCABULARY_N_BYTES, read_vocabulary};
#[cfg(not(target_arch = "wasm32"))]
pub use weight_errors::{WeightError, WeightErrors};
