//! `anser`: RWKV models at a terminal. Flags and glue; the work is done by the `anser` library.

mod args;
#[cfg(target_os = "linux")]
mod bus_error;
mod commands;
mod input;
mod interrupt;
mod memory;
mod npy;
mod output;
mod report;
mod term;

use std::process::ExitCode;

fn main() -> ExitCode {
    interrupt::install();
    #[cfg(target_os = "linux")]
    bus_error::install();
    report::exit_code(args::parse().and_then(commands::run))
}
