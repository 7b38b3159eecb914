//! The command `anser`: RWKV models at a terminal. It reads options and prints results; the library `anser` does the work.
//!
//! Programs use the crate `anser`. This library is for those that are the command under another name: the binary of this package, and
//! `python -m anser`.

// wgpu's types are nested more than 128 levels deep, as in the library.
#![recursion_limit = "256"]

mod args;
#[cfg(target_os = "linux")]
mod bus_error;
mod commands;
#[cfg(feature = "hub")]
mod hub;
mod input;
mod interrupt;
mod memory;
mod npy;
mod output;
mod pieces;
mod printable;
mod report;
mod svg;
mod term;
mod version;

use std::ffi::OsString;

/// Makes a file that is cut short or overwritten while it is mapped end the process with one line and exit code 1. On Linux, and only before
/// the process has a second thread; otherwise the signal keeps its default action.
pub fn report_bus_errors() {
    #[cfg(target_os = "linux")]
    bus_error::install();
}

/// Runs the command with `arguments`, of which the first is the name of the program, and returns its exit code. Results are written to the
/// process's standard output. Ctrl-C is handled from now on.
pub fn run(arguments: Vec<OsString>) -> u8 {
    interrupt::install();
    report::exit_code(args::parse(arguments).and_then(commands::run))
}
