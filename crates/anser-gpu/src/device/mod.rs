//! Adapters and opened devices: what they can do, their compiled kernels, and the buffers that the host reads and writes.

#[cfg(target_arch = "wasm32")]
mod browser;
mod choice;
mod clock;
mod drivers;
mod environment;
pub(crate) mod faults;
pub(crate) mod features;
#[cfg(not(target_arch = "wasm32"))]
mod files;
pub(crate) mod kernel;
#[cfg(not(target_arch = "wasm32"))]
mod limits;
pub(crate) mod mapping;
mod open;
pub(crate) mod parallel;
#[cfg(not(target_arch = "wasm32"))]
mod per_process;
#[cfg(not(target_arch = "wasm32"))]
mod pipeline_cache;
pub(crate) mod pipelines;
pub(crate) mod tuning;
#[cfg(not(target_arch = "wasm32"))]
mod tuning_file;

pub use choice::DeviceChoice;
pub use environment::switch;
pub use open::{AdapterReport, Device, DeviceKind};
#[cfg(not(target_arch = "wasm32"))]
pub use per_process::PerProcess;
