//! Engine objects that Python objects own, dropped without the GIL.

use pyo3::prelude::*;
use std::ops::Deref;

/// An engine object that is dropped without the GIL, so that Python's other threads go on. Dropping it may take long:
/// the last handle of a model joins threads and frees a GPU's memory, and a session waits for the step that another
/// thread runs.
pub(crate) struct Detached<T: Send>(Option<T>);

impl<T: Send> Detached<T> {
    pub(crate) fn new(object: T) -> Detached<T> {
        Detached(Some(object))
    }
}

impl<T: Send> Deref for Detached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(object) => object,
            None => unreachable!("the object is taken out in drop only"),
        }
    }
}

impl<T: Send> Drop for Detached<T> {
    fn drop(&mut self) {
        drop_without_gil(self.0.take());
    }
}

/// Drops an engine object without the GIL, whether the caller holds the GIL or not.
pub(crate) fn drop_without_gil<T: Send>(object: T) {
    let mut object = Some(object);
    // While Python shuts down no thread can take the GIL. The object is then dropped at the end of this function.
    Python::try_attach(|py| py.detach(|| object.take()));
}
