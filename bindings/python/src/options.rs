//! Keyword options of `generate` and `chat`.

use crate::error::OptionError;
use anser::chat::{self, ChatTemplate, Message, Opening, ReplyParser, Role, ThinkLength, Thinking};
use anser::{GenerateOptions, SamplerOptions, SamplerOrder};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::BTreeMap;

/// Names of all options, for the message about another one.
const NAMES: &str = "max_tokens, stop, stop_tokens, seed, order, temperature, top_k, top_p, min_p, typical_p, \
                     presence_penalty, frequency_penalty, penalty_decay, repetition_penalty, logit_bias";

/// The engine's options for Python's; `None` as a value means the default.
pub(crate) fn generate_options(options: Option<&Bound<'_, PyDict>>) -> PyResult<GenerateOptions> {
    let mut generate = GenerateOptions::default();
    for (name, value) in options.into_iter().flatten() {
        let name = name.cast_into::<PyString>()?;
        let name = name.to_cow()?;
        if !value.is_none() {
            set(&mut generate, &name, &value)?;
        }
    }
    Ok(generate)
}

fn set(generate: &mut GenerateOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let sampler = &mut generate.sampler;
    match name {
        "max_tokens" => generate.max_tokens = value.extract()?,
        "stop" => generate.stop = texts(value)?,
        "stop_tokens" => generate.stop_tokens = crate::tokens::ids(value)?,
        "seed" => sampler.seed = Some(value.extract()?),
        "order" => sampler.order = order(value)?,
        "top_k" => sampler.top_k = value.extract()?,
        "logit_bias" => sampler.logit_bias = value.extract::<BTreeMap<u32, f32>>()?.into_iter().collect(),
        _ => *number(sampler, name)? = value.extract()?,
    }
    Ok(())
}

fn number<'a>(sampler: &'a mut SamplerOptions, name: &str) -> PyResult<&'a mut f32> {
    match name {
        "temperature" => Ok(&mut sampler.temperature),
        "top_p" => Ok(&mut sampler.top_p),
        "min_p" => Ok(&mut sampler.min_p),
        "typical_p" => Ok(&mut sampler.typical_p),
        "presence_penalty" => Ok(&mut sampler.presence_penalty),
        "frequency_penalty" => Ok(&mut sampler.frequency_penalty),
        "penalty_decay" => Ok(&mut sampler.penalty_decay),
        "repetition_penalty" => Ok(&mut sampler.repetition_penalty),
        _ => Err(PyTypeError::new_err(format!("unexpected keyword argument {name:?}; the options are {NAMES}"))),
    }
}

/// One text or several.
fn texts(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(vec![text.to_cow()?.into_owned()]),
        Err(_) => value.extract(),
    }
}

fn order(value: &Bound<'_, PyAny>) -> PyResult<SamplerOrder> {
    match value.extract::<String>()?.as_str() {
        "rwkv" => Ok(SamplerOrder::Rwkv),
        "common" => Ok(SamplerOrder::Common),
        other => Err(OptionError::new_err(format!("order: expected \"rwkv\" or \"common\", found {other:?}"))),
    }
}

/// A conversation to be answered.
pub(crate) struct Chat {
    messages: Vec<Message>,
    opening: Opening,
}

impl Chat {
    /// `messages` are dicts with role and content; `tools` are signatures of functions, of which one is to be called.
    pub(crate) fn new(messages: &Bound<'_, PyAny>, thinking: &str, tools: &[String]) -> PyResult<Chat> {
        let mut messages = messages.try_iter()?.map(|m| message(&m?)).collect::<PyResult<Vec<_>>>()?;
        let thinking = self::thinking(thinking)?;
        if tools.is_empty() {
            return Ok(Chat { messages, opening: thinking.into() });
        }
        let tools = chat::tools_text(tools);
        match messages.first_mut().filter(|m| m.role == Role::System) {
            Some(system) => system.content = format!("{}\n{tools}", system.content),
            None => messages.insert(0, Message::system(tools)),
        }
        Ok(Chat { messages, opening: Opening::ToolCall })
    }

    pub(crate) fn prompt(&self) -> String {
        ChatTemplate::G1.render(&self.messages, self.opening)
    }

    /// What reads the answer; the texts of `stop` end it.
    pub(crate) fn parser(&self, stop: Vec<String>) -> PyResult<ReplyParser> {
        ReplyParser::new(self.opening, stop).map_err(|e| OptionError::new_err(format!("stop: {e}")))
    }
}

fn message(message: &Bound<'_, PyAny>) -> PyResult<Message> {
    let role: String = message.get_item("role")?.extract()?;
    let role = match role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => {
            let expected = "expected \"system\", \"user\", \"assistant\" or \"tool\"";
            return Err(OptionError::new_err(format!("messages: {expected} as role, found {role:?}")));
        }
    };
    Ok(Message::new(role, message.get_item("content")?.extract::<String>()?))
}

fn thinking(name: &str) -> PyResult<Thinking> {
    match name {
        "off" => Ok(Thinking::Off),
        "on" => Ok(Thinking::On(ThinkLength::Unhinted)),
        "short" => Ok(Thinking::On(ThinkLength::Short)),
        "normal" => Ok(Thinking::On(ThinkLength::Normal)),
        "long" => Ok(Thinking::On(ThinkLength::Long)),
        "fake" => Ok(Thinking::Fake),
        "fake-inline" => Ok(Thinking::FakeInline),
        _ => Err(OptionError::new_err(format!(
            "thinking: expected \"off\", \"on\", \"short\", \"normal\", \"long\", \"fake\" or \"fake-inline\", found {name:?}"
        ))),
    }
}
