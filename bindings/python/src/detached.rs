//! Engine objects that Python objects own, dropped without the GIL.

use pyo3::prelude::*;
use std::ops::Deref;

/// An engine object. Dropping it may take long: the last handle of a model joins threads and frees a GPU's memory, and a
/// session waits for the step that another thread runs. Python's other threads go on meanwhile.
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

/// Drops an engine's object without the GIL, whether the caller holds it or not.
pub(crate) fn drop_without_gil<T: Send>(object: T) {
    let mut object = Some(object);
    // Where Python is shutting down there is no GIL to be had: the object is dropped at the end of this function.
    Python::try_attach(|py| py.detach(|| object.take()));
}
