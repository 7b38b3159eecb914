//! The environment variables that stand in for options which the caller does not set. An empty variable counts as unset.

use crate::device::Device;
use crate::error::Error;
use std::env::{self, VarError};
use std::thread;

/// The most threads per core that a CPU executor may have. It is large because a system may understate its cores: in a
/// container with a quota of one core on a large machine, for example.
const MAX_THREADS_PER_CORE: usize = 16;
/// The number of threads that is allowed on every machine. Starting them takes some milliseconds; tens of thousands
/// would block a machine for minutes, since idle threads poll for work before they sleep.
const ALWAYS_ALLOWED_THREADS: usize = 256;

/// The device of `ANSER_DEVICE`, which is written as [`Device`] says; `None` if the variable is not set.
///
/// # Errors
/// [`Error::Option`] with the variable's name.
pub fn device() -> Result<Option<Device>, Error> {
    let parse = |text: &str| text.parse().map_err(|error: Error| wrong("ANSER_DEVICE", error.to_string()));
    variable("ANSER_DEVICE")?.as_deref().map(parse).transpose()
}

/// The bytes of `ANSER_GPU_MEMORY`, a number that may end with K, M or G; `None` if the variable is not set.
///
/// # Errors
/// [`Error::Option`] with the variable's name.
pub fn gpu_memory() -> Result<Option<u64>, Error> {
    let parse = |text: &str| match n_bytes(text) {
        Some(n_bytes) => Ok(n_bytes),
        None => Err(wrong("ANSER_GPU_MEMORY", format!("expected a number of bytes, like 500M or 4G, found {text:?}"))),
    };
    variable("ANSER_GPU_MEMORY")?.as_deref().map(parse).transpose()
}

/// Whether `ANSER_EXACT` is on, see [`switch`](anser_gpu::switch); `None` if it is not set.
///
/// # Errors
/// [`GpuError::Switch`](anser_gpu::GpuError::Switch) with the variable's name.
pub fn exact() -> Result<Option<bool>, Error> {
    switch("ANSER_EXACT")
}

/// Whether `ANSER_READ_FILE` is on, as [`exact`].
///
/// # Errors
/// As [`exact`].
pub fn read_file() -> Result<Option<bool>, Error> {
    switch("ANSER_READ_FILE")
}

#[cfg(not(target_arch = "wasm32"))]
fn switch(name: &'static str) -> Result<Option<bool>, Error> {
    let is_set = env::var_os(name).is_some_and(|value| !value.is_empty());
    Ok(if is_set { Some(anser_gpu::switch(name)?) } else { None })
}

/// A browser has no environment.
#[cfg(target_arch = "wasm32")]
fn switch(_: &'static str) -> Result<Option<bool>, Error> {
    Ok(None)
}

/// The number of threads of a CPU executor: `asked`, else `ANSER_THREADS`, else `OMP_NUM_THREADS` (its first number, as
/// torch and NumPy take it), else `None`: one per physical core that the process may use.
///
/// # Errors
/// [`Error::Option`] with the option's or the variable's name for 0 threads, and for more than [`max_threads`].
pub fn threads(asked: Option<usize>) -> Result<Option<usize>, Error> {
    if let Some(n_threads) = asked {
        return check_threads("threads", n_threads, &n_threads.to_string()).map(Some);
    }
    for name in ["ANSER_THREADS", "OMP_NUM_THREADS"] {
        if let Some(text) = variable(name)? {
            return parse_threads(name, &text).map(Some);
        }
    }
    Ok(None)
}

/// The most threads that a CPU executor may have on this machine: 16 per core, and at least 256.
pub fn max_threads() -> usize {
    let n_cores = thread::available_parallelism().map_or(1, usize::from);
    n_cores.saturating_mul(MAX_THREADS_PER_CORE).max(ALWAYS_ALLOWED_THREADS)
}

fn parse_threads(name: &'static str, text: &str) -> Result<usize, Error> {
    // OpenMP's variable may list a number for every level of nesting.
    let outermost = text.split(',').next().unwrap_or_default().trim();
    check_threads(name, outermost.parse().unwrap_or(0), text)
}

fn check_threads(name: &'static str, n_threads: usize, found: &str) -> Result<usize, Error> {
    match n_threads {
        n if n > 0 && n <= max_threads() => Ok(n),
        _ => Err(wrong(name, format!("expected a number of threads from 1 to {}, found {found}", max_threads()))),
    }
}

/// Reads a number of bytes: digits, and one of the letters K, M, G for powers of 1024 or none.
pub fn n_bytes(text: &str) -> Option<u64> {
    let letters = [(['K', 'k'], 10), (['M', 'm'], 20), (['G', 'g'], 30)];
    let with_letter = letters.iter().find_map(|&(letters, shift)| Some((text.strip_suffix(letters)?, shift)));
    let (digits, shift) = with_letter.unwrap_or((text, 0));
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The text of a variable that is set and not empty.
fn variable(name: &'static str) -> Result<Option<String>, Error> {
    match env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(text)) => Err(wrong(name, format!("expected Unicode text, found {text:?}"))),
    }
}

fn wrong(option: &'static str, reason: String) -> Error {
    Error::Option { option, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_a_bound_and_a_name() {
        assert_eq!(threads(Some(1)).unwrap(), Some(1));
        assert_eq!(threads(Some(max_threads())).unwrap(), Some(max_threads()));
        for wrong in [0, max_threads() + 1, usize::MAX] {
            let error = threads(Some(wrong)).unwrap_err().to_string();
            let expected = format!("threads: expected a number of threads from 1 to {}, found {wrong}", max_threads());
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn variables_of_threads_are_read_as_openmp_reads_them() {
        for (text, n_threads) in [("3", 3), (" 3 ", 3), ("4,2", 4), ("256", 256)] {
            assert_eq!(parse_threads("OMP_NUM_THREADS", text).unwrap(), n_threads, "{text}");
        }
        for text in ["0", "-1", "two", ",2", "99999999", "1e3"] {
            let error = parse_threads("OMP_NUM_THREADS", text).unwrap_err().to_string();
            assert!(error.starts_with("OMP_NUM_THREADS: expected a number of threads from 1 to"), "{error}");
            assert!(error.ends_with(&format!("found {text}")), "{error}");
        }
    }

    #[test]
    fn bytes_have_letters() {
        for (text, expected) in [("0", 0), ("5", 5), ("2K", 2048), ("3 m", 3 << 20), ("4G", 4 << 30)] {
            assert_eq!(n_bytes(text), Some(expected), "{text}");
        }
        for text in ["", "G", "-1", "4T", "17179869184G"] {
            assert_eq!(n_bytes(text), None, "{text}");
        }
    }
}
