//! The course of a generation: asked for, served by the engine or drawn in a session, and ended.

use crate::detached::Detached;
use crate::error::exception;
use crate::progress::Progress;
use crate::service::{Arrival, Served, Service, failed};
use anser::chat::{ReplyEnd, ReplyParser};
use anser::{Draft, FinishReason, GenerateOptions, Likelihood, Want};
use anser_engine::{Event, Keep, Request, Start, Usage, Work};
use pyo3::prelude::*;
use self_cell::{MutBorrow, self_cell};
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

type Drawing<'a> = anser::Generation<'a>;

self_cell! {
    /// A generation together with the session it draws from.
    pub(super) struct Running {
        owner: MutBorrow<anser::Session>,
        #[covariant]
        dependent: Drawing,
    }
}

/// Where a generation is, and what it has given so far.
pub(super) struct Course {
    pub(super) phase: Phase,
    options: GenerateOptions,
    /// The parser of a chat's answer; without one the text is returned unchanged.
    parser: Option<ReplyParser>,
    pub(super) reasoning: String,
    pub(super) tokens: Vec<u32>,
    /// The likelihoods of the tokens, if they were asked for.
    pub(super) likelihoods: Option<Vec<Likelihood>>,
    /// The reason for which the engine ended the text of a chat.
    ended: Option<FinishReason>,
    /// The tokens of a generation that the engine serves.
    pub(super) usage: Usage,
    /// Whether the engine generates it.
    pub(super) is_served: bool,
    pub(super) finish: Option<FinishReason>,
}

/// What the engine is asked for.
pub(crate) struct Asked {
    pub(crate) start: Start,
    pub(crate) prompt: Vec<u32>,
    /// The number of most likely tokens to report with the log-probability of each token, if these are wanted.
    pub(crate) n_top: Option<usize>,
    pub(crate) keep: Keep,
}

pub(super) enum Phase {
    /// The model's engine is to generate it, and has not been asked.
    Unasked {
        service: Detached<Arc<Service>>,
        asked: Asked,
    },
    /// The model's engine generates it.
    Served(Served),
    /// The prompt has not been read.
    Waiting {
        session: anser::Session,
        prompt: Vec<u32>,
    },
    Running(Running),
    Ended,
}

impl Course {
    /// Takes the draft model out, of which this may be the last handle.
    pub(super) fn take_draft(&mut self) -> Option<Draft> {
        self.options.draft.take()
    }

    pub(super) fn new(phase: Phase, options: GenerateOptions, parser: Option<ReplyParser>) -> Course {
        Course {
            phase,
            options,
            parser,
            reasoning: String::new(),
            tokens: vec![],
            likelihoods: None,
            ended: None,
            usage: Usage::default(),
            is_served: false,
            finish: None,
        }
    }

    /// Hands the generation to the engine.
    pub(super) fn ask(&mut self) -> PyResult<()> {
        let Phase::Unasked { service, asked } = mem::replace(&mut self.phase, Phase::Ended) else { return Ok(()) };
        let Asked { start, prompt, n_top, keep } = asked;
        self.usage.n_prompt = prompt.len();
        let work = Work::Generate { choices: vec![self.options.clone()], n_top };
        let request = Request { start, keep, ..Request::new(prompt, work) };
        match service.submit(request) {
            Ok(served) => {
                self.phase = Phase::Served(served);
                Ok(())
            }
            Err(error) => {
                self.finish = Some(FinishReason::Cancelled);
                Err(error)
            }
        }
    }

    /// The next piece of a generation that the engine serves; `Some(None)` at the end, `None` if `next` gives nothing now.
    pub(super) fn next_served<N: IntoArrival>(
        &mut self,
        next: impl Fn(&Served) -> PyResult<N>,
    ) -> PyResult<Option<Option<String>>> {
        loop {
            let Phase::Served(served) = &self.phase else { return Ok(Some(None)) };
            if self.finish.is_some() && self.parser.is_some() {
                return Ok(Some(None));
            }
            let Some(arrival) = next(served)?.into_arrival() else { return Ok(None) };
            let text = match arrival {
                Arrival::Event(Event::Token { drawn, .. }) => {
                    self.tokens.push(drawn.id);
                    if let (Some(likelihoods), Some(likelihood)) = (&mut self.likelihoods, drawn.likelihood) {
                        likelihoods.push(likelihood);
                    }
                    continue;
                }
                Arrival::Event(Event::Text { piece, .. }) => Some(piece.text),
                Arrival::Event(Event::Ended { reason, .. }) if self.parser.is_none() => {
                    self.finish = Some(reason);
                    continue;
                }
                Arrival::Event(Event::Ended { reason, .. }) => {
                    self.ended = Some(reason);
                    None
                }
                Arrival::Event(Event::Done(_)) | Arrival::End => return Ok(Some(None)),
                Arrival::Event(Event::Failed(failure)) => return Err(failed(failure)),
                Arrival::Event(Event::Started { n_cached }) => {
                    self.usage.n_cached = n_cached;
                    continue;
                }
                Arrival::Event(Event::Scored(_) | Event::Embedding(_) | Event::State(_)) => continue,
            };
            let Some(parser) = &mut self.parser else { return Ok(Some(text)) };
            let step = match &text {
                Some(text) => parser.push(text),
                None => parser.finish(),
            };
            self.reasoning += &step.reasoning;
            self.finish = match step.end {
                Some(ReplyEnd::Turn) => Some(FinishReason::TurnEnd),
                Some(ReplyEnd::Stop(index)) => Some(FinishReason::StopText(index)),
                None => self.ended,
            };
            if !step.content.is_empty() {
                return Ok(Some(Some(step.content)));
            }
        }
    }

    pub(super) fn advance(&mut self) -> PyResult<Option<String>> {
        loop {
            let Phase::Running(running) = &mut self.phase else { return Ok(None) };
            if self.finish.is_some() {
                return Ok(None);
            }
            let piece = running.with_dependent_mut(|_, drawing| drawing.next()).transpose().map_err(exception)?;
            let Some(parser) = &mut self.parser else { return Ok(piece.map(|p| p.text)) };
            let step = match &piece {
                Some(piece) => parser.push(&piece.text),
                None => parser.finish(),
            };
            self.reasoning += &step.reasoning;
            self.finish = match step.end {
                Some(ReplyEnd::Turn) => Some(FinishReason::TurnEnd),
                Some(ReplyEnd::Stop(index)) => Some(FinishReason::StopText(index)),
                None => running.borrow_dependent().finish_reason(),
            };
            if !step.content.is_empty() {
                return Ok(Some(step.content));
            }
            // A thought may be long, and yields no piece: signals are checked for every token of it.
            Python::attach(|py| py.check_signals())?;
        }
    }

    /// Reads the prompt.
    pub(super) fn start(&mut self, mut progress: Progress) -> PyResult<()> {
        let Phase::Waiting { session, prompt } = &mut self.phase else { return Ok(()) };
        let prompt = mem::take(prompt);
        if !prompt.is_empty() {
            let report = |done, total| match self.options.cancel.is_cancelled() {
                true => ControlFlow::Break(()),
                false => progress.report(done, total),
            };
            let read = session.feed_for(&prompt, Want::LOGITS, report);
            match progress.result(read) {
                // The session stays in this state: Generation::end gives it back.
                Err(_) if self.options.cancel.is_cancelled() => return Ok(()),
                read => read?,
            };
        }
        let Phase::Waiting { session, .. } = mem::replace(&mut self.phase, Phase::Ended) else { return Ok(()) };
        let owner = MutBorrow::new(session);
        match Running::try_new_or_recover(owner, |session| session.borrow_mut().generate(&[], &self.options)) {
            Ok(running) => self.phase = Phase::Running(running),
            Err((session, error)) => {
                self.phase = Phase::Waiting { session: session.into_inner(), prompt: vec![] };
                return Err(exception(error));
            }
        }
        Ok(())
    }
}

/// What a way to look for the next event gives.
pub(super) trait IntoArrival {
    fn into_arrival(self) -> Option<Arrival>;
}

impl IntoArrival for Arrival {
    fn into_arrival(self) -> Option<Arrival> {
        Some(self)
    }
}

impl IntoArrival for Option<Arrival> {
    fn into_arrival(self) -> Option<Arrival> {
        self
    }
}
