//! Runs an RWKV [`Plan`](anser_model::Plan) on CPU threads.
//!
//! Weights are used where they lie in the (mapped) file and are unpacked in registers or small panels; nothing is
//! expanded. With quantized weights, [`Mode::Fast`] rounds activations to 8 bits and [`Mode::Exact`] does not.
//! [`Mode::Reference`] runs every operation as the plain loop in [`ops`], which is the oracle for the threaded kernels
//! here and for other executors. `docs/performance-cpu.md` says how fast this is and where the time goes.

mod arch;
mod executor;
mod kernels;
mod matmul;
mod older;
pub mod ops;
mod schedule;
mod tiles;
mod values;
mod walk;
mod warm;

pub use executor::{Cpu, CpuError, MemoryUse, Mode, Options, Profile, SlotId};
