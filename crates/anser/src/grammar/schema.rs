//! Bounds of JSON schemas, and the form of the JSON that they describe.

use serde_json::{Map, Number, Value, json};
use std::collections::HashMap;

/// The most lists and objects around a value of a schema.
const MAX_DEPTH: usize = 64;
/// The most properties of all objects of a schema together.
const MAX_PROPERTIES: usize = 500;
/// The most references of a schema.
const MAX_REFERENCES: usize = 500;
/// The most values of all `enum`s of a schema together.
const MAX_ENUM_VALUES: usize = 1000;

/// What the numbers of a schema are below: from 2^53 on not all whole numbers are floats, as which they are compiled.
const MAX_NUMBER: f64 = (1u64 << 53) as f64;

/// The key of a schema with options for `llguidance`.
const OPTIONS: &str = "x-guidance";

/// The most bytes of all patterns of a schema together.
const MAX_PATTERNS_N_BYTES: usize = 4096;
/// The most patterns and formats that one text must match at once. Twenty take a minute to compile.
const MAX_PATTERNS_AT_ONCE: usize = 8;
/// The largest product of the digits of all values of `multipleOf`: numbers are matched with as many states.
const MAX_MULTIPLES: f64 = 1e6;

/// What a schema has of the things that are bounded.
#[derive(Debug, Default)]
struct Size {
    depth: usize,
    n_properties: usize,
    n_enum_values: usize,
    n_references: usize,
    patterns_n_bytes: usize,
    /// The product of the digits of all values of `multipleOf`, without their zeros at the end.
    multiples: f64,
    /// A number that is not below [`MAX_NUMBER`].
    large: Option<Number>,
}

/// A schema within the bounds, with the separators of [`with_separators`]. Errors: what is wrong with it.
pub(super) fn checked(schema: Value) -> Result<Value, String> {
    let mut size = Size { multiples: 1.0, ..Size::default() };
    measure(&schema, 1, &mut size);
    let bounds = [
        ("levels of nesting", size.depth, MAX_DEPTH),
        ("properties", size.n_properties, MAX_PROPERTIES),
        ("values of enums", size.n_enum_values, MAX_ENUM_VALUES),
        ("references", size.n_references, MAX_REFERENCES),
        ("bytes of patterns", size.patterns_n_bytes, MAX_PATTERNS_N_BYTES),
    ];
    let refuse = |what: &str, found, max| Err(format!("expected at most {max} {what}, found {found}"));
    if let Some((what, found, max)) = bounds.into_iter().find(|(_, found, max)| found > max) {
        return refuse(what, found, max);
    }
    let at_once = Patterns { root: &schema, of_references: HashMap::new() }.at_once_anywhere(&schema);
    if at_once > MAX_PATTERNS_AT_ONCE {
        return refuse("patterns and formats that one text must match", at_once, MAX_PATTERNS_AT_ONCE);
    }
    if size.multiples > MAX_MULTIPLES {
        return Err(format!("multipleOf: expected digits whose product is at most {MAX_MULTIPLES}"));
    }
    if let Some(found) = size.large {
        return Err(format!("expected numbers below 2^53, found {found}"));
    }
    match schema {
        Value::Object(_) => {
            let mut schema = schema;
            super::rewrite::rewrite(&mut schema);
            Ok(with_separators(schema))
        }
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
                    ("properties", Value::Object(properties)) => size.n_properties += properties.len(),
                    ("patternProperties", Value::Object(properties)) => {
                        size.n_properties += properties.len();
                        size.patterns_n_bytes += properties.keys().map(String::len).sum::<usize>();
                    }
                    ("enum", Value::Array(values)) => size.n_enum_values += values.len(),
                    ("$ref", Value::String(_)) => size.n_references += 1,
                    ("pattern", Value::String(pattern)) => size.patterns_n_bytes += pattern.len(),
                    ("multipleOf", Value::Number(number)) => size.multiples *= digits(number),
                    _ => {}
                }
                measure(member, depth + 1, size);
            }
        }
        Value::Number(number) => {
            if number.as_f64().is_none_or(|number| number.abs() >= MAX_NUMBER) {
                size.large.get_or_insert_with(|| number.clone());
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The digits of a number as a whole number: 0.25 has 25, and 1000 has 1.
fn digits(number: &Number) -> f64 {
    let text = format!("{}", number.as_f64().unwrap_or(f64::MAX).abs());
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.trim_end_matches('0').parse().unwrap_or(f64::MAX).max(1.0)
}

/// Counts the patterns and formats that apply to the same text.
struct Patterns<'a> {
    root: &'a Value,
    /// The number of those of schemas that are referred to; 0 for one that is being counted.
    of_references: HashMap<&'a str, usize>,
}

impl<'a> Patterns<'a> {
    /// The most of any schema within `value`.
    fn at_once_anywhere(&mut self, value: &'a Value) -> usize {
        let within = match value {
            Value::Object(members) => members.values().map(|member| self.at_once_anywhere(member)).max(),
            Value::Array(items) => items.iter().map(|item| self.at_once_anywhere(item)).max(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        self.at_once(value).max(within.unwrap_or(0))
    }

    /// Those of the schema itself and of the schemas that hold beside it.
    fn at_once(&mut self, schema: &'a Value) -> usize {
        let Value::Object(keywords) = schema else { return 0 };
        let mut n = 0usize;
        for (key, value) in keywords {
            let of_keyword = match (&key[..], value) {
                ("pattern" | "format", Value::String(_)) => 1,
                ("allOf", Value::Array(all)) => {
                    all.iter().map(|schema| self.at_once(schema)).fold(0, usize::saturating_add)
                }
                ("anyOf" | "oneOf", Value::Array(any)) => {
                    any.iter().map(|schema| self.at_once(schema)).max().unwrap_or(0)
                }
                ("$ref", Value::String(reference)) => self.of_reference(reference),
                _ => 0,
            };
            n = n.saturating_add(of_keyword);
        }
        n
    }

    fn of_reference(&mut self, reference: &'a str) -> usize {
        if let Some(&n) = self.of_references.get(reference) {
            return n;
        }
        // A schema that refers to itself adds nothing to itself.
        self.of_references.insert(reference, 0);
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let n = target.map_or(0, |schema| self.at_once(schema));
        self.of_references.insert(reference, n);
        n
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
