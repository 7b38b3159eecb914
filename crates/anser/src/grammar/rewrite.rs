//! Changes schemas where `llguidance` would allow texts that they do not: what they say then is a part of what they said.

use serde_json::{Map, Value, json};

/// Changes a schema and those within it.
pub(super) fn rewrite(schema: &mut Value) {
    let Value::Object(keywords) = schema else { return };
    for (key, value) in keywords.iter_mut() {
        match (&key[..], value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().for_each(rewrite);
            }
            ("items" | "prefixItems" | "anyOf" | "oneOf" | "allOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(rewrite);
            }
            ("items" | "additionalItems" | "additionalProperties", schema) => rewrite(schema),
            // Anything else has no schemas within it. In `const`, for example, an object is a value.
            _ => {}
        }
    }
    without_leap_seconds(keywords);
    narrow_exclusive_bounds(keywords);
    bound_integers(keywords);
}

/// Bounds integers that have none to those that all readers of JSON agree on (RFC 7493), of 16 digits at most: a small model that has
/// begun a number may write digits to the end of its tokens.
fn bound_integers(keywords: &mut Map<String, Value>) {
    const MAX: i64 = (1 << 53) - 1;

    let is = |kind: &str| match keywords.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        _ => false,
    };
    let is_chosen = ["enum", "const", "multipleOf"].iter().any(|key| keywords.contains_key(*key));
    if !is("integer") || is("number") || is_chosen {
        return;
    }
    for (key, exclusive, bound) in [("minimum", "exclusiveMinimum", -MAX), ("maximum", "exclusiveMaximum", MAX)] {
        if !keywords.contains_key(key) && !keywords.contains_key(exclusive) {
            keywords.insert(key.into(), bound.into());
        }
    }
}

/// Leaves seconds of 60 out of times: they are right in a few minutes of history alone.
fn without_leap_seconds(keywords: &mut Map<String, Value>) {
    /// Hour, minute and the first digit of the second; a date before them has no colon.
    const BELOW_60: &str = "^[^:]*:[^:]*:[0-5]";

    if !matches!(keywords.get("format").and_then(Value::as_str), Some("time" | "date-time")) {
        return;
    }
    if !keywords.contains_key("pattern") {
        keywords.insert("pattern".into(), BELOW_60.into());
    } else if let Value::Array(all) = keywords.entry("allOf").or_insert_with(|| json!([])) {
        all.push(json!({"type": "string", "pattern": BELOW_60}));
    }
}

/// Moves a bound that is a whole number and excluded a millionth of the range inwards, if the other bound is less than 1 away: the
/// bound itself would be allowed.
fn narrow_exclusive_bounds(keywords: &mut Map<String, Value>) {
    const PART: f64 = 1e-6;

    let bound = |keywords: &Map<String, Value>, key: &str| keywords.get(key).and_then(Value::as_f64);
    let of = |keywords: &Map<String, Value>, sides: [&str; 2], pick: fn(f64, f64) -> f64| {
        sides.iter().filter_map(|key| bound(keywords, key)).reduce(pick)
    };
    for (key, inclusive, sign) in [("exclusiveMinimum", "minimum", 1.0), ("exclusiveMaximum", "maximum", -1.0)] {
        let other = match sign > 0.0 {
            true => of(keywords, ["maximum", "exclusiveMaximum"], f64::min),
            false => of(keywords, ["minimum", "exclusiveMinimum"], f64::max),
        };
        let (Some(excluded), Some(other)) = (bound(keywords, key), other) else { continue };
        let width = sign * (other - excluded);
        let is_bound = bound(keywords, inclusive).is_none_or(|included| sign * (excluded - included) >= 0.0);
        if excluded.fract() == 0.0 && width > 0.0 && width < 1.0 && is_bound {
            keywords.remove(key);
            keywords.insert(inclusive.into(), (excluded + sign * PART * width).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rewrite;
    use serde_json::{Value, json};

    fn rewritten(mut schema: Value) -> Value {
        rewrite(&mut schema);
        schema
    }

    #[test]
    fn integers_without_bounds_are_those_of_every_reader() {
        const MAX: i64 = 9_007_199_254_740_991;
        let both = json!({"type": "integer", "minimum": -MAX, "maximum": MAX});
        assert_eq!(rewritten(json!({"type": "integer"})), both);
        let one = json!({"type": ["null", "integer"], "exclusiveMinimum": 3, "maximum": MAX});
        assert_eq!(rewritten(json!({"type": ["null", "integer"], "exclusiveMinimum": 3})), one);
        for same in [
            json!({"type": "number"}),
            json!({"type": ["integer", "number"]}),
            json!({"type": "integer", "enum": [1, 2]}),
            json!({"type": "integer", "minimum": 0, "maximum": 1e30}),
        ] {
            assert_eq!(rewritten(same.clone()), same);
        }
    }

    #[test]
    fn values_and_names_are_no_schemas() {
        let same = json!({"const": {"format": "time"}, "enum": [{"exclusiveMinimum": 0, "maximum": 0.5}], "default": {"format": "time"},
            "properties": {"format": {"type": "string"}, "const": {"type": "null"}}, "format": "date"});
        assert_eq!(rewritten(same.clone()), same);
        let within = json!({"properties": {"const": {"format": "time"}}});
        assert_ne!(rewritten(within.clone()), within);
    }

    #[test]
    fn bounds_move_inwards() {
        let found = rewritten(json!({"exclusiveMinimum": 0, "maximum": 0.5}));
        assert_eq!(found, json!({"minimum": 5e-7, "maximum": 0.5}));
        let found = rewritten(json!({"items": {"exclusiveMaximum": -3, "minimum": -3.5}}));
        let maximum = found["items"]["maximum"].as_f64().unwrap();
        assert!(maximum < -3.0 && maximum > -3.00001, "{found}");
        for same in [
            json!({"exclusiveMinimum": 0, "maximum": 1}),
            json!({"exclusiveMinimum": 0.25, "maximum": 0.5}),
            json!({"minimum": 0, "maximum": 0.5}),
            json!({"minimum": 0.1, "exclusiveMinimum": 0, "maximum": 0.5}),
            json!({"exclusiveMinimum": 5}),
            json!({"exclusiveMinimum": true, "minimum": 0, "maximum": 0.5}),
        ] {
            assert_eq!(rewritten(same.clone()), same);
        }
    }

    #[test]
    fn times_have_seconds_below_60() {
        assert_eq!(rewritten(json!({"format": "time"}))["pattern"], "^[^:]*:[^:]*:[0-5]");
        let both = rewritten(json!({"format": "date-time", "pattern": "^2"}));
        assert_eq!((&both["pattern"], both["allOf"].as_array().unwrap().len()), (&json!("^2"), 1));
    }
}
