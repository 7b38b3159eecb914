//! A server with the built-in model, asked over HTTP as clients do.

#![recursion_limit = "256"]

mod adapters;
mod answers;
mod device;
mod ends;
mod errors;
mod forms;
mod harness;
mod kept;
mod page;
mod rank;
mod security;
