//! `POST /v1/chat/completions`

use crate::answer::{Delta as Piece, Update};
use crate::app::{App, Caller};
use crate::blocking;
use crate::body::Json;
use crate::chat::ChatInput;
use crate::error::{ApiError, json};
use crate::flight::{Counts, Flight, Job};
use crate::generate::{self, Generation, Outcome, Text};
use crate::served::Served;
use crate::sse::{self, Events, Writer};
use crate::wire::chat::{
    Answer, CalledFunction, Choice, ChunkChoice, Delta, Head, Logprobs, Message, ToolCall, finish_reason,
};
use crate::wire::sampling::{Drawing, Rules, Sampling};
use crate::wire::stream::{Sending, Streaming, check_top};
use anser_engine::{Start, Tenant};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;

/// The most tokens of an answer where the request does not say.
const DEFAULT_MAX_TOKENS: usize = 4096;

#[derive(Debug, Deserialize)]
struct Reporting {
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    /// The named state that the conversation begins from.
    state: Option<String>,
}

impl Reporting {
    /// The number of most likely tokens to report with the log-probability of each token.
    fn check(&self) -> Result<Option<usize>, ApiError> {
        match (self.logprobs.unwrap_or(false), self.top_logprobs) {
            (true, n) => check_top("top_logprobs", n.unwrap_or(0)).map(Some),
            (false, None | Some(0)) => Ok(None),
            (false, Some(_)) => {
                Err(ApiError::invalid("top_logprobs", "top_logprobs: only a request with \"logprobs\": true has any"))
            }
        }
    }
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    body: Json,
) -> Result<Response<Body>, ApiError> {
    let Prepared { served, job, sending, drawing, has_logprobs } =
        blocking::prepared(&app, tenant, body, prepare).await?;
    let object = match sending {
        Sending::Whole => "chat.completion",
        Sending::Streamed { .. } => "chat.completion.chunk",
    };
    let head = served.head("chatcmpl-", object);
    let flight = Flight::start(&app, &served, &head.id, vec![job])?;
    let mut response = match sending {
        Sending::Streamed { with_usage } => {
            let writer = ChunkWriter { head, n: drawing.n, has_logprobs, with_usage, counts: Counts::default() };
            sse::respond(flight, writer, app.bounds.ping_time)
        }
        Sending::Whole => {
            let outcome = generate::collect(flight, 1).await?.pop().unwrap_or_default();
            json(StatusCode::OK, &whole(&head, outcome, has_logprobs))
        }
    };
    response.headers_mut().insert("x-anser-seed", HeaderValue::from(drawing.seed));
    Ok(response)
}

struct Prepared {
    served: Arc<Served>,
    job: Job,
    sending: Sending,
    drawing: Drawing,
    has_logprobs: bool,
}

fn prepare(app: &Arc<App>, tenant: Tenant, body: &Json) -> Result<Prepared, ApiError> {
    let input: ChatInput = body.parse()?;
    let served = app.served(input.model.as_deref())?.clone();
    let (sampling, reporting): (Sampling, Reporting) = (body.parse()?, body.parse()?);
    let sending = body.parse::<Streaming>()?.check()?;
    let chat = input.check(&served)?;
    let rules = Rules {
        max_n: served.max_n,
        max_tokens: app.bounds.max_tokens,
        default_max_tokens: DEFAULT_MAX_TOKENS,
        n_vocab: served.n_vocab(),
        thinking: chat.thinking,
        grammar: app.compiled(&served, chat.grammar(app.extra_grammars)?)?,
    };
    let drawing = sampling.check(&rules)?;
    let n_top = reporting.check()?;
    let (prompt, start) =
        match reporting.state.map(|name| app.states.of_model(tenant, &name, served.name())).transpose()? {
            None => (chat.prompt(&served), Start::Fresh),
            Some(state) if state.tuned.is_some() => (chat.prompt(&served), state.start()),
            Some(state) => (chat.prompt(&served).after(state.tail.as_deref()), state.start()),
        };
    let tokens = prompt.tokens(served.model.tokenizer()?, &served.transcripts, tenant);
    let generation = Generation {
        served: &served,
        tenant,
        start,
        prompt: tokens.ids,
        turns: tokens.turns,
        drawing: &drawing,
        n_top,
        deadline: Instant::now() + app.bounds.request_time,
    };
    let job = generation.answers(&prompt, || chat.call_reader())?;
    Ok(Prepared { served, job, sending, drawing, has_logprobs: n_top.is_some() })
}

fn whole(head: &Head, outcome: Outcome, has_logprobs: bool) -> Answer<'_, Choice> {
    let choice = |(index, text): (usize, Text)| Choice {
        index,
        logprobs: has_logprobs.then(|| text.tokens[..].into()),
        message: Message {
            role: "assistant",
            content: Some(text.content).filter(|content| text.calls.is_empty() || !content.is_empty()),
            refusal: None,
            reasoning_content: text.reasoning,
            tool_calls: text.calls.into_iter().map(ToolCall::from).collect(),
        },
        finish_reason: finish_reason(text.end),
    };
    let choices = outcome.texts.into_iter().enumerate().map(choice).collect();
    Answer { head, choices, usage: Some(outcome.counts.into()) }
}

/// Writes the chunks of a streamed answer.
struct ChunkWriter {
    head: Head,
    n: usize,
    has_logprobs: bool,
    with_usage: bool,
    counts: Counts,
}

impl ChunkWriter {
    fn send(&self, index: usize, delta: Delta, logprobs: Option<Logprobs>, end: Option<&'static str>, to: &mut Events) {
        let choice = ChunkChoice { index, delta, logprobs, finish_reason: end };
        to.data(&Answer { head: &self.head, choices: vec![choice], usage: None });
    }

    /// Sends a piece of a text, if there is anything in it.
    fn piece(&self, index: usize, piece: Piece, to: &mut Events) {
        let Piece { reasoning, content, calls, tokens } = piece;
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        if !reasoning.is_empty() {
            self.send(index, Delta { reasoning_content: some(reasoning), ..Delta::default() }, None, None, to);
        }
        if !content.is_empty() || !tokens.is_empty() {
            let logprobs = self.has_logprobs.then(|| tokens[..].into());
            let content = Some(content).filter(|content| calls.is_empty() || !content.is_empty());
            self.send(index, Delta { content, ..Delta::default() }, logprobs, None, to);
        }
        for call in calls {
            let mut call = ToolCall::from(call);
            if call.id.is_some() {
                // Some clients drop arguments that come with the name.
                let arguments = std::mem::take(&mut call.function.arguments);
                let rest = ToolCall {
                    index: call.index,
                    function: CalledFunction { name: None, arguments },
                    ..ToolCall::default()
                };
                self.send(index, Delta { tool_calls: vec![call], ..Delta::default() }, None, None, to);
                call = rest;
            }
            self.send(index, Delta { tool_calls: vec![call], ..Delta::default() }, None, None, to);
        }
    }
}

impl Writer for ChunkWriter {
    fn begin(&mut self, events: &mut Events) {
        for index in 0..self.n {
            let delta = Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
            self.send(index, delta, None, None, events);
        }
    }

    fn update(&mut self, _: usize, update: Update, events: &mut Events) {
        match update {
            Update::Delta { choice, delta } => self.piece(choice, delta, events),
            Update::Ended { choice, delta, end, n_reasoning } => {
                self.counts.n_reasoning += n_reasoning;
                self.piece(choice, delta, events);
                self.send(choice, Delta::default(), None, Some(finish_reason(Some(end))), events);
            }
            Update::Done(usage) => self.counts.add(usage),
            Update::Scored(_) | Update::Embedding(_) | Update::State(_) | Update::Failed(_) => {}
        }
    }

    fn end(&mut self, events: &mut Events) {
        if self.with_usage {
            let usage = Some(self.counts.into());
            events.data(&Answer::<ChunkChoice> { head: &self.head, choices: vec![], usage });
        }
        events.done();
    }
}
