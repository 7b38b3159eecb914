//! Standard error: messages, colours and progress. Colours and bars appear on a terminal only; `NO_COLOR` is honoured.

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

/// Writes to stderr. If nobody reads it there is no one to tell.
fn write(style: Style, text: &str) {
    let mut stderr = anstream::stderr().lock();
    let _ = write!(stderr, "{style}{text}{style:#}");
    let _ = stderr.flush();
}

/// The one line that a failed run ends with.
pub(crate) fn complain(message: &str) {
    let mut stderr = anstream::stderr().lock();
    let _ = writeln!(stderr, "{RED}anser:{RED:#} {}", printable(message));
}

/// `text` on one line and without control characters: names from files may hold what would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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
        if self.bar.is_hidden() && self.started.elapsed() > PATIENCE {
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
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
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
