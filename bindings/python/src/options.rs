//! Keyword options of `generate` and `chat`.

use crate::error::{OptionError, exception};
use crate::model::Model;
use crate::values;
use anser::chat::{self, ChatTemplate, Message, Opening, ReplyParser, Role, ThinkLength, Thinking};
use anser::{Draft, GenerateOptions, Grammar, SamplerOrder, Tokenizer};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};
use std::collections::BTreeMap;

/// The names of all options. An unknown name is refused before any value is read.
const NAMES: [&str; 20] = [
    "max_tokens",
    "stop",
    "stop_tokens",
    "seed",
    "order",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "presence_penalty",
    "frequency_penalty",
    "penalty_decay",
    "repetition_penalty",
    "logit_bias",
    "json_schema",
    "regex",
    "grammar",
    "lookup",
    "draft",
];

/// The names of the options that give a grammar.
const GRAMMARS: [&str; 3] = ["json_schema", "regex", "grammar"];

/// The engine's options for Python's; `None` as a value means the default.
pub(crate) fn generate_options(options: Option<&Bound<'_, PyDict>>) -> PyResult<GenerateOptions> {
    let mut generate = GenerateOptions::default();
    let names = options.into_iter().flat_map(|options| options.keys());
    for name in names {
        if !name.extract::<String>().is_ok_and(|name| NAMES.contains(&&*name)) {
            let names = NAMES.join(", ");
            return Err(PyTypeError::new_err(format!("unexpected keyword argument {name}; the options are {names}")));
        }
    }
    let is_grammar = |(name, value): &(Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        !value.is_none() && name.extract::<String>().is_ok_and(|name| GRAMMARS.contains(&&*name))
    };
    match options.into_iter().flatten().filter(is_grammar).count() {
        0 => {}
        1 => generate.sampler = generate.sampler.without_penalties(),
        _ => {
            return Err(OptionError::new_err("grammar: expected one of json_schema, regex and grammar, found several"));
        }
    }
    for (name, value) in options.into_iter().flatten() {
        if !value.is_none() {
            set(&mut generate, &name.extract::<String>()?, &value)?;
        }
    }
    Ok(generate)
}

/// The options of each of `n_prompts` prompts: `options` for all, changed by what `each` says of single ones.
pub(crate) fn options_of_each(
    options: Option<&Bound<'_, PyDict>>,
    each: Option<&Bound<'_, PyAny>>,
    n_prompts: usize,
) -> PyResult<Vec<GenerateOptions>> {
    let common = generate_options(options)?;
    let Some(each) = each else { return Ok(vec![common; n_prompts]) };
    let of_prompt = |own: PyResult<Bound<'_, PyAny>>| {
        let own = own?;
        if own.is_none() {
            return Ok(common.clone());
        }
        let Ok(own) = own.cast::<PyMapping>() else {
            return Err(values::wrong_type("each", "a list of dicts or None", &own));
        };
        let merged = options.map_or_else(|| Ok(PyDict::new(own.py())), |options| options.copy())?;
        let brings_grammar = GRAMMARS.iter().map(|name| own.contains(name)).collect::<PyResult<Vec<_>>>()?;
        if brings_grammar.contains(&true) {
            // Its grammar takes the place of that of all.
            for name in GRAMMARS.into_iter().filter(|name| merged.contains(name).is_ok_and(|there| there)) {
                merged.del_item(name)?;
            }
        }
        merged.update(own)?;
        generate_options(Some(&merged))
    };
    let all = each.try_iter()?.map(of_prompt).collect::<PyResult<Vec<_>>>()?;
    same_number("each", all.len(), n_prompts, "prompts")?;
    Ok(all)
}

/// Checks that a list has one entry for each of `n_things` things.
pub(crate) fn same_number(option: &str, found: usize, n_things: usize, things: &str) -> PyResult<()> {
    if found == n_things {
        return Ok(());
    }
    Err(OptionError::new_err(format!("{option}: expected one for each of {n_things} {things}, found {found}")))
}

fn set(generate: &mut GenerateOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let sampler = &mut generate.sampler;
    let number = || values::number(name, value);
    match name {
        "max_tokens" => generate.max_tokens = values::count(name, value)?,
        "stop" => generate.stop = texts(value)?,
        "lookup" => generate.lookup = values::flag(name, value)?,
        "draft" => generate.draft = Some(draft(value)?),
        "json_schema" | "regex" | "grammar" => generate.grammar = Some(grammar(name, value)?),
        "stop_tokens" => generate.stop_tokens = Some(crate::tokens::ids(name, value)?),
        "seed" => sampler.seed = Some(values::whole_number(name, value, 0..=u64::MAX)?),
        "order" => {
            let orders = [("rwkv", SamplerOrder::Rwkv), ("common", SamplerOrder::Common)];
            sampler.order = values::word(name, value, &orders)?;
        }
        "top_k" => sampler.top_k = values::count(name, value)?,
        "logit_bias" => sampler.logit_bias = logit_bias(value)?,
        "temperature" => sampler.temperature = number()?,
        "top_p" => sampler.top_p = number()?,
        "min_p" => sampler.min_p = number()?,
        "typical_p" => sampler.typical_p = number()?,
        "presence_penalty" => sampler.presence_penalty = number()?,
        "frequency_penalty" => sampler.frequency_penalty = number()?,
        "penalty_decay" => sampler.penalty_decay = number()?,
        "repetition_penalty" => sampler.repetition_penalty = number()?,
        _ => unreachable!("{name} is in the list of names"),
    }
    Ok(())
}

/// A model that proposes tokens.
fn draft(value: &Bound<'_, PyAny>) -> PyResult<Draft> {
    match value.cast::<Model>() {
        Ok(model) => Ok(Draft::new(model.get().engine_model())),
        Err(_) => Err(values::wrong_type("draft", "a Model", value)),
    }
}

/// What the text must be. A JSON schema is a text, or what the module `json` writes.
fn grammar(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Grammar> {
    let grammar = match name {
        "regex" => Grammar::regex(&values::text(name, value)?),
        "grammar" => Grammar::lark(&values::text(name, value)?),
        _ if value.is_instance_of::<PyString>() => Grammar::json_schema(&values::text(name, value)?),
        _ if value.cast::<PyMapping>().is_err() => {
            return Err(values::wrong_type(name, "a dict, or a str of JSON", value));
        }
        _ => {
            let text: String = value.py().import("json")?.call_method1("dumps", (value,))?.extract()?;
            Grammar::json_schema(&text)
        }
    };
    grammar.map_err(exception)
}

/// One text or several.
fn texts(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(vec![text.to_cow()?.into_owned()]),
        Err(_) => value.extract().map_err(|_| values::wrong_type("stop", "a str, or a list or tuple of str", value)),
    }
}

/// The biases of logits, as pairs of token id and number.
fn logit_bias(value: &Bound<'_, PyAny>) -> PyResult<Vec<(u32, f32)>> {
    let Ok(entries) = value.cast::<PyMapping>() else {
        return Err(values::wrong_type("logit_bias", "a dict from token id to number", value));
    };
    let mut bias = BTreeMap::new();
    for entry in entries.items()?.iter() {
        let (id, number): (Bound<'_, PyAny>, Bound<'_, PyAny>) = entry.extract()?;
        bias.insert(values::small_count("logit_bias", &id)?, values::number(&format!("logit_bias[{id}]"), &number)?);
    }
    Ok(bias.into_iter().collect())
}

/// A conversation that the model is to answer.
pub(crate) struct Chat {
    messages: Vec<Message>,
    opening: Opening,
    template: ChatTemplate,
}

impl Chat {
    /// `messages` are dicts with role and content; `tools` are signatures of functions, of which the model must call one if `must_call`.
    pub(crate) fn new(
        messages: &Bound<'_, PyAny>,
        thinking: Thinking,
        tools: &[String],
        must_call: bool,
        template: ChatTemplate,
    ) -> PyResult<Chat> {
        let refused = || values::wrong_type("messages", "a list of dicts with role and content", messages);
        if messages.is_instance_of::<PyString>() || messages.cast::<PyMapping>().is_ok() {
            return Err(refused());
        }
        let items = messages.try_iter().map_err(|_| refused())?;
        let mut messages = items.enumerate().map(|(i, m)| message(i, &m?)).collect::<PyResult<Vec<_>>>()?;
        if tools.is_empty() {
            return Ok(Chat { messages, opening: thinking.into(), template });
        }
        let tools = chat::tools_text(tools);
        match messages.first_mut().filter(|m| m.role == Role::System) {
            Some(system) => system.content = format!("{}\n{tools}", system.content),
            None => messages.insert(0, Message::system(tools)),
        }
        let opening = if must_call { Opening::ToolCall } else { thinking.into() };
        Ok(Chat { messages, opening, template })
    }

    /// The prompt for an answer in any words.
    pub(crate) fn prompt(&self) -> String {
        self.template.render(&self.messages, self.opening)
    }

    /// The prompt for an answer that a grammar determines from its first character on: with what models write between the opening and the
    /// first word, which the grammar does not have.
    ///
    /// # Errors
    /// OptionError if the model is to think first, since the grammar leaves no room for a thought.
    pub(crate) fn prompt_of_grammar(&self) -> PyResult<String> {
        if let Opening::Answer(Thinking::On(_)) = self.opening {
            let reason =
                "thinking: a text that follows a grammar has no thought: expected \"off\", \"fake\" or \"fake-inline\"";
            return Err(OptionError::new_err(reason));
        }
        Ok(self.prompt() + self.template.after_opening(self.opening))
    }

    pub(crate) fn template(&self) -> ChatTemplate {
        self.template
    }

    /// The numbers of `tokens`, those of the prompt, after which a later prompt may go on otherwise: after the system's turn, and before
    /// the opening of the answer.
    pub(crate) fn turn_ends(&self, tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<usize> {
        let n_system = self.messages.iter().take_while(|message| message.role == Role::System).count();
        let n_opening = self.template.render(&[], self.opening).len();
        let n_tokens = |n_messages: usize| {
            let text = self.template.render(&self.messages[..n_messages], self.opening);
            let read = self.template.encode(tokenizer, &text[..text.len() - n_opening]);
            // A token may reach from one turn into the next.
            (!read.is_empty() && tokens.starts_with(&read)).then_some(read.len())
        };
        [n_system, self.messages.len()].into_iter().filter_map(n_tokens).collect()
    }

    /// The parser of the answer, which the texts of `stop` end.
    pub(crate) fn parser(&self, stop: Vec<String>) -> PyResult<ReplyParser> {
        ReplyParser::new(self.template, self.opening, stop).map_err(|e| OptionError::new_err(format!("stop: {e}")))
    }
}

/// The message at `index` of a conversation.
fn message(index: usize, message: &Bound<'_, PyAny>) -> PyResult<Message> {
    let name = |key: &str| format!("messages[{index}][{key:?}]");
    let Ok(entries) = message.cast::<PyMapping>() else {
        return Err(values::wrong_type(&format!("messages[{index}]"), "a dict with role and content", message));
    };
    let entry = |key: &str| match entries.contains(key)? {
        true => entries.get_item(key),
        false => {
            let keys = entries.keys()?.as_any().repr()?;
            Err(OptionError::new_err(format!("messages[{index}]: expected the keys role and content, found {keys}")))
        }
    };
    let roles = [("system", Role::System), ("user", Role::User), ("assistant", Role::Assistant), ("tool", Role::Tool)];
    let role = values::word(&name("role"), &entry("role")?, &roles)?;
    Ok(Message::new(role, values::text(&name("content"), &entry("content")?)?))
}

/// Reads the option that says whether the model thinks.
pub(crate) fn thinking(value: &Bound<'_, PyAny>) -> PyResult<Thinking> {
    let words = [
        ("off", Thinking::Off),
        ("on", Thinking::On(ThinkLength::Unhinted)),
        ("short", Thinking::On(ThinkLength::Short)),
        ("normal", Thinking::On(ThinkLength::Normal)),
        ("long", Thinking::On(ThinkLength::Long)),
        ("fake", Thinking::Fake),
        ("fake-inline", Thinking::FakeInline),
    ];
    values::word("thinking", value, &words)
}
