//! The metadata of a file as JSON. Long arrays are abbreviated, since a vocabulary alone has 65,536 strings.

use crate::printable::printable;
use anser_format::{MetaArray, MetaValue, ModelFile};
use serde_json::{Map, Value, json};

/// The number of elements that are shown of a longer array.
const MAX_ELEMENTS: usize = 8;
/// The number of characters that the listing for people shows of a longer value.
const MAX_CHARS: usize = 100;

pub(super) fn to_json(file: &ModelFile) -> Map<String, Value> {
    file.metadata_entries().map(|(key, value)| (key.to_owned(), value_to_json(value))).collect()
}

fn value_to_json(value: &MetaValue) -> Value {
    match value {
        MetaValue::U8(v) => json!(v),
        MetaValue::I8(v) => json!(v),
        MetaValue::U16(v) => json!(v),
        MetaValue::I16(v) => json!(v),
        MetaValue::U32(v) => json!(v),
        MetaValue::I32(v) => json!(v),
        MetaValue::U64(v) => json!(v),
        MetaValue::I64(v) => json!(v),
        MetaValue::F32(v) => json!(shortest(*v)),
        MetaValue::F64(v) => json!(v),
        MetaValue::Bool(v) => json!(v),
        MetaValue::Str(v) => json!(v),
        MetaValue::Bytes(v) => json!(String::from_utf8_lossy(v)),
        MetaValue::Array(array) => array_to_json(array),
    }
}

/// The f64 with the same shortest decimal form as `value`: 1e-5 instead of 9.999999747378752e-6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(value.into())
}

/// A list, or `{"n": …, "first": […]}` for a long one and for arrays, whose elements are not kept.
fn array_to_json(array: &MetaArray) -> Value {
    fn first<T: serde::Serialize>(values: &[T]) -> Value {
        json!(&values[..values.len().min(MAX_ELEMENTS)])
    }
    let first = match array {
        MetaArray::U8(v) => first(v),
        MetaArray::I8(v) => first(v),
        MetaArray::U16(v) => first(v),
        MetaArray::I16(v) => first(v),
        MetaArray::U32(v) => first(v),
        MetaArray::I32(v) => first(v),
        MetaArray::U64(v) => first(v),
        MetaArray::I64(v) => first(v),
        MetaArray::F32(v) => first(v),
        MetaArray::F64(v) => first(v),
        MetaArray::Bool(v) => first(v),
        MetaArray::Str(v) => json!(v.iter().take(MAX_ELEMENTS).collect::<Vec<_>>()),
        MetaArray::Bytes(v) => json!(v.iter().take(MAX_ELEMENTS).map(String::from_utf8_lossy).collect::<Vec<_>>()),
        MetaArray::Arrays(n) => return json!({ "n": n, "first": [] }),
    };
    if array.len() > MAX_ELEMENTS { json!({ "n": array.len(), "first": first }) } else { first }
}

/// `value` on one line, printable and cut if it is long.
pub(super) fn abbreviated(value: &Value) -> String {
    let line = value.to_string();
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", printable(&line[..end])),
        None => printable(&line),
    }
}
