//! The prompt of a conversation: its text, its tokens, and where its turns end.

use crate::error::ApiError;
use anser::Tokenizer;
use anser::chat::{ChatTemplate, Message, Opening, ReplyParser, Role, Thinking};

/// A conversation as the model reads it.
#[derive(Debug)]
pub(crate) struct Prompt {
    text: String,
    /// The lengths of beginnings of the text, in bytes, that end with turns which later prompts may share.
    ends: Vec<usize>,
    template: ChatTemplate,
    opening: Opening,
    /// The beginning of the answer that the conversation ends with, if it does.
    begun: String,
}

/// The tokens of a prompt.
#[derive(Debug)]
pub(crate) struct PromptTokens {
    pub(crate) ids: Vec<u32>,
    /// The numbers of tokens after which the state is worth keeping.
    pub(crate) turns: Vec<usize>,
}

impl Prompt {
    /// The prompt for the next answer. If the last message is an answer, it is continued: there is no thought then.
    pub(crate) fn new(template: ChatTemplate, messages: &[Message], opening: Opening) -> Prompt {
        let (turns, begun) = match messages.split_last() {
            Some((last, before)) if last.role == Role::Assistant => (before, template.clean_answer(&last.content)),
            _ => (messages, String::new()),
        };
        let opening = if begun.is_empty() { opening } else { Opening::Answer(Thinking::Off) };
        let opening_len = template.render(&[], opening).len();
        let n_system = turns.iter().take_while(|message| message.role == Role::System).count();
        let whole = template.render(turns, opening);
        let end_of = |rendered: &str| rendered.len() - opening_len;
        let mut ends = vec![end_of(&template.render(&turns[..n_system], opening)), end_of(&whole)];
        ends.retain(|&end| end > 0);
        ends.dedup();
        let text = match begun.is_empty() {
            true => whole,
            false => whole + template.after_opening(opening) + &begun,
        };
        Prompt { text, ends, template, opening, begun }
    }

    /// The prompt with what usually comes between the opening and the first word, for an answer whose grammar begins with that word.
    pub(crate) fn up_to_content(mut self) -> Prompt {
        if self.begun.is_empty() {
            self.text += self.template.after_opening(self.opening);
        }
        self
    }

    /// The prompt for a session that has read a text which ends with `tail`: the end of its last turn comes first, if it is missing.
    /// Without a `tail` the text is taken to be complete.
    pub(crate) fn after(mut self, tail: Option<&str>) -> Prompt {
        self.ends.clear();
        if let Some(tail) = tail {
            let opening = self.template.render(&[], self.opening);
            let missing = self.template.render_turn(tail, &[], self.opening);
            self.text.insert_str(0, missing.strip_suffix(&opening).unwrap_or_default());
        }
        self
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn tokens(&self, tokenizer: &Tokenizer) -> PromptTokens {
        let ids = self.template.encode(tokenizer, &self.text);
        let n_tokens = |&end: &usize| {
            let before = self.template.encode(tokenizer, &self.text[..end]);
            // A token that goes across the end of a turn has no state at the end.
            ids.starts_with(&before).then_some(before.len())
        };
        let turns = self.ends.iter().filter_map(n_tokens).collect();
        PromptTokens { ids, turns }
    }

    /// What reads the answer. `stop`: texts that end it.
    pub(crate) fn parser(&self, stop: &[String]) -> Result<ReplyParser, ApiError> {
        let parser = ReplyParser::new(self.template, self.opening, stop.to_vec());
        let mut parser = parser.map_err(|error| ApiError::invalid("stop", format!("stop: {error}")))?;
        if !self.begun.is_empty() {
            // The answer has begun: what follows continues its content.
            parser.push(&self.begun);
        }
        Ok(parser)
    }

    /// Whether the answer's text is content from its first character on.
    pub(crate) fn continues(&self) -> bool {
        !self.begun.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Prompt;
    use anser::chat::{ChatTemplate, Message, Thinking};

    const TALK: [(&str, &str); 2] = [("Be brief.", "hi"), ("S\n\n\nT", "a\n\nUser: b")];

    #[test]
    fn turns_end_where_later_prompts_may_go_on() {
        let tokenizer = anser::Tokenizer::world();
        for template in [ChatTemplate::G1, ChatTemplate::G1h] {
            for (system, user) in TALK {
                let messages = [Message::system(system), Message::user(user)];
                let prompt = Prompt::new(template, &messages, Thinking::Off.into());
                let tokens = prompt.tokens(&tokenizer);
                let read = |n: usize| String::from_utf8(tokenizer.decode(&tokens.ids[..n]).unwrap()).unwrap();
                assert_eq!(tokens.turns.len(), 2, "{prompt:?}");
                let later =
                    [Message::system(system), Message::user(user), Message::assistant("yo"), Message::user("x")];
                let later = template.render(&later, Thinking::Off);
                assert!(tokens.turns.iter().all(|&n| later.starts_with(&read(n))), "{prompt:?}");
                assert!(prompt.text().starts_with(&read(tokens.turns[1])));
            }
        }
    }

    #[test]
    fn a_last_answer_is_continued() {
        let messages = [Message::user("hi"), Message::assistant("<think>hm</think>\n\nIt  is\n\nso ")];
        let prompt = Prompt::new(ChatTemplate::G1, &messages, Thinking::Fake.into());
        assert_eq!(prompt.text(), "User: hi\n\nAssistant: It  is\nso");
        let step = prompt.parser(&[]).unwrap().push(" good.\n\nUser: x");
        assert_eq!((step.content.as_str(), step.end.is_some()), (" good.", true));
        let newer = Prompt::new(ChatTemplate::G1h, &messages, Thinking::Off.into());
        assert_eq!(newer.text(), "User✿hi✿\nBot✿<think></think>It  is\nso");
        let empty = Prompt::new(ChatTemplate::G1, &[Message::user("hi"), Message::assistant("")], Thinking::Off.into());
        assert_eq!(empty.text(), "User: hi\n\nAssistant:");
    }
}
