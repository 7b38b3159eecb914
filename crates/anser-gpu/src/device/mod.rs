//! Adapters and opened devices: what they can do, their compiled kernels, and the buffers that the host reads and writes.

mod choice;
#[cfg(not(target_arch = "wasm32"))]
mod copy;
mod drivers;
mod environment;
pub(crate) mod features;
pub(crate) mod kernel;
pub(crate) mod mapping;
mod open;
pub(crate) mod parallel;
#[cfg(not(target_arch = "wasm32"))]
mod per_process;
#[cfg(not(target_arch = "wasm32"))]
mod pipeline_cache;
pub(crate) mod pipelines;

pub use choice::DeviceChoice;
pub use environment::switch;
pub use open::{AdapterReport, Device, DeviceKind};
#[cfg(not(target_arch = "wasm32"))]
pub use per_process::PerProcess;
