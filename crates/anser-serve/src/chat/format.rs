//! The form that an answer must have.

use crate::error::ApiError;
use serde::Deserialize;
use serde_json::value::RawValue;

/// `response_format` as clients send it.
#[derive(Debug, Deserialize)]
pub(crate) struct ResponseFormat {
    r#type: String,
    json_schema: Option<NamedSchema>,
    schema: Option<Box<RawValue>>,
    pattern: Option<String>,
    grammar: Option<String>,
}

/// A schema with its name, which says nothing to the model.
#[derive(Debug, Deserialize)]
struct NamedSchema {
    schema: Option<Box<RawValue>>,
}

/// The form of an answer, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    /// Any object of JSON.
    JsonObject,
    /// JSON that a schema, given as JSON, allows.
    JsonSchema(String),
    /// A text that a regular expression matches.
    Regex(String),
    /// A text of a grammar in Lark's notation.
    Lark(String),
}

impl ResponseFormat {
    pub(crate) fn check(format: Option<&ResponseFormat>) -> Result<Format, ApiError> {
        let wrong = |reason: &str| ApiError::invalid("response_format", format!("response_format: {reason}"));
        let Some(format) = format else { return Ok(Format::Text) };
        let in_object = format.json_schema.as_ref().and_then(|named| named.schema.as_ref());
        let schema = in_object.or(format.schema.as_ref()).map(|schema| schema.get());
        if let Some(schema) = schema.filter(|schema| !schema.starts_with('{')) {
            let start: String = schema.chars().take(20).collect();
            return Err(wrong(&format!("schema: expected a JSON schema, an object, found {start}")));
        }
        match (format.r#type.as_str(), schema) {
            ("text", _) => Ok(Format::Text),
            ("json_object", None) => Ok(Format::JsonObject),
            ("json_schema" | "json_object", Some(schema)) => Ok(Format::JsonSchema(schema.to_owned())),
            ("json_schema", None) => Err(wrong("json_schema: expected an object with a schema")),
            ("regex", _) => format.pattern.clone().map(Format::Regex).ok_or_else(|| wrong("expected a pattern")),
            ("lark", _) => format.grammar.clone().map(Format::Lark).ok_or_else(|| wrong("expected a grammar")),
            (other, _) => {
                let other: String = other.chars().take(40).collect();
                Err(wrong(&format!("expected the type text, json_object or json_schema, found {other:?}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, ResponseFormat};

    #[test]
    fn schemas_come_in_two_places() {
        let check = |json: &str| {
            let format: ResponseFormat = serde_json::from_str(json).unwrap();
            ResponseFormat::check(Some(&format)).map_err(|error| error.message().to_owned())
        };
        let schema = Format::JsonSchema("{\"type\": \"null\"}".into());
        let named = r#"{"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "null"}}}"#;
        assert_eq!(check(named), Ok(schema.clone()));
        assert_eq!(check(r#"{"type": "json_object", "schema": {"type": "null"}}"#), Ok(schema.clone()));
        assert_eq!(check(r#"{"type": "json_schema", "name": "x", "schema": {"type": "null"}}"#), Ok(schema));
        assert_eq!(check(r#"{"type": "text"}"#), Ok(Format::Text));
        assert_eq!(check(r#"{"type": "json_object"}"#), Ok(Format::JsonObject));
        for wrong in [
            r#"{"type": "sound"}"#,
            r#"{"type": "json_schema"}"#,
            r#"{"type": "json_schema", "json_schema": {"name": "x", "schema": 7}}"#,
            r#"{"type": "regex"}"#,
        ] {
            assert!(check(wrong).unwrap_err().starts_with("response_format"), "{wrong}");
        }
    }
}
