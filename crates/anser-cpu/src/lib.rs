//! Runs an RWKV [`Plan`](anser_model::Plan) on CPU threads.
//!
//! Weights are used where they lie in the (mapped) file and are dequantized in registers or small tiles; nothing is
//! expanded. [`Mode::Reference`] runs every operation as the plain loop in [`ops`], which is the oracle for the
//! threaded kernels here and for other executors.

mod arch;
mod executor;
mod kernels;
mod matmul;
pub mod ops;
mod schedule;
mod tiles;
mod values;
mod walk;

pub use executor::{Cpu, CpuError, Mode, Options, Profile, SlotId};
