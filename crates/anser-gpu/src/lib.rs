//! Runs an RWKV [`Plan`](anser_model::Plan) on a GPU, through wgpu.
//!
//! [`Device`] finds and opens an adapter; [`Gpu`] holds a plan's weights there and runs steps. The path of a step:
//! `lower` turns each operation into dispatches of `kernels` (plain data, WGSL in `wgsl/`), `replay` binds them to
//! buffers once for each class of steps, and the executor replays that list in one compute pass and one submission.
//! Weights become resident in the background, block by block (`blocks`, `order`, `cargo`, `residency`); a step that comes
//! earlier is submitted in parts, each as soon as its weights are on their way. This is the only crate that names wgpu.

mod attempt;
mod blocks;
mod buffers;
mod cargo;
mod choice;
#[cfg(not(target_arch = "wasm32"))]
mod copy;
mod device;
mod drivers;
mod environment;
mod error;
mod executor;
mod fuse;
mod kernels;
mod lower;
mod mapping;
mod matmul;
mod order;
mod parallel;
#[cfg(not(target_arch = "wasm32"))]
mod per_process;
#[cfg(not(target_arch = "wasm32"))]
mod pipeline_cache;
mod pipelines;
mod profile;
mod readback;
mod recorder;
mod replay;
#[cfg_attr(target_arch = "wasm32", path = "residency_web.rs")]
mod residency;
mod run;
mod sample;
mod schedule;
mod state;
mod upload;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub mod upload_bench;
mod usage;
mod waves;
mod weights;

pub use cargo::{OnProgress, Progress};
pub use choice::DeviceChoice;
pub use device::{AdapterReport, Device, DeviceKind};
pub use environment::switch;
pub use error::GpuError;
pub use executor::{Gpu, GpuOptions};
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub use matmul::bench as matmul_bench;
#[cfg(not(target_arch = "wasm32"))]
pub use per_process::PerProcess;
pub use profile::KernelTime;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub use sample::draw_rows;
pub use sample::{DrawOptions, Drawer, Drawing, Shares};
pub use state::SlotId;
pub use usage::MemoryUse;

#[cfg(test)]
mod tests;
