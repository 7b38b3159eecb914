//! Keyword options of `generate` and `chat`.

use crate::error::OptionError;
use crate::values;
use anser::chat::{self, ChatTemplate, Message, Opening, ReplyParser, Role, ThinkLength, Thinking};
use anser::{GenerateOptions, SamplerOrder};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};
use std::collections::BTreeMap;

/// The names of all options. An unknown name is refused before any value is read.
const NAMES: [&str; 15] = [
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
];

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
    for (name, value) in options.into_iter().flatten() {
        if !value.is_none() {
            set(&mut generate, &name.extract::<String>()?, &value)?;
        }
    }
    Ok(generate)
}

fn set(generate: &mut GenerateOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let sampler = &mut generate.sampler;
    let number = || values::number(name, value);
    match name {
        "max_tokens" => generate.max_tokens = values::count(name, value)?,
        "stop" => generate.stop = texts(value)?,
        "stop_tokens" => generate.stop_tokens = crate::tokens::ids(name, value)?,
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
    /// `messages` are dicts with role and content; `tools` are signatures of functions, of which one is to be called.
    pub(crate) fn new(
        messages: &Bound<'_, PyAny>,
        thinking: Thinking,
        tools: &[String],
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
        Ok(Chat { messages, opening: Opening::ToolCall, template })
    }

    pub(crate) fn prompt(&self) -> String {
        self.template.render(&self.messages, self.opening)
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
