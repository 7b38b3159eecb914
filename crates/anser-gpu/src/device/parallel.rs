//! Work by several threads, where there are threads.

use crate::error::GpuError;
use std::ops::Range;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(not(target_arch = "wasm32"))]
use std::sync::{Mutex, PoisonError};

/// Dispatches `0..n` in parts that are worth a thread each.
pub(crate) fn parts(n: usize) -> Vec<Range<usize>> {
    /// Fewer than this are recorded sooner than a thread starts.
    const MIN_LEN: usize = 32;
    const MAX_PARTS: usize = 4;

    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n_parts = (n / MIN_LEN).clamp(1, MAX_PARTS.min(n_cores));
    (0..n_parts).map(|i| n * i / n_parts..n * (i + 1) / n_parts).collect()
}

/// What `f` makes of every part, in their order, each part on a thread of its own.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn each_part<R: Send>(n: usize, f: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
    let f = &f;
    let mut parts = parts(n).into_iter();
    let Some(first) = parts.next() else { return vec![] };
    std::thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| scope.spawn(move || f(part))).collect();
        let first = f(first);
        let joined = others.into_iter().map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        std::iter::once(first).chain(joined).collect()
    })
}

/// What `f` makes of every part, in their order; a browser's worker has one thread.
#[cfg(target_arch = "wasm32")]
pub(crate) fn each_part<R>(n: usize, f: impl Fn(Range<usize>) -> R) -> Vec<R> {
    parts(n).into_iter().map(f).collect()
}

/// Calls `f` for every item, on as many threads as the machine has cores, but at most `max_threads`.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn for_each_parallel<T: Sync>(
    items: &[T],
    max_threads: usize,
    f: impl Fn(&T) -> Result<(), GpuError> + Sync,
) -> Result<(), GpuError> {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(max_threads).min(items.len());
    let next = AtomicUsize::new(0);
    let first_error = Mutex::new(Ok(()));
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = f(item) {
                let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                if first.is_ok() {
                    *first = Err(error);
                }
                return;
            }
        }
    };
    if n_threads <= 1 {
        work();
    } else {
        std::thread::scope(|scope| (0..n_threads).for_each(|_| drop(scope.spawn(work))));
    }
    first_error.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `f` for every item; a browser's worker has one thread.
#[cfg(target_arch = "wasm32")]
pub(crate) fn for_each_parallel<T>(
    items: &[T],
    _: usize,
    f: impl Fn(&T) -> Result<(), GpuError>,
) -> Result<(), GpuError> {
    items.iter().try_for_each(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for n in [0, 1, 31, 64, 100, 929] {
            let all: Vec<usize> = each_part(n, |part| part.collect::<Vec<_>>()).concat();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
    }
}
