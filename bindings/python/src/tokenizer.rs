//! Tokenizers without a model.

use crate::arrays::Array;
use crate::error::{ModelError, exception};
use crate::tokens;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::path::PathBuf;

/// Encodes text as token ids by greedy longest match, and decodes them.
///
/// Without a path it is the RWKV World tokenizer; a path names a file like rwkv_vocab_v20230424.txt, or a
/// vocabulary in JSON as web-rwkv reads it. Model.encode() and
/// Model.decode() use the model's own.
#[pyclass(frozen, module = "anser")]
pub(crate) struct Tokenizer(anser::Tokenizer);

#[pymethods]
impl Tokenizer {
    #[new]
    #[pyo3(signature = (path: "StrPath | None" = None))]
    fn new(py: Python<'_>, path: Option<PathBuf>) -> PyResult<Tokenizer> {
        let Some(path) = path else { return Ok(Tokenizer(anser::Tokenizer::world())) };
        py.detach(|| anser::read_vocabulary(path)).map(Tokenizer).map_err(exception)
    }

    /// A tokenizer for tokens in the order of their ids; None is an id without text.
    #[staticmethod]
    #[pyo3(signature = (tokens: "Iterable[bytes | None]"))]
    fn from_tokens(tokens: &Bound<'_, PyAny>) -> PyResult<Tokenizer> {
        let py = tokens.py();
        let tokens = tokens.try_iter()?.map(|token| token?.extract()).collect::<PyResult<Vec<Option<Vec<u8>>>>>()?;
        let tokenizer = py.detach(|| anser::Tokenizer::from_tokens(tokens));
        tokenizer.map(Tokenizer).map_err(|e| ModelError::new_err(e.to_string()))
    }

    /// V, number of ids.
    #[getter]
    fn n_vocab(&self) -> usize {
        self.0.vocab_size()
    }

    /// Token ids of text.
    #[pyo3(signature = (text: "str | bytes"))]
    fn encode<'py>(&self, text: &Bound<'py, PyAny>) -> PyResult<Array<'py, u32>> {
        encode(&self.0, text)
    }

    /// The text of token ids: a str, or bytes where they are not UTF-8. With errors="replace" or another of the ways of
    /// bytes.decode, always a str.
    #[pyo3(signature = (ids: "Iterable[int]", errors: "str | None" = None) -> "str | bytes")]
    fn decode<'py>(&self, ids: &Bound<'py, PyAny>, errors: Option<String>) -> PyResult<Bound<'py, PyAny>> {
        decode(&self.0, ids, errors)
    }

    fn __repr__(&self) -> String {
        format!("<anser.Tokenizer: {} ids>", self.0.vocab_size())
    }
}

/// Token ids of a str or bytes.
pub(crate) fn encode<'py>(tokenizer: &anser::Tokenizer, text: &Bound<'py, PyAny>) -> PyResult<Array<'py, u32>> {
    match tokens::with_text(text, |text| tokenizer.encode(text))? {
        Some(tokens) => Ok(Array::from_vec(text.py(), tokens)),
        None => Err(PyTypeError::new_err("expected str or bytes")),
    }
}

/// The text of ids: a str, or bytes where they are not UTF-8 and no way to treat that is given.
pub(crate) fn decode<'py>(
    tokenizer: &anser::Tokenizer,
    ids: &Bound<'py, PyAny>,
    errors: Option<String>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = ids.py();
    let ids = tokens::ids(ids)?;
    let bytes = py.detach(|| tokenizer.decode(&ids)).map_err(|e| exception(e.into()))?;
    match (String::from_utf8(bytes), errors) {
        (Ok(text), _) => Ok(PyString::new(py, &text).into_any()),
        (Err(error), None) => Ok(PyBytes::new(py, error.as_bytes()).into_any()),
        (Err(error), Some(errors)) => PyBytes::new(py, error.as_bytes()).call_method1("decode", ("utf-8", errors)),
    }
}
