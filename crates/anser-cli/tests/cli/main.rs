//! The command's contract: what is on standard output, what on standard error, exit codes, files.

mod adapters;
mod bench;
mod chat;
mod compare;
mod convert;
mod generate;
mod gpu;
mod harness;
#[cfg(feature = "hub")]
mod hub;
mod imatrix;
mod inspect;
mod interrupt;
mod mix;
mod model_files;
mod numbers;
#[cfg(feature = "serve")]
mod serve;
mod state;
#[cfg(unix)]
mod terminal;
mod tokenize;
mod usage;
