//! Threads that are lent to executors, where the system starts none: in a browser, scripts start workers on the module's shared memory,
//! and each of them calls [`lend_thread`].

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// What a lent thread is to do.
type Job = Box<dyn FnOnce() + Send>;

/// A lent thread that has nothing to do.
struct Idle {
    thread: Thread,
    job: Sender<Job>,
}

/// The threads that wait for an executor.
static IDLE: Mutex<Vec<Idle>> = Mutex::new(vec![]);
/// Whether a lent thread has crashed, so that its task is never finished.
static HAS_CRASHED: AtomicBool = AtomicBool::new(false);

fn idle() -> MutexGuard<'static, Vec<Idle>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lends the calling thread to executors, one after another. It does not return.
pub fn lend_thread() -> ! {
    loop {
        let (job, offered) = mpsc::channel::<Job>();
        idle().push(Idle { thread: thread::current(), job });
        // The sender is in the list until it is used.
        offered.recv().into_iter().for_each(|job| job());
    }
}

/// The number of lent threads that wait for an executor.
pub fn n_lent_threads() -> usize {
    idle().len()
}

/// Tells executors that a lent thread has crashed, so that they panic rather than wait for it.
pub fn report_crashed_thread() {
    HAS_CRASHED.store(true, Ordering::Release);
}

/// A lent thread at work.
pub(crate) struct Worker {
    thread: Thread,
}

impl Worker {
    /// Lets a lent thread run `job`. Its number is of no use here.
    ///
    /// # Errors
    /// If all of them are at work.
    pub(crate) fn start(_: usize, job: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
        let none = || io::Error::other("fewer threads were lent to the engine");
        let Idle { thread, job: sender } = idle().pop().ok_or_else(none)?;
        // The thread waits for what is sent.
        sender.send(Box::new(job)).map_err(|_| none())?;
        Ok(Worker { thread })
    }

    pub(crate) fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Returns at once: the thread comes back to the list when its job is done.
    pub(crate) fn join(self) {}
}

/// Gives other threads the core for a moment, while the caller waits for lent threads.
///
/// # Panics
/// If one of them has crashed.
pub(crate) fn rest() {
    assert!(!HAS_CRASHED.load(Ordering::Acquire), "a thread of the executor has crashed");
    thread::sleep(Duration::from_micros(10));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[test]
    fn lent_threads_work_and_wait_again() {
        assert!(Worker::start(0, || {}).is_err());
        for _ in 0..2 {
            thread::spawn(|| lend_thread());
        }
        for _ in 0..20 {
            while n_lent_threads() < 2 {
                thread::yield_now();
            }
            // Both wait for each other and for this thread: so they are two.
            let meeting = Arc::new(Barrier::new(3));
            let join = |meeting: Arc<Barrier>| Worker::start(0, move || _ = meeting.wait()).unwrap();
            let workers = [join(meeting.clone()), join(meeting.clone())];
            assert_ne!(workers[0].thread().id(), workers[1].thread().id());
            meeting.wait();
            workers.into_iter().for_each(Worker::join);
        }
        rest();
        report_crashed_thread();
        assert!(std::panic::catch_unwind(rest).is_err());
    }
}
