//! `anser chat`

mod reader;
mod slash;
#[cfg(unix)]
mod terminal;

use crate::args::{ChatArgs, ChatFormat, GenerationArgs, Think};
use crate::commands;
use crate::interrupt;
use crate::output::Output;
use crate::printable::printable;
use crate::report::Failure;
use crate::term::{self, Spinner};
use anser::chat::{ChatTemplate, ThinkLength, Thinking};
use anser::{CancelToken, Conversation, ConversationOptions, Error, FinishReason, GenerateOptions, SamplerOptions};
use reader::{Line, Reader};
use slash::Slash;
use std::borrow::Cow;
use std::ops::ControlFlow;

/// The text that ends an answer on standard output. Answers contain no blank line, so that a program recognises their end.
const ANSWER_END: &str = "\n\n";

pub(crate) fn run(args: &ChatArgs) -> Result<(), Failure> {
    let model = args.model.load()?;
    let thinking = thinking(args.think);
    let cancel = CancelToken::default();
    let generate = GenerateOptions {
        sampler: sampler(&args.generation, thinking),
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
        cancel: cancel.clone(),
        ..GenerateOptions::default()
    };
    generate.sampler.validate(model.config().n_vocab)?;
    let template = match args.chat_format {
        ChatFormat::Auto => None,
        ChatFormat::G1 => Some(ChatTemplate::G1),
        ChatFormat::G1h => Some(ChatTemplate::G1h),
        ChatFormat::Chatml => Some(ChatTemplate::ChatMl),
    };
    let options = ConversationOptions { template, thinking, system: args.system.clone(), generate };
    let mut conversation = Conversation::new(&model, options)?;
    if let Some(state) = &args.from {
        commands::tell_origin(state, conversation.load(state)?);
    }
    let form = match conversation.template() {
        ChatTemplate::G1h => "turns are User✿…✿ Bot✿…✿",
        ChatTemplate::ChatMl => "turns are <|im_start|>user … <|im_end|>",
        _ => "turns are User: … Assistant: …",
    };
    let mut chat = Chat { conversation, cancel, sampling: &args.generation };
    let mut reader = Reader::new()?;
    let (name, device) = (printable(model.name()), printable(model.device()));
    term::remark(&format!("{name} on {device}; {form}; /help lists what can be done, Ctrl-D leaves"));

    let mut n_failed = 0;
    let mut was_interrupted = false;
    loop {
        let line = match reader.next()? {
            Line::Text(line) => line,
            Line::Interrupted if was_interrupted => return Ok(()),
            Line::Interrupted => {
                was_interrupted = true;
                term::note("Ctrl-C once more, or Ctrl-D, leaves");
                continue;
            }
            Line::End => break,
        };
        was_interrupted = false;
        match chat.take(&line) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(Failure::Usage(message) | Failure::Run(message)) => {
                n_failed += 1;
                term::complain(&message);
            }
            Err(end) => return Err(end),
        }
    }
    match n_failed {
        // A person at a terminal has seen the messages of failed lines; a script needs an exit code.
        0 => Ok(()),
        _ if reader.is_interactive() => Ok(()),
        n => Err(Failure::Run(format!("{n} of the lines failed, see above"))),
    }
}

struct Chat<'a> {
    conversation: Conversation,
    cancel: CancelToken,
    sampling: &'a GenerationArgs,
}

impl Chat<'_> {
    /// Executes a line. Returns `Break` if it is a command to leave.
    fn take(&mut self, line: &[u8]) -> Result<ControlFlow<()>, Failure> {
        let text = String::from_utf8_lossy(line);
        match Slash::parse(&text) {
            None if text.trim().is_empty() => {}
            None => self.answer(Some(&text))?,
            // The name of its file would differ from the bytes that were given.
            Some(_) if matches!(text, Cow::Owned(_)) => {
                return Err(Failure::Usage(format!("{text}: a command must be UTF-8 text")));
            }
            Some(command) => return self.obey(command?),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn obey(&mut self, command: Slash) -> Result<ControlFlow<()>, Failure> {
        match command {
            Slash::Exit => return Ok(ControlFlow::Break(())),
            Slash::Help => term::note(slash::HELP),
            Slash::Regen => self.answer(None)?,
            Slash::Reset => {
                let system = self.conversation.options_mut().system.clone();
                self.conversation.reset(system)?;
                term::remark("the conversation is forgotten");
            }
            Slash::System(text) => {
                self.conversation.reset(text.map(str::to_owned))?;
                term::remark(if text.is_some() {
                    "a new conversation with these instructions"
                } else {
                    "a new conversation"
                });
            }
            Slash::Think(mode) => {
                let options = self.conversation.options_mut();
                options.thinking = thinking(mode);
                options.generate.sampler = sampler(self.sampling, options.thinking);
            }
            Slash::Save(file) => {
                self.conversation.save(&file)?;
                let file = printable(&file.display().to_string());
                term::remark(&format!("saved; /load {file} goes on from here"));
            }
            Slash::Load(file) => commands::tell_origin(&file, self.conversation.load(&file)?),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Streams the answer to `text`, or another answer to the last one. Ctrl-C stops it.
    fn answer(&mut self, text: Option<&str>) -> Result<(), Failure> {
        self.cancel.reset();
        let _armed = interrupt::arm(&self.cancel);
        let spinner = Spinner::new("reading");
        let begun = match text {
            Some(text) => self.conversation.say(text),
            None => match self.conversation.regenerate() {
                Some(begun) => begun,
                None => return Err(Failure::Run("there is no message to answer again yet".into())),
            },
        };
        drop(spinner);
        let mut answer = match begun {
            Ok(answer) => answer,
            Err(Error::Cancelled) => {
                term::note("stopped; the message was not read");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut output = Output::new();
        let (mut has_thought, mut has_content) = (false, false);
        for piece in &mut answer {
            let piece = piece?;
            if !piece.reasoning.is_empty() {
                has_thought = true;
                term::aside(&piece.reasoning);
            }
            if !piece.content.is_empty() {
                if has_thought && !has_content {
                    term::aside(ANSWER_END);
                }
                has_content = true;
                output.write(piece.content)?;
            }
        }
        output.write(ANSWER_END)?;
        match answer.finish_reason() {
            Some(FinishReason::Cancelled) => term::remark("stopped"),
            Some(FinishReason::Length) => term::remark("ended after --max-tokens"),
            _ => {}
        }
        Ok(())
    }
}

fn thinking(mode: Think) -> Thinking {
    match mode {
        Think::On => Thinking::On(ThinkLength::Unhinted),
        Think::Off => Thinking::Off,
        Think::Fake => Thinking::Fake,
    }
}

fn sampler(sampling: &GenerationArgs, thinking: Thinking) -> SamplerOptions {
    sampling.sampler(match thinking {
        Thinking::On(_) => SamplerOptions::thinking(),
        Thinking::Off | Thinking::Fake | Thinking::FakeInline => SamplerOptions::default(),
    })
}
