//! Standard output: where results go, and nothing else.

use crate::report::Failure;
use serde::Serialize;
use std::io::{self, ErrorKind, IsTerminal, Stdout, Write};
use std::path::Path;

/// Standard output, written through: whoever reads it gets every piece at once.
pub(crate) struct Output {
    stdout: Stdout,
    is_terminal: bool,
    ends_line: bool,
}

impl Output {
    pub(crate) fn new() -> Output {
        let stdout = io::stdout();
        Output { is_terminal: stdout.is_terminal(), stdout, ends_line: true }
    }

    /// Writes `bytes` as they are.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
        let bytes = bytes.as_ref();
        if let Some(&last) = bytes.last() {
            self.ends_line = last == b'\n';
        }
        self.stdout.write_all(bytes).and_then(|()| self.stdout.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::PipeClosed,
            _ => Failure::about("standard output", error),
        })
    }

    /// Writes `value` as one line of JSON.
    pub(crate) fn write_json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(|e| Failure::about("cannot write as JSON", e))?;
        line.push(b'\n');
        self.write(line)
    }

    /// Ends a begun line at a terminal, so that the shell's prompt does not follow the text. A file or pipe gets the
    /// text alone.
    pub(crate) fn finish_line(&mut self) -> Result<(), Failure> {
        if self.is_terminal && !self.ends_line { self.write("\n") } else { Ok(()) }
    }
}

/// Writes a whole file.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|e| Failure::about(path.display(), format!("cannot write: {e}")))
}
