//! Conversations as clients send them, and the prompts that they become.

mod constraint;
mod format;
mod message;
mod prompt;
pub(crate) mod tools;

use crate::calls::CallReader;
use crate::error::ApiError;
use crate::served::Served;
use anser::Grammar;
use anser::chat::{Message, Opening, ThinkLength, Thinking};
pub(crate) use format::{Format, ResponseFormat};
pub(crate) use message::{WireMessage, WireRole, answer, call_json};
pub(crate) use prompt::Prompt;
use serde::Deserialize;
use tools::{Tool, ToolChoice, Tools};

/// The fields of a chat that say what the model reads.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatInput {
    pub(crate) model: Option<String>,
    messages: Vec<WireMessage>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<ToolChoice>,
    parallel_tool_calls: Option<bool>,
    reasoning_effort: Option<Effort>,
    chat_template_kwargs: Option<TemplateOptions>,
    response_format: Option<ResponseFormat>,
}

/// How long the model shall think.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
}

#[derive(Debug, Deserialize)]
struct TemplateOptions {
    enable_thinking: Option<bool>,
}

/// A conversation, checked.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Tools,
    pub(crate) thinking: Thinking,
    pub(crate) format: Format,
}

impl ChatInput {
    /// Checks everything that the model shall read.
    pub(crate) fn check(&self, served: &Served) -> Result<Chat, ApiError> {
        if self.messages.is_empty() {
            return Err(ApiError::invalid("messages", "messages: expected at least one, found none"));
        }
        let messages = self.messages.iter().enumerate().map(|(at, message)| {
            message.message().map_err(|reason| {
                let param = format!("messages[{at}]");
                ApiError::invalid(None, format!("{param}: {reason}")).at(param)
            })
        });
        let messages = messages.collect::<Result<Vec<Message>, ApiError>>()?;
        let tools = Tools::check(self.tools.as_deref(), self.tool_choice.as_ref(), self.parallel_tool_calls)?;
        let format = ResponseFormat::check(self.response_format.as_ref())?;
        let enabled = self.chat_template_kwargs.as_ref().and_then(|options| options.enable_thinking);
        let thinking = thinking(served, self.reasoning_effort, enabled);
        Ok(Chat { messages, tools, thinking, format })
    }

    /// The prompt of the conversation.
    pub(crate) fn prompt(&self, served: &Served) -> Result<Prompt, ApiError> {
        Ok(self.check(served)?.prompt(served))
    }
}

impl Chat {
    /// How the answer begins.
    pub(crate) fn opening(&self) -> Opening {
        match self.tools.forces_call() {
            true => Opening::ToolCall,
            false => Opening::Answer(self.thinking),
        }
    }

    /// What finds calls in an answer, if it may have any.
    pub(crate) fn call_reader(&self) -> Option<CallReader> {
        match self.tools.choice {
            ToolChoice::Required | ToolChoice::Named(_) => Some(CallReader::forced()),
            ToolChoice::Auto if !self.tools.functions.is_empty() => {
                let names = self.tools.functions.iter().map(|function| function.name.clone());
                Some(CallReader::optional(names.collect()))
            }
            ToolChoice::Auto | ToolChoice::None => None,
        }
    }

    /// What enforces the form of the answer; `None` if it has none. `extra`: whether requests may bring grammars of their own.
    ///
    /// Errors: a form that cannot be enforced, or two at once.
    pub(crate) fn grammar(&self, extra: bool) -> Result<Option<Grammar>, ApiError> {
        let of_format = constraint::of_format(&self.format, extra)?;
        if !self.tools.forces_call() {
            return Ok(of_format);
        }
        match of_format {
            None => constraint::of_calls(&self.tools).map(Some),
            Some(_) => {
                let message = "response_format: an answer that must be a call has no other form";
                Err(ApiError::invalid("response_format", message))
            }
        }
    }

    pub(crate) fn prompt(&self, served: &Served) -> Prompt {
        let prompt = Prompt::new(served.template, &self.tools.told_to(&self.messages), self.opening());
        match self.format == Format::Text && !self.tools.forces_call() {
            true => prompt,
            false => prompt.up_to_content(),
        }
    }
}

/// Whether the model thinks, by what a request says of it. `enabled` wins over `effort`.
pub(crate) fn thinking(served: &Served, effort: Option<Effort>, enabled: Option<bool>) -> Thinking {
    let length = match effort {
        None | Some(Effort::None | Effort::Minimal) => None,
        Some(Effort::Low) => Some(ThinkLength::Short),
        Some(Effort::Medium) => Some(ThinkLength::Normal),
        Some(Effort::High | Effort::Xhigh) => Some(ThinkLength::Long),
    };
    match (enabled, length) {
        (Some(true), length) => Thinking::On(length.unwrap_or_default()),
        (None, Some(length)) => Thinking::On(length),
        (Some(false), _) | (None, None) => served.usual_thinking(),
    }
}
