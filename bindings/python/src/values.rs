//! Reads the values of options that Python passes. An error names the option, the expected values and the found one.

use crate::error::OptionError;
use pyo3::Borrowed;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// The value of an argument with a default. PyO3's own conversions would refuse a wrong value without naming the argument.
#[derive(Default)]
pub(crate) struct Given<'py>(Option<Bound<'py, PyAny>>);

impl<'py> Given<'py> {
    /// The result of `read` for the value, or `default` if the caller gave none.
    pub(crate) fn or<T>(&self, default: T, read: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>) -> PyResult<T> {
        self.0.as_ref().map_or(Ok(default), read)
    }
}

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = Infallible;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Given(Some(object.to_owned())))
    }
}

/// The most characters of a value that a message shows.
const MAX_SHOWN: usize = 60;

/// A description of an argument's value for a message: its type and the beginning of its representation.
pub(crate) fn found(value: &Bound<'_, PyAny>) -> String {
    if value.is_none() {
        return "None".into();
    }
    let type_name = value.get_type().name().map_or_else(|_| "another type".into(), |name| name.to_string());
    match shown(value) {
        Some(shown) => format!("{type_name} {shown}"),
        None => type_name,
    }
}

/// A value's representation; `None` if it has several lines or more than [`MAX_SHOWN`] characters, as an array's has: it
/// would hide the message.
fn shown(value: &Bound<'_, PyAny>) -> Option<String> {
    let shown = value.repr().ok()?.to_string();
    (!shown.contains('\n') && shown.chars().count() <= MAX_SHOWN).then_some(shown)
}

/// The error for a value of a wrong type.
pub(crate) fn wrong_type(option: &str, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{option}: expected {expected}, found {}", found(value)))
}

/// The error for a value of the right type that is not allowed.
pub(crate) fn out_of_range(option: &str, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let found = shown(value).unwrap_or_else(|| found(value));
    OptionError::new_err(format!("{option}: expected {expected}, found {found}"))
}

/// Reads a whole number in `range`.
pub(crate) fn whole_number(option: &str, value: &Bound<'_, PyAny>, range: RangeInclusive<u64>) -> PyResult<u64> {
    let expected = || format!("a whole number from {} to {}", range.start(), range.end());
    if value.is_instance_of::<PyBool>() {
        return Err(wrong_type(option, &expected(), value));
    }
    match value.extract::<u64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        Ok(_) => Err(out_of_range(option, &expected(), value)),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
            Err(out_of_range(option, &expected(), value))
        }
        Err(_) => Err(wrong_type(option, &expected(), value)),
    }
}

/// Reads a whole number from 0, without an upper bound.
pub(crate) fn count(option: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    whole_number(option, value, 0..=usize::MAX as u64).map(|number| number as usize)
}

/// Reads a whole number of 32 bits, for token ids.
pub(crate) fn small_count(option: &str, value: &Bound<'_, PyAny>) -> PyResult<u32> {
    whole_number(option, value, 0..=u32::MAX.into()).map(|number| number as u32)
}

/// Reads a number. Its range is checked where it is used.
pub(crate) fn number(option: &str, value: &Bound<'_, PyAny>) -> PyResult<f32> {
    match value.extract::<f64>() {
        Ok(number) if !value.is_instance_of::<PyBool>() => Ok(number as f32),
        Ok(_) | Err(_) => Err(wrong_type(option, "a number", value)),
    }
}

/// The number, if the value is an int (or one of NumPy's) and no bool.
pub(crate) fn found_int(value: &Bound<'_, PyAny>) -> Option<i128> {
    if value.is_instance_of::<PyBool>() { None } else { value.extract().ok() }
}

/// Reads True or False.
pub(crate) fn flag(option: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract().map_err(|_| wrong_type(option, "True or False", value))
}

/// Reads a str.
pub(crate) fn text(option: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.to_cow()?.into_owned()),
        Err(_) => Err(wrong_type(option, "a str", value)),
    }
}

/// Reads a list or another sequence of texts.
pub(crate) fn texts(option: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    value.extract().map_err(|_| wrong_type(option, "a list or tuple of str", value))
}

/// Reads one of `words`, and returns the value that belongs to it.
pub(crate) fn word<T: Copy>(option: &str, value: &Bound<'_, PyAny>, words: &[(&str, T)]) -> PyResult<T> {
    let expected = || {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        match quoted.split_last() {
            Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
            Some(_) | None => quoted.concat(),
        }
    };
    let Ok(text) = value.cast::<PyString>() else { return Err(wrong_type(option, &expected(), value)) };
    let text = text.to_cow()?;
    let meaning = words.iter().find(|(word, _)| *word == text).map(|&(_, meaning)| meaning);
    meaning.ok_or_else(|| out_of_range(option, &expected(), value))
}

/// Reads a path.
pub(crate) fn path(option: &str, value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    value.extract().map_err(|_| wrong_type(option, "a str or os.PathLike", value))
}
