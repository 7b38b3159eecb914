//! Writes conversations as RWKV-7 G1 models were trained on them, and reads the answers.
//!
//! There are two forms ([`ChatTemplate`]). In the older one a turn is `Role: text`, a blank line ends it, and the prompt ends with
//! the opening of the answer, such as `Assistant:`, without a space after it. So a blank line inside a text would be the end of
//! its turn: [`clean`] leaves none, and no text can forge a turn. Since G1h a turn is `Role✿text✿`, where ✿ is a token of its own,
//! and texts lose any ✿ of theirs. The hybrids with Qwen2 know ChatML, whose marks are tokens that no ordinary text becomes:
//! [`ChatTemplate::encode`] writes them. [`ReplyParser`] reads the answer.

mod reply;
#[cfg(test)]
mod tests;

use anser_tokenizer::Tokenizer;
pub use reply::{Reply, ReplyEnd, ReplyParser, ReplyStep, split_reply};
use std::ops::ControlFlow;

/// The text that ends a turn in the older form: token 261 of the World vocabulary, or part of longer white space.
pub const TURN_END: &str = "\n\n";
/// What ends a turn since G1h: token 10060 of the World vocabulary.
pub const TURN_MARK: &str = "✿";

/// What begins a turn in ChatML: one token of its vocabularies.
pub const CHATML_START: &str = "<|im_start|>";
/// What ends a turn in ChatML: one token of its vocabularies.
pub const CHATML_END: &str = "<|im_end|>";

/// Tokens that end an answer in every mode and form: only 0, the end of a document.
///
/// The blank line (token 261) is not listed: a model that thinks writes blank lines into its thought, and a blank line
/// may also come inside another token (3328 is three line ends). [`ReplyParser`] looks for it in the text, where it
/// knows whether the model is thinking.
pub const STOP_TOKENS: [u32; 1] = [0];

/// The speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a function that the model called, written as a turn of the user.
    Tool,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The speaker.
    pub role: Role,
    /// The text as it was written. Rendering cleans it.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message { role, content: content.into() }
    }

    /// A turn with instructions for the whole conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new(Role::System, content)
    }

    /// A turn with a message of the person.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new(Role::User, content)
    }

    /// A turn with an answer of the model. Rendering drops thoughts in it, up to `</think>`.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new(Role::Assistant, content)
    }

    /// A turn in which the model called a function, from the JSON of the call.
    pub fn tool_call(json: &str) -> Self {
        Message::new(Role::Assistant, format!("```json\n{}\n```", json.trim()))
    }

    /// A turn with the result of a function that the model called.
    pub fn tool(content: impl Into<String>) -> Self {
        Message::new(Role::Tool, content)
    }
}

/// Whether the model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Thinking {
    /// The model answers at once: `Assistant:`. It may still choose to think.
    #[default]
    Off,
    /// The model thinks first: `Assistant: <think`.
    On(ThinkLength),
    /// The prompt shows the model an empty thought, after which it answers better than without one: `Assistant:
    /// <think>⏎</think`.
    Fake,
    /// An empty thought in one line, which some versions prefer: `Assistant: <think></think`.
    FakeInline,
}

/// A hint how long the model shall think. It follows the last user text; G1c models and later know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ThinkLength {
    /// No hint.
    #[default]
    Unhinted,
    /// ` (think)`
    Normal,
    /// ` (think a bit)`
    Short,
    /// ` (think a lot)`
    Long,
}

impl ThinkLength {
    fn hint(self) -> &'static str {
        match self {
            ThinkLength::Unhinted => "",
            ThinkLength::Normal => " (think)",
            ThinkLength::Short => " (think a bit)",
            ThinkLength::Long => " (think a lot)",
        }
    }
}

/// The beginning of the answer, with which the prompt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opening {
    /// An answer in words.
    Answer(Thinking),
    /// A function call: `` Assistant: ```json ``. List the functions with [`tools_text`] in the system turn.
    ToolCall,
}

impl From<Thinking> for Opening {
    fn from(thinking: Thinking) -> Self {
        Opening::Answer(thinking)
    }
}

impl Opening {
    /// The text, which has no space at its end and no `>`: models write that `>` in one token with what follows.
    pub fn text(self, template: ChatTemplate) -> &'static str {
        match (template, self) {
            (ChatTemplate::G1, Opening::Answer(Thinking::Off)) => "Assistant:",
            (ChatTemplate::G1, Opening::Answer(Thinking::On(_))) => "Assistant: <think",
            (ChatTemplate::G1, Opening::Answer(Thinking::Fake)) => "Assistant: <think>\n</think",
            (ChatTemplate::G1, Opening::Answer(Thinking::FakeInline)) => "Assistant: <think></think",
            (ChatTemplate::G1, Opening::ToolCall) => "Assistant: ```json",
            (ChatTemplate::G1h, Opening::Answer(Thinking::On(_))) => "Bot✿<think",
            // These models always open a thought: without thinking it is empty.
            (ChatTemplate::G1h, Opening::Answer(Thinking::Off | Thinking::Fake | Thinking::FakeInline)) => {
                "Bot✿<think></think"
            }
            (ChatTemplate::G1h, Opening::ToolCall) => "Bot✿```json",
            (ChatTemplate::ChatMl, Opening::Answer(Thinking::Off)) => "<|im_start|>assistant\n",
            (ChatTemplate::ChatMl, Opening::Answer(Thinking::On(_))) => "<|im_start|>assistant\n<think",
            (ChatTemplate::ChatMl, Opening::Answer(Thinking::Fake)) => "<|im_start|>assistant\n<think>\n\n</think",
            (ChatTemplate::ChatMl, Opening::Answer(Thinking::FakeInline)) => "<|im_start|>assistant\n<think></think",
            (ChatTemplate::ChatMl, Opening::ToolCall) => "<|im_start|>assistant\n```json",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Opening::Answer(Thinking::On(length)) => length.hint(),
            Opening::Answer(Thinking::Off | Thinking::Fake | Thinking::FakeInline) | Opening::ToolCall => "",
        }
    }
}

/// The format in which a conversation is written as a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum ChatTemplate {
    /// RWKV-7 G1 to G1g, and whatever else was trained on `User: …`: `User: text⏎⏎Assistant:`.
    #[default]
    G1,
    /// RWKV-7 G1h and later: `User✿text✿⏎Bot✿`.
    G1h,
    /// ChatML, for the hybrids with Qwen2: `<|im_start|>user⏎text<|im_end|>⏎<|im_start|>assistant⏎`.
    ChatMl,
}

impl ChatTemplate {
    /// The form of a model of this name: [`ChatTemplate::G1h`] for names like `rwkv7-g1k-7.2b`, with a letter from h on.
    pub fn of_name(name: &str) -> ChatTemplate {
        let name = name.to_ascii_lowercase();
        let is_newer = |(at, _): (usize, &str)| {
            let letters = &name.as_bytes()[at + 2..];
            let is_word = !name[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
            is_word
                && letters.first().is_some_and(|letter| (b'h'..=b'z').contains(letter))
                && letters.get(1).is_none_or(|next| !next.is_ascii_alphanumeric())
        };
        if name.match_indices("g1").any(is_newer) { ChatTemplate::G1h } else { ChatTemplate::G1 }
    }

    /// What ends an answer.
    pub(crate) fn turn_end(self) -> &'static str {
        match self {
            ChatTemplate::G1 => TURN_END,
            ChatTemplate::G1h => TURN_MARK,
            ChatTemplate::ChatMl => CHATML_END,
        }
    }

    /// What stands between two turns.
    pub(crate) fn between_turns(self) -> &'static str {
        match self {
            ChatTemplate::G1 => TURN_END,
            ChatTemplate::G1h => "✿\n",
            ChatTemplate::ChatMl => "<|im_end|>\n",
        }
    }

    /// What is missing of [`ChatTemplate::between_turns`] after a text that ends with `read`.
    pub(crate) fn missing_end(self, read: &str) -> &'static str {
        let end = self.between_turns();
        // A mark of ChatML is read as a whole: an answer that ends with its first letters has read none of it.
        let is_whole = |&n: &usize| self != ChatTemplate::ChatMl || n >= CHATML_END.len();
        let lens = end.char_indices().map(|(at, c)| at + c.len_utf8()).filter(is_whole);
        &end[lens.filter(|&n| read.ends_with(&end[..n])).max().unwrap_or(0)..]
    }

    /// The turn of an answer, as it stands in a conversation.
    pub(crate) fn answer_turn(self, answer: &str) -> String {
        match self {
            ChatTemplate::G1 => format!("Assistant: {answer}{TURN_END}"),
            ChatTemplate::G1h => format!("Bot✿{answer}✿\n"),
            ChatTemplate::ChatMl => format!("<|im_start|>assistant\n{answer}<|im_end|>\n"),
        }
    }

    /// What models write between the opening of an answer and the first word of its content; nothing before a thought.
    pub fn after_opening(self, opening: Opening) -> &'static str {
        match (self, opening) {
            (_, Opening::ToolCall) => "\n",
            (_, Opening::Answer(Thinking::On(_))) => "",
            (ChatTemplate::G1, Opening::Answer(Thinking::Off)) => " ",
            (ChatTemplate::ChatMl, Opening::Answer(Thinking::Off)) => "",
            (ChatTemplate::ChatMl, Opening::Answer(Thinking::Fake)) => ">\n\n",
            (_, Opening::Answer(Thinking::Off | Thinking::Fake | Thinking::FakeInline)) => ">",
        }
    }

    /// The text of an answer as it stands in a conversation: without its thought, and without what would end its turn.
    pub fn clean_answer(self, answer: &str) -> String {
        self.clean(without_thought(answer)).trim().to_string()
    }

    /// The tokens of a prompt, or of a part of it, that [`ChatTemplate::render`] has written. Marks of ChatML become their tokens,
    /// which the same letters in an ordinary text never do.
    pub fn encode(self, tokenizer: &Tokenizer, prompt: &str) -> Vec<u32> {
        // Nothing ends it early.
        self.encode_for(tokenizer, prompt, |_| ControlFlow::Continue(())).unwrap_or_default()
    }

    /// [`ChatTemplate::encode`] that calls `progress` with the number of bytes done from time to time; `None` if it returned `Break`.
    pub fn encode_for(
        self,
        tokenizer: &Tokenizer,
        prompt: &str,
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Option<Vec<u32>> {
        let marks = match self {
            ChatTemplate::G1 | ChatTemplate::G1h => vec![],
            ChatTemplate::ChatMl => vec![CHATML_START, CHATML_END],
        };
        let marks: Vec<_> = marks.into_iter().filter_map(|mark| Some((mark, tokenizer.special_token(mark)?))).collect();
        let next_mark = |text: &str| {
            let found = marks.iter().filter_map(|&(mark, id)| Some((text.find(mark)?, mark, id)));
            found.min_by_key(|&(at, _, _)| at)
        };
        let (mut ids, mut rest) = (vec![], prompt);
        loop {
            let found = next_mark(rest);
            let text = found.map_or(rest, |(at, _, _)| &rest[..at]);
            let n_done = prompt.len() - rest.len();
            ids.extend(tokenizer.encode_for(text.as_bytes(), |n| progress(n_done + n))?);
            let Some((at, mark, id)) = found else { return Some(ids) };
            ids.push(id);
            rest = &rest[at + mark.len()..];
        }
    }

    /// The whole conversation as a prompt for the next answer. `opening` may be a [`Thinking`].
    pub fn render(self, messages: &[Message], opening: impl Into<Opening>) -> String {
        let mut prompt = String::new();
        self.render_into(&mut prompt, messages, opening.into());
        prompt
    }

    /// The text that a session has yet to read, if its state already holds the conversation up to the model's last
    /// answer: the end of that turn, the `new` messages and the opening of the next answer.
    ///
    /// `read` is the text of that answer as far as the session has read it (its end is enough). The end of the turn (a blank
    /// line, or ✿ and a line end) is completed if the session has read none of it, or only a part.
    ///
    /// After an answer without a thought the result is what [`ChatTemplate::render`] of the whole conversation adds
    /// after that answer. A thought stays in the state of the session, whereas `render` leaves it out.
    pub fn render_turn(self, read: &str, new: &[Message], opening: impl Into<Opening>) -> String {
        let mut prompt = self.missing_end(read).to_string();
        self.render_into(&mut prompt, new, opening.into());
        prompt
    }

    fn render_into(self, prompt: &mut String, messages: &[Message], opening: Opening) {
        for (at, message) in messages.iter().enumerate() {
            let mut text = match message.role {
                Role::System | Role::User => self.clean(&message.content),
                Role::Assistant => self.clean(without_thought(&message.content)),
                Role::Tool => format!("Function output:\n{}", self.clean(&message.content)),
            };
            if at + 1 == messages.len() && message.role == Role::User {
                text += opening.hint();
            }
            let name = match (message.role, self) {
                (Role::System, ChatTemplate::G1 | ChatTemplate::G1h) => "System",
                (Role::System, ChatTemplate::ChatMl) => "system",
                (Role::User | Role::Tool, ChatTemplate::G1 | ChatTemplate::G1h) => "User",
                (Role::User | Role::Tool, ChatTemplate::ChatMl) => "user",
                (Role::Assistant, ChatTemplate::G1) => "Assistant",
                (Role::Assistant, ChatTemplate::G1h) => "Bot",
                (Role::Assistant, ChatTemplate::ChatMl) => "assistant",
            };
            let text = text.trim();
            let (before, after) = match self {
                ChatTemplate::G1 if text.is_empty() => ("", ":"),
                ChatTemplate::G1 => ("", ": "),
                ChatTemplate::G1h => ("", TURN_MARK),
                ChatTemplate::ChatMl => (CHATML_START, "\n"),
            };
            prompt.extend([before, name, after]);
            prompt.push_str(text);
            prompt.push_str(self.between_turns());
        }
        prompt.push_str(opening.text(self));
    }

    /// A text as it may stand in a turn of this form.
    fn clean(self, text: &str) -> String {
        match self {
            ChatTemplate::G1 => clean(text),
            ChatTemplate::G1h => clean(&text.replace(TURN_MARK, "")),
            ChatTemplate::ChatMl => without_marks(text),
        }
    }
}

/// The text of a system turn that lists functions, each given by its signature such as `weather(city: str)`, and asks
/// for a call. Put the rest of the system text in front of it, after a line end.
pub fn tools_text<S: AsRef<str>>(signatures: &[S]) -> String {
    let line = |signature: &S| format!("- {}\n", clean(signature.as_ref()).replace('\n', " "));
    let list: String = signatures.iter().map(line).collect();
    format!("Tools:\n{list}Return only a JSON function call.")
}

/// A text as it may stand in a turn: line ends are `\n`, no blank lines, no white space around it.
pub fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for line in text.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        if !cleaned.is_empty() {
            cleaned.push('\n');
        }
        cleaned.push_str(line);
    }
    cleaned.trim().to_string()
}

/// A text without ChatML's marks, nor any that are made by taking one out.
fn without_marks(text: &str) -> String {
    let mut text = text.to_string();
    while let Some(mark) = [CHATML_START, CHATML_END].into_iter().find(|mark| text.contains(mark)) {
        text = text.replace(mark, "");
    }
    text
}

/// An answer without the text up to its last `</think>`; empty if a thought did not end.
fn without_thought(answer: &str) -> &str {
    match answer.rsplit_once("</think>") {
        Some((_, content)) => content,
        None if answer.trim_start().starts_with("<think") => "",
        None => answer,
    }
}
