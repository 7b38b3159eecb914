//! Standard error: messages, colours and progress. Colours and bars appear on a terminal only; `NO_COLOR` is honoured, and
//! a terminal that is called dumb, or not named at all, gets text alone.

use crate::printable::{printable, printable_text};
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What takes less time than this shows no progress.
const PATIENCE: Duration = Duration::from_secs(1);
const BAR: &str = "{msg} [{bar:30}] {pos}/{len} {per_sec} {eta}";

/// Text that is less important than what is around it.
const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Whether terminals take nothing but text: `TERM` says so, or names none. (Windows has no such variable.)
pub(crate) fn is_dumb() -> bool {
    cfg!(unix) && std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb")
}

/// Writes to stderr, in `style` where colours are wanted. A terminal gets what can be shown of `text`, a file or pipe gets all
/// of it. A failed write is ignored, since there is no other place where it could be reported.
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

/// The one line that a failed run ends with. What a driver says in several lines is one here.
pub(crate) fn complain(message: &str) {
    write(RED, "anser:");
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    write(Style::new(), &format!(" {}\n", printable(&lines.join(" "))));
}

/// Tells something beside the result.
pub(crate) fn note(text: &str) {
    write(DIM, text);
    write(Style::new(), "\n");
}

/// Tells something that only a person at a terminal wants to know.
pub(crate) fn remark(text: &str) {
    if std::io::stderr().is_terminal() {
        note(text);
    }
}

/// A piece of text that is streamed beside the result.
pub(crate) fn aside(text: &str) {
    write(DIM, text);
}

/// A bar on the terminal for work that takes longer than a second.
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

    /// `done` of `total` units are done.
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

/// A sign of life for work whose extent is unknown, if it takes longer than a second.
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
