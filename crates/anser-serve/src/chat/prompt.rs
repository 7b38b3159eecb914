//! The prompt of a conversation: its text, its tokens, and where its turns end.

use crate::error::ApiError;
use crate::transcripts::Transcripts;
use anser::Tokenizer;
use anser::chat::{ChatTemplate, Message, Opening, ReplyParser, Role, Thinking};
use anser_engine::Tenant;

/// A conversation as the model reads it.
#[derive(Debug)]
pub(crate) struct Prompt {
    text: String,
    /// The lengths of beginnings of the text, in bytes, that end with turns which later prompts may share.
    ends: Vec<usize>,
    /// The lengths of beginnings of the text, in bytes, that may have been the prompt for the last answer in it.
    answered: Vec<usize>,
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
        // Where an answer stands in later prompts as it was opened, the state after the opening serves them, too, and the opening is not
        // read in a step of its own.
        let answer = template.render(&[Message::assistant("x")], opening);
        let stays = answer.starts_with(&template.render(&[], opening));
        let last_end = if stays { whole.len() } else { end_of(&whole) };
        let mut ends = vec![end_of(&template.render(&turns[..n_system], opening)), last_end];
        ends.retain(|&end| end > 0);
        ends.dedup();
        let plain = Opening::Answer(Thinking::Off);
        let last_answer = turns.iter().rposition(|message| message.role == Role::Assistant);
        let before_answer = last_answer.map(|at| template.render(&turns[..at], plain));
        let before_answer = before_answer.filter(|before| whole.starts_with(before));
        let of_content = |before: String| [before.len(), before.len() + template.after_opening(plain).len()];
        let mut answered = before_answer.map_or(vec![], |before| of_content(before).to_vec());
        answered.dedup();
        let text = match begun.is_empty() {
            true => whole,
            false => whole + template.after_opening(opening) + &begun,
        };
        Prompt { text, ends, answered, template, opening, begun }
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
        self.answered.clear();
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

    /// The tokens, those of `tenant`'s last answer as they were drawn.
    pub(crate) fn tokens(&self, tokenizer: &Tokenizer, transcripts: &Transcripts, tenant: Tenant) -> PromptTokens {
        let known = transcripts.beginning(tenant, tokenizer, &self.text, &self.answered).unwrap_or_default();
        let ids_up_to = |end: usize| match self.text.get(known.n_bytes..end) {
            Some(rest) => [&known.ids[..], &self.template.encode(tokenizer, rest)].concat(),
            None => self.template.encode(tokenizer, &self.text[..end]),
        };
        let ids = ids_up_to(self.text.len());
        let n_tokens = |&end: &usize| {
            let before = ids_up_to(end);
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
    use crate::transcripts::{Recorder, Transcripts};
    use anser::chat::{ChatTemplate, Message, Thinking};
    use anser_engine::Tenant;
    use std::sync::Arc;

    const TALK: [(&str, &str); 2] = [("Be brief.", "hi"), ("S\n\n\nT", "a\n\nUser: b")];

    #[test]
    fn turns_end_where_later_prompts_may_go_on() {
        let tokenizer = anser::Tokenizer::world();
        for template in [ChatTemplate::G1, ChatTemplate::G1h] {
            for (system, user) in TALK {
                let messages = [Message::system(system), Message::user(user)];
                let prompt = Prompt::new(template, &messages, Thinking::Off.into());
                let tokens = prompt.tokens(&tokenizer, &Transcripts::default(), Tenant(0));
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
    fn an_answer_comes_back_as_the_tokens_that_were_drawn() {
        let tokenizer = anser::Tokenizer::world();
        // The other forms have an empty thought before an answer, which later prompts leave out.
        let template = ChatTemplate::G1;
        let transcripts = Arc::new(Transcripts::default());
        let asked = [Message::system("S"), Message::user("hi")];
        let opening = Thinking::Off.into();
        let content = template.after_opening(opening).to_owned() + "aaaaaaaa";
        let prompt = Prompt::new(template, &asked, opening);
        let read = prompt.tokens(&tokenizer, &transcripts, Tenant(3));
        let mut recorder = Recorder::new(&transcripts, Tenant(3), prompt.text(), &read.ids, 1);
        // Byte by byte, as no tokenizer would have it.
        content.bytes().for_each(|byte| recorder.drawn(0, u32::from(byte) + 1));
        recorder.ended(0);
        let mut talk = [asked.to_vec(), vec![Message::assistant("aaaaaaaa"), Message::user("so?")]].concat();
        let later = Prompt::new(template, &talk, opening);
        let tokens = later.tokens(&tokenizer, &transcripts, Tenant(3));
        assert_eq!(tokenizer.decode(&tokens.ids).unwrap(), later.text().as_bytes());
        let drawn: Vec<u32> = content.bytes().map(|byte| u32::from(byte) + 1).collect();
        assert!(tokens.ids.starts_with(&[read.ids, drawn].concat()));
        assert_eq!(tokens.turns.len(), 2);
        assert_eq!(
            tokens.turns.last(),
            Some(&tokens.ids.len()),
            "the opening stays, so that it is cached with the turn"
        );
        let plain = template.encode(&tokenizer, later.text());
        assert_eq!(later.tokens(&tokenizer, &transcripts, Tenant(4)).ids, plain, "another tenant");
        talk[2] = Message::assistant("aaaaaaab");
        let edited = Prompt::new(template, &talk, opening);
        let plain = template.encode(&tokenizer, edited.text());
        assert_eq!(edited.tokens(&tokenizer, &transcripts, Tenant(3)).ids, plain, "another answer");
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
