//! Requests of the engine that generate texts, and their whole results.

use crate::answer::{Delta, End, EventReader, TextReader, Update};
use crate::calls::{self, Call, CallReader};
use crate::chat::Prompt;
use crate::error::ApiError;
use crate::flight::{Counts, Flight, Job};
use crate::likelihoods::{Likelihoods, TokenInfo};
use crate::served::Served;
use crate::transcripts::Recorder;
use crate::wire::sampling::Drawing;
use anser::chat::ReplyParser;
use anser_engine::{Keep, Request, Start, Tenant, Usage, Work};
use std::time::Instant;

/// One prompt and the texts that shall follow it.
#[derive(Debug)]
pub(crate) struct Generation<'a> {
    pub(crate) served: &'a Served,
    pub(crate) tenant: Tenant,
    pub(crate) start: Start,
    pub(crate) prompt: Vec<u32>,
    /// The lengths of beginnings of the prompt, in tokens, after which the state is kept for later prompts.
    pub(crate) turns: Vec<usize>,
    pub(crate) drawing: &'a Drawing,
    /// The number of most likely tokens to report with each token's log-probability; `None` reports neither.
    pub(crate) n_top: Option<usize>,
    pub(crate) deadline: Instant,
}

impl Generation<'_> {
    /// The request for texts as they are drawn. Stop texts end them.
    pub(crate) fn plain(self) -> Result<Job, ApiError> {
        self.job(|drawing| drawing.stop.clone(), |_| Ok((None, None)), true, None)
    }

    /// The request for answers to the prompt of a chat. `calls` makes what finds calls in each answer.
    pub(crate) fn answers(self, prompt: &Prompt, calls: impl Fn() -> Option<CallReader>) -> Result<Job, ApiError> {
        let readers = |stop: &[String]| Ok((Some(prompt.parser(stop)?), calls()));
        self.job(|_| vec![], readers, prompt.continues(), Some(prompt))
    }

    fn job(
        self,
        stop: impl Fn(&Drawing) -> Vec<String>,
        readers: impl Fn(&[String]) -> Result<(Option<ReplyParser>, Option<CallReader>), ApiError>,
        is_content: bool,
        answered: Option<&Prompt>,
    ) -> Result<Job, ApiError> {
        let tokenizer = self.served.model.tokenizer()?;
        let (mut choices, mut texts) = (vec![], vec![]);
        for choice in 0..self.drawing.n {
            let options = self.drawing.options(choice, stop(self.drawing));
            let likelihoods = self.n_top.map(|_| Likelihoods::new(tokenizer.clone(), is_content));
            let (parser, calls) = readers(&self.drawing.stop)?;
            texts.push(TextReader::new(parser, options.cancel.clone(), likelihoods, calls));
            choices.push(options);
        }
        let keep = Keep { turns: self.turns, answer: answered.is_some(), state: false };
        // What follows a state has no text that says all that was read.
        let answered = answered.filter(|_| matches!(self.start, Start::Fresh));
        let recorder = answered.map(|prompt| {
            Recorder::new(&self.served.transcripts, self.tenant, prompt.text(), &self.prompt, self.drawing.n)
        });
        let work = Work::Generate { choices, n_top: self.n_top };
        let request = Request {
            start: self.start,
            tenant: self.tenant,
            deadline: Some(self.deadline),
            keep,
            ..Request::new(self.prompt, work)
        };
        Ok(Job { request, reader: EventReader { texts, tokenizer: None, recorder } })
    }
}

/// A whole text.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pub(crate) reasoning: String,
    pub(crate) content: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) tokens: Vec<TokenInfo>,
    pub(crate) end: Option<End>,
}

impl Text {
    /// Takes more of it in.
    pub(crate) fn push(&mut self, delta: Delta) {
        self.reasoning += &delta.reasoning;
        self.content += &delta.content;
        calls::join(&mut self.calls, delta.calls);
        self.tokens.extend(delta.tokens);
    }
}

/// What a request of the engine gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The texts of a generation.
    pub(crate) texts: Vec<Text>,
    /// The tokens of a prompt that was scored, but for those without a log-probability at its beginning.
    pub(crate) scored: Vec<TokenInfo>,
    pub(crate) counts: Counts,
}

impl Outcome {
    /// Takes the next update in.
    pub(crate) fn push(&mut self, update: Update) {
        match update {
            Update::Delta { choice, delta } => self.text(choice).push(delta),
            Update::Ended { choice, delta, end, n_reasoning } => {
                self.counts.n_reasoning += n_reasoning;
                let text = self.text(choice);
                text.push(delta);
                text.end = Some(end);
            }
            Update::Scored(tokens) => self.scored.extend(tokens),
            Update::Done(usage) => self.counts.add(usage),
            Update::Embedding(_) | Update::State(_) | Update::Failed(_) => {}
        }
    }

    fn text(&mut self, choice: usize) -> &mut Text {
        if choice >= self.texts.len() {
            self.texts.resize_with(choice + 1, Text::default);
        }
        &mut self.texts[choice]
    }
}

impl Counts {
    pub(crate) fn add(&mut self, usage: Usage) {
        self.n_prompt += usage.n_prompt;
        self.n_cached += usage.n_cached;
        self.n_generated += usage.n_generated;
    }

    /// Adds the numbers of another request of the engine.
    pub(crate) fn merge(&mut self, other: Counts) {
        self.n_prompt += other.n_prompt;
        self.n_cached += other.n_cached;
        self.n_generated += other.n_generated;
        self.n_reasoning += other.n_reasoning;
    }
}

/// The outcome of each of the `n` requests of a flight. Errors: the first one of any of them.
pub(crate) async fn collect(mut flight: Flight, n: usize) -> Result<Vec<Outcome>, ApiError> {
    let mut outcomes: Vec<Outcome> = (0..n).map(|_| Outcome::default()).collect();
    while let Some((index, update)) = flight.next().await {
        if let Some(outcome) = outcomes.get_mut(index) {
            outcome.push(update?);
        }
    }
    Ok(outcomes)
}
