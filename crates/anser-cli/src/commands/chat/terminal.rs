//! Signals that end a chat at a terminal, which is then left as the chat found it.
//!
//! The line editor keeps the terminal in raw mode: no echo, no line ends. A process that SIGTERM or SIGHUP ends there would
//! leave it so, and the shell after it with a keyboard that types nothing.

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp, write};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, stdin, stdout};

/// Usual colours, a visible cursor, pasted text as typed text, the beginning of a line.
const USUAL: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?2004l\r\n";

/// From now on SIGTERM and SIGHUP restore the terminal and end the process with 128 + the signal's number, as shells count
/// it.
pub(super) fn restore_on_signals() -> io::Result<()> {
    let before = tcgetattr(stdin())?;
    let mut signals = Signals::new([SIGTERM, SIGHUP])?;
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            restore(&before);
            // Exits without the functions registered for a usual exit, which do not expect the other threads to be at work.
            signal_hook::low_level::exit(128 + signal);
        }
    };
    std::thread::Builder::new().name("anser-signals".into()).spawn(wait)?;
    Ok(())
}

/// Puts the terminal's mode back. After a SIGHUP the terminal may be gone: the calls then fail, and there is nothing to
/// restore.
fn restore(before: &Termios) {
    // The system would stop a background process that changes the terminal, which then belongs to another process.
    if tcgetpgrp(stdin()).is_ok_and(|foreground| foreground != getpgrp()) {
        return;
    }
    let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
    // Not through the standard library, whose lock a thread may hold that waits for the terminal.
    let _ = write(stdout(), USUAL);
}
