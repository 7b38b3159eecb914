//! Bounds of JSON schemas, and the form of the JSON that they describe.

use serde_json::{Map, Number, Value, json};

/// The most lists and objects around a value of a schema.
const MAX_DEPTH: usize = 64;
/// The most properties of all objects of a schema together.
const MAX_PROPERTIES: usize = 500;
/// The most values of all `enum`s of a schema together.
const MAX_ENUM_VALUES: usize = 1000;

/// The largest number of a schema: beyond 2^53 not all whole numbers are floats, as which they are compiled.
const MAX_NUMBER: f64 = (1u64 << 53) as f64;

/// The key of a schema with options for `llguidance`.
const OPTIONS: &str = "x-guidance";

/// What a schema has of the things that are bounded.
#[derive(Debug, Default)]
struct Size {
    depth: usize,
    n_properties: usize,
    n_enum_values: usize,
    /// A number beyond [`MAX_NUMBER`].
    large: Option<Number>,
}

/// A schema within the bounds, with the separators of [`with_separators`]. Errors: what is wrong with it.
pub(super) fn checked(schema: Value) -> Result<Value, String> {
    let mut size = Size::default();
    measure(&schema, 1, &mut size);
    let bounds = [
        ("a nesting", size.depth, MAX_DEPTH),
        ("properties", size.n_properties, MAX_PROPERTIES),
        ("values of enums", size.n_enum_values, MAX_ENUM_VALUES),
    ];
    for (what, found, max) in bounds {
        if found > max {
            return Err(format!("expected {what} of at most {max}, found {found}"));
        }
    }
    if let Some(found) = size.large {
        return Err(format!("expected numbers of at most 2^53, found {found}"));
    }
    match schema {
        Value::Object(_) => Ok(with_separators(schema)),
        Value::Bool(true) => Ok(with_separators(Value::Object(Map::new()))),
        Value::Bool(false) => Err("false allows no text".into()),
        other => Err(format!("expected an object, found {}", kind_of(&other))),
    }
}

/// The schema, an object, with our options in the place of any that it brings: no white space but one space after a separator.
pub(super) fn with_separators(mut schema: Value) -> Value {
    schema[OPTIONS] = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    schema
}

/// Adds what `value`, which lies `depth` deep, contains to `size`. The depth of recursion is bounded by that of the JSON parser.
fn measure(value: &Value, depth: usize, size: &mut Size) {
    size.depth = size.depth.max(depth);
    match value {
        Value::Array(items) => items.iter().for_each(|item| measure(item, depth + 1, size)),
        Value::Object(members) => {
            for (key, member) in members {
                match (&key[..], member) {
                    ("properties" | "patternProperties", Value::Object(properties)) => {
                        size.n_properties += properties.len();
                    }
                    ("enum", Value::Array(values)) => size.n_enum_values += values.len(),
                    _ => {}
                }
                measure(member, depth + 1, size);
            }
        }
        Value::Number(number) => {
            if number.as_f64().is_none_or(|number| number.abs() > MAX_NUMBER) {
                size.large.get_or_insert_with(|| number.clone());
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
