//! A state as NumPy arrays: one buffer, and views of its parts.

use crate::arrays::{Array, ArrayLike};
use crate::error::{StateError, exception};
use crate::values::wrong_type;
use anser::{Identity, StateOrigin};
use numpy::{PyArray1, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyUserWarning};
use pyo3::prelude::*;
use pyo3::types::{PyEllipsis, PySlice, PyTuple};
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

/// The state of a model after the tokens that it has read, as one float32 buffer.
///
/// att_shift [L, C], wkv [L, H, N, N] (layer, head, value row, key column) and ffn_shift [L, C] are views of the buffer:
/// writing to them changes the state, and assigning to them copies into the buffer. A state can be pickled and copied.
#[pyclass(frozen, module = "anser")]
pub(crate) struct State {
    model: String,
    fingerprint: String,
    /// The engine's identity of the model; lost when the state is pickled.
    identity: Option<Arc<Identity>>,
    /// The names and shapes `[L, …]` of the parts, in the order of the buffer.
    parts: Vec<Part>,
    buffer: Py<PyArray1<f32>>,
}

type Part = (String, Vec<usize>);

impl State {
    /// The engine's state, without a copy.
    pub(crate) fn new(py: Python<'_>, state: anser::State, model: &anser::Model) -> State {
        State {
            model: model.plan().title.clone(),
            fingerprint: model.fingerprint().to_owned(),
            identity: state.model().cloned(),
            parts: parts(state.layout()),
            buffer: PyArray1::from_vec(py, state.into_vec()).unbind(),
        }
    }

    /// The engine's state with these numbers. They are copied: Python may write to the buffer from another thread while
    /// the engine works without the GIL.
    pub(crate) fn to_engine(&self, py: Python<'_>, model: &anser::Model) -> PyResult<anser::State> {
        let is_other = match &self.identity {
            // The engine itself compares the identities of models of equal sizes.
            Some(identity) => identity.title() != model.plan().title,
            None => self.fingerprint != model.fingerprint(),
        };
        if is_other {
            return Err(StateError::new_err(format!(
                "a state of another model: expected {} ({}), found {} ({})",
                model.plan().title,
                short(model.fingerprint()),
                self.model,
                short(&self.fingerprint)
            )));
        }
        let numbers = self.buffer.bind(py).try_readonly()?.as_slice()?.to_vec();
        let layout = model.state_layout().clone();
        let state = py.detach(|| anser::State::from_vec(layout, numbers)).map_err(|e| exception(e.into()))?;
        Ok(match &self.identity {
            Some(identity) => state.made_by(identity.clone()),
            None => state,
        })
    }

    /// The part called `name`, `[L, …]`, as a view of the buffer.
    fn part<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let mut start = 0;
        for (part, shape) in &self.parts {
            let end = start + shape.iter().product::<usize>();
            if part == name {
                let slice = PySlice::new(py, start as isize, end as isize, 1);
                let shape = PyTuple::new(py, shape)?;
                return self.buffer.bind(py).as_any().get_item(slice)?.call_method1("reshape", shape);
            }
            start = end;
        }
        Err(StateError::new_err(format!("a state of {} has no {name}", self.model)))
    }

    fn set_part(&self, name: &str, values: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = values.py();
        let part = self.part(py, name)?;
        let expected = part.getattr("shape")?;
        let found = py.import("numpy")?.call_method1("shape", (values,))?;
        if !expected.eq(&found)? {
            return Err(StateError::new_err(format!("{name}: expected shape {expected}, found {found}")));
        }
        part.set_item(PyEllipsis::get(py), values)
    }
}

/// A state's buffer that Python passes, as an array that the engine can read without a copy.
fn flat_floats<'a, 'py>(buffer: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyArray1<f32>>> {
    let expected = "a contiguous one-dimensional array of float32";
    let Ok(array) = buffer.cast::<PyUntypedArray>() else { return Err(wrong_type("buffer", expected, buffer)) };
    match array.cast::<PyArray1<f32>>() {
        Ok(floats) if floats.is_c_contiguous() => Ok(floats),
        Ok(_) => Err(StateError::new_err(format!("buffer: expected {expected}, found one with gaps"))),
        Err(_) => {
            let (dtype, n_dims) = (array.dtype(), array.ndim());
            let found = format!("an array of {dtype} with {n_dims} dimensions");
            Err(PyTypeError::new_err(format!("buffer: expected {expected}, found {found}")))
        }
    }
}

fn parts(layout: &anser::StateLayout) -> Vec<Part> {
    let shape = |shape: &[usize]| [&[layout.n_layer], shape].concat();
    layout.parts.iter().map(|part| (part.name.to_owned(), shape(&part.shape))).collect()
}

/// Warns if a state from a file may be another model's.
pub(crate) fn warn_of_origin(py: Python<'_>, path: &Path, origin: StateOrigin) -> PyResult<()> {
    let Some(remark) = origin.remark() else { return Ok(()) };
    let warning = CString::new(format!("{}: {remark}", path.display())).unwrap_or_default();
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &warning, 1)
}

/// The first letters of a fingerprint, which distinguish models in messages.
fn short(fingerprint: &str) -> &str {
    fingerprint.get(..8).unwrap_or(fingerprint)
}

#[pymethods]
impl State {
    /// A state from the values that pickling writes: name and fingerprint of the model, names and shapes of the parts, the buffer.
    #[new]
    #[pyo3(signature = (model, fingerprint, parts: "list[tuple[str, list[int]]]", buffer: "NDArray[float32]"))]
    fn from_parts(model: String, fingerprint: String, parts: Vec<Part>, buffer: &Bound<'_, PyAny>) -> PyResult<State> {
        let buffer = flat_floats(buffer)?;
        let n_parts = parts.iter().try_fold(0usize, |sum, (_, shape)| {
            let n = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
            sum.checked_add(n)
        });
        if n_parts != Some(buffer.len()) {
            let n_parts = n_parts.map_or_else(|| "too many".into(), |n| n.to_string());
            let found = buffer.len();
            return Err(StateError::new_err(format!("the parts have {n_parts} numbers, the buffer {found}")));
        }
        Ok(State { model, fingerprint, identity: None, parts, buffer: buffer.clone().unbind() })
    }

    /// The name of the model's kind, e.g. "rwkv7 6x256".
    #[getter]
    fn model(&self) -> &str {
        &self.model
    }

    /// A name for the model, which is the same for all its file types and quantizations.
    #[getter]
    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// All numbers, in one dimension.
    #[getter]
    fn buffer<'py>(&self, py: Python<'py>) -> Array<'py, f32> {
        Array::new(self.buffer.bind(py).clone().into_any())
    }

    /// Normalised input of the last token's time mixing, [L, C].
    #[getter]
    fn att_shift<'py>(&self, py: Python<'py>) -> PyResult<Array<'py, f32>> {
        self.part(py, "att_shift").map(Array::new)
    }

    #[setter]
    fn set_att_shift(&self, values: ArrayLike<'_>) -> PyResult<()> {
        self.set_part("att_shift", &values.0)
    }

    /// The matrices, [L, H, N, N]: layer, head, value row, key column.
    #[getter]
    fn wkv<'py>(&self, py: Python<'py>) -> PyResult<Array<'py, f32>> {
        self.part(py, "wkv").map(Array::new)
    }

    #[setter]
    fn set_wkv(&self, values: ArrayLike<'_>) -> PyResult<()> {
        self.set_part("wkv", &values.0)
    }

    /// Normalised input of the last token's channel mixing, [L, C].
    #[getter]
    fn ffn_shift<'py>(&self, py: Python<'py>) -> PyResult<Array<'py, f32>> {
        self.part(py, "ffn_shift").map(Array::new)
    }

    #[setter]
    fn set_ffn_shift(&self, values: ArrayLike<'_>) -> PyResult<()> {
        self.set_part("ffn_shift", &values.0)
    }

    /// A state with a buffer of its own.
    fn copy(&self, py: Python<'_>) -> PyResult<State> {
        let copy = self.buffer.bind(py).as_any().call_method0("copy")?.cast_into::<PyArray1<f32>>()?;
        let (model, fingerprint) = (self.model.clone(), self.fingerprint.clone());
        let (identity, parts) = (self.identity.clone(), self.parts.clone());
        Ok(State { model, fingerprint, identity, parts, buffer: copy.unbind() })
    }

    #[pyo3(signature = () -> "tuple[type[State], tuple[str, str, list[tuple[str, list[int]]], NDArray[float32]]]")]
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let arguments = (&self.model, &self.fingerprint, self.parts.clone(), self.buffer.clone_ref(py));
        (py.get_type::<State>(), arguments).into_pyobject(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let parts: Vec<String> = self.parts.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
        let n_bytes = 4 * self.buffer.bind(py).len();
        format!("<anser.State of {}: {}, {n_bytes} bytes>", self.model, parts.join(", "))
    }
}
