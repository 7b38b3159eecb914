//! Requests and answers of the Responses API.

use super::content::Content;
use crate::answer::End;
use crate::calls::Call;
use crate::chat::tools::{Function, ToolChoice};
use crate::chat::{Effort, ResponseFormat, WireRole, answer, call_json};
use crate::error::ApiError;
use crate::flight::Counts;
use crate::generate::Text;
use crate::ids;
use anser::chat::{Message, Role};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The fields of a request that say what the model reads.
#[derive(Debug, Deserialize)]
pub(crate) struct Fields {
    pub(crate) model: Option<String>,
    pub(crate) input: Option<Value>,
    pub(crate) instructions: Option<String>,
    pub(crate) previous_response_id: Option<String>,
    /// The tuned state that the conversation begins from.
    pub(crate) state: Option<String>,
    pub(crate) store: Option<bool>,
    pub(crate) stream: Option<bool>,
    pub(crate) background: Option<bool>,
    pub(crate) text: Option<TextOptions>,
    pub(crate) tools: Option<Vec<FlatTool>>,
    pub(crate) tool_choice: Option<ToolChoice>,
    pub(crate) parallel_tool_calls: Option<bool>,
    pub(crate) reasoning: Option<Reasoning>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TextOptions {
    pub(crate) format: Option<ResponseFormat>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Reasoning {
    pub(crate) effort: Option<Effort>,
}

/// A function, whose fields lie beside its type.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FlatTool {
    r#type: String,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Box<RawValue>>,
}

impl FlatTool {
    pub(crate) fn function(&self) -> Result<Function, ApiError> {
        let wrong = |reason: String| ApiError::invalid("tools", format!("tools: {reason}"));
        if self.r#type != "function" {
            let kind: String = self.r#type.chars().take(40).collect();
            return Err(wrong(format!(
                "expected the type \"function\", found {kind:?}: this server has no tools of its own"
            )));
        }
        let name = self.name.clone().ok_or_else(|| wrong("a function has no name".into()))?;
        Ok(Function { name, description: self.description.clone(), parameters: self.parameters.clone() })
    }
}

/// What a request reads, as items.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) messages: Vec<Message>,
    /// The items as they are told to clients.
    pub(crate) items: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Item {
    r#type: Option<String>,
    role: Option<WireRole>,
    content: Option<Content>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<Content>,
}

impl Input {
    /// Reads a text, or a list of messages, calls and their results.
    pub(crate) fn read(input: Option<Value>) -> Result<Input, ApiError> {
        let items = match input {
            Some(Value::String(text)) => {
                let content = json!([{ "type": "input_text", "text": text }]);
                vec![json!({ "type": "message", "role": "user", "content": content })]
            }
            Some(Value::Array(items)) if !items.is_empty() => items,
            _ => return Err(ApiError::invalid("input", "input: expected a text or a list of items, not an empty one")),
        };
        let mut messages: Vec<Message> = vec![];
        let mut calls = vec![];
        for (at, item) in items.iter().enumerate() {
            let param = format!("input[{at}]");
            let wrong = |reason: String| ApiError::invalid(None, format!("{param}: {reason}")).at(param.clone());
            let read = Item::deserialize(item).map_err(|error| wrong(error.to_string()))?;
            match read.message().map_err(wrong)? {
                ItemTurn::Call(call) => calls.push(call),
                ItemTurn::Message(message) => {
                    flush(&mut calls, &mut messages);
                    messages.push(message);
                }
                ItemTurn::Nothing => {}
            }
        }
        flush(&mut calls, &mut messages);
        let items = items.into_iter().map(with_id).collect();
        Ok(Input { messages, items })
    }
}

/// Calls that follow one another are one turn.
fn flush(calls: &mut Vec<String>, messages: &mut Vec<Message>) {
    if !calls.is_empty() {
        messages.push(answer("", calls));
        calls.clear();
    }
}

/// What an item is in a conversation.
enum ItemTurn {
    Message(Message),
    Call(String),
    /// A thought, which models do not read again.
    Nothing,
}

impl Item {
    fn message(self) -> Result<ItemTurn, String> {
        match self.r#type.as_deref() {
            None | Some("message") => {
                let role = self.role.ok_or("expected a role")?.role();
                let Content(text) = self.content.ok_or("expected a content")?;
                Ok(ItemTurn::Message(Message::new(role, text)))
            }
            Some("function_call") => {
                let name = self.name.ok_or("expected the name of a function")?;
                Ok(ItemTurn::Call(call_json(&name, self.arguments.as_deref().unwrap_or("{}"))))
            }
            Some("function_call_output") => {
                let Content(text) = self.output.ok_or("expected an output")?;
                Ok(ItemTurn::Message(Message::new(Role::Tool, text)))
            }
            Some("reasoning") => Ok(ItemTurn::Nothing),
            Some(other) => {
                let other: String = other.chars().take(40).collect();
                Err(format!("expected the type message, function_call or function_call_output, found {other:?}"))
            }
        }
    }
}

/// An item with the fields that typed clients expect.
fn with_id(mut item: Value) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.entry("type").or_insert_with(|| "message".into());
        fields.entry("id").or_insert_with(|| ids::fresh("msg_").into());
    }
    item
}

/// The items of an answer, with the identifiers that they had while they were streamed.
#[derive(Debug, Clone)]
pub(crate) struct OutputIds {
    pub(crate) reasoning: String,
    pub(crate) message: String,
}

impl OutputIds {
    pub(crate) fn fresh() -> OutputIds {
        OutputIds { reasoning: ids::fresh("rs_"), message: ids::fresh("msg_") }
    }
}

pub(crate) fn reasoning_item(id: &str, text: &str, status: &str) -> Value {
    let content = match text {
        "" => json!([]),
        text => json!([{ "type": "reasoning_text", "text": text }]),
    };
    json!({ "type": "reasoning", "id": id, "summary": [], "content": content, "status": status })
}

pub(crate) fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

pub(crate) fn message_item(id: &str, text: Option<&str>, status: &str) -> Value {
    let content: Vec<Value> = text.map(text_part).into_iter().collect();
    json!({ "type": "message", "id": id, "role": "assistant", "status": status, "content": content })
}

pub(crate) fn call_item(call: &Call, status: &str) -> Value {
    let id = call.id.replacen("call_", "fc_", 1);
    json!({
        "type": "function_call",
        "id": id,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": status,
    })
}

/// The items of a whole answer: thought, words, calls.
pub(crate) fn output(text: &Text, ids: &OutputIds) -> Vec<Value> {
    let status = status(text.end);
    let mut items = vec![];
    if !text.reasoning.is_empty() {
        items.push(reasoning_item(&ids.reasoning, &text.reasoning, "completed"));
    }
    if !text.content.is_empty() || text.calls.is_empty() {
        items.push(message_item(&ids.message, Some(&text.content), status));
    }
    items.extend(text.calls.iter().map(|call| call_item(call, status)));
    items
}

/// The turn of an answer.
pub(crate) fn turn(text: &Text) -> Message {
    let calls: Vec<String> = text.calls.iter().map(|call| call_json(&call.name, &call.arguments)).collect();
    answer(&text.content, &calls)
}

pub(crate) fn status(end: Option<End>) -> &'static str {
    match end {
        None => "in_progress",
        Some(End::Length) => "incomplete",
        Some(End::Stop | End::Calls) => "completed",
    }
}

pub(crate) fn usage(counts: Counts) -> Value {
    json!({
        "input_tokens": counts.n_prompt,
        "input_tokens_details": { "cached_tokens": counts.n_cached },
        "output_tokens": counts.n_generated,
        "output_tokens_details": { "reasoning_tokens": counts.n_reasoning },
        "total_tokens": counts.n_prompt + counts.n_generated,
    })
}

#[cfg(test)]
mod tests {
    use super::Input;
    use anser::chat::{Message, Role};
    use serde_json::json;

    #[test]
    fn items_become_turns() {
        let call =
            |name: &str| json!({"type": "function_call", "call_id": "c", "name": name, "arguments": "{\"a\": 1}"});
        let input = Input::read(Some(json!([
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "reasoning", "summary": []},
            call("f"), call("g"),
            {"type": "function_call_output", "call_id": "c", "output": "3"},
        ])))
        .unwrap();
        let calls = "[{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"arguments\": {\"a\": 1}}]";
        let expected = [
            Message::system("Be brief."),
            Message::user("hi"),
            Message::tool_call(calls),
            Message::new(Role::Tool, "3"),
        ];
        assert_eq!(input.messages, expected);
        assert!(input.items.iter().all(|item| item["id"].is_string() && item["type"].is_string()));
    }

    #[test]
    fn what_is_no_item_is_named() {
        let told = |input| Input::read(Some(input)).unwrap_err().message().to_owned();
        assert!(told(json!([])).starts_with("input:"));
        assert!(told(json!(7)).starts_with("input:"));
        assert!(told(json!([{"role": "user", "content": "x"}, {"type": "smell"}])).contains("input[1]"));
        assert!(told(json!([{"content": "x"}])).contains("role"));
        assert!(Input::read(None).is_err());
    }
}
