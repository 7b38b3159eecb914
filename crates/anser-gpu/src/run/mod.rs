//! Running steps: the executor, its working memory, what is recorded for the device, and sequences that draw their own tokens.

mod attempt;
mod buffers;
mod drawing;
mod embed_table;
mod executor;
mod profile;
mod program;
mod recorder;
mod sampling;
mod step;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub mod upload_bench;
mod usage;

pub use drawing::{Drawer, Drawing, DrawnFor, Seeds};
pub use executor::{Gpu, GpuOptions};
pub use profile::KernelTime;
pub use sampling::DrawOptions;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub use sampling::draw_rows;
#[cfg(not(target_arch = "wasm32"))]
pub use tune::{TunedKernel, TunedStep, Tuner};
pub use usage::MemoryUse;
