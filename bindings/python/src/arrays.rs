//! Arrays that own the engine's memory, and the types that stubs show for them.

use numpy::{Element, PyArray1, PyArrayMethods};
use pyo3::inspect::PyStaticExpr;
use pyo3::prelude::*;
use pyo3::{Borrowed, type_hint_identifier, type_hint_subscript};
use std::convert::Infallible;
use std::marker::PhantomData;

/// A NumPy array of any shape with elements `T`.
pub(crate) struct Array<'py, T>(Bound<'py, PyAny>, PhantomData<T>);

/// An element type with its name in NumPy.
pub(crate) trait Named: Element {
    const NAME: &'static str;
}

impl Named for f32 {
    const NAME: &'static str = "float32";
}

impl Named for u32 {
    const NAME: &'static str = "uint32";
}

impl<'py, T: Named> Array<'py, T> {
    /// Takes over `data`, without a copy.
    pub(crate) fn from_vec(py: Python<'py>, data: Vec<T>) -> Self {
        Array::new(PyArray1::from_vec(py, data).into_any())
    }

    /// Takes over `data` in the shape `[n_rows, n_cols]`, without a copy.
    pub(crate) fn from_rows(py: Python<'py>, data: Vec<T>, n_rows: usize, n_cols: usize) -> PyResult<Self> {
        Ok(Array::new(PyArray1::from_vec(py, data).reshape([n_rows, n_cols])?.into_any()))
    }

    /// Wraps `array`, whose elements must be of type `T`.
    pub(crate) fn new(array: Bound<'py, PyAny>) -> Self {
        Array(array, PhantomData)
    }

    pub(crate) fn unbind(self) -> Py<PyAny> {
        self.0.unbind()
    }
}

impl<'py, T: Named> IntoPyObject<'py> for Array<'py, T> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = Infallible;

    const OUTPUT_TYPE: PyStaticExpr =
        type_hint_subscript!(type_hint_identifier!("numpy.typing", "NDArray"), type_hint_identifier!("numpy", T::NAME));

    fn into_pyobject(self, _: Python<'py>) -> Result<Self::Output, Infallible> {
        Ok(self.0)
    }
}

/// A value that NumPy can convert to an array.
pub(crate) struct ArrayLike<'py>(pub(crate) Bound<'py, PyAny>);

impl<'py> FromPyObject<'_, 'py> for ArrayLike<'py> {
    type Error = Infallible;

    const INPUT_TYPE: PyStaticExpr = type_hint_identifier!("numpy.typing", "ArrayLike");

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(ArrayLike(object.to_owned()))
    }
}
