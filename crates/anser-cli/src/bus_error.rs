//! Handles SIGBUS. Linux sends this signal to a thread that reads a page of a mapped model file if the page is not in
//! the file any more, because another program cut it short, or if the disk cannot read it.
//!
//! The library compares size and time of change before every step, so that most changes are an ordinary error. A change
//! within a step raises the signal. The handler then prints one line to stderr that names the file and ends the process
//! with exit code 1, where the system would kill it without a message.
//!
//! The handler is for Linux only: macOS sends this signal for a stack overflow, too, which Rust's runtime reports better.

use crate::report;
use crate::term;
use signal_hook::consts::SIGBUS;
use signal_hook::low_level;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The model files that have been opened.
static OPENED: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);

/// Installs the handler. If the system refuses, or the process has a second thread, the signal keeps its default action.
pub(crate) fn install() {
    let _ = try_install();
}

fn try_install() -> io::Result<()> {
    // Rust's runtime has a handler of its own, which signal-hook's would call first. For a fault other than a stack
    // overflow, that handler restores the system's default action, so that the repeated fault ends the process. If the
    // signal is raised here without a fault, it restores the default action now, and the process goes on. It expects that
    // the process ends, though: a thread that starts or ends meanwhile sleeps for ever, and with it all that start later.
    // Therefore nothing is raised unless this is the only thread.
    let before = Status::read()?;
    if before.is_handled {
        if before.n_threads > 1 {
            return Ok(());
        }
        low_level::raise(SIGBUS)?;
        if Status::read()?.is_handled {
            return Ok(());
        }
    }
    let (mut receiver, sender) = UnixStream::pair()?;
    // The handler writes a byte to the pipe and returns, so that the faulting thread faults again and again, until the
    // thread below has printed the message and ends the process.
    std::thread::Builder::new().name("anser-bus-error".into()).spawn(move || {
        if receiver.read_exact(&mut [0]).is_ok() {
            term::complain(&message());
            low_level::exit(report::FAILURE.into());
        }
    })?;
    low_level::pipe::register(SIGBUS, sender).map(drop)
}

/// What the system says of this process.
struct Status {
    n_threads: usize,
    /// Whether it has a handler for SIGBUS.
    is_handled: bool,
}

impl Status {
    fn read() -> io::Result<Status> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let n_threads = field("Threads:").and_then(|n| n.parse().ok());
        // Bit 0 is signal 1.
        let caught = field("SigCgt:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
        let status = n_threads.zip(caught);
        let status = status.map(|(n_threads, mask)| Status { n_threads, is_handled: (mask >> (SIGBUS - 1)) & 1 == 1 });
        status.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Stores the name of a model file that is about to be opened.
pub(crate) fn is_opened(path: &Path) {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if !opened.iter().any(|other| other == path) {
        opened.push(path.to_owned());
    }
}

fn message() -> String {
    let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let names: Vec<String> = opened.iter().map(|path| path.display().to_string()).collect();
    format!(
        "{}: it could not be read while it was in use, since it was cut short or overwritten, or its disk failed; \
         load the model again, with --read-file if its file has to change meanwhile",
        names.join(" or ")
    )
}
