//! The command `anser`, for `python -m anser`.

use pyo3::prelude::*;
use std::ffi::OsString;

/// Runs the command anser with these arguments, of which the first is the name of the program, and returns its exit code. Results are written
/// to the process's standard output, and Ctrl-C is the command's from now on: this is for a process that does nothing else.
#[pyfunction]
#[pyo3(signature = (arguments: "Sequence[str]", /) -> "int")]
pub(crate) fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| anser_cli::run(arguments))
}
