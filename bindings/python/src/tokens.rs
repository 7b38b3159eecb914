//! Text and token ids as Python gives them.

use crate::error::{TokenError, exception};
use crate::progress::Progress;
use crate::values::{found, found_int, wrong_type};
use anser::chat::ChatTemplate;
use numpy::{PyArray1, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyFrozenSet, PyMapping, PyMemoryView, PySet, PyString};

/// The token ids of `prompt`: a str, bytes, bytearray or memoryview is encoded; the numbers of an array or another
/// iterable of ints are the ids.
pub(crate) fn tokens(model: &anser::Model, prompt: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    match bytes(prompt)? {
        Some(text) => encode(model.tokenizer().map_err(exception)?, &text, prompt.py()),
        None => ids("prompt", prompt),
    }
}

/// Token ids of each of several prompts. One text, and one text's ids (a one-dimensional array of integers, or an iterable
/// whose first item is an int), are one prompt.
pub(crate) fn tokens_of_each(model: &anser::Model, prompts: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u32>>> {
    let is_row = |array: &Bound<'_, PyUntypedArray>| array.ndim() == 1 && is_integer(array);
    if bytes(prompts)?.is_some() || prompts.cast::<PyUntypedArray>().is_ok_and(is_row) {
        return Ok(vec![tokens(model, prompts)?]);
    }
    let items = iterate("prompts", prompts)?.collect::<PyResult<Vec<_>>>()?;
    match items.first() {
        Some(first) if is_id(first) => Ok(vec![ids_of("prompt", items.into_iter().map(Ok))?]),
        Some(_) | None => items.iter().map(|prompt| tokens(model, prompt)).collect(),
    }
}

/// A text's bytes.
pub(crate) enum TextBytes<'py> {
    Str(Bound<'py, PyString>),
    Bytes(Bound<'py, PyBytes>),
}

/// The bytes of a str, bytes, bytearray or memoryview; `None` for other objects. Bytes that Python could change meanwhile
/// are copied.
pub(crate) fn bytes<'py>(text: &Bound<'py, PyAny>) -> PyResult<Option<TextBytes<'py>>> {
    if let Ok(text) = text.cast::<PyString>() {
        return Ok(Some(TextBytes::Str(text.clone())));
    }
    if let Ok(bytes) = text.cast::<PyBytes>() {
        return Ok(Some(TextBytes::Bytes(bytes.clone())));
    }
    if text.is_instance_of::<PyByteArray>() || text.is_instance_of::<PyMemoryView>() {
        let copy = text.py().get_type::<PyBytes>().call1((text,))?.cast_into::<PyBytes>()?;
        return Ok(Some(TextBytes::Bytes(copy)));
    }
    Ok(None)
}

/// Encodes a text without the GIL. Signals are checked every few milliseconds.
pub(crate) fn encode(tokenizer: &anser::Tokenizer, text: &TextBytes<'_>, py: Python<'_>) -> PyResult<Vec<u32>> {
    match text {
        TextBytes::Str(text) => encode_bytes(tokenizer, text.to_cow()?.as_bytes(), py),
        TextBytes::Bytes(bytes) => encode_bytes(tokenizer, bytes.as_bytes(), py),
    }
}

/// Encodes bytes without the GIL.
pub(crate) fn encode_bytes(tokenizer: &anser::Tokenizer, bytes: &[u8], py: Python<'_>) -> PyResult<Vec<u32>> {
    py.detach(|| {
        let mut progress = Progress::none();
        let ids = tokenizer.encode_for(bytes, |_| progress.look());
        progress.result(ids.ok_or(anser::Error::Cancelled))
    })
}

/// Encodes the prompt of a chat without the GIL.
pub(crate) fn encode_chat(
    template: ChatTemplate,
    tokenizer: &anser::Tokenizer,
    prompt: &str,
    py: Python<'_>,
) -> PyResult<Vec<u32>> {
    py.detach(|| {
        let mut progress = Progress::none();
        let ids = template.encode_for(tokenizer, prompt, |_| progress.look());
        progress.result(ids.ok_or(anser::Error::Cancelled))
    })
}

/// Token ids in a one-dimensional array or another iterable of ints, the value of `option`.
pub(crate) fn ids(option: &str, ids: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    if let Ok(array) = ids.cast::<PyArray1<u32>>() {
        return Ok(array.try_readonly()?.as_array().to_vec());
    }
    if let Ok(array) = ids.cast::<PyUntypedArray>() {
        let shape = || array.as_any().getattr("shape").map_or_else(|_| String::new(), |shape| shape.to_string());
        if array.ndim() != 1 {
            return Err(TokenError::new_err(format!(
                "{option}: expected token ids in one dimension, found an array of shape {}",
                shape()
            )));
        }
        if !is_integer(array) && !array.is_empty() {
            let dtype = array.dtype();
            return Err(PyTypeError::new_err(format!(
                "{option}: expected token ids as integers, found an array of {dtype}"
            )));
        }
    }
    ids_of(option, iterate(option, ids)?)
}

fn ids_of<'py>(option: &str, items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>) -> PyResult<Vec<u32>> {
    let id = |(position, item): (usize, PyResult<Bound<'py, PyAny>>)| {
        let item = item?;
        item.extract::<u32>().map_err(|error| match error.is_instance_of::<PyOverflowError>(item.py()) {
            true => TokenError::new_err(format!("{option}: token {position}: expected an id from 0, found {item}")),
            false => {
                PyTypeError::new_err(format!("{option}: token {position}: expected an int, found {}", found(&item)))
            }
        })
    };
    items.enumerate().map(id).collect()
}

/// The items of an iterable that has an order. Sets have none, and the items of a dict are its keys.
fn iterate<'py>(
    option: &str,
    items: &Bound<'py, PyAny>,
) -> PyResult<impl Iterator<Item = PyResult<Bound<'py, PyAny>>> + use<'py>> {
    let has_order = !items.is_instance_of::<PySet>()
        && !items.is_instance_of::<PyFrozenSet>()
        && items.cast::<PyMapping>().is_err()
        && !items.is_instance(&items.py().import("collections.abc")?.getattr("Set")?)?;
    let expected = match option {
        "prompt" => "str, bytes or token ids",
        "prompts" => "str, bytes or token ids, or an iterable of those",
        _ => "token ids, an array or another iterable of ints",
    };
    match items.try_iter() {
        Ok(iterator) if has_order => Ok(iterator),
        Ok(_) | Err(_) => Err(wrong_type(option, expected, items)),
    }
}

/// Whether a prompt's item is an id, and no prompt itself.
fn is_id(item: &Bound<'_, PyAny>) -> bool {
    found_int(item).is_some()
}

fn is_integer(array: &Bound<'_, PyUntypedArray>) -> bool {
    use numpy::PyArrayDescrMethods;
    matches!(array.dtype().kind(), b'i' | b'u')
}
