//! Text and token ids as Python gives them.

use crate::error::{TokenError, exception};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Token ids of `prompt`: a str or bytes is encoded, an array or another iterable of ints is taken as it is.
pub(crate) fn tokens(model: &anser::Model, prompt: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    match with_text(prompt, |text| model.encode(text))? {
        Some(tokens) => tokens.map_err(exception),
        None => ids(prompt),
    }
}

/// Token ids of each of several prompts; a str or bytes is one prompt.
pub(crate) fn tokens_of_each(model: &anser::Model, prompts: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u32>>> {
    match with_text(prompts, |text| model.encode(text))? {
        Some(one) => Ok(vec![one.map_err(exception)?]),
        None => prompts.try_iter()?.map(|prompt| tokens(model, &prompt?)).collect(),
    }
}

/// What `f` makes of a str's or bytes' bytes, without the GIL; `None` for anything else.
pub(crate) fn with_text<T: Send>(text: &Bound<'_, PyAny>, f: impl Send + FnOnce(&[u8]) -> T) -> PyResult<Option<T>> {
    let py = text.py();
    if let Ok(text) = text.cast::<PyString>() {
        let text = text.to_cow()?;
        return Ok(Some(py.detach(|| f(text.as_bytes()))));
    }
    let Ok(bytes) = text.cast::<PyBytes>() else { return Ok(None) };
    let bytes = bytes.as_bytes();
    Ok(Some(py.detach(|| f(bytes))))
}

/// Token ids in an array or another iterable of ints.
pub(crate) fn ids(ids: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    if let Ok(array) = ids.cast::<PyArray1<u32>>() {
        return Ok(array.try_readonly()?.as_array().to_vec());
    }
    let items = ids.try_iter().map_err(|_| {
        let found = ids.get_type().name().map_or_else(|_| "another type".into(), |n| n.to_string());
        PyTypeError::new_err(format!("expected str, bytes or token ids, found {found}"))
    })?;
    let id = |(position, item): (usize, PyResult<Bound<'_, PyAny>>)| {
        let item = item?;
        item.extract::<u32>().map_err(|error| match error.is_instance_of::<PyOverflowError>(ids.py()) {
            true => TokenError::new_err(format!("token {position}: expected an id from 0, found {item}")),
            false => error,
        })
    };
    items.enumerate().map(id).collect()
}
