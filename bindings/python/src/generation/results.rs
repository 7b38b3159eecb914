//! Values that the methods of a generation return, with the types that stubs show for them.

use pyo3::inspect::PyStaticExpr;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{type_hint_identifier, type_hint_subscript};
use std::convert::Infallible;

/// A token, its log-probability, and the most likely tokens in its place with theirs.
pub(super) type TokenLogprob = (u32, f32, Vec<(u32, f32)>);

/// The coroutine of the next piece.
pub(super) struct NextPiece<'py>(pub(super) Bound<'py, PyAny>);

impl<'py> IntoPyObject<'py> for NextPiece<'py> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = Infallible;

    const OUTPUT_TYPE: PyStaticExpr = type_hint_subscript!(
        type_hint_identifier!("collections.abc", "Awaitable"),
        type_hint_identifier!("builtins", "str")
    );

    fn into_pyobject(self, _: Python<'py>) -> Result<Self::Output, Infallible> {
        Ok(self.0)
    }
}

/// The name of a finish reason.
pub(super) struct FinishName(pub(super) &'static str);

impl<'py> IntoPyObject<'py> for FinishName {
    type Target = PyString;
    type Output = Bound<'py, PyString>;
    type Error = Infallible;

    const OUTPUT_TYPE: PyStaticExpr = type_hint_identifier!("anser._types", "FinishReason");

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
        Ok(PyString::new(py, self.0))
    }
}
