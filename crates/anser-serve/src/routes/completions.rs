//! `POST /v1/completions`: texts that follow on prompts, and the log-probabilities of prompts.

use crate::answer::{Delta, End, EventReader, Update};
use crate::app::{App, Caller};
use crate::blocking;
use crate::body::Json;
use crate::error::{ApiError, json};
use crate::flight::{Counts, Flight, Job};
use crate::generate::{self, Generation, Outcome};
use crate::likelihoods::TokenInfo;
use crate::served::Served;
use crate::sse::{self, Events, Writer};
use crate::wire::chat::Head;
use crate::wire::completions::{Choice, Completion, Logprobs, Offset};
use crate::wire::prompts::Prompts;
use crate::wire::sampling::{Drawing, Rules, Sampling};
use crate::wire::stream::{Sending, Streaming, check_top};
use anser::chat::Thinking;
use anser_engine::{Request, Start, Tenant, Work};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;

/// The most tokens of a text where the request does not say.
const DEFAULT_MAX_TOKENS: usize = 16;
/// The most prompts of a request.
const MAX_PROMPTS: usize = 2048;

#[derive(Debug, Deserialize)]
struct Fields {
    model: Option<String>,
    prompt: Option<Prompts>,
    echo: Option<bool>,
    logprobs: Option<usize>,
    best_of: Option<usize>,
    suffix: Option<String>,
    /// The named state that texts begin from.
    state: Option<String>,
}

/// What is written of each prompt's texts.
#[derive(Debug)]
struct Form {
    /// The tokens of each prompt.
    prompts: Vec<Vec<u32>>,
    /// The text of each prompt that is put before its texts.
    echoed: Option<Vec<String>>,
    /// The number of most likely tokens with each log-probability; `None` reports neither.
    n_top: Option<usize>,
    /// The number of texts of each prompt.
    n: usize,
    /// Whether texts are generated.
    generates: bool,
    tokenizer: anser::Tokenizer,
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    body: Json,
) -> Result<Response<Body>, ApiError> {
    let Prepared { served, form, jobs, drawing, sending } = blocking::prepared(&app, tenant, body, prepare).await?;
    let head = served.head("cmpl-", "text_completion");
    let n_jobs = jobs.len();
    let flight = Flight::start(&app, &served, &head.id, jobs)?;
    let mut response = match sending {
        Sending::Streamed { with_usage } => {
            let writer = ChunkWriter::new(head, form, with_usage);
            sse::respond(flight, writer, app.bounds.ping_time)
        }
        Sending::Whole => {
            let outcomes = generate::collect(flight, n_jobs).await?;
            json(StatusCode::OK, &whole(&head, &form, outcomes))
        }
    };
    response.headers_mut().insert("x-anser-seed", HeaderValue::from(drawing.seed));
    Ok(response)
}

struct Prepared {
    served: Arc<Served>,
    form: Form,
    jobs: Vec<Job>,
    drawing: Drawing,
    sending: Sending,
}

fn prepare(app: &Arc<App>, tenant: Tenant, body: &Json) -> Result<Prepared, ApiError> {
    let Fields { model, prompt, echo, logprobs, best_of, suffix, state } = body.parse()?;
    let served = app.served(model.as_deref())?.clone();
    let sampling: Sampling = body.parse()?;
    let sending = body.parse::<Streaming>()?.check()?;
    if suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::invalid("suffix", "suffix: this model continues texts and does not fill gaps"));
    }
    let rules = Rules {
        max_n: served.max_n,
        max_tokens: app.bounds.max_tokens,
        default_max_tokens: DEFAULT_MAX_TOKENS,
        n_vocab: served.n_vocab(),
        thinking: Thinking::Off,
        grammar: None,
    };
    let drawing = sampling.check(&rules)?;
    if let Some(best_of) = best_of.filter(|&best_of| best_of != drawing.n) {
        let message = format!("best_of: expected n, which is {}, found {best_of}", drawing.n);
        return Err(ApiError::invalid("best_of", message));
    }
    let n_top = logprobs.map(|n| check_top("logprobs", n)).transpose()?;
    let prompts = prompt.ok_or_else(|| ApiError::invalid("prompt", "prompt: expected a text, texts or token ids"))?;
    let prompts = prompts.tokens("prompt", &served, MAX_PROMPTS)?;
    let tokenizer = served.model.tokenizer()?.clone();
    let text =
        |ids: &Vec<u32>| Ok(String::from_utf8_lossy(&tokenizer.decode(ids).map_err(anser::Error::from)?).into_owned());
    let echo = echo.unwrap_or(false);
    let echoed = echo.then(|| prompts.iter().map(text).collect::<Result<Vec<_>, ApiError>>()).transpose()?;
    let scores = echo && n_top.is_some();
    let start = match state.map(|name| app.states.of_model(tenant, &name, served.name())).transpose()? {
        None => Start::Fresh,
        Some(_) if echo => {
            return Err(ApiError::invalid("state", "state: a text that begins from a state cannot be echoed"));
        }
        Some(state) => state.start(),
    };
    // A text of no tokens is generated only where nothing else is asked for.
    let generates = drawing.max_tokens > 0 || !scores;
    let form = Form { prompts, echoed, n_top, n: drawing.n, generates, tokenizer };
    let jobs = form.jobs(&served, tenant, &start, &drawing, Instant::now() + app.bounds.request_time)?;
    Ok(Prepared { served, form, jobs, drawing, sending })
}

impl Form {
    /// The requests of the engine: those that score prompts come first, then those that generate, each in the order of prompts.
    fn jobs(
        &self,
        served: &Served,
        tenant: Tenant,
        start: &Start,
        drawing: &Drawing,
        deadline: Instant,
    ) -> Result<Vec<Job>, ApiError> {
        let is_fresh = matches!(start, Start::Fresh | Start::Tuned(_));
        // The end of a document is what an empty text begins after.
        let tokens = |prompt: &Vec<u32>| match prompt.is_empty() && is_fresh {
            true => vec![served.model.document_start()],
            false => prompt.clone(),
        };
        let score = |prompt: &Vec<u32>| {
            let work = Work::Score { n_top: self.n_top.unwrap_or(0) };
            let request = Request { tenant, deadline: Some(deadline), ..Request::new(tokens(prompt), work) };
            let reader = EventReader { tokenizer: Some(self.tokenizer.clone()), ..EventReader::without_texts() };
            Ok(Job { request, reader })
        };
        let generate = |prompt: &Vec<u32>| {
            let generation = Generation {
                served,
                tenant,
                start: start.clone(),
                prompt: tokens(prompt),
                turns: vec![],
                drawing,
                n_top: self.n_top,
                deadline,
            };
            generation.plain()
        };
        let scoring = self.prompts.iter().filter(|_| self.scores()).map(score);
        let generating = self.prompts.iter().filter(|_| self.generates).map(generate);
        scoring.chain(generating).collect()
    }

    /// Whether prompts are scored.
    fn scores(&self) -> bool {
        self.echoed.is_some() && self.n_top.is_some()
    }

    /// What the request `index` of the engine does, and of which prompt.
    fn role(&self, index: usize) -> Role {
        match self.scores() {
            true if index < self.prompts.len() => Role::Scores(index),
            true => Role::Generates(index - self.prompts.len()),
            false => Role::Generates(index),
        }
    }

    fn echoed(&self, prompt: usize) -> &str {
        self.echoed.as_ref().and_then(|texts| texts.get(prompt)).map_or("", String::as_str)
    }

    /// The log-probabilities of a prompt's tokens, whose last ones were scored.
    fn of_prompt(&self, prompt: usize, scored: &[TokenInfo], offset: &mut Offset) -> Logprobs {
        let mut logprobs = Logprobs::default();
        let ids = self.prompts.get(prompt).map_or(&[][..], Vec::as_slice);
        for &id in ids.iter().take(ids.len().saturating_sub(scored.len())) {
            logprobs.push_unknown(self.tokenizer.token_bytes(id).unwrap_or_default(), offset);
        }
        for info in scored.iter().take(ids.len()) {
            logprobs.push(info, self.n_top > Some(0), offset);
        }
        logprobs
    }

    fn add(&self, logprobs: &mut Logprobs, tokens: &[TokenInfo], offset: &mut Offset) {
        tokens.iter().for_each(|info| logprobs.push(info, self.n_top > Some(0), offset));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It scores the prompt of this index.
    Scores(usize),
    /// It generates the texts of the prompt of this index.
    Generates(usize),
}

fn whole<'a>(head: &'a Head, form: &Form, outcomes: Vec<Outcome>) -> Completion<'a> {
    let n_prompts = form.prompts.len();
    let (mut scored, mut generated) = (vec![], vec![]);
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match form.role(index) {
            Role::Scores(_) => scored.push(outcome),
            Role::Generates(_) => generated.push(outcome),
        }
    }
    let mut counts = Counts::default();
    let counted = if form.generates { &generated } else { &scored };
    counted.iter().for_each(|outcome| counts.merge(outcome.counts));
    let mut choices = vec![];
    for prompt in 0..n_prompts {
        let of_prompt = scored.get(prompt).map_or(&[][..], |outcome| &outcome.scored[..]);
        for choice in 0..form.n {
            let text = generated.get(prompt).and_then(|outcome| outcome.texts.get(choice));
            let logprobs = form.n_top.map(|_| {
                let mut offset = Offset::default();
                let mut logprobs = match form.scores() {
                    true => form.of_prompt(prompt, of_prompt, &mut offset),
                    false => Logprobs::default(),
                };
                form.add(&mut logprobs, text.map_or(&[][..], |text| &text.tokens[..]), &mut offset);
                logprobs
            });
            let content = text.map_or("", |text| &text.content);
            let end = text.map_or(Some(End::Length), |text| text.end);
            let shown = form.echoed(prompt).to_owned() + content;
            choices.push(Choice::new(prompt * form.n + choice, shown, logprobs, end));
        }
    }
    Completion { head, choices, usage: Some(counts.into()) }
}

/// Writes the chunks of streamed texts.
struct ChunkWriter {
    head: Head,
    form: Form,
    with_usage: bool,
    counts: Counts,
    /// For each text, the characters of its tokens so far.
    offsets: Vec<Offset>,
    /// For each prompt, the tokens that were scored so far.
    scored: Vec<Vec<TokenInfo>>,
    /// For each prompt whether it was put before its texts.
    has_echoed: Vec<bool>,
    /// For each prompt the pieces of its texts that wait until it is scored; `None` once it is.
    held: Vec<Option<Vec<HeldPiece>>>,
}

type HeldPiece = (usize, Delta, Option<End>);

impl ChunkWriter {
    fn new(head: Head, form: Form, with_usage: bool) -> ChunkWriter {
        let n_prompts = form.prompts.len();
        let offsets = std::iter::repeat_with(Offset::default).take(n_prompts * form.n).collect();
        let (scored, has_echoed) = (vec![vec![]; n_prompts], vec![false; n_prompts]);
        let held = (0..n_prompts).map(|_| form.scores().then(Vec::new)).collect();
        ChunkWriter { head, with_usage, counts: Counts::default(), offsets, scored, has_echoed, held, form }
    }

    fn send(&self, choice: Choice, events: &mut Events) {
        events.data(&Completion { head: &self.head, choices: vec![choice], usage: None });
    }

    /// Puts the prompt before its texts, once.
    fn echo(&mut self, prompt: usize, end: Option<End>, events: &mut Events) {
        if self.form.echoed.is_none() || std::mem::replace(&mut self.has_echoed[prompt], true) {
            return;
        }
        for choice in 0..self.form.n {
            let index = prompt * self.form.n + choice;
            let logprobs =
                self.form.scores().then(|| self.form.of_prompt(prompt, &self.scored[prompt], &mut self.offsets[index]));
            let text = self.form.echoed(prompt).to_owned();
            self.send(Choice::new(index, text, logprobs, end), events);
        }
    }

    fn piece(&mut self, prompt: usize, choice: usize, delta: Delta, end: Option<End>, events: &mut Events) {
        if let Some(held) = &mut self.held[prompt] {
            held.push((choice, delta, end));
            return;
        }
        let index = prompt * self.form.n + choice;
        let logprobs = self.form.n_top.map(|_| {
            let mut logprobs = Logprobs::default();
            self.form.add(&mut logprobs, &delta.tokens, &mut self.offsets[index]);
            logprobs
        });
        self.send(Choice::new(index, delta.content, logprobs, end), events);
    }
}

impl Writer for ChunkWriter {
    fn begin(&mut self, events: &mut Events) {
        // Prompts that are scored are shown with their log-probabilities, once these are known.
        if !self.form.scores() {
            (0..self.form.prompts.len()).for_each(|prompt| self.echo(prompt, None, events));
        }
    }

    fn update(&mut self, index: usize, update: Update, events: &mut Events) {
        let role = self.form.role(index);
        match (role, update) {
            (Role::Generates(prompt), Update::Delta { choice, delta }) => {
                self.piece(prompt, choice, delta, None, events);
            }
            (Role::Generates(prompt), Update::Ended { choice, delta, end, .. }) => {
                self.piece(prompt, choice, delta, Some(end), events);
            }
            (Role::Generates(_), Update::Done(usage)) => self.counts.add(usage),
            (Role::Scores(prompt), Update::Scored(tokens)) => self.scored[prompt].extend(tokens),
            (Role::Scores(prompt), Update::Done(usage)) => {
                let end = (!self.form.generates).then_some(End::Length);
                if end.is_some() {
                    self.counts.add(usage);
                }
                self.echo(prompt, end, events);
                for (choice, delta, end) in self.held[prompt].take().unwrap_or_default() {
                    self.piece(prompt, choice, delta, end, events);
                }
            }
            (Role::Generates(_) | Role::Scores(_), _) => {}
        }
    }

    fn end(&mut self, events: &mut Events) {
        if self.with_usage {
            let usage = Some(self.counts.into());
            events.data(&Completion { head: &self.head, choices: vec![], usage });
        }
        events.done();
    }
}
