//! The memory of this process, as Linux counts it. On other systems these figures are unknown.
//!
//! Resident memory (RSS) has two parts: pages of the mapped model file, which the system can drop at any time, and
//! anonymous memory, which is the process's own. A process needs only the latter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The time between two readings of the anonymous memory: short enough for several readings within a prompt, long
/// enough not to slow the prompt down.
const PERIOD: Duration = Duration::from_millis(10);

/// Largest resident memory since the process began, MiB: `VmHWM` of /proc/self/status.
pub(crate) fn peak_rss_mib() -> Option<f64> {
    status_kib("VmHWM:").map(to_mib)
}

/// Anonymous resident memory now, MiB: `RssAnon` of /proc/self/status.
pub(crate) fn anon_mib() -> Option<f64> {
    status_kib("RssAnon:").map(to_mib)
}

fn to_mib(n_kib: u64) -> f64 {
    n_kib as f64 / 1024.0
}

fn status_kib(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A thread that reads the anonymous memory periodically and keeps the largest value.
pub(crate) struct AnonPeak {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    peak_kib: AtomicU64,
    done: AtomicBool,
}

impl AnonPeak {
    pub(crate) fn watch() -> AnonPeak {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        let watch = move || {
            while !watched.done.load(Ordering::Relaxed) {
                watched.look();
                std::thread::park_timeout(PERIOD);
            }
        };
        AnonPeak { thread: std::thread::Builder::new().spawn(watch).ok(), shared }
    }

    /// Ends the thread and returns the largest value in MiB.
    pub(crate) fn finish(mut self) -> Option<f64> {
        self.shared.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        self.shared.look();
        Some(self.shared.peak_kib.load(Ordering::Relaxed)).filter(|&kib| kib > 0).map(to_mib)
    }
}

impl Shared {
    fn look(&self) {
        if let Some(kib) = status_kib("RssAnon:") {
            self.peak_kib.fetch_max(kib, Ordering::Relaxed);
        }
    }
}
