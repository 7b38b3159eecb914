//! Texts that follow a grammar.

mod hostile;
mod schemas;

use crate::fixtures::{demo, demo_path};
use anser::{
    Device, Drawn, Error, FinishReason, GenerateOptions, Grammar, Likelihood, Model, Options, RowEventKind, RowTask,
    Rows, SamplerOptions,
};
use serde_json::Value;
use std::collections::BTreeMap;

const PROMPT: &str = "User: Tell me about yourself.\n\nAssistant:";

fn options(grammar: Grammar, seed: u64, max_tokens: usize) -> GenerateOptions {
    let sampler = SamplerOptions { seed: Some(seed), ..SamplerOptions::plain() };
    GenerateOptions { sampler, max_tokens, grammar: Some(grammar), ..GenerateOptions::default() }
}

/// A text with what was told of it.
#[derive(Debug, Default)]
struct Text {
    text: String,
    drawn: Vec<Drawn>,
    end: Option<FinishReason>,
}

/// The texts after [`PROMPT`] of one batch, in the order of the options.
fn texts(model: &Model, options: &[GenerateOptions], n_top: Option<usize>) -> Vec<Text> {
    let prompt = model.encode(PROMPT).unwrap();
    let mut rows = Rows::new(model);
    let mut texts = BTreeMap::new();
    for options in options {
        let task = RowTask::Generate { options: options.clone(), n_top };
        texts.insert(rows.join(model.session().unwrap(), &prompt, &task).unwrap(), Text::default());
    }
    while rows.n_going() > 0 {
        for event in rows.step(usize::MAX).unwrap() {
            let text = texts.get_mut(&event.row).unwrap();
            match event.kind {
                RowEventKind::Text(piece) => text.text += &piece.text,
                RowEventKind::Token(drawn) => text.drawn.push(drawn),
                RowEventKind::Ended(end) => assert_eq!(text.end.replace(end), None),
                RowEventKind::Failed(error) => panic!("{error}"),
                RowEventKind::PromptRead | RowEventKind::Scored(_) => {}
            }
        }
    }
    texts.into_values().collect()
}

fn text(model: &Model, options: &GenerateOptions) -> Text {
    texts(model, std::slice::from_ref(options), None).remove(0)
}

/// Every text at temperature 1 is valid JSON by its schema, as another implementation judges; a text that is not complete after
/// its most tokens is drawn again with another seed.
#[test]
fn schemas_give_valid_json() {
    const MAX_TOKENS: usize = 100;
    const MAX_ROUNDS: u64 = 8;

    let model = demo("demo-q8_0.gguf");
    let schemas = schemas::schemas();
    assert!(schemas.len() >= 200, "{}", schemas.len());
    let compiled =
        |schema: &Value| Grammar::json_schema(&schema.to_string()).and_then(|grammar| grammar.prepare(&model));
    let refused = schemas.iter().filter_map(|schema| Some(format!("{schema}: {}", compiled(schema).err()?)));
    let refused: Vec<String> = refused.collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let mut open: Vec<&Value> = schemas.iter().collect();
    for round in 0..MAX_ROUNDS {
        let grammar = |schema: &Value| Grammar::json_schema(&schema.to_string()).unwrap();
        let seed = |i: usize| 1000 * round + i as u64;
        let options: Vec<_> =
            open.iter().enumerate().map(|(i, schema)| options(grammar(schema), seed(i), MAX_TOKENS)).collect();
        let texts = texts(&model, &options, None);
        let (mut unfinished, mut wrong) = (vec![], vec![]);
        for (schema, text) in open.into_iter().zip(texts) {
            if text.end == Some(FinishReason::Length) {
                unfinished.push(schema);
                continue;
            }
            assert_eq!(text.end.map(FinishReason::name), Some("stop"));
            let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
            let value = serde_json::from_str::<Value>(&text.text);
            if !value.is_ok_and(|value| validator.is_valid(&value)) {
                wrong.push(format!("{schema}: {:?}", text.text));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        open = unfinished;
    }
    assert!(open.is_empty(), "never complete: {open:?}");
}

#[test]
fn any_json_is_an_object_or_its_beginning() {
    let model = demo("demo-q8_0.gguf");
    let options: Vec<_> = (0..8).map(|seed| options(Grammar::json_object(), seed, 60)).collect();
    for text in texts(&model, &options, None) {
        assert!(text.text.starts_with('{'), "{:?}", text.text);
        let value: Result<serde_json::Map<String, Value>, _> = serde_json::from_str(&text.text);
        match text.end {
            Some(FinishReason::Length) => assert!(value.is_err_and(|e| e.is_eof()), "{:?}", text.text),
            _ => assert!(value.is_ok(), "{:?}", text.text),
        }
    }
}

/// Characters of several bytes, of which the World vocabulary has single bytes and parts, come out whole.
#[test]
fn characters_of_several_bytes_are_whole() {
    let model = demo("demo-q8_0.gguf");
    let classes: [(&str, &[char]); 3] =
        [("[🎉🚀🜲]{3}", &['🎉', '🚀', '🜲']), ("[é北𝄞]{3}", &['é', '北', '𝄞']), ("(京|🧪|ß){3}", &['京', '🧪', 'ß'])];
    for (regex, chars) in classes {
        let options: Vec<_> = (0..4).map(|seed| options(Grammar::regex(regex).unwrap(), seed, 40)).collect();
        for text in texts(&model, &options, None) {
            assert_eq!(text.end, Some(FinishReason::Complete));
            assert_eq!(text.text.chars().count(), 3, "{:?}", text.text);
            assert!(text.text.chars().all(|c| chars.contains(&c)), "{:?}", text.text);
            let bytes: Vec<u8> = text.drawn.iter().flat_map(|drawn| drawn.bytes.clone()).collect();
            assert_eq!(bytes, text.text.as_bytes());
        }
    }
}

#[test]
fn a_lark_grammar_is_followed() {
    let model = demo("demo-q8_0.gguf");
    let grammar = "start: \"<\" WORD (\",\" WORD)~2 \">\"\nWORD: /[a-z]{1,5}/\n";
    for seed in 0..4 {
        let text = text(&model, &options(Grammar::lark(grammar).unwrap(), seed, 60)).text;
        let words = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).expect(&text);
        assert_eq!(words.split(',').count(), 3, "{text}");
        let is_word = |word: &str| (1..=5).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase());
        assert!(words.split(',').all(is_word), "{text}");
    }
}

/// Stop tokens are drawn where the text is complete, and nowhere else; without stop tokens a text goes on as long as it may.
#[test]
fn a_text_ends_where_it_is_complete() {
    let model = demo("demo-q8_0.gguf");
    let grammar = Grammar::regex("(ab){1,3}").unwrap();
    let mut ends = vec![];
    for seed in 0..12 {
        let text = text(&model, &options(grammar.clone(), seed, 20));
        assert!(["ab", "abab", "ababab"].contains(&&text.text[..]), "{:?}", text.text);
        match text.end.unwrap() {
            FinishReason::Complete => assert_eq!(text.text, "ababab"),
            end => assert_eq!(end, FinishReason::StopToken(0)),
        }
        assert_eq!(text.end.map(FinishReason::name), Some("stop"));
        ends.push(text.end);
    }
    assert!(ends.contains(&Some(FinishReason::Complete)) || ends.contains(&Some(FinishReason::StopToken(0))));
    let endless = GenerateOptions { stop_tokens: Some(vec![]), ..options(grammar.clone(), 1, 20) };
    let text = text(&model, &endless);
    assert_eq!((&text.text[..], text.end), ("ababab", Some(FinishReason::Complete)));
    // A stop token that has a text is no part of one.
    let ab = model.encode("ab").unwrap();
    assert_eq!(ab.len(), 1);
    let text =
        texts(&model, &[GenerateOptions { stop_tokens: Some(ab.clone()), ..options(grammar, 1, 20) }], None).remove(0);
    assert!(text.drawn.iter().all(|drawn| drawn.id != ab[0]));
    assert!(["ab", "abab", "ababab"].contains(&&text.text[..]), "{:?}", text.text);
}

#[test]
fn a_grammar_of_one_text_gives_it_without_drawing_its_end() {
    let model = demo("demo-q8_0.gguf");
    let grammar = Grammar::json_schema(r#"{"const": {"a": "b"}}"#).unwrap();
    let text = text(&model, &options(grammar, 5, 40));
    assert_eq!((&text.text[..], text.end), (r#"{"a": "b"}"#, Some(FinishReason::Complete)));
    // A text of the most tokens that is complete with the last one is complete.
    let n = text.drawn.len();
    let grammar = Grammar::json_schema(r#"{"const": {"a": "b"}}"#).unwrap();
    assert_eq!(self::text(&model, &options(grammar.clone(), 5, n)).end, Some(FinishReason::Complete));
    let short = self::text(&model, &options(grammar, 5, n - 1));
    assert_eq!(short.end, Some(FinishReason::Length));
    assert!(r#"{"a": "b"}"#.starts_with(&short.text));
}

#[test]
fn stop_texts_and_log_probabilities_work_as_without() {
    let model = demo("demo-q8_0.gguf");
    let grammar = Grammar::regex("[a-z]{4} [a-z]{4} [a-z]{4}").unwrap();
    let all = options(grammar, 3, 40);
    let whole = text(&model, &all);
    assert_eq!(whole.text.len(), 14);
    let stopped = text(&model, &GenerateOptions { stop: vec![" ".into()], ..all.clone() });
    assert_eq!((&stopped.text[..], stopped.end), (&whole.text[..4], Some(FinishReason::StopText(0))));
    let likely = texts(&model, &[all], Some(3)).remove(0);
    assert_eq!(likely.text, whole.text);
    // Log-probabilities are the model's, whatever the grammar forbids.
    let mut session = model.session().unwrap();
    session.feed(&model.encode(PROMPT).unwrap()).unwrap();
    for drawn in likely.drawn {
        let expected = Likelihood::new(session.logits(), drawn.id, 3);
        let found = drawn.likelihood.unwrap();
        assert!((found.log_probability - expected.log_probability).abs() < 0.05, "{found:?} {expected:?}");
        session.feed(&[drawn.id]).unwrap();
    }
}

/// In a batch with texts that follow other grammars, or none, a text is what it is alone.
#[test]
fn texts_of_a_batch_have_their_own_grammars() {
    let model = Model::load(
        demo_path("demo-q8_0.gguf"),
        &Options { device: "cpu".parse::<Device>().unwrap(), exact: true, ..Options::default() },
    );
    let model = model.unwrap();
    let free = GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens: 12, ..GenerateOptions::default() };
    let greedy = |grammar| GenerateOptions { grammar: Some(grammar), ..free.clone() };
    let all = [
        greedy(Grammar::regex("[a-z]{3}-[0-9]{3}").unwrap()),
        free.clone(),
        greedy(Grammar::json_schema(r#"{"type": "object", "properties": {"a": {"type": "integer"}}}"#).unwrap()),
        greedy(Grammar::lark("start: \"yes\" | \"no\"").unwrap()),
    ];
    let together = texts(&model, &all, None);
    for (options, together) in all.iter().zip(&together) {
        let mut session = model.session().unwrap();
        let mut generation = session.generate_text(PROMPT, options).unwrap();
        assert_eq!(generation.text().unwrap(), together.text);
        assert_eq!(generation.finish_reason(), together.end);
    }
    assert!(["yes", "no"].contains(&&together[3].text[..]));
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let model = demo("demo-q8_0.gguf");
    let reason = |grammar: Result<Grammar, Error>| match grammar.and_then(|grammar| grammar.prepare(&model)) {
        Err(error @ Error::Grammar { .. }) => error.to_string(),
        other => format!("{other:?}"),
    };
    let mut wrong = vec![];
    let mut check = |kind: &str, found: String, part: &str| {
        if !found.starts_with(kind) || !found.contains(part) || found.contains('\n') {
            wrong.push(format!("{part}: {found}"));
        }
    };
    for (schema, part) in [
        ("{", "it is no JSON"),
        ("3", "expected an object, found a number"),
        ("false", "allows no text"),
        (r#"{"not": {"type": "null"}}"#, "not"),
        (r#"{"type": "array", "uniqueItems": true}"#, "uniqueItems"),
        (r#"{"type": "strin"}"#, "strin"),
        (r#"{"type": "string", "format": "no-such"}"#, "no-such"),
        (r##"{"$ref": "#/$defs/none"}"##, "none"),
        (r#"{"$ref": "https://example.com/schema"}"#, "example.com"),
        (r#"{"type": "integer", "minimum": 3, "maximum": 2}"#, "nsatisfiable"),
        (r#"{"allOf": [{"type": "string"}, {"type": "null"}]}"#, "nsatisfiable"),
        (r#"{"oneOf": [{"type": "integer"}, {"minimum": 3}]}"#, "anyOf allows them"),
        (r#"{"maximum": 9007199254740993}"#, "2^53"),
        (r#"{"multipleOf": 1234567}"#, "multipleOf"),
    ] {
        check("JSON schema: ", reason(Grammar::json_schema(schema)), part);
    }
    for (regex, part) in
        [("", "empty"), ("a\\", "backslash"), ("(a", "unclosed"), ("a**b(", "regex"), ("(?=a)b", "look")]
    {
        check("regular expression: ", reason(Grammar::regex(regex)), part);
    }
    for (grammar, part) in [("", "start"), ("start: none", "none"), ("start: (", "1("), ("begin: \"a\"", "start")] {
        check("Lark grammar: ", reason(Grammar::lark(grammar)), part);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A client's options do not replace ours.
    let grammar = Grammar::json_schema(r#"{"const": [1, 2], "x-guidance": {"whitespace_flexible": true}}"#).unwrap();
    assert_eq!(text(&model, &options(grammar, 1, 20)).text, "[1, 2]");
    // A model without a vocabulary has no bytes to follow.
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/tiny-v7.st");
    let tiny = Model::load(tiny, &Options::default()).unwrap();
    assert!(matches!(Grammar::json_object().prepare(&tiny), Err(Error::Tokenizer { .. })));
}
