//! Adapters as Python names them.

use crate::error::OptionError;
use crate::values;
use anser::{Lora, LoraForm};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::path::Path;

/// The keys of an adapter's dict.
const KEYS: [&str; 5] = ["path", "scale", "alpha", "init", "form"];

/// The adapters that `value` names: one of them, or a list or tuple of them.
pub(crate) fn adapters(value: &Bound<'_, PyAny>) -> PyResult<Vec<Lora>> {
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        return value.try_iter()?.map(|item| adapter(&item?)).collect();
    }
    Ok(vec![adapter(value)?])
}

/// One adapter: a path, or a dict.
fn adapter(value: &Bound<'_, PyAny>) -> PyResult<Lora> {
    let Ok(dict) = value.cast::<PyDict>() else { return Ok(Lora::new(values::path("lora", value)?)) };
    for key in dict.keys() {
        if !key.extract::<String>().is_ok_and(|key| KEYS.contains(&key.as_str())) {
            return Err(OptionError::new_err(format!(
                "lora: unknown key {}; known are {}",
                key.repr()?,
                KEYS.join(", ")
            )));
        }
    }
    let get = |key: &str| Ok::<_, PyErr>(dict.get_item(key)?.filter(|value| !value.is_none()));
    let path =
        get("path")?.ok_or_else(|| OptionError::new_err("lora: the dict has no path; name the adapter's file"))?;
    let number = |key: &str| {
        let option = format!("lora: {key}");
        let number = |value: Bound<'_, PyAny>| match values::number(&option, &value)? {
            number if number.is_finite() => Ok(number),
            _ => Err(values::out_of_range(&option, "a finite number", &value)),
        };
        get(key)?.map(number).transpose()
    };
    Ok(Lora {
        path: values::path("lora", &path)?,
        scale: number("scale")?.unwrap_or(1.0),
        alpha: number("alpha")?,
        init: get("init")?.map(|init| values::path("lora", &init)).transpose()?,
        form: get("form")?.map(|form| self::form(&values::text("lora: form", &form)?)).transpose()?.unwrap_or_default(),
    })
}

/// The form that a word names.
fn form(word: &str) -> PyResult<LoraForm> {
    match word {
        "merge" => Ok(LoraForm::Merged),
        "beside" => Ok(LoraForm::Beside),
        _ => Err(OptionError::new_err(format!("lora: form: expected \"merge\" or \"beside\", found {word:?}"))),
    }
}

/// The word of a form; `None` for the one that is not named.
fn form_word(form: LoraForm) -> Option<&'static str> {
    match form {
        LoraForm::Fitting => None,
        LoraForm::Merged => Some("merge"),
        LoraForm::Beside => Some("beside"),
    }
}

/// The adapters as arguments for a process that may have another working directory.
pub(crate) fn absolute<'py>(py: Python<'py>, loras: &[Lora]) -> PyResult<Bound<'py, PyList>> {
    let absolute = |path: &Path| py.import("anser._pickle")?.call_method1("absolute", (path,));
    let list = PyList::empty(py);
    for Lora { path, scale, alpha, init, form } in loras {
        let dict = PyDict::new(py);
        dict.set_item("path", absolute(path)?)?;
        dict.set_item("scale", scale)?;
        dict.set_item("alpha", alpha)?;
        dict.set_item("init", init.as_deref().map(absolute).transpose()?)?;
        dict.set_item("form", form_word(*form))?;
        list.append(dict)?;
    }
    Ok(list)
}
