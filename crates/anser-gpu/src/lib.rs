//! Runs an RWKV [`Plan`](anser_model::Plan) on a GPU, through wgpu.
//!
//! [`Device`] finds and opens an adapter; [`Gpu`] holds a plan's weights there and runs steps. The path of a step:
//! `lower` turns each operation into dispatches of `kernels` (plain data, WGSL in `wgsl/`), `replay` binds them to
//! buffers once for each class of steps, and the executor replays that list in one compute pass and one submission.
//! This is the only crate that names wgpu.

mod buffers;
mod choice;
mod copy;
mod device;
mod error;
mod executor;
mod fuse;
mod kernels;
mod lower;
mod mapping;
mod matmul;
mod pipelines;
mod profile;
mod replay;
mod run;
mod sample;
mod schedule;
mod state;
mod upload;
mod waves;
mod weights;

pub use choice::DeviceChoice;
pub use device::{AdapterReport, Device, DeviceKind};
pub use error::GpuError;
pub use executor::{Gpu, GpuOptions};
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub use matmul::bench as matmul_bench;
pub use profile::KernelTime;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub use sample::draw_rows;
pub use sample::{DrawOptions, Drawing, Shares};
pub use state::SlotId;

#[cfg(test)]
mod tests;
