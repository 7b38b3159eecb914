//! Reads an answer: finds its thought, its content and its end.

use super::{CHATML_END, ChatTemplate, Opening, TURN_END, TURN_MARK, Thinking};
use crate::stop::{StopError, StopMatcher, StopStep};

const THOUGHT_START: &str = "<think";
const THOUGHT_END: &str = "</think>";
const NEXT_TURN: &str = "\n\nUser:";
const FENCE_END: &str = "\n```";

/// Splits an answer into thought and content while it is generated, and finds its end.
///
/// The phase of the answer decides what ends it. While the model thinks, blank lines are part of the thought, so that
/// only `⏎⏎User:` (a turn that it makes up) ends it. After `</think>` blank lines before the first word of the content
/// are skipped; from then on a blank line ends the turn. An answer that starts with a blank line, where no thought came
/// before it, is empty. A function call also ends with its code fence.
///
/// In the form of G1h and later ✿ ends the turn wherever it comes, in ChatML `<|im_end|>` does, and blank lines are part of the content.
///
/// White space around the thought and around the content is dropped.
#[derive(Debug, Clone)]
pub struct ReplyParser {
    template: ChatTemplate,
    phase: Phase,
    /// Text of the current phase that cannot be assigned to a part of the answer yet.
    undecided: String,
    in_thought: StopMatcher,
    /// The first `n_turn_ends` of its stop texts end the turn, the others are the caller's.
    in_content: StopMatcher,
    n_turn_ends: usize,
    reasoning: Trimmed,
    content: Trimmed,
}

/// The phase of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The prompt ended with `Assistant:`; the model may still choose to think.
    Start,
    /// The model has written `<think` and no character of the thought.
    ThoughtOpening,
    Thought,
    /// The model has written `</think` or the fence of a call, and no character of the content.
    ContentOpening,
    Content,
    Ended,
}

/// The progress that a piece of an answer made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyStep {
    /// More of the thought.
    pub reasoning: String,
    /// More of the content.
    pub content: String,
    /// Set when the answer has ended: no more text is wanted.
    pub end: Option<ReplyEnd>,
}

/// The cause of an answer's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyEnd {
    /// The end of the turn.
    Turn,
    /// The caller's stop text of this index.
    Stop(usize),
}

/// An answer in its two parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The thought; empty if the model did not think.
    pub reasoning: String,
    /// The content, without the thought.
    pub content: String,
}

/// Splits a whole answer, generated after `opening`, as [`ReplyParser`] does, and drops the text after its end.
pub fn split_reply(text: &str, template: ChatTemplate, opening: impl Into<Opening>) -> Reply {
    let mut parser = ReplyParser::with_stop_texts(template, opening.into(), vec![]);
    let step = parser.push(text);
    let last = parser.finish();
    Reply { reasoning: step.reasoning + &last.reasoning, content: step.content + &last.content }
}

impl ReplyParser {
    /// A parser for the answer to a prompt of the form `template` that ended with `opening`. The texts of `stop` end the content
    /// too; a thought may contain them.
    ///
    /// # Errors
    /// A stop text is empty.
    pub fn new(template: ChatTemplate, opening: impl Into<Opening>, stop: Vec<String>) -> Result<Self, StopError> {
        match stop.iter().position(String::is_empty) {
            Some(index) => Err(StopError::Empty { index }),
            None => Ok(ReplyParser::with_stop_texts(template, opening.into(), stop)),
        }
    }

    /// [`ReplyParser::new`] for stop texts of which none is empty.
    fn with_stop_texts(template: ChatTemplate, opening: Opening, stop: Vec<String>) -> Self {
        let phase = match (template, opening) {
            (ChatTemplate::G1 | ChatTemplate::ChatMl, Opening::Answer(Thinking::Off)) => Phase::Start,
            (_, Opening::Answer(Thinking::On(_))) => Phase::ThoughtOpening,
            (_, Opening::Answer(Thinking::Off | Thinking::Fake | Thinking::FakeInline) | Opening::ToolCall) => {
                Phase::ContentOpening
            }
        };
        let next_turn = match template {
            ChatTemplate::G1 => NEXT_TURN,
            ChatTemplate::G1h => TURN_MARK,
            ChatTemplate::ChatMl => CHATML_END,
        };
        let mut in_content = vec![template.turn_end().to_string()];
        if opening == Opening::ToolCall {
            in_content.push(FENCE_END.to_string());
        }
        let n_turn_ends = in_content.len();
        in_content.extend(stop);
        ReplyParser {
            template,
            phase,
            undecided: String::new(),
            in_thought: StopMatcher::of_non_empty(vec![THOUGHT_END.to_string(), next_turn.to_string()]),
            in_content: StopMatcher::of_non_empty(in_content),
            n_turn_ends,
            reasoning: Trimmed::default(),
            content: Trimmed::default(),
        }
    }

    /// Takes the next piece of the answer. After the end of the answer pieces are ignored.
    pub fn push(&mut self, piece: &str) -> ReplyStep {
        let mut step = ReplyStep::default();
        let mut left = Some(piece.to_string());
        while let Some(text) = left {
            left = match self.phase {
                Phase::Start => self.start(text, &mut step),
                Phase::ThoughtOpening => self.open_thought(text),
                Phase::Thought => self.think(&text, &mut step),
                Phase::ContentOpening => self.open_content(text, &mut step),
                Phase::Content => self.say(&text, &mut step),
                Phase::Ended => None,
            };
        }
        step
    }

    /// Ends the answer and returns the text that was held back.
    pub fn finish(&mut self) -> ReplyStep {
        let mut step = ReplyStep::default();
        let undecided = std::mem::take(&mut self.undecided);
        match self.phase {
            Phase::Thought => {
                let held = self.in_thought.finish();
                let cut_tag = THOUGHT_END.trim_end_matches('>');
                step.reasoning = self.reasoning.push(held.strip_suffix(cut_tag).unwrap_or(&held));
            }
            Phase::Start | Phase::ContentOpening => step.content = self.content.push(without_bracket(&undecided)),
            Phase::Content => step.content = self.content.push(&self.in_content.finish()),
            Phase::ThoughtOpening | Phase::Ended => {}
        }
        self.phase = Phase::Ended;
        step
    }

    // Each of the following methods reads text in one phase, and returns the text that the next phase has to read.

    fn start(&mut self, text: String, step: &mut ReplyStep) -> Option<String> {
        self.undecided += &text;
        let (space, words) = split_leading_space(&self.undecided);
        if self.template == ChatTemplate::G1 && space.contains(TURN_END) {
            return self.end(ReplyEnd::Turn, step);
        }
        if let Some(thought) = words.strip_prefix(THOUGHT_START) {
            return self.enter(Phase::ThoughtOpening, thought.to_string());
        }
        if THOUGHT_START.starts_with(words) {
            return None;
        }
        self.enter(Phase::Content, words.to_string())
    }

    fn open_thought(&mut self, text: String) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        self.enter(Phase::Thought, without_bracket(&text).to_string())
    }

    fn think(&mut self, text: &str, step: &mut ReplyStep) -> Option<String> {
        let StopStep { emit, hit, rest } = self.in_thought.push(text);
        step.reasoning += &self.reasoning.push(&emit);
        match hit? {
            0 => self.enter(Phase::ContentOpening, format!(">{rest}")), // the bracket is skipped there
            _ => self.end(ReplyEnd::Turn, step),
        }
    }

    fn open_content(&mut self, text: String, step: &mut ReplyStep) -> Option<String> {
        self.undecided += &text;
        let (space, words) = split_leading_space(without_bracket(&self.undecided));
        let next_turn = NEXT_TURN.trim_start();
        let may_be_next = self.template == ChatTemplate::G1 && space.ends_with(TURN_END);
        if may_be_next && words.starts_with(next_turn) {
            return self.end(ReplyEnd::Turn, step);
        }
        if words.is_empty() || (may_be_next && next_turn.starts_with(words)) {
            return None;
        }
        self.enter(Phase::Content, words.to_string())
    }

    fn say(&mut self, text: &str, step: &mut ReplyStep) -> Option<String> {
        let StopStep { emit, hit, .. } = self.in_content.push(text);
        step.content += &self.content.push(&emit);
        match hit?.checked_sub(self.n_turn_ends) {
            None => self.end(ReplyEnd::Turn, step),
            Some(index) => self.end(ReplyEnd::Stop(index), step),
        }
    }

    fn enter(&mut self, phase: Phase, rest: String) -> Option<String> {
        self.phase = phase;
        self.undecided.clear();
        Some(rest)
    }

    fn end(&mut self, end: ReplyEnd, step: &mut ReplyStep) -> Option<String> {
        self.phase = Phase::Ended;
        self.undecided.clear();
        step.end = Some(end);
        None
    }
}

/// `text` without the `>` that completes `<think` or `</think`, with which the prompt may have ended.
fn without_bracket(text: &str) -> &str {
    text.strip_prefix('>').unwrap_or(text)
}

fn split_leading_space(text: &str) -> (&str, &str) {
    text.split_at(text.len() - text.trim_start().len())
}

/// Drops the white space around a text that arrives in pieces.
#[derive(Debug, Clone, Default)]
struct Trimmed {
    has_begun: bool,
    /// White space that is part of the text only if more follows.
    space: String,
}

impl Trimmed {
    fn push(&mut self, piece: &str) -> String {
        let piece = if self.has_begun { piece } else { piece.trim_start() };
        let words = piece.trim_end();
        let space = &piece[words.len()..];
        if words.is_empty() {
            self.space += space;
            return String::new();
        }
        self.has_begun = true;
        std::mem::replace(&mut self.space, space.to_string()) + words
    }
}
