//! Reads a chat's lines: with an editor and a history at a terminal, else as plain lines.

use crate::report::Failure;
use crate::term;
use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use std::io::{BufRead, IsTerminal, stdin, stdout};
use std::path::PathBuf;

const PROMPT: &str = "> ";
const MAX_HISTORY: usize = 1000;

/// The result of reading a line.
pub(super) enum Line {
    /// The bytes of a line, or of several that were pasted at once.
    Text(Vec<u8>),
    /// The user pressed Ctrl-C at the prompt.
    Interrupted,
    /// The user pressed Ctrl-D, or the input ended.
    End,
}

/// The reader of a chat's lines.
pub(super) enum Reader {
    /// An editor, for a person at a terminal.
    Editor { editor: Box<Editor<(), FileHistory>>, history: Option<PathBuf> },
    /// Plain lines, for a file, a pipe, a terminal whose output goes elsewhere, or one that cannot move its cursor.
    Plain { prompts: bool },
}

impl Reader {
    pub(super) fn new() -> Result<Reader, Failure> {
        let is_terminal = stdin().is_terminal();
        if !is_terminal || !stdout().is_terminal() || term::is_dumb() {
            return Ok(Reader::Plain { prompts: is_terminal });
        }
        #[cfg(unix)]
        super::terminal::restore_on_signals().map_err(|e| Failure::about("terminal", e))?;
        let config = Config::builder().max_history_size(MAX_HISTORY).and_then(|c| c.history_ignore_dups(true));
        let editor = config.and_then(|c| Editor::with_config(c.build()));
        let mut editor = editor.map_err(|e| Failure::about("terminal", e))?;
        let history = history_file();
        if let Some(path) = &history {
            // Before the first chat there is no history, so this fails.
            let _ = editor.load_history(path);
        }
        Ok(Reader::Editor { editor: Box::new(editor), history })
    }

    /// Whether a person is typing.
    pub(super) fn is_interactive(&self) -> bool {
        matches!(self, Reader::Editor { .. } | Reader::Plain { prompts: true })
    }

    pub(super) fn next(&mut self) -> Result<Line, Failure> {
        match self {
            Reader::Plain { prompts } => {
                if *prompts {
                    term::aside(PROMPT);
                }
                plain_line()
            }
            Reader::Editor { editor, history } => match editor.readline(PROMPT) {
                Ok(line) => {
                    // A failure to write the history does not end the chat.
                    let _ = editor.add_history_entry(&line);
                    if let Some(path) = history {
                        let _ = editor.append_history(path);
                    }
                    Ok(Line::Text(line.into_bytes()))
                }
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(Failure::about("terminal", error)),
            },
        }
    }
}

fn plain_line() -> Result<Line, Failure> {
    let mut line = vec![];
    let read = stdin().lock().read_until(b'\n', &mut line);
    read.map_err(|e| Failure::about("standard input", format!("cannot read: {e}")))?;
    if line.is_empty() {
        return Ok(Line::End);
    }
    let n = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    line.truncate(n);
    Ok(Line::Text(line))
}

/// The file of the history: `anser/chat-history` in the platform's directory for data.
fn history_file() -> Option<PathBuf> {
    let directory = choose_native_strategy().ok()?.data_dir().join("anser");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("chat-history"))
}
