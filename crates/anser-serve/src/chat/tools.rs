//! Functions that the model may call.

use crate::error::ApiError;
use crate::pairs::Pairs;
use anser::chat::{Message, Role, tools_text};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The most functions of a request, and the most bytes of all their schemas.
const MAX_TOOLS: usize = 128;
const MAX_SCHEMAS_N_BYTES: usize = 64 << 10;
/// The most letters of a function's name.
const MAX_NAME_LEN: usize = 64;

/// A function as clients send it.
#[derive(Debug, Deserialize)]
pub(crate) struct Tool {
    r#type: ToolKind,
    function: Function,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ToolKind {
    Function,
}

/// A function.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// The JSON schema of its arguments.
    pub(crate) parameters: Option<Box<RawValue>>,
}

/// Whether and what the model shall call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    None,
    Auto,
    Required,
    Named(String),
}

/// The functions of a request, checked.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) functions: Vec<Function>,
    pub(crate) choice: ToolChoice,
    /// Whether several calls may come in one answer.
    pub(crate) parallel: bool,
}

impl Tools {
    pub(crate) fn check(
        tools: Option<&[Tool]>,
        choice: Option<&ToolChoice>,
        parallel: Option<bool>,
    ) -> Result<Tools, ApiError> {
        let functions = tools.unwrap_or_default().iter().map(|tool| match tool.r#type {
            ToolKind::Function => tool.function.clone(),
        });
        Tools::of_functions(functions.collect(), choice, parallel)
    }

    pub(crate) fn of_functions(
        functions: Vec<Function>,
        choice: Option<&ToolChoice>,
        parallel: Option<bool>,
    ) -> Result<Tools, ApiError> {
        let wrong = |reason: String| Err(ApiError::invalid("tools", format!("tools: {reason}")));
        if functions.len() > MAX_TOOLS {
            return wrong(format!("expected at most {MAX_TOOLS}, found {}", functions.len()));
        }
        let n_bytes: usize = functions.iter().filter_map(|f| f.parameters.as_ref()).map(|p| p.get().len()).sum();
        if n_bytes > MAX_SCHEMAS_N_BYTES {
            return wrong(format!("expected schemas of at most {MAX_SCHEMAS_N_BYTES} bytes together, found {n_bytes}"));
        }
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        for function in &functions {
            let name = &function.name;
            if name.is_empty() || name.len() > MAX_NAME_LEN || !name.chars().all(is_letter) {
                return wrong(format!(
                    "expected names of 1 to {MAX_NAME_LEN} letters, digits, - . and _, found {name:?}"
                ));
            }
            if functions.iter().filter(|other| other.name == *name).count() > 1 {
                return wrong(format!("two functions are called {name:?}"));
            }
            if let Some(schema) = function.parameters.as_ref().filter(|schema| !schema.get().starts_with('{')) {
                let start: String = schema.get().chars().take(20).collect();
                return wrong(format!("{name}: expected parameters to be a JSON schema, an object, found {start}"));
            }
        }
        let choice = choice.cloned().unwrap_or(ToolChoice::Auto);
        let of_choice = |reason: String| Err(ApiError::invalid("tool_choice", format!("tool_choice: {reason}")));
        match &choice {
            ToolChoice::Required | ToolChoice::Named(_) if functions.is_empty() => {
                of_choice("a call is required, but the request has no tools".into())
            }
            ToolChoice::Named(name) if !functions.iter().any(|function| function.name == *name) => {
                of_choice(format!("no function of tools is called {name:?}"))
            }
            ToolChoice::None | ToolChoice::Auto | ToolChoice::Required | ToolChoice::Named(_) => {
                Ok(Tools { functions, choice, parallel: parallel.unwrap_or(true) })
            }
        }
    }

    /// Whether the answer must be a call.
    pub(crate) fn forces_call(&self) -> bool {
        matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_))
    }

    /// The functions that the model may call now.
    pub(crate) fn callable(&self) -> Vec<&Function> {
        let may_be_called = |function: &&Function| match &self.choice {
            ToolChoice::None => false,
            ToolChoice::Auto | ToolChoice::Required => true,
            ToolChoice::Named(name) => function.name == *name,
        };
        self.functions.iter().filter(may_be_called).collect()
    }

    /// The conversation with the functions in its system turn, as models were trained on them.
    pub(crate) fn told_to(&self, messages: &[Message]) -> Vec<Message> {
        if self.functions.is_empty() || self.choice == ToolChoice::None {
            return messages.to_vec();
        }
        let signatures: Vec<String> = self.functions.iter().map(Function::signature).collect();
        let tools = tools_text(&signatures);
        match messages.split_first() {
            Some((first, rest)) if first.role == Role::System => {
                let system = Message::system(format!("{}\n{tools}", first.content));
                std::iter::once(system).chain(rest.iter().cloned()).collect()
            }
            _ => std::iter::once(Message::system(tools)).chain(messages.iter().cloned()).collect(),
        }
    }
}

impl Function {
    /// The function in one line: `add(a: int, b: int): The sum of two numbers`.
    fn signature(&self) -> String {
        let schema = self.parameters.as_ref().and_then(|schema| serde_json::from_str::<Schema>(schema.get()).ok());
        let properties = schema.and_then(|schema| schema.properties).map_or(vec![], |Pairs(pairs)| pairs);
        let arguments: Vec<String> = properties.iter().map(|(name, of)| format!("{name}: {}", of.kind())).collect();
        let call = format!("{}({})", self.name, arguments.join(", "));
        match self.description.as_deref().map(str::trim) {
            None | Some("") => call,
            Some(description) => format!("{call}: {description}"),
        }
    }
}

/// What a signature tells of a schema.
#[derive(Debug, Deserialize)]
struct Schema {
    properties: Option<Pairs<Property>>,
}

#[derive(Debug, Deserialize)]
struct Property {
    r#type: Option<serde_json::Value>,
    r#enum: Option<Vec<serde_json::Value>>,
}

impl Property {
    /// The type in the words of Python, which models know from their training.
    fn kind(&self) -> String {
        if let Some(values) = self.r#enum.as_ref().filter(|values| (1..=16).contains(&values.len())) {
            return values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        }
        match self.r#type.as_ref().and_then(serde_json::Value::as_str) {
            Some("string") => "str",
            Some("integer") => "int",
            Some("number") => "float",
            Some("boolean") => "bool",
            Some("array") => "list",
            Some("object") => "dict",
            Some("null") => "None",
            _ => "any",
        }
        .into()
    }
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ToolChoice, D::Error> {
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

struct ChoiceVisitor;

impl<'de> Visitor<'de> for ChoiceVisitor {
    type Value = ToolChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"none\", \"auto\", \"required\" or a function's name in an object")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ToolChoice, E> {
        match text {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" | "any" => Ok(ToolChoice::Required),
            other => Err(E::custom(format!("expected \"none\", \"auto\" or \"required\", found {other:?}"))),
        }
    }

    /// `{"type": "function", "function": {"name": "f"}}`, and `{"type": "function", "name": "f"}` of the Responses API.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolChoice, A::Error> {
        #[derive(Deserialize)]
        struct Named {
            r#type: String,
            name: Option<String>,
            function: Option<Name>,
        }
        #[derive(Deserialize)]
        struct Name {
            name: String,
        }

        let named = Named::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        if named.r#type != "function" {
            return Err(A::Error::custom(format!("expected the type \"function\", found {:?}", named.r#type)));
        }
        let name = named.function.map(|function| function.name).or(named.name);
        name.map(ToolChoice::Named).ok_or_else(|| A::Error::custom("expected the name of a function"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Tool, ToolChoice, Tools};
    use anser::chat::Message;

    fn tools(choice: &str) -> Result<Tools, String> {
        let add = r#"{"type": "function", "function": {"name": "add", "description": "The sum", "parameters":
            {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"enum": ["x", 2]}}}}}"#;
        let now = r#"{"type": "function", "function": {"name": "now"}}"#;
        let tools: Vec<Tool> = serde_json::from_str(&format!("[{add}, {now}]")).unwrap();
        let choice: ToolChoice = serde_json::from_str(choice).map_err(|error| error.to_string())?;
        Tools::check(Some(&tools), Some(&choice), None).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn functions_are_told_in_the_order_of_their_schemas() {
        let told = tools("\"auto\"").unwrap().told_to(&[Message::system("Be brief."), Message::user("x")]);
        let system =
            "Be brief.\nTools:\n- add(b: int, a: \"x\" | 2): The sum\n- now()\nReturn only a JSON function call.";
        assert_eq!(told, [Message::system(system), Message::user("x")]);
        let alone = tools("\"required\"").unwrap().told_to(&[Message::user("x")]);
        assert!(alone[0].content.starts_with("Tools:\n- add") && alone.len() == 2);
        assert_eq!(tools("\"none\"").unwrap().told_to(&[Message::user("x")]), [Message::user("x")]);
    }

    #[test]
    fn choices_name_functions_that_there_are() {
        let named = tools(r#"{"type": "function", "function": {"name": "now"}}"#).unwrap();
        assert_eq!(named.callable().len(), 1);
        assert!(named.forces_call());
        assert!(tools(r#"{"type": "function", "name": "now"}"#).is_ok());
        assert!(tools(r#"{"type": "function", "function": {"name": "g"}}"#).unwrap_err().contains("\"g\""));
        assert!(tools("\"maybe\"").unwrap_err().contains("maybe"));
        assert!(Tools::check(None, Some(&ToolChoice::Required), None).is_err());
    }
}
