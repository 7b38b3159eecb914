//! Between the chunks of a long computation: checks signals, and calls the caller's callback.

use crate::error::exception;
use crate::values::wrong_type;
use pyo3::prelude::*;
use std::ops::ControlFlow;

/// A callback `(done, total)`, or a bar with `total`, `n` and `update` such as tqdm's, or neither.
pub(crate) struct Progress {
    callback: Option<Py<PyAny>>,
    /// The exception that the callback or the signal handler (KeyboardInterrupt) raised.
    raised: Option<PyErr>,
}

impl Progress {
    /// # Errors
    /// TypeError if it can be neither called nor moved.
    pub(crate) fn new(py: Python<'_>, callback: Option<Py<PyAny>>) -> PyResult<Progress> {
        check(py, callback.as_ref())?;
        Ok(Progress::checked(callback))
    }

    /// A callback that [`check`] has seen.
    pub(crate) fn checked(callback: Option<Py<PyAny>>) -> Progress {
        Progress { callback, raised: None }
    }

    /// Without a callback: only signals are checked.
    pub(crate) fn none() -> Progress {
        Progress { callback: None, raised: None }
    }

    /// Calls the callback and checks signals. Returns `Break` if an exception was raised, now or before. Call this
    /// without the GIL.
    pub(crate) fn report(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        if self.raised.is_some() {
            return ControlFlow::Break(());
        }
        let told = Python::attach(|py| self.tell(py, done, total));
        self.keep(told)
    }

    /// Checks signals without a report. Call this without the GIL.
    pub(crate) fn look(&mut self) -> ControlFlow<()> {
        self.keep(Python::attach(|py| py.check_signals()))
    }

    fn keep(&mut self, result: PyResult<()>) -> ControlFlow<()> {
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.raised = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn tell(&self, py: Python<'_>, done: usize, total: usize) -> PyResult<()> {
        py.check_signals()?;
        let Some(callback) = &self.callback else { return Ok(()) };
        let callback = callback.bind(py);
        if callback.is_callable() {
            return callback.call1((done, total)).map(drop);
        }
        callback.setattr("total", total)?;
        // The position of a bar may be a float.
        let shown: f64 = callback.getattr("n")?.extract()?;
        callback.call_method1("update", (done as i64 - shown as i64,)).map(drop)
    }

    /// Gives a sentence for the user to the logger "anser". Call this without the GIL.
    pub(crate) fn log(&mut self, remark: &str) -> ControlFlow<()> {
        self.keep(Python::attach(|py| {
            py.import("logging")?.call_method1("getLogger", ("anser",))?.call_method1("info", (remark,)).map(drop)
        }))
    }

    /// The result of a computation. An exception that was raised in it takes precedence over the engine's error.
    pub(crate) fn result<T>(self, result: Result<T, anser::Error>) -> PyResult<T> {
        self.first(result.map_err(exception))
    }

    /// The exception that was raised on the way, else `result`.
    pub(crate) fn first<T>(self, result: PyResult<T>) -> PyResult<T> {
        self.raised.map_or(result, Err)
    }
}

/// Refuses an object that is neither a callback nor a bar.
pub(crate) fn check(py: Python<'_>, callback: Option<&Py<PyAny>>) -> PyResult<()> {
    let Some(callback) = callback.map(|callback| callback.bind(py)) else { return Ok(()) };
    let is_bar = callback.hasattr("n")? && callback.hasattr("update")?;
    if callback.is_callable() || is_bar {
        return Ok(());
    }
    let expected = "a callback (done, total), or a bar with n, total and update() such as tqdm's";
    Err(wrong_type("progress", expected, callback))
}
