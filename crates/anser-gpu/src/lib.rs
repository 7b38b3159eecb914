//! Runs an RWKV [`Plan`](anser_model::Plan) on a GPU, through wgpu.
//!
//! [`Device`] finds and opens an adapter; [`Gpu`] holds a plan's weights there and runs steps. Each folder knows those before
//! it, and none after it:
//!
//! - `device/`: adapters, opened devices, compiled kernels;
//! - `quant/`: how matrices lie on the device, for each storage type;
//! - `memory/`: weights and states on the device, and how weights get there;
//! - `compile/`: from a plan to dispatches, as plain data;
//! - `kernels/`: a rule for each kernel, with its WGSL in `wgsl/`;
//! - `run/`: steps, and sequences that draw their own tokens.
//!
//! This is the only crate that names wgpu.

mod compile;
mod device;
mod error;
mod kernels;
mod memory;
mod quant;
mod run;

#[cfg(not(target_arch = "wasm32"))]
pub use device::PerProcess;
pub use device::{AdapterReport, Device, DeviceChoice, DeviceKind, switch};
pub use error::GpuError;
pub use memory::{OnProgress, Progress, SlotId};
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub use run::draw_rows;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub use run::upload_bench;
pub use run::{DrawOptions, Drawer, Drawing, DrawnFor, Gpu, GpuOptions, KernelTime, MemoryUse, Seeds};
#[cfg(not(target_arch = "wasm32"))]
pub use run::{TunedKernel, TunedStep, Tuner};

#[cfg(test)]
mod tests;
