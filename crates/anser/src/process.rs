//! Values that belong to the process which made them.
//!
//! A forked child has a copy of its parent's memory and only the thread that forked: no worker threads, no connection to
//! a GPU's driver, and every lock that another thread held at the fork stays locked. So the child may neither use nor
//! drop an executor, and gets an error before it takes any lock.

use crate::error::Error;
use std::mem;

/// The id of this process; 0 in a browser, which has no processes.
fn this_process() -> u32 {
    if cfg!(target_arch = "wasm32") { 0 } else { std::process::id() }
}

/// A value that only the process which made it can reach. Dropped in another process, the value is forgotten: its memory
/// stays until that process ends, and no thread is joined and no driver is called.
#[derive(Debug)]
pub(crate) struct OfProcess<T> {
    process: u32,
    /// The value; `None` only while this is being dropped.
    value: Option<T>,
}

impl<T> OfProcess<T> {
    pub(crate) fn new(value: T) -> OfProcess<T> {
        OfProcess { process: this_process(), value: Some(value) }
    }

    /// The value, in the process that made it.
    ///
    /// # Errors
    /// [`Error::Forked`] in any other process.
    pub(crate) fn get(&self) -> Result<&T, Error> {
        match &self.value {
            Some(value) if self.process == this_process() => Ok(value),
            Some(_) | None => Err(Error::Forked),
        }
    }
}

impl<T> Drop for OfProcess<T> {
    fn drop(&mut self) {
        if self.process != this_process() {
            mem::forget(self.value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn another_process_neither_reaches_nor_drops_the_value() {
        let value = Rc::new(());
        let here = OfProcess::new(value.clone());
        assert!(here.get().is_ok());
        drop(here);
        assert_eq!(Rc::strong_count(&value), 1);

        // As a forked child sees it: the id is the parent's.
        let parent = OfProcess { process: this_process() ^ 1, value: Some(value.clone()) };
        assert!(matches!(parent.get(), Err(Error::Forked)));
        drop(parent);
        assert_eq!(Rc::strong_count(&value), 2);
    }
}
