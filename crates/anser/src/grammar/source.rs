//! The text of a grammar, as the caller gives it.

use super::constraint::Constraint;
use super::schema;
use crate::error::Error;
use crate::model::Model;
use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};
use std::sync::Arc;

/// A description of the texts that a generation may give: the text of every complete generation is one of them, and that of one
/// that ends early (by its length, a stop text or its caller) is the beginning of one.
///
/// Clones share the description. A model compiles it when it is first used and keeps the latest 32 compiled ones, so that the same
/// grammar may be made anew for each request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grammar {
    source: Arc<Source>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Source {
    /// The schema, as text.
    JsonSchema(String),
    Regex(String),
    Lark(String),
}

impl Grammar {
    /// The most bytes that the text of a grammar may have.
    pub const MAX_N_BYTES: usize = 64 << 10;

    /// JSON that is valid by `schema`, a JSON schema (draft 2020-12 or 4, 6, 7, 2019-09) as text.
    ///
    /// Objects have their properties in the order of the schema, and those that it does not name after these. `": "` follows a
    /// key and `", "` an item; there is no other white space, of which small models would write without end.
    ///
    /// # Errors
    /// A text that is no JSON, or no schema; more than 64 KiB, a nesting of more than 64, more than 500 properties or 1,000 values of
    /// `enum`s, a number beyond 2^53. What the schema says is examined when it is compiled, see [`Grammar::prepare`].
    pub fn json_schema(schema: &str) -> Result<Grammar, Error> {
        let refuse = |reason| Error::Grammar { kind: JSON_SCHEMA, reason };
        check_n_bytes(JSON_SCHEMA, schema)?;
        let schema: Value = serde_json::from_str(schema).map_err(|error| refuse(format!("it is no JSON: {error}")))?;
        let schema = schema::checked(schema).map_err(refuse)?;
        Ok(Grammar::of(Source::JsonSchema(schema.to_string())))
    }

    /// Any JSON object.
    pub fn json_object() -> Grammar {
        Grammar::of(Source::JsonSchema(schema::with_separators(json!({"type": "object"})).to_string()))
    }

    /// Texts that match `regex` from their beginning to their end. The syntax is that of Rust's crate `regex`, without anchors,
    /// look-around and back references.
    ///
    /// # Errors
    /// More than 64 KiB, no text at all, or a backslash at the end. The rest of the syntax is examined when it is compiled.
    pub fn regex(regex: &str) -> Result<Grammar, Error> {
        let refuse = |reason: &str| Err(Error::Grammar { kind: REGEX, reason: reason.into() });
        check_n_bytes(REGEX, regex)?;
        let n_backslashes = regex.bytes().rev().take_while(|&byte| byte == b'\\').count();
        if regex.is_empty() {
            return refuse("it is empty, so that it allows no text");
        }
        if n_backslashes % 2 == 1 {
            return refuse("the backslash at its end escapes nothing");
        }
        Ok(Grammar::of(Source::Regex(regex.into())))
    }

    /// Texts of a grammar in Lark's notation, as the crate `llguidance` has it: rules in small letters of which the first one
    /// needed is `start`, terminals in capital letters, `%ignore`, and JSON schemas within (`%json {...}`). A `temperature` that a
    /// rule asks for has no effect.
    ///
    /// # Errors
    /// More than 64 KiB. The rest is examined when it is compiled.
    pub fn lark(grammar: &str) -> Result<Grammar, Error> {
        check_n_bytes(LARK, grammar)?;
        Ok(Grammar::of(Source::Lark(grammar.into())))
    }

    fn of(source: Source) -> Grammar {
        Grammar { source: Arc::new(source) }
    }

    /// Compiles the grammar for the vocabulary of `model` now, so that a generation with it begins at once and has no error to
    /// report but its own. A grammar takes about 1 ms. The first one of a model takes 0.5 s more, for an index of the vocabulary.
    ///
    /// # Errors
    /// [`Error::Grammar`]: a syntax error, something that cannot be constrained (in a JSON schema for example `not` or
    /// `uniqueItems`), a grammar without any text, or one that takes too much time or memory; a model without a vocabulary.
    pub fn prepare(&self, model: &Model) -> Result<(), Error> {
        model.grammar_compiler()?.compile(self)
    }

    /// What a generation by `model` follows. `stop_tokens` end a text, and are allowed where it is complete.
    pub(crate) fn constraint(&self, model: &Model, stop_tokens: &[u32]) -> Result<Constraint, Error> {
        model.grammar_compiler()?.constraint(self, stop_tokens)
    }

    /// What kind of text it is made from, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &*self.source {
            Source::JsonSchema(_) => JSON_SCHEMA,
            Source::Regex(_) => REGEX,
            Source::Lark(_) => LARK,
        }
    }

    /// The form in which `llguidance` takes it.
    pub(super) fn to_compile(&self) -> Result<TopLevelGrammar, serde_json::Error> {
        Ok(match &*self.source {
            Source::JsonSchema(schema) => TopLevelGrammar::from_json_schema(serde_json::from_str(schema)?),
            Source::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Source::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        })
    }
}

const JSON_SCHEMA: &str = "JSON schema";
const REGEX: &str = "regular expression";
const LARK: &str = "Lark grammar";

fn check_n_bytes(kind: &'static str, text: &str) -> Result<(), Error> {
    let found = text.len();
    let max = Grammar::MAX_N_BYTES;
    if found <= max {
        return Ok(());
    }
    Err(Error::Grammar { kind, reason: format!("expected at most {max} bytes, found {found}") })
}
