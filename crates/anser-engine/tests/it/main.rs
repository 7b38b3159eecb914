//! The engine from outside: what requests give is what they give alone, whatever else runs.

// To find out whether an `Engine` may be shared between threads, the compiler examines all types of wgpu.
#![recursion_limit = "256"]

mod adapters;
mod caching;
mod harness;
mod requests;
mod schedules;
