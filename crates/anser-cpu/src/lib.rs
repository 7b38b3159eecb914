//! Runs an RWKV [`Plan`](anser_model::Plan) on CPU threads.
//!
//! Weights are used where they lie in the (mapped) file and are unpacked in registers or small panels; nothing is
//! expanded. With quantized weights, [`Mode::Fast`] rounds activations to 8 bits and [`Mode::Exact`] does not.
//! [`Mode::Reference`] runs every operation as the plain loop in [`ops`], which is the oracle for the threaded kernels
//! here and for other executors. `docs/performance-cpu.md` says how fast this is, `docs/lab.md` what was tried.
//!
//! # How it is fast
//!
//! - **Weights stay in the file.** Kernels read the mapping. A thread unpacks at most 384 KiB of them at a time.
//! - **One algorithm, several instruction sets.** Kernels are safe code over the trait `Simd`. AVX-512 VNNI, AVX-VNNI,
//!   AVX2, NEON (with dotprod, i8mm and fp16) or portable code is chosen at run time. Tests hold the kernels to the
//!   plain loops in portable code and in each x86-64 set that their processor has. NEON is the portable code compiled
//!   for these instructions; the kernels' own tests do not run it in this form.
//! - **Activations have 8 bits and a scale per 32** ([`Mode::Fast`]). A value is rounded once, and all products that
//!   read it share the result.
//! - **One token:** a product is a matrix times a vector (GEMV), and every row of weights is read once. Kernels for
//!   Q8_0, Q4_K, Q5_K and Q6_K take 256 elements at a time from the file's bits to the sum without leaving the
//!   registers (`dot_span.rs`). What symmetric types subtract is the start value of a lane's sum. Weights are
//!   prefetched 6 KiB ahead on AMD and 1.5 KiB ahead elsewhere.
//! - **Up to 8 tokens of F16, BF16 and F32:** four rows times four tokens at a time, straight from the rows, while the
//!   next four rows are prefetched in the order of memory.
//! - **2 to 16 tokens of Q8_0:** weights stay as they are, and lanes are tokens (`few_q8.rs`). A load repeats 4, 8 or
//!   16 bytes of a row for every token, and a dot product multiplies them with the same columns of all tokens, eight
//!   rows at a time. Nothing is unpacked or transposed, and the next rows are prefetched in the order of memory.
//! - **Two tokens or more of other quantized weights, nine or more of float ones:** 16 rows are unpacked, 256 columns
//!   at a time, so that lanes are rows (`stretch.rs`). Q4_K, Q5_K, Q6_K and Q8_0 are transposed as they lie in the file
//!   and unpacked then, all rows at once. Up to 32 tokens are multiplied with these 4 KiB at once; for more tokens a
//!   tile of up to 384 KiB is unpacked first. The sums of 16 tokens stay in registers, and a dot product takes its
//!   activations straight from memory.
//! - **Parallel regions:** operations that do not depend on each other run together. The seven products on the shifted
//!   inputs and the four low-rank expansions are two regions rather than eleven. An idle thread looks for work for 20
//!   µs, goes on for half a millisecond while it yields its core between looks, then sleeps. No thread waits for one
//!   that has not taken a task.
//! - **wkv7:** from 4 tokens on, S is transposed so that a lane is a value row; then no sum across lanes stands between
//!   a token and the next. A task has heads of one sequence that follow each other in memory, and their states are
//!   prefetched 4 KiB ahead.
//! - **Loading:** up to four threads touch the pages of the weights, in the order of the first step, and copy the
//!   vectors. Loading waits for them for 5 ms at most, and for 1 ms if the pages come from a disk; two threads meet
//!   nearly all of 0.1B in that time. For a larger model one thread goes on, ahead of the first step. All threads write
//!   a new state together.

mod arch;
mod executor;
mod hybrid;
mod kernels;
mod matmul;
mod older;
pub mod ops;
mod schedule;
#[cfg(any(all(test, not(target_arch = "wasm32")), all(target_arch = "wasm32", target_feature = "atomics")))]
mod team;
mod tiles;
mod values;
mod walk;
mod warm;
#[cfg(not(all(target_arch = "wasm32", target_feature = "atomics")))]
mod workers;

#[cfg(all(target_arch = "wasm32", target_feature = "atomics"))]
use team as workers;

pub use executor::{Cpu, CpuError, MemoryUse, Mode, Options, Profile, SlotId};
#[cfg(any(all(test, not(target_arch = "wasm32")), all(target_arch = "wasm32", target_feature = "atomics")))]
pub use team::{lend_thread, n_lent_threads, report_crashed_thread};
