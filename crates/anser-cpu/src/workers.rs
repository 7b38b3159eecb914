//! Threads of the system, which the pool starts. Where there are none, `team.rs` has the same names for lent ones.

use std::io;
use std::thread::{self, JoinHandle, Thread};

/// A thread of a pool.
pub(crate) struct Worker(JoinHandle<()>);

impl Worker {
    /// Starts the thread number `i`, which runs `job`.
    ///
    /// # Errors
    /// If the system starts no thread.
    pub(crate) fn start(i: usize, job: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
        thread::Builder::new().name(format!("anser-cpu-{i}")).spawn(job).map(Worker)
    }

    pub(crate) fn thread(&self) -> &Thread {
        self.0.thread()
    }

    /// Waits until the thread has ended.
    pub(crate) fn join(self) {
        // A pool's worker catches the panics of its tasks, so that it cannot have one of its own.
        let _ = self.0.join();
    }
}

/// Gives other threads the core, while the caller waits for them.
pub(crate) fn rest() {
    thread::yield_now();
}
