//! Grammars that are made to cost much end in an error, or cost little.

use super::{PROMPT, demo};
use anser::{Error, FinishReason, GenerateOptions, Grammar, SamplerOptions};
use serde_json::{Value, json};

/// `{"k": {"k": … }}`, `depth` deep.
fn nested(key: &str, depth: usize) -> String {
    format!("{}true{}", format!("{{\"{key}\": ").repeat(depth), "}".repeat(depth))
}

fn schemas() -> Vec<String> {
    let huge = 1_000_000_000u64;
    let word = json!({"type": "string", "pattern": "^(a|b|c)*(.*x){20}$"});
    let many = |n: usize, value: &Value| -> Value { (0..n).map(|i| (format!("property{i}"), value.clone())).collect() };
    let chain: Value =
        (0..200).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", (i + 1) % 200)}))).collect();
    // 2^24 nodes if references were copied.
    let doubling = (0..24).map(|i| {
        let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
        (format!("d{i}"), json!({"type": "array", "prefixItems": [next, next], "minItems": 2}))
    });
    let mut doubling: Value = doubling.collect();
    doubling["d24"] = json!({"type": "null"});
    let all_of: Vec<Value> = (0..60).map(|i| json!({"pattern": format!("(x.{{{i}}}y|z)+.*")})).collect();
    let schemas = [
        json!({"type": "array", "minItems": huge}),
        json!({"type": "array", "items": {"type": "array", "maxItems": huge}, "maxItems": huge}),
        json!({"type": "string", "minLength": huge}),
        json!({"type": "string", "maxLength": huge}),
        json!({"type": "string", "minLength": 100_000, "maxLength": 200_000}),
        json!({"type": "integer", "minimum": -1e300, "maximum": 1e300}),
        json!({"type": "number", "multipleOf": 1e-300}),
        json!({"type": "integer", "multipleOf": 982_451_653}),
        json!({"type": "object", "minProperties": huge}),
        json!({"type": "object", "properties": many(500, &word)}),
        json!({"type": "object", "properties": many(501, &json!(true))}),
        json!({"type": "object", "patternProperties": {"^(a|b)*.{30}$": true, "^(b|c)*.{31}$": true}}),
        json!({"enum": (0..1000).collect::<Vec<_>>()}),
        json!({"enum": (0..1001).collect::<Vec<_>>()}),
        json!({"$ref": "#/$defs/d0", "$defs": chain}),
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"type": "array", "items": {"$ref": "#"}}]}),
        json!({"$ref": "#/$defs/d0", "$defs": doubling}),
        json!({"type": "string", "allOf": all_of}),
        json!({"type": "string", "pattern": "(a{1000}){1000}"}),
        json!({"type": "string", "pattern": "^((((((((((a?){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}$"}),
        json!({"type": "string", "pattern": format!("{}a{}", "(".repeat(3000), ")".repeat(3000))}),
        json!({"anyOf": (0..400).map(|i| json!({"pattern": format!("^.*a.{{{i}}}$")})).collect::<Vec<_>>()}),
        json!({"oneOf": vec![json!({"$ref": "#"}); 300]}),
    ];
    let deep = [64, 120, 3000].iter().flat_map(|&depth| {
        [nested("not", depth), nested("additionalProperties", depth), nested("items", depth), "[".repeat(depth)]
    });
    let long = format!("{{\"const\": {:?}}}", "x".repeat(70_000));
    schemas.iter().map(Value::to_string).chain(deep).chain([long]).collect()
}

fn regexes() -> Vec<String> {
    let nested = |n: usize| format!("{}a{}", "(".repeat(n), ")*".repeat(n));
    let fixed = [
        "(a{1000}){1000}",
        "(.*a){60}b",
        ".*a.{500}",
        "((a|b)*c(d|e)*f.{20}){40}",
        "[\\x20-\\x7E]{0,60000}",
        "(\\p{L}{1,50}\\p{N}{1,50}){50}",
        "(x+x+)+y",
        "a{4294967295}",
        "a{99999999999999999999}",
        "[^\\x00-\\u{10FFFF}]",
    ];
    let fixed = fixed.iter().map(|regex| (*regex).to_owned());
    fixed.chain([nested(100), nested(5000), "a|".repeat(30_000), "(".repeat(60_000), ".?".repeat(30_000)]).collect()
}

fn larks() -> Vec<String> {
    let chain = |n: usize| {
        let rules = (0..n).map(|i| format!("r{i}: r{}\n", i + 1)).collect::<String>();
        format!("start: r0\n{rules}r{n}: \"a\"\n")
    };
    let terminals = |n: usize| {
        let rules = (0..n).map(|i| format!("T{i}: T{} T{}\n", i + 1, i + 1)).collect::<String>();
        format!("start: T0\n{rules}T{n}: \"a\"\n")
    };
    let fixed = [
        "start: start",
        "start: start start | \"a\"",
        "start: a\na: b\nb: a",
        "start: (start | \"a\")*",
        "start: (\"a\"*)*",
        "start: \"\"",
        "start: x~1000000000\nx: \"a\"",
        "start: (x~1000)~1000\nx: \"a\" | \"b\"",
        "T: T\nstart: T",
        "start: <[70000]>",
        "start: <[5]> \"a\"",
        "start: <end>",
        "start: %json {\"not\": {}}",
        "start: %json {\"type\": \"array\", \"minItems\": 1000000000}",
        "start: \"a\"\n%ignore /b*/",
        "%llguidance {\"no_such\": 1}\nstart: \"a\"",
        "start: e\ne: e \"+\" e | e \"*\" e | \"(\" e \")\" | /[0-9]+/",
        "start: @other",
    ];
    let fixed = fixed.iter().map(|grammar| (*grammar).to_owned());
    let parentheses = |n: usize| format!("start: {}\"a\"{}", "(".repeat(n), ")".repeat(n));
    fixed
        .chain([chain(4000), terminals(30), terminals(2000), parentheses(20), parentheses(20_000), "\0".into()])
        .collect()
}

/// Each is refused, or gives 12 tokens of a text without the limits of a step being in the way of other texts.
#[test]
fn hostile_grammars_end() {
    let model = demo("demo-q8_0.gguf");
    let prompt = model.encode(PROMPT).unwrap();
    let sampler = SamplerOptions { seed: Some(1), ..SamplerOptions::plain() };
    let all = schemas().into_iter().map(|schema| (Grammar::json_schema(&schema), schema));
    let all = all.chain(regexes().into_iter().map(|regex| (Grammar::regex(&regex), regex)));
    let all = all.chain(larks().into_iter().map(|grammar| (Grammar::lark(&grammar), grammar)));
    let (mut n_refused, mut n_followed, mut wrong) = (0, 0, vec![]);
    for (grammar, text) in all {
        let shown: String = text.chars().take(80).collect();
        let generated = grammar.and_then(|grammar| {
            let options = GenerateOptions {
                sampler: sampler.clone(),
                max_tokens: 12,
                grammar: Some(grammar),
                ..Default::default()
            };
            let mut session = model.session()?;
            let mut generation = session.generate(&prompt, &options)?;
            let text = generation.text()?;
            Ok((text, generation.finish_reason()))
        });
        match generated {
            Ok((_, Some(end))) => {
                assert!(end == FinishReason::Length || end.name() == "stop", "{shown}: {end:?}");
                n_followed += 1;
            }
            Err(Error::Grammar { reason, .. }) => {
                if reason.contains('\n') || reason.contains("panic") || reason.len() > 1000 {
                    wrong.push(format!("{shown}: {reason}"));
                }
                n_refused += 1;
            }
            other => wrong.push(format!("{shown}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(n_refused > 30 && n_followed > 10, "{n_refused} refused, {n_followed} followed");
}
