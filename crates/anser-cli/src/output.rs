//! Standard output, which gets the results and nothing else.

use crate::printable::{TerminalText, steers_in_text};
use crate::report::Failure;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, ErrorKind, IsTerminal, Stdout, Write};

/// Standard output without a buffer, so that its reader gets every piece at once. A file or pipe gets the bytes
/// unchanged, a terminal gets printable text.
pub(crate) struct Output {
    stdout: Stdout,
    /// The converter to printable text, if standard output is a terminal.
    terminal: Option<TerminalText>,
    ends_line: bool,
}

impl Output {
    pub(crate) fn new() -> Output {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal().then(TerminalText::default);
        Output { terminal, stdout, ends_line: true }
    }

    /// Writes `bytes`.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
        match &mut self.terminal {
            Some(text) => {
                let shown = text.push(bytes.as_ref());
                self.write_raw(shown.as_bytes())
            }
            None => self.write_raw(bytes.as_ref()),
        }
    }

    fn write_raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
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
        let mut line = vec![];
        value
            .serialize(&mut Serializer::with_formatter(&mut line, Harmless))
            .map_err(|e| Failure::about("cannot write as JSON", e))?;
        line.push(b'\n');
        self.write(line)
    }

    /// Ends a begun line at a terminal, so that the shell's prompt does not follow the text. A file or pipe gets the
    /// text alone.
    pub(crate) fn finish_line(&mut self) -> Result<(), Failure> {
        let Some(text) = &mut self.terminal else { return Ok(()) };
        let held_back = text.finish();
        self.write_raw(held_back.as_bytes())?;
        if self.ends_line { Ok(()) } else { self.write_raw(b"\n") }
    }
}

/// A JSON formatter that escapes all characters that a terminal would execute. JSON itself requires this for U+0000 to
/// U+001F only. The values stay the same.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| steers_in_text(c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}
