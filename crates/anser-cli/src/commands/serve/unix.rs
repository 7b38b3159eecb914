//! What a server asks of Unix systems: signals, sockets, and many files.

use crate::report::Failure;
use anser_serve::{Listener, Stop};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// SIGTERM ends the server once what runs is complete, and at once if it comes again.
pub(super) fn stop_on_sigterm(stop: Stop) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGTERM]).map_err(|error| Failure::about("cannot wait for SIGTERM", error))?;
    let wait = move || {
        for (n, signal) in signals.forever().enumerate() {
            if n > 0 {
                signal_hook::low_level::exit(128 + signal);
            }
            stop.stop();
        }
    };
    let started = std::thread::Builder::new().name("anser-signals".into()).spawn(wait);
    started.map(drop).map_err(|error| Failure::about("cannot start a thread", error))
}

/// Raises the number of files that the process may open to the most that the system allows: every connection is one. A system that
/// refuses leaves the number as it is, and connections beyond it wait.
pub(super) fn allow_many_connections() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Listens on a socket at `path`, in place of one that a server left behind which has ended.
pub(super) fn listen(path: &Path) -> Result<Listener, Failure> {
    let name = path.display();
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        if UnixStream::connect(path).is_ok() {
            return Err(Failure::Run(format!("{name}: another process listens there")));
        }
        std::fs::remove_file(path).map_err(|error| Failure::about(name, error))?;
    }
    let listener = UnixListener::bind(path).map_err(|error| Failure::about(path.display(), error))?;
    Ok(Listener::Unix(listener))
}
