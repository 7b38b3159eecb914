//! Messages of a conversation.

use crate::wire::content::Content;
use anser::chat::{Message, Role};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A message as clients send it. Further fields, such as names, are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct WireMessage {
    role: WireRole,
    content: Option<Content>,
    tool_calls: Option<Vec<WireCall>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

/// A call that the model made before.
#[derive(Debug, Deserialize)]
struct WireCall {
    function: WireFunction,
}

#[derive(Debug, Deserialize)]
struct WireFunction {
    name: String,
    /// JSON in a text.
    arguments: String,
}

impl WireMessage {
    /// The turn of the conversation. Errors: what is missing.
    pub(crate) fn message(&self) -> Result<Message, String> {
        let text = self.content.as_ref().map(|Content(text)| text.as_str());
        let calls = self.tool_calls.as_deref().unwrap_or_default();
        let role = self.role.role();
        if role == Role::Assistant {
            let calls: Vec<String> = calls.iter().map(|call| call.function.json()).collect();
            return Ok(answer(text.unwrap_or_default(), &calls));
        }
        let text = text.ok_or("content: expected a text or a list of parts")?;
        Ok(Message::new(role, text))
    }
}

impl WireRole {
    pub(crate) fn role(self) -> Role {
        match self {
            WireRole::System | WireRole::Developer => Role::System,
            WireRole::User => Role::User,
            WireRole::Assistant => Role::Assistant,
            WireRole::Tool | WireRole::Function => Role::Tool,
        }
    }
}

/// The turn of an answer with calls, each given as JSON.
pub(crate) fn answer(text: &str, calls: &[String]) -> Message {
    let call = match calls {
        [] => return Message::assistant(text),
        [only] => Message::tool_call(only),
        several => Message::tool_call(&format!("[{}]", several.join(", "))),
    };
    match text.trim() {
        "" => call,
        text => Message::assistant(format!("{text}\n{}", call.content)),
    }
}

/// The JSON of a call, in the form in which models write it.
pub(crate) fn call_json(name: &str, arguments: &str) -> String {
    let name = serde_json::Value::from(name);
    // Arguments that are no JSON, of another server, stay a text.
    match serde_json::from_str::<&RawValue>(arguments) {
        Ok(json) => format!("{{\"name\": {name}, \"arguments\": {}}}", json.get()),
        Err(_) => format!("{{\"name\": {name}, \"arguments\": {}}}", serde_json::Value::from(arguments)),
    }
}

impl WireFunction {
    fn json(&self) -> String {
        call_json(&self.name, &self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::WireMessage;

    fn content(json: &str) -> Result<String, String> {
        let message: WireMessage = serde_json::from_str(json).map_err(|error| error.to_string())?;
        message.message().map(|message| message.content)
    }

    #[test]
    fn calls_become_the_turns_that_models_write() {
        let call = r#"{"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}}"#;
        let one = content(&format!(r#"{{"role": "assistant", "content": null, "tool_calls": [{call}]}}"#)).unwrap();
        assert_eq!(one, "```json\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n```");
        let two =
            content(&format!(r#"{{"role": "assistant", "content": "So:", "tool_calls": [{call}, {call}]}}"#)).unwrap();
        assert!(two.starts_with("So:\n```json\n[{\"name\"") && two.ends_with("}]\n```"), "{two}");
    }

    #[test]
    fn only_answers_may_lack_a_content() {
        assert_eq!(content(r#"{"role": "assistant", "content": null}"#).unwrap(), "");
        assert!(content(r#"{"role": "user", "content": null}"#).is_err());
        assert!(content(r#"{"role": "wizard", "content": "x"}"#).unwrap_err().contains("wizard"));
        assert!(content(r#"{"content": "x"}"#).unwrap_err().contains("role"));
    }
}
