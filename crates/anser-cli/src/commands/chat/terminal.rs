//! Handles the signals that end a chat at a terminal, and restores the terminal's mode.
//!
//! The line editor keeps the terminal in raw mode: without echo and line ends. If SIGTERM or SIGHUP ended the process
//! in this mode, the shell after it would show no typed characters.

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp, write};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, stdin, stdout};

/// The control sequences for default colours, a visible cursor, pasted text as typed text, and the beginning of a line.
const USUAL: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?2004l\r\n";

/// Installs the handler: SIGTERM and SIGHUP restore the terminal and end the process with exit code 128 + the signal's
/// number, as in shells.
pub(super) fn restore_on_signals() -> io::Result<()> {
    let before = tcgetattr(stdin())?;
    let mut signals = Signals::new([SIGTERM, SIGHUP])?;
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            restore(&before);
            // This skips the functions registered for a normal exit, which do not expect other threads to be running.
            signal_hook::low_level::exit(128 + signal);
        }
    };
    std::thread::Builder::new().name("anser-signals".into()).spawn(wait)?;
    Ok(())
}

/// Restores the terminal's mode. After a SIGHUP the terminal may not exist any more: the calls then fail, and there is
/// nothing to restore.
fn restore(before: &Termios) {
    // In a background process the terminal belongs to another process, and the system would stop a process that changes it.
    if tcgetpgrp(stdin()).is_ok_and(|foreground| foreground != getpgrp()) {
        return;
    }
    let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
    // This does not use the standard library, whose lock may be held by a thread that waits for the terminal.
    let _ = write(stdout(), USUAL);
}
