//! A conversation: turns rendered as the model was trained on them, its answers streamed, every token read once.

use crate::chat::{ChatTemplate, Message, Opening, Reply, ReplyEnd, ReplyParser, Thinking};
use crate::error::Error;
use crate::generate::{FinishReason, GenerateOptions, Generation};
use crate::model::Model;
use crate::session::{Session, Want};
use crate::state_file::StateOrigin;
use std::ops::ControlFlow;
use std::path::Path;

/// The options of a conversation.
#[derive(Debug, Clone, Default)]
pub struct ConversationOptions {
    /// The format of the turns; `None` takes the one that the model was trained with ([`Model::chat_template`]).
    pub template: Option<ChatTemplate>,
    /// Whether the model thinks before it answers.
    pub thinking: Thinking,
    /// Instructions for the whole conversation.
    pub system: Option<String>,
    /// The options with which answers are generated. Their `stop` texts end an answer early.
    pub generate: GenerateOptions,
}

/// A conversation with one model. The state carries the earlier turns, so that a new turn takes the time of its own
/// tokens only.
#[derive(Debug)]
pub struct Conversation {
    session: Session,
    options: ConversationOptions,
    history: Vec<Message>,
    /// The text that the session has read or will read first. The next turn starts according to the end of this text.
    read: String,
    /// The session before the last answer's opening, and the text that it had read.
    before_answer: Option<(Session, String)>,
    /// Whether the last answer had a thought, which is no part of the conversation and is removed before the next turn.
    has_thought: bool,
    /// The number of times that the last answer was generated again. It is added to a fixed seed, so that answers differ.
    n_regenerated: u64,
}

/// A piece of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerPiece {
    /// More of the thought.
    pub reasoning: String,
    /// More of the content.
    pub content: String,
}

/// An answer that is being generated: iterate for its pieces. If it is dropped early, the pieces up to then stay in the
/// history.
#[derive(Debug)]
pub struct Answer<'a> {
    generation: Generation<'a>,
    parser: ReplyParser,
    reply: Reply,
    end: Option<FinishReason>,
    history: &'a mut Vec<Message>,
    read: &'a mut String,
    has_thought: &'a mut bool,
    template: ChatTemplate,
}

impl Conversation {
    /// A new conversation.
    ///
    /// # Errors
    /// If the model has no tokenizer, or the device no memory for another state.
    pub fn new(model: &Model, options: ConversationOptions) -> Result<Conversation, Error> {
        model.tokenizer()?;
        Ok(Conversation {
            session: model.session()?,
            options,
            history: vec![],
            read: String::new(),
            before_answer: None,
            has_thought: false,
            n_regenerated: 0,
        })
    }

    /// How turns are written.
    pub fn template(&self) -> ChatTemplate {
        self.options.template.unwrap_or_else(|| self.session.model().chat_template())
    }

    /// The turns so far; answers without their thoughts.
    pub fn history(&self) -> &[Message] {
        &self.history
    }

    /// The options of the conversation. Changes take effect with the next turn.
    pub fn options_mut(&mut self) -> &mut ConversationOptions {
        &mut self.options
    }

    /// Forgets everything; `system` gives new instructions.
    ///
    /// # Errors
    /// If the device fails.
    pub fn reset(&mut self, system: Option<String>) -> Result<(), Error> {
        self.session.reset()?;
        self.options.system = system;
        self.begin_anew(String::new());
        Ok(())
    }

    fn begin_anew(&mut self, read: String) {
        self.history.clear();
        self.read = read;
        self.before_answer = None;
        self.has_thought = false;
    }

    /// Saves the state of the conversation, see [`Session::save_state`]. The texts of the history are not saved.
    ///
    /// # Errors
    /// If the file cannot be written, or is one that the model is read from.
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.session.model().check_output(&path)?;
        self.drop_thought()?;
        let missing = self.template().missing_end(&self.read);
        if !self.session.is_fresh() && !missing.is_empty() {
            self.feed(missing)?;
        }
        self.session.save_state(path)
    }

    /// Continues from a saved state, which is assumed to end with a turn, or begins with a tuned initial state, see
    /// [`Session::load_state`].
    ///
    /// # Errors
    /// If the file is damaged or of another model; the conversation is unchanged then.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<StateOrigin, Error> {
        let origin = self.session.load_state(path)?;
        let read = if self.session.is_fresh() { "" } else { self.template().between_turns() };
        self.begin_anew(read.into());
        Ok(origin)
    }

    /// Reads `text` as a turn of the user and generates the answer.
    ///
    /// # Errors
    /// Options out of range; [`Error::Cancelled`] while the turn is read: the conversation is as before then.
    pub fn say(&mut self, text: &str) -> Result<Answer<'_>, Error> {
        self.drop_thought()?;
        let opening = Opening::from(self.options.thinking);
        let message = Message::user(text);
        let system = self.options.system.iter().filter(|_| self.session.is_fresh()).map(Message::system);
        let new: Vec<Message> = system.chain([message.clone()]).collect();
        let template = self.template();
        let prompt = match self.session.is_fresh() {
            true => template.render(&new, opening),
            false => template.render_turn(&self.read, &new, opening),
        };
        let turn = prompt.strip_suffix(opening.text(template)).unwrap_or(&prompt);
        let before = (self.session.fork()?, self.read.clone());
        if let Err(error) = self.feed(turn) {
            (self.session, self.read) = before;
            return Err(error);
        }
        self.before_answer = Some((self.session.fork()?, self.read.clone()));
        self.history.push(message);
        self.n_regenerated = 0;
        self.answer(opening)
    }

    /// Removes the last answer and generates another one; `None` if there is no answer yet.
    ///
    /// # Errors
    /// As [`Conversation::say`].
    pub fn regenerate(&mut self) -> Option<Result<Answer<'_>, Error>> {
        self.before_answer.as_ref()?;
        Some(self.answer_anew())
    }

    fn answer_anew(&mut self) -> Result<Answer<'_>, Error> {
        if self.history.last().is_some_and(|m| m.role == crate::chat::Role::Assistant) {
            self.history.pop();
        }
        self.return_to_before_answer()?;
        self.n_regenerated += 1;
        self.answer(Opening::from(self.options.thinking))
    }

    fn answer(&mut self, opening: Opening) -> Result<Answer<'_>, Error> {
        let mut options = self.options.generate.clone();
        let template = self.template();
        let parser = ReplyParser::new(template, opening, std::mem::take(&mut options.stop))
            .map_err(|e| Error::Option { option: "stop", reason: e.to_string() })?;
        options.sampler.seed = options.sampler.seed.map(|s| s.wrapping_add(self.n_regenerated));
        self.read.push_str(opening.text(template));
        let opening = template.encode(self.session.model().tokenizer()?, opening.text(template));
        Ok(Answer {
            generation: self.session.generate(&opening, &options)?,
            parser,
            reply: Reply::default(),
            end: None,
            history: &mut self.history,
            read: &mut self.read,
            has_thought: &mut self.has_thought,
            template,
        })
    }

    /// Reads `text`.
    fn feed(&mut self, text: &str) -> Result<(), Error> {
        let cancel = self.options.generate.cancel.clone();
        let progress = |_, _| if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let tokens = self.template().encode(self.session.model().tokenizer()?, text);
        self.session.feed_for(&tokens, Want::NOTHING, progress)?;
        self.read.push_str(text);
        Ok(())
    }

    fn return_to_before_answer(&mut self) -> Result<(), Error> {
        if let Some((session, read)) = &self.before_answer {
            self.session = session.fork()?;
            self.read.clone_from(read);
        }
        Ok(())
    }

    /// Returns to the state before the last answer and reads the answer without its thought: models are trained on
    /// histories without old thoughts.
    fn drop_thought(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.has_thought) {
            return Ok(());
        }
        self.return_to_before_answer()?;
        let template = self.template();
        match self.history.last().map(|answer| template.answer_turn(&answer.content)) {
            Some(turn) => self.feed(&turn),
            None => Ok(()),
        }
    }
}

impl Answer<'_> {
    /// The reason for which the answer ended; `None` while it goes on.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.end
    }

    /// Tokens drawn so far.
    pub fn tokens(&self) -> &[u32] {
        self.generation.tokens()
    }

    /// Thought and content so far.
    pub fn reply(&self) -> &Reply {
        &self.reply
    }

    fn advance(&mut self) -> Result<Option<AnswerPiece>, Error> {
        while self.end.is_none() {
            let step = match self.generation.next() {
                Some(piece) => self.parser.push(&piece?.text),
                None => {
                    self.end = self.generation.finish_reason();
                    self.parser.finish()
                }
            };
            self.end = self.end.or(step.end.map(|end| match end {
                ReplyEnd::Turn => FinishReason::TurnEnd,
                ReplyEnd::Stop(index) => FinishReason::StopText(index),
            }));
            self.reply.reasoning += &step.reasoning;
            self.reply.content += &step.content;
            let piece = AnswerPiece { reasoning: step.reasoning, content: step.content };
            if piece != AnswerPiece::default() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

impl Iterator for Answer<'_> {
    type Item = Result<AnswerPiece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl Drop for Answer<'_> {
    /// Enters the answer into the history, and appends the text as the model wrote it to the text that has been read.
    fn drop(&mut self) {
        let mut text = String::from_utf8_lossy(&self.generation.text_bytes()).into_owned();
        if self.end == Some(FinishReason::TurnEnd) {
            // The token that ended the turn may have more text after the end. The session has not read it yet, and will
            // read only the text up to the end.
            let end = self.template.turn_end();
            let surplus = text.rfind(end).map_or(0, |at| text.len() - at - end.len());
            if self.generation.shorten_pending(surplus) {
                text.truncate(text.len() - surplus);
            }
        }
        self.read.push_str(&text);
        *self.has_thought = !self.reply.reasoning.is_empty();
        self.history.push(Message::assistant(std::mem::take(&mut self.reply.content)));
    }
}
