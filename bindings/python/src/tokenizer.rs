//! Tokenizers without a model.

use crate::arrays::Array;
use crate::error::{ModelError, exception};
use crate::{tokens, values};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

/// Encodes text as token ids by greedy longest match, and decodes them.
///
/// Without a path it is the RWKV World tokenizer; a path names a file like rwkv_vocab_v20230424.txt, or a
/// vocabulary in JSON as web-rwkv reads it. Model.encode() and
/// Model.decode() use the model's own. A tokenizer can be pickled; one of a file is opened again by its path, once in a process.
#[pyclass(frozen, weakref, module = "anser")]
pub(crate) struct Tokenizer(anser::Tokenizer, Source);

/// Where a tokenizer comes from.
enum Source {
    World,
    /// The absolute path of a file, and its SHA-256.
    File(String, String),
    Tokens,
}

#[pymethods]
impl Tokenizer {
    #[new]
    #[pyo3(signature = (path: "StrPath | None" = None))]
    fn new(py: Python<'_>, path: Option<&Bound<'_, PyAny>>) -> PyResult<Tokenizer> {
        let Some(path) = path else { return Ok(Tokenizer(anser::Tokenizer::world(), Source::World)) };
        let path = values::path("path", path)?;
        let tokenizer = py.detach(|| anser::read_vocabulary(&path)).map_err(exception)?;
        let module = py.import("anser._pickle")?;
        let path: String = module.call_method1("absolute", (path,))?.extract()?;
        let digest = module.call_method1("digest", (&path,))?.extract()?;
        Ok(Tokenizer(tokenizer, Source::File(path, digest)))
    }

    /// A tokenizer for tokens in the order of their ids; None is an id without text.
    #[staticmethod]
    #[pyo3(signature = (tokens: "Iterable[bytes | None]"))]
    fn from_tokens(tokens: &Bound<'_, PyAny>) -> PyResult<Tokenizer> {
        let py = tokens.py();
        let tokens = tokens.try_iter()?.map(|token| token?.extract()).collect::<PyResult<Vec<Option<Vec<u8>>>>>()?;
        let tokenizer = py.detach(|| anser::Tokenizer::from_tokens(tokens));
        tokenizer.map(|tokenizer| Tokenizer(tokenizer, Source::Tokens)).map_err(|e| ModelError::new_err(e.to_string()))
    }

    /// V, number of ids.
    #[getter]
    fn n_vocab(&self) -> usize {
        self.0.vocab_size()
    }

    /// Token ids of text: a str, or bytes of any kind.
    #[pyo3(signature = (text: "Text"))]
    fn encode<'py>(&self, text: &Bound<'py, PyAny>) -> PyResult<Array<'py, u32>> {
        encode(&self.0, text)
    }

    /// The text of token ids. Ids need not begin and end with whole characters: errors says how to treat bytes that are not
    /// UTF-8, as in bytes.decode: "strict" raises UnicodeDecodeError, "replace" writes U+FFFD. decode_bytes() returns
    /// the bytes.
    #[pyo3(signature = (ids: "Iterable[int]", errors: "str" = "strict".into()) -> "str",
           text_signature = "($self, ids, errors='strict')")]
    fn decode<'py>(&self, ids: &Bound<'py, PyAny>, errors: String) -> PyResult<Bound<'py, PyAny>> {
        decode(&self.0, ids, &errors)
    }

    /// The bytes of token ids.
    #[pyo3(signature = (ids: "Iterable[int]"))]
    fn decode_bytes<'py>(&self, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        decode_bytes(&self.0, ids)
    }

    #[pyo3(signature = () -> "tuple[Callable[..., object], tuple[object, ...]]")]
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let class = py.get_type::<Tokenizer>();
        match &self.1 {
            Source::World => (class, PyTuple::empty(py)).into_pyobject(py),
            Source::File(path, digest) => {
                (py.import("anser._pickle")?.getattr("open_tokenizer")?, (path, digest)).into_pyobject(py)
            }
            Source::Tokens => {
                let token = |id| self.0.token_bytes(id).filter(|token| !token.is_empty());
                let tokens = (0..self.0.vocab_size() as u32).map(|id| token(id).map(|token| PyBytes::new(py, token)));
                (class.getattr("from_tokens")?, (tokens.collect::<Vec<_>>(),)).into_pyobject(py)
            }
        }
    }

    fn __repr__(&self) -> String {
        format!("<anser.Tokenizer: {} ids>", self.0.vocab_size())
    }
}

/// Token ids of a text.
pub(crate) fn encode<'py>(tokenizer: &anser::Tokenizer, text: &Bound<'py, PyAny>) -> PyResult<Array<'py, u32>> {
    let py = text.py();
    match tokens::bytes(text)? {
        Some(bytes) => Ok(Array::from_vec(py, tokens::encode(tokenizer, &bytes, py)?)),
        None => Err(PyTypeError::new_err(format!("text: expected str or bytes, found {}", values::found(text)))),
    }
}

/// The text of ids; `errors` as in Python's bytes.decode.
pub(crate) fn decode<'py>(
    tokenizer: &anser::Tokenizer,
    ids: &Bound<'py, PyAny>,
    errors: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let py = ids.py();
    match String::from_utf8(bytes(tokenizer, ids)?) {
        Ok(text) => Ok(PyString::new(py, &text).into_any()),
        Err(error) => PyBytes::new(py, error.as_bytes()).call_method1("decode", ("utf-8", errors)),
    }
}

/// The bytes of ids.
pub(crate) fn decode_bytes<'py>(
    tokenizer: &anser::Tokenizer,
    ids: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(ids.py(), &bytes(tokenizer, ids)?))
}

fn bytes(tokenizer: &anser::Tokenizer, ids: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let py = ids.py();
    let ids = tokens::ids("ids", ids)?;
    py.detach(|| tokenizer.decode(&ids)).map_err(|e| exception(e.into()))
}
