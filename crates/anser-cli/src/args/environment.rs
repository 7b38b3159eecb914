//! Options that the environment gives where the command line does not.

use crate::report::Failure;
use std::fmt::Display;

/// The value of the variable `name`, if it is set to anything. An empty value counts as not set.
pub(super) fn variable<T, E: Display>(
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    let about = |what: String| Failure::Usage(format!("the environment variable {name} is {value:?}: {what}"));
    let text = value.to_str().ok_or_else(|| about("it is not valid Unicode".into()))?;
    parse(text).map(Some).map_err(|e| about(e.to_string()))
}
