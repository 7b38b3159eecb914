//! Answers of a chat.

use super::usage::Usage;
use crate::answer::End;
use crate::calls::{Call, CallDelta};
use crate::likelihoods::{Token, TokenInfo};
use serde::Serialize;

/// What all parts of an answer carry.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) system_fingerprint: String,
}

/// An answer, or a chunk of one.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<'a, C> {
    #[serde(flatten)]
    pub(crate) head: &'a Head,
    pub(crate) choices: Vec<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
}

/// A whole answer.
#[derive(Debug, Serialize)]
pub(crate) struct Choice {
    pub(crate) index: usize,
    pub(crate) message: Message,
    pub(crate) logprobs: Option<Logprobs>,
    pub(crate) finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Message {
    pub(crate) role: &'static str,
    /// `None` beside calls.
    pub(crate) content: Option<String>,
    /// Always null: the model refuses in its content.
    pub(crate) refusal: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
}

/// A call of a function, or a piece of one.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub(crate) struct ToolCall {
    /// Which call of the answer a piece belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) r#type: Option<&'static str>,
    pub(crate) function: CalledFunction,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub(crate) struct CalledFunction {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// JSON in a text.
    pub(crate) arguments: String,
}

/// A piece of an answer.
#[derive(Debug, Serialize)]
pub(crate) struct ChunkChoice {
    pub(crate) index: usize,
    pub(crate) delta: Delta,
    pub(crate) logprobs: Option<Logprobs>,
    pub(crate) finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
}

/// The log-probabilities of the tokens of a content.
#[derive(Debug, Serialize)]
pub(crate) struct Logprobs {
    content: Vec<Entry>,
    refusal: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    token: OneToken,
    top_logprobs: Vec<OneToken>,
}

#[derive(Debug, Serialize)]
struct OneToken {
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
}

impl From<&Token> for OneToken {
    fn from(token: &Token) -> OneToken {
        OneToken { token: token.text(), bytes: token.bytes.clone(), logprob: token.logprob }
    }
}

impl From<&[TokenInfo]> for Logprobs {
    fn from(tokens: &[TokenInfo]) -> Logprobs {
        let entry = |info: &TokenInfo| Entry {
            token: (&info.token).into(),
            top_logprobs: info.top.iter().map(OneToken::from).collect(),
        };
        Logprobs { content: tokens.iter().map(entry).collect(), refusal: None }
    }
}

impl From<CallDelta> for ToolCall {
    fn from(delta: CallDelta) -> ToolCall {
        let CallDelta { index, begin, arguments } = delta;
        let (id, name) = begin.unzip();
        let r#type = id.is_some().then_some("function");
        ToolCall { index: Some(index), id, r#type, function: CalledFunction { name, arguments } }
    }
}

impl From<Call> for ToolCall {
    fn from(Call { id, name, arguments }: Call) -> ToolCall {
        let function = CalledFunction { name: Some(name), arguments };
        ToolCall { index: None, id: Some(id), r#type: Some("function"), function }
    }
}

/// `finish_reason` of a text.
pub(crate) fn finish_reason(end: Option<End>) -> &'static str {
    match end {
        Some(End::Calls) => "tool_calls",
        Some(End::Length) => "length",
        Some(End::Stop) | None => "stop",
    }
}
