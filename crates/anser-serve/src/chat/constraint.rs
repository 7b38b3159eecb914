//! The grammar that enforces the form of an answer.

use super::format::Format;
use super::tools::{Function, ToolChoice, Tools};
use crate::error::ApiError;
use anser::Grammar;
use serde_json::{Map, Value, json};

/// The most calls of one answer.
const MAX_CALLS: usize = 16;

/// The grammar of an answer in this form; `None` for words. `extra`: whether requests may bring grammars of their own.
///
/// Errors: a form that cannot be enforced, with the reason.
pub(super) fn of_format(format: &Format, extra: bool) -> Result<Option<Grammar>, ApiError> {
    let wrong = |reason: String| ApiError::invalid("response_format", format!("response_format: {reason}"));
    let grammar = match format {
        Format::Text => return Ok(None),
        Format::JsonObject => Ok(Grammar::json_object()),
        Format::JsonSchema(schema) => {
            let mut schema = serde_json::from_str(schema).map_err(|error| wrong(error.to_string()))?;
            close_objects(&mut schema);
            Grammar::json_schema(&schema.to_string())
        }
        Format::Regex(_) | Format::Lark(_) if !extra => {
            return Err(wrong(
                "this server takes no grammars of its clients: it was started without --extra-grammars".into(),
            ));
        }
        Format::Regex(pattern) => Grammar::regex(pattern),
        Format::Lark(grammar) => Grammar::lark(grammar),
    };
    grammar.map(Some).map_err(|error| wrong(error.to_string()))
}

/// The grammar of an answer that calls functions.
///
/// Errors: a schema that cannot be enforced, with the reason.
pub(super) fn of_calls(tools: &Tools) -> Result<Grammar, ApiError> {
    let wrong = |reason: String| ApiError::invalid("tools", format!("tools: {reason}"));
    let (mut definitions, mut calls) = (Map::new(), vec![]);
    for (at, function) in tools.callable().into_iter().enumerate() {
        let name = format!("tool_{at}");
        let schema = arguments(function, &format!("#/$defs/{name}")).map_err(wrong)?;
        definitions.insert(name.clone(), schema);
        calls.push(json!({
            "type": "object",
            "properties": { "name": { "const": function.name }, "arguments": { "$ref": format!("#/$defs/{name}") } },
            "required": ["name", "arguments"],
            "additionalProperties": false,
        }));
    }
    let call = json!({ "anyOf": calls });
    definitions.insert("call".into(), call);
    let one = json!({ "$ref": "#/$defs/call" });
    let several = json!({ "type": "array", "items": one, "minItems": 1, "maxItems": MAX_CALLS });
    // A function that the client names is called once.
    let may_repeat = tools.parallel && tools.choice == ToolChoice::Required;
    let forms = if may_repeat { vec![one, several] } else { vec![one] };
    let schema = json!({ "anyOf": forms, "$defs": definitions });
    Grammar::json_schema(&schema.to_string()).map_err(|error| wrong(error.to_string()))
}

/// The schema of a function's arguments, which lies at `place` of a larger schema.
fn arguments(function: &Function, place: &str) -> Result<Value, String> {
    let Some(schema) = &function.parameters else {
        return Ok(json!({ "type": "object", "properties": {}, "additionalProperties": false }));
    };
    let mut schema: Value =
        serde_json::from_str(schema.get()).map_err(|error| format!("{}: {error}", function.name))?;
    close_objects(&mut schema);
    move_references(&mut schema, place);
    if let Some(schema) = schema.as_object_mut() {
        // Arguments are an object, whatever else the schema leaves out.
        schema.entry("type").or_insert_with(|| "object".into());
        schema.remove("$schema");
        schema.remove("$id");
    }
    Ok(schema)
}

/// Forbids further properties in objects whose schemas name some and say nothing of others: small models add properties without end
/// where they may. What is left is valid by the schema. Schemas whose parts add up, by `allOf` and the like, are left as they are.
fn close_objects(schema: &mut Value) {
    const ADDS_UP: [&str; 7] =
        ["allOf", "if", "dependentSchemas", "dependencies", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"];

    fn has_any(value: &Value, keys: &[&str]) -> bool {
        match value {
            Value::Object(members) => {
                members.iter().any(|(key, member)| keys.contains(&key.as_str()) || has_any(member, keys))
            }
            Value::Array(items) => items.iter().any(|item| has_any(item, keys)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }

    fn close(value: &mut Value) {
        match value {
            Value::Object(members) => {
                let is_closed = ["additionalProperties", "patternProperties", "$ref", "anyOf", "oneOf"]
                    .iter()
                    .any(|key| members.contains_key(*key));
                if members.get("properties").is_some_and(Value::is_object) && !is_closed {
                    members.insert("additionalProperties".into(), false.into());
                }
                for (key, member) in members {
                    match (key.as_str(), member) {
                        // The names in these objects are the client's.
                        ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(schemas)) => {
                            schemas.values_mut().for_each(close);
                        }
                        // What stands here is data, and no schema.
                        ("const" | "enum" | "default" | "examples", _) => {}
                        (_, member) => close(member),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    if !has_any(schema, &ADDS_UP) {
        close(schema);
    }
}

/// Makes references from the root of a schema ones from `place`, where it lies. The parser of JSON bounds the depth.
fn move_references(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(to) if key == "$ref" && to.starts_with('#') => *to = format!("{place}{}", &to[1..]),
                    member => move_references(member, place),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, place)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{close_objects, move_references};
    use serde_json::json;

    #[test]
    fn objects_have_the_properties_that_they_name() {
        let mut schema = json!({"properties": {"a": {"properties": {}}, "properties": {"type": "object"}},
            "$defs": {"B": {"properties": {"x": {}}, "additionalProperties": true}}, "const": {"properties": {}}});
        close_objects(&mut schema);
        let closed = json!({"properties": {"a": {"properties": {}, "additionalProperties": false}, "properties": {"type": "object"}},
            "$defs": {"B": {"properties": {"x": {}}, "additionalProperties": true}}, "const": {"properties": {}},
            "additionalProperties": false});
        assert_eq!(schema, closed);
        let parts = json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]});
        let mut left = parts.clone();
        close_objects(&mut left);
        assert_eq!(left, parts);
    }

    #[test]
    fn references_follow_their_schema() {
        let mut schema =
            json!({"properties": {"a": {"$ref": "#/$defs/A"}, "$ref": {"type": "string"}}, "x": [{"$ref": "#"}]});
        move_references(&mut schema, "#/$defs/tool_0");
        let moved = json!({
            "properties": {"a": {"$ref": "#/$defs/tool_0/$defs/A"}, "$ref": {"type": "string"}},
            "x": [{"$ref": "#/$defs/tool_0"}],
        });
        assert_eq!(schema, moved);
    }
}
