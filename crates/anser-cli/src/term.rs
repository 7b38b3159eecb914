//! Standard error: messages, colours and progress. Colours and bars appear on a terminal only; `NO_COLOR` switches
//! colours off, and a terminal that `TERM` calls dumb, or does not name, gets text alone.

use crate::printable::{printable, printable_text};
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time after which work shows its progress.
const PATIENCE: Duration = Duration::from_secs(1);
const BAR: &str = "{msg} [{bar:30}] {pos}/{len} {per_sec} {eta}";

/// The style of text that is less important than the text around it.
const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Whether the terminal accepts nothing but text, since `TERM` says so or is not set. (Windows has no such variable.)
pub(crate) fn is_dumb() -> bool {
    cfg!(unix) && std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb")
}

/// Writes to stderr, in `style` where colours are wanted. A terminal gets the printable form of `text`, a file or pipe
/// gets its bytes unchanged. A failed write is ignored, since there is no other place to report it.
fn write(style: Style, text: &str) {
    let stderr = std::io::stderr();
    if !stderr.is_terminal() {
        let _ = stderr.lock().write_all(text.as_bytes());
        return;
    }
    let choice = if is_dumb() { ColorChoice::Never } else { AutoStream::choice(&stderr) };
    let mut stderr = AutoStream::new(stderr, choice).lock();
    let _ = write!(stderr, "{style}{}{style:#}", printable_text(text));
    let _ = stderr.flush();
}

/// Writes the line with which a failed run ends. Several lines of a driver's message are joined to one.
pub(crate) fn complain(message: &str) {
    write(RED, "anser:");
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    write(Style::new(), &format!(" {}\n", printable(&lines.join(" "))));
}

/// Writes a remark that is no part of the result.
pub(crate) fn note(text: &str) {
    write(DIM, text);
    write(Style::new(), "\n");
}

/// Writes a remark for a person at a terminal; nothing is written to a file or pipe.
pub(crate) fn remark(text: &str) {
    if std::io::stderr().is_terminal() {
        note(text);
    }
}

/// Writes a piece of text that is streamed beside the result.
pub(crate) fn aside(text: &str) {
    write(DIM, text);
}

/// A progress bar for work that takes longer than a second.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Progress {
        let bar = ProgressBar::hidden();
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Progress { bar, started: Instant::now() }
    }

    /// Shows that `done` of `total` units are done.
    pub(crate) fn update(&mut self, done: usize, total: usize) {
        if self.bar.is_hidden() && self.started.elapsed() > PATIENCE && !is_dumb() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A spinner for work of unknown extent that takes longer than a second.
pub(crate) struct Spinner {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Spinner {
    pub(crate) fn new(what: &'static str) -> Spinner {
        let (done, waiting) = channel();
        let spin = move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) && !is_dumb() {
                let bar = ProgressBar::new_spinner().with_message(what);
                bar.enable_steady_tick(Duration::from_millis(100));
                let _ = waiting.recv();
                bar.finish_and_clear();
            }
        };
        let thread = std::thread::Builder::new().spawn(spin).ok();
        Spinner { done: Some(done), thread }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.done.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
