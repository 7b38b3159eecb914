//! Schemas over all that can be constrained, most of them small variations of one another.

use serde_json::{Value, json};

/// At least 200 schemas, each of a text that ends soon.
pub(super) fn schemas() -> Vec<Value> {
    [values(), numbers(), strings(), arrays(), objects(), combinations(), references(), whole()].concat()
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn values() -> Vec<Value> {
    let types = ["null", "boolean", "integer", "number", "string"];
    let mut schemas: Vec<Value> = types.iter().map(|name| json!({ "type": name })).collect();
    for pair in
        [["null", "boolean"], ["integer", "null"], ["boolean", "integer"], ["string", "null"], ["number", "boolean"]]
    {
        schemas.push(json!({ "type": pair, "maxLength": 8 }));
    }
    let constants = json!([null, true, false, 0, 1, -3, 2.5, "", "x", "two words", "a \"quote\" \\ /", "tab\there", "北京", "🎉",
        "é🎉北", 0.1, 1e-7, 123456.789, -0.5, 9007199254740992i64, "\u{1}", "\u{7f}", "\u{2028}", [], [1, "a", null], [[1], [2, [3]]], {}, {"a": 1}, {"a": {"b": [true]}, "c": "d"}]);
    let constants = constants.as_array().unwrap();
    schemas.extend(constants.iter().map(|constant| json!({ "const": constant })));
    schemas.extend(constants.windows(3).step_by(2).map(|some| json!({ "enum": some })));
    schemas.push(json!({"type": "string", "enum": ["red", "green", "blue", "grün", "赤", "🟥"]}));
    schemas.push(json!({"enum": ["a", 1, 2.5, null, true, [1], {"k": "v"}]}));
    schemas
}

fn numbers() -> Vec<Value> {
    let bounds =
        [(0, 9), (-5, 5), (100, 999), (7, 7), (1, 12), (-1000, -10), (0, 100_000), (99, 101), (-1, 0), (0, 255)];
    let of_integers = bounds.iter().flat_map(|(low, high)| {
        [
            json!({"type": "integer", "minimum": low, "maximum": high}),
            json!({"type": "integer", "exclusiveMinimum": low - 1, "exclusiveMaximum": high + 1}),
        ]
    });
    let halves = [(0.0, 1.0), (-1.5, 2.5), (0.25, 0.75), (1000.0, 1000.5), (-0.5, -0.25)];
    let of_numbers = halves.iter().flat_map(|(low, high)| {
        [
            json!({"type": "number", "minimum": low, "maximum": high}),
            json!({"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high}),
        ]
    });
    let steps = [json!(2), json!(5), json!(10), json!(100)];
    let multiples =
        steps.iter().map(|step| json!({"type": "integer", "multipleOf": step, "minimum": 0, "maximum": 10_000}));
    let one_sided = [json!({"type": "integer", "minimum": 18}), json!({"type": "integer", "maximum": -1})];
    let quarter = [json!({"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 9})];
    of_integers.chain(of_numbers).chain(multiples).chain(one_sided).chain(quarter).collect()
}

fn strings() -> Vec<Value> {
    let lengths = [(0, 0), (1, 1), (3, 3), (0, 10), (5, 8), (2, 20)];
    let of_lengths = lengths.iter().map(|(low, high)| json!({"type": "string", "minLength": low, "maxLength": high}));
    let patterns = [
        "^[a-z]{3}$",
        "^[0-9]{4}-[0-9]{2}$",
        "^(red|green|blue)$",
        "^[A-Z][a-z]{1,8}$",
        r"^\d{3}$",
        r"^\w{2,5}$",
        "^[a-z]{1,6}@[a-z]{1,6}\\.(com|org)$",
        "^[一-龥]{2}$",
        "^(🎉|🚀|é){3}$",
        "^a?b{0,3}c$",
        "^[^\"a-y]{1,4}z$",
        "^(0|[1-9][0-9]{0,2})(\\.[0-9]{1,2})?$",
        "^#[0-9a-fA-F]{6}$",
        "^[ -~]{0,12}$",
    ];
    let of_patterns = patterns.iter().map(|pattern| json!({"type": "string", "pattern": pattern}));
    let unanchored = ["[0-9]{2}", "ab"].map(|pattern| json!({"type": "string", "pattern": pattern, "maxLength": 6}));
    let formats = ["date", "time", "date-time", "duration", "ipv4", "ipv6", "uuid"];
    let of_formats = formats.iter().map(|format| json!({"type": "string", "format": format}));
    let long_formats = ["email", "hostname", "uri"];
    let of_long_formats =
        long_formats.iter().map(|format| json!({"type": "string", "format": format, "maxLength": 16}));
    of_lengths.chain(of_patterns).chain(unanchored).chain(of_formats).chain(of_long_formats).collect()
}

fn arrays() -> Vec<Value> {
    let item = json!({"type": "integer", "minimum": 0, "maximum": 9});
    let lengths = [(0, 0), (1, 1), (2, 3), (0, 4), (5, 5)];
    let of_lengths =
        lengths.iter().map(|(low, high)| json!({"type": "array", "items": item, "minItems": low, "maxItems": high}));
    let items = [
        json!({"type": "boolean"}),
        json!({"type": "null"}),
        json!({"enum": ["a", "b", "日本"]}),
        json!({"type": "string", "maxLength": 5}),
        json!({"type": "array", "items": {"type": "boolean"}, "maxItems": 2}),
        object(json!({"n": item}), &["n"]),
        json!({"anyOf": [{"type": "null"}, item]}),
    ];
    let of_items = items.iter().map(|item| json!({"type": "array", "items": item, "minItems": 1, "maxItems": 3}));
    let tuples = [
        json!({"type": "array", "prefixItems": [item, {"type": "boolean"}], "minItems": 2, "items": false}),
        json!({"type": "array", "prefixItems": [item, {"type": "boolean"}], "items": {"type": "null"}, "maxItems": 4}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [item, {"type": "null"}],
            "additionalItems": false, "minItems": 2}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [item],
            "additionalItems": {"type": "boolean"}, "maxItems": 3}),
    ];
    of_lengths.chain(of_items).chain(tuples).collect()
}

fn objects() -> Vec<Value> {
    let word = json!({"type": "string", "maxLength": 6});
    let digit = json!({"type": "integer", "minimum": 0, "maximum": 9});
    let three = json!({"a": digit, "b": word, "c": {"type": "boolean"}});
    let names = ["a", "b", "c"];
    let mut schemas = vec![];
    for chosen in 0..8 {
        let required: Vec<&str> = (0..3).filter(|i| chosen >> i & 1 == 1).map(|i| names[i]).collect();
        schemas.push(object(three.clone(), &required));
    }
    for depth in 1..=6 {
        schemas.push(
            (0..depth).fold(digit.clone(), |inner, _| object(json!({ "in": inner, "on": {"type": "null"} }), &["in"])),
        );
    }
    schemas.extend([
        json!({"type": "object", "maxProperties": 0}),
        json!({"type": "object", "additionalProperties": digit, "minProperties": 1, "maxProperties": 2}),
        json!({"type": "object", "properties": {"k": digit}, "required": ["k"], "additionalProperties": word, "maxProperties": 2}),
        json!({"type": "object", "patternProperties": {"^x[0-9]$": digit}, "additionalProperties": false, "maxProperties": 2}),
        json!({"type": "object", "patternProperties": {"^[a-c]$": word, "^[d-f]$": digit}, "additionalProperties": false,
            "minProperties": 1, "maxProperties": 1}),
        json!({"type": "object", "properties": {"a": digit, "b": digit}, "additionalProperties": false, "minProperties": 1}),
        json!({"type": "object", "properties": {"a": digit, "b": digit}, "additionalProperties": false, "maxProperties": 1}),
        object(json!({"ключ": digit, "鍵": word, "🔑": {"type": "null"}}), &["ключ", "鍵", "🔑"]),
        object(json!({"with space": digit, "with \"quotes\"": word, "": {"type": "null"}}), &["with space", "with \"quotes\"", ""]),
        json!({"properties": {"a": digit}, "required": ["a"], "type": "object", "additionalProperties": false, "title": "T",
            "description": "D", "default": {}, "examples": [{"a": 1}], "$comment": "C"}),
    ]);
    schemas
}

fn combinations() -> Vec<Value> {
    let digit = json!({"type": "integer", "minimum": 0, "maximum": 9});
    let word = json!({"type": "string", "maxLength": 6});
    let a = object(json!({"kind": {"const": "a"}, "n": digit}), &["kind", "n"]);
    let b = object(json!({"kind": {"const": "b"}, "s": word}), &["kind", "s"]);
    let mut schemas = vec![];
    for key in ["anyOf", "oneOf"] {
        schemas.extend([
            json!({ key: [digit, word] }),
            json!({ key: [{"type": "null"}, a] }),
            json!({ key: [a, b] }),
            json!({ key: [{"const": 1}, {"const": "one"}, {"const": null}] }),
            object(
                json!({"v": { key: [digit, {"type": "boolean"}, {"type": "array", "items": digit, "maxItems": 2}] }}),
                &["v"],
            ),
            json!({"type": "array", "items": { key: [a, b] }, "minItems": 1, "maxItems": 2}),
        ]);
    }
    schemas.extend([
        json!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 5}, {"type": "integer", "minimum": 3, "maximum": 9}]}),
        json!({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}]}),
        json!({"allOf": [{"type": "string", "minLength": 2}, {"maxLength": 4}]}),
        json!({"allOf": [{"type": "string", "pattern": "^[a-m]"}, {"pattern": "[g-z]$"}, {"maxLength": 5}]}),
        json!({"allOf": [{"type": "object", "properties": {"a": digit}, "required": ["a"]},
            {"properties": {"b": word}, "required": ["b"]}], "maxProperties": 2}),
        json!({"allOf": [{"anyOf": [digit, {"type": "null"}]}, {"type": "integer"}]}),
        json!({"type": "integer", "minimum": 0, "allOf": [{"maximum": 20}, {"multipleOf": 3}]}),
        json!({"type": "object", "properties": {"a": digit}, "additionalProperties": false,
            "anyOf": [{"required": ["a"]}, {"maxProperties": 0}]}),
        json!({"type": "string", "format": "date", "pattern": "^20"}),
        json!({"enum": [1, 2, 3, "four"], "type": "integer"}),
    ]);
    schemas
}

fn references() -> Vec<Value> {
    let digit = json!({"type": "integer", "minimum": 0, "maximum": 9});
    vec![
        json!({"$ref": "#/$defs/digit", "$defs": {"digit": digit}}),
        json!({"$ref": "#/definitions/digit", "definitions": {"digit": digit}}),
        json!({"type": "array", "items": {"$ref": "#/$defs/digit"}, "maxItems": 3, "$defs": {"digit": digit}}),
        json!({"type": "object", "properties": {"x": {"$ref": "#/$defs/p"}, "y": {"$ref": "#/$defs/p"}}, "required": ["x", "y"],
            "additionalProperties": false, "$defs": {"p": {"type": "array", "items": {"$ref": "#/$defs/digit"}, "minItems": 2,
            "maxItems": 2}, "digit": digit}}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": digit}}),
        json!({"anyOf": [{"$ref": "#/$defs/t"}, {"$ref": "#/$defs/n"}], "$defs": {"t": {"const": "t"}, "n": {"type": "null"}}}),
        json!({"$ref": "#/$defs/digit", "minimum": 5, "$defs": {"digit": digit}}),
        json!({"type": "object", "properties": {"v": digit, "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
            "required": ["v", "next"], "additionalProperties": false}),
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"v": digit,
            "in": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1}}, "required": ["v", "in"],
            "additionalProperties": false}}}),
        json!({"$id": "https://example.com/digit", "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/d",
            "$defs": {"d": digit}}),
    ]
}

/// What programs ask for.
fn whole() -> Vec<Value> {
    let name = json!({"type": "string", "minLength": 1, "maxLength": 12});
    let mut schemas = vec![];
    for unit in ["celsius", "fahrenheit"] {
        schemas.push(object(json!({"city": name, "unit": {"enum": [unit, "kelvin"]}}), &["city", "unit"]));
    }
    schemas.extend([
        object(json!({"name": {"const": "get_weather"}, "arguments": object(json!({"city": name, "days": {"type": "integer",
            "minimum": 1, "maximum": 14}}), &["city"])}), &["name", "arguments"]),
        object(json!({"name": name, "age": {"type": "integer", "minimum": 0, "maximum": 120}, "email": {"type": "string",
            "format": "email", "maxLength": 20}}), &["name", "age", "email"]),
        object(json!({"street": name, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}, "country": {"enum": ["DE", "CN", "BR"]}}),
            &["street", "zip", "country"]),
        object(json!({"id": {"type": "string", "format": "uuid"}, "at": {"type": "string", "format": "date-time"}, "ok": {"type":
            "boolean"}}), &["id", "at", "ok"]),
        object(json!({"lines": {"type": "array", "minItems": 1, "maxItems": 3, "items": object(json!({"sku": {"type": "string",
            "pattern": "^[A-Z]{2}[0-9]{3}$"}, "n": {"type": "integer", "minimum": 1, "maximum": 99}, "price": {"type": "number",
            "minimum": 0, "maximum": 1000}}), &["sku", "n"])}, "total": {"type": "number", "minimum": 0, "maximum": 1e6}}),
            &["lines", "total"]),
        object(json!({"label": {"enum": ["positive", "neutral", "negative"]}, "score": {"type": "number", "minimum": 0, "maximum":
            1}}), &["label", "score"]),
        object(json!({"question": name, "options": {"type": "array", "items": name, "minItems": 4, "maxItems": 4}, "answer":
            {"type": "integer", "minimum": 0, "maximum": 3}}), &["question", "options", "answer"]),
        object(json!({"thought": {"type": "string", "maxLength": 24}, "action": {"anyOf": [object(json!({"search": name}),
            &["search"]), object(json!({"finish": {"type": ["string", "null"], "maxLength": 10}}), &["finish"])]}}),
            &["thought", "action"]),
        object(json!({"server": {"type": "string", "format": "ipv4"}, "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "tls": {"type": "boolean"}, "path": {"type": ["string", "null"], "pattern": "^/[a-z]{0,6}$"}}), &["server", "port"]),
    ]);
    schemas
}
