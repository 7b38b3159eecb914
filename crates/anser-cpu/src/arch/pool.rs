//! A pool of threads that work on one list of tasks at a time.
//!
//! A step is some hundred short parallel regions of tens of microseconds each, so a region must start within about a
//! microsecond: an idle worker polls one word of memory for about half a millisecond before it sleeps, and yields its
//! core between polls after the first 20 µs. The caller waits only for workers that have taken a task. With more
//! threads than cores, the threads that the system runs take the tasks.
//!
//! In a browser there is neither a clock nor a way to yield here, and workers are threads that scripts have lent (`team.rs`): polls
//! are counted instead.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
#[cfg(not(target_arch = "wasm32"))]
use std::time::{Duration, Instant};

use crate::workers::{Worker, rest};

/// The number of times that an idle worker polls the ticket before it begins to yield its core between polls: some 20 µs; in a browser,
/// before it sleeps, some 0.3 ms.
const N_IDLE_SPINS: usize = if cfg!(target_arch = "wasm32") { 200_000 } else { 600 };
/// The time for which it goes on polling, with a `yield_now` between polls, before it sleeps. The scheduler often wakes
/// a sleeping worker on the core of the thread that wakes it, although another core is free (on virtual machines, for
/// example). Two threads that sleep and wake each other stay on one core, while the scheduler moves two runnable
/// threads apart. The bound is a time and no number of polls, because on a busy core each `yield_now` lasts a time
/// slice of every other thread there, some milliseconds.
#[cfg(not(target_arch = "wasm32"))]
const IDLE_YIELDS: Duration = Duration::from_micros(500);
/// The number of times that the caller polls the count of finished tasks before it begins to yield its core between polls.
const N_WAIT_SPINS: usize = if cfg!(target_arch = "wasm32") { 20_000 } else { 300 };

/// The function that the workers call with the index of a task.
type Job = *const (dyn Fn(usize) + Sync);

/// The data that the caller and the workers share.
struct Shared {
    /// The number of tasks (upper 32 bits) and the index of the next one (lower). A thread takes a task by adding 1, if
    /// the index was less than the number. The caller cannot return before that task is done, so the thread may call
    /// the job.
    ticket: AtomicU64,
    /// The job of the tasks in `ticket`: written only while no task is taken or open.
    job: UnsafeCell<Option<Job>>,
    /// The number of tasks done since the job was set.
    n_done: AtomicUsize,
    /// The first panic of a task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    /// For each worker, whether it sleeps or is about to.
    asleep: Vec<AtomicBool>,
}

// SAFETY: `job` is the only part that is not `Sync`. It is written by `Pool::run`, which has the pool to itself
// (`&mut`), while no task is open. A thread that took a task reads it: after the write (the ticket is stored with
// release and taken with acquire) and before the caller sees the task done (`n_done`, likewise).
unsafe impl Sync for Shared {}
// SAFETY: as above; what `job` points to is `Sync`, so it may be called from any thread.
unsafe impl Send for Shared {}

impl Shared {
    fn has_open_task(&self, order: Ordering) -> bool {
        let ticket = self.ticket.load(order);
        (ticket as u32) < (ticket >> 32) as u32
    }

    /// Takes tasks and runs them until none is open.
    fn work(&self) {
        while self.has_open_task(Ordering::Relaxed) {
            let ticket = self.ticket.fetch_add(1, Ordering::AcqRel);
            let (index, n_tasks) = (ticket as u32, (ticket >> 32) as u32);
            if index >= n_tasks {
                return;
            }
            // SAFETY: a task is taken and not done: the job is set, and lives until the caller returns.
            let result =
                unsafe { (*self.job.get()).map(|job| catch_unwind(AssertUnwindSafe(|| (*job)(index as usize)))) };
            if let Some(Err(panic)) = result {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
            }
            self.n_done.fetch_add(1, Ordering::Release);
        }
    }

    /// The body of a worker thread: it runs tasks, polls the ticket for a while, then sleeps, and ends when the pool is
    /// dropped.
    fn serve(&self, worker: usize) {
        while !self.stop.load(Ordering::Acquire) {
            self.work();
            if self.watch() {
                continue;
            }
            // The caller stores the ticket, then reads the flag; the worker stores the flag, then reads the ticket. All
            // four accesses have one order (SeqCst), so either the caller sees the flag or the worker sees the ticket.
            self.asleep[worker].store(true, Ordering::SeqCst);
            if !self.has_open_task(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            self.asleep[worker].store(false, Ordering::SeqCst);
        }
    }

    /// Polls until a task is open or the pool ends, for the time that an idle worker stays awake; returns whether it
    /// saw either.
    fn watch(&self) -> bool {
        let is_called = || self.has_open_task(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed);
        for _ in 0..N_IDLE_SPINS {
            if is_called() {
                return true;
            }
            std::hint::spin_loop();
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            let start = Instant::now();
            while start.elapsed() < IDLE_YIELDS {
                if is_called() {
                    return true;
                }
                thread::yield_now();
            }
        }
        false
    }
}

/// A pool of threads. The thread that calls it is one of them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// The process that started the workers. A forked child has this value, too, but none of the threads.
    process: u32,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.n_threads())
    }
}

impl Pool {
    /// Starts `n_threads − 1` workers.
    pub(crate) fn new(n_threads: usize) -> io::Result<Pool> {
        let n_workers = n_threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            n_done: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            asleep: (0..n_workers).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut pool = Pool { shared, workers: vec![], process: process() };
        for i in 0..n_workers {
            let shared = pool.shared.clone();
            pool.workers.push(Worker::start(i, move || shared.serve(i))?);
        }
        Ok(pool)
    }

    /// The number of threads that take tasks, the caller included.
    pub(crate) fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f` with every item, each once, on the threads that are free, and returns when all are done. A panic of `f`
    /// is passed on.
    pub(crate) fn for_each<T: Send>(&mut self, items: Vec<T>, f: impl Fn(T) + Sync) {
        if self.workers.is_empty() || items.len() < 2 {
            return items.into_iter().for_each(f);
        }
        let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        self.run(items.len(), &|i| {
            let item = items[i].lock().unwrap_or_else(PoisonError::into_inner).take();
            item.into_iter().for_each(&f);
        });
    }

    /// Calls `task` with 0 to n_tasks − 1.
    fn run(&mut self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let n = u32::try_from(n_tasks).unwrap_or(u32::MAX);
        let shared = &*self.shared;
        shared.n_done.store(0, Ordering::Relaxed);
        // SAFETY: no task is open or taken, since the last `run` has seen all of its tasks done, so no thread reads `job`.
        // The pointer outlives its use: this function returns, or unwinds, only when all tasks are done.
        unsafe { *shared.job.get() = Some(std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(task)) };
        shared.ticket.store(u64::from(n) << 32, Ordering::SeqCst);
        for (worker, asleep) in self.workers.iter().zip(&shared.asleep) {
            if asleep.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        shared.work();
        let mut n_looks = 0;
        while shared.n_done.load(Ordering::Acquire) < n as usize {
            n_looks += 1;
            if n_looks < N_WAIT_SPINS {
                std::hint::spin_loop();
            } else {
                rest();
            }
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// The id of this process; 0 in a browser, which has no processes.
fn process() -> u32 {
    if cfg!(target_arch = "wasm32") { 0 } else { std::process::id() }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if self.process != process() {
            // The threads live in the parent process. Joining, and detaching too, would touch handles that are not valid
            // here, so the child keeps these few bytes until it ends.
            std::mem::forget(std::mem::take(&mut self.workers));
            return;
        }
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_taken_once() {
        for n_threads in [1, 2, 3, 8] {
            let mut pool = Pool::new(n_threads).unwrap();
            assert_eq!(pool.n_threads(), n_threads);
            for round in 0..300 {
                let mut counts = vec![0u32; round % 37];
                pool.for_each(counts.iter_mut().collect(), |count| *count += 1);
                assert!(counts.iter().all(|&n| n == 1), "{n_threads} threads, round {round}: {counts:?}");
            }
        }
    }

    #[test]
    fn workers_wake_after_sleeping() {
        let mut pool = Pool::new(3).unwrap();
        for _ in 0..5 {
            thread::sleep(std::time::Duration::from_millis(2));
            // Both items wait for each other: only two threads can finish them.
            let here = std::sync::Barrier::new(2);
            pool.for_each(vec![(), ()], |()| {
                here.wait();
            });
        }
    }

    #[test]
    fn an_idle_worker_sees_the_end_of_its_pool_without_sleeping() {
        let pool = Pool::new(2).unwrap();
        pool.shared.stop.store(true, Ordering::SeqCst);
        assert!(pool.shared.watch());
    }

    #[test]
    fn regions_finish_on_busy_cores_with_too_many_threads() {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, |n| n.get()) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let mut pool = Pool::new(8 * thread::available_parallelism().map_or(1, |n| n.get())).unwrap();
            let sum = AtomicUsize::new(0);
            for _ in 0..200 {
                pool.for_each((0..50).collect(), |i| {
                    sum.fetch_add(i, Ordering::Relaxed);
                });
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(sum.into_inner(), 200 * 50 * 49 / 2);
        });
    }

    #[test]
    fn a_panic_is_passed_on_and_the_pool_lives() {
        let mut pool = Pool::new(2).unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            pool.for_each((0..20).collect(), |i| assert_ne!(i, 7, "seven"));
        }));
        assert!(failed.is_err());
        let sum = AtomicUsize::new(0);
        pool.for_each((0..20).collect(), |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 190);
    }
}
