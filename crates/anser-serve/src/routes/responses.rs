//! `/v1/responses`: answers that are kept, so that a request goes on from an earlier one by its identifier.

mod stream;

use crate::app::{App, Caller};
use crate::blocking;
use crate::body::{Id, Json};
use crate::chat::tools::Tools;
use crate::chat::{Chat, ResponseFormat, thinking};
use crate::error::{ApiError, json};
use crate::flight::{Counts, Flight, Job};
use crate::generate::{self, Generation, Text};
use crate::ids;
use crate::responses::{New, Stored, Turn};
use crate::served::{Served, now};
use crate::sse;
use crate::wire::responses::{Fields, Input, OutputIds, output, status, turn, usage};
use crate::wire::sampling::{Rules, Sampling};
use anser::chat::Message;
use anser_engine::{Start, Tenant};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;
use stream::EventWriter;

/// The most tokens of an answer where the request does not say.
const DEFAULT_MAX_TOKENS: usize = 4096;
/// The most responses that one conversation consists of.
const MAX_TURNS: usize = 10_000;
/// The most entries of `metadata`, and the most bytes of all.
const MAX_METADATA: usize = 16;
const MAX_METADATA_N_BYTES: usize = 16 << 10;

/// Fields that the answer repeats as the client sent them.
#[derive(Debug, Deserialize)]
struct Echo {
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    metadata: Option<Map<String, Value>>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<Value>,
    reasoning: Option<Value>,
    user: Option<String>,
}

/// A request that is being answered.
#[derive(Debug)]
struct Pending {
    app: Arc<App>,
    tenant: Tenant,
    id: String,
    ids: OutputIds,
    /// The object of the answer, without what is not known yet.
    object: Map<String, Value>,
    before: Vec<Arc<Turn>>,
    input: Input,
    is_stored: bool,
}

/// `POST /v1/responses`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    body: Json,
) -> Result<Response<Body>, ApiError> {
    let (served, job, pending, streams) = blocking::prepared(&app, tenant, body, prepare).await?;
    let flight = Flight::start(&app, &served, &pending.id, vec![job])?;
    if streams {
        return Ok(sse::respond(flight, EventWriter::new(pending), app.bounds.ping_time));
    }
    let outcome = generate::collect(flight, 1).await?.pop().unwrap_or_default();
    let text = outcome.texts.into_iter().next().unwrap_or_default();
    Ok(json(StatusCode::OK, &pending.complete(&text, outcome.counts)))
}

/// `GET /v1/responses/{id}`
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    Id(id): Id,
) -> Result<Response<Body>, ApiError> {
    let stored = stored(&app, tenant, &id)?;
    Ok(json(StatusCode::OK, &stored.response))
}

fn stored(app: &App, tenant: Tenant, id: &str) -> Result<Arc<Stored>, ApiError> {
    app.responses.get(tenant, id).ok_or_else(|| unknown(StatusCode::NOT_FOUND, "response_not_found", id))
}

/// `DELETE /v1/responses/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    Id(id): Id,
) -> Result<Response<Body>, ApiError> {
    match app.responses.delete(tenant, &id) {
        true => Ok(json(StatusCode::OK, &json!({ "id": id, "object": "response.deleted", "deleted": true }))),
        false => Err(unknown(StatusCode::NOT_FOUND, "response_not_found", &id)),
    }
}

/// `GET /v1/responses/{id}/input_items`
pub(crate) async fn input_items(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    Id(id): Id,
) -> Result<Response<Body>, ApiError> {
    let stored = stored(&app, tenant, &id)?;
    let of_end = |item: Option<&Value>| item.and_then(|item| item.get("id")).cloned();
    let (first, last) = (of_end(stored.input.first()), of_end(stored.input.last()));
    let list = json!({ "object": "list", "data": stored.input, "first_id": first, "last_id": last, "has_more": false });
    Ok(json(StatusCode::OK, &list))
}

fn unknown(status: StatusCode, code: &'static str, id: &str) -> ApiError {
    let id: String = id.chars().take(64).collect();
    ApiError::new(
        status,
        Some(code),
        format!("there is no response {id:?}: it was not stored, was deleted, or is too old"),
    )
}

fn prepare(app: &Arc<App>, tenant: Tenant, body: &Json) -> Result<(Arc<Served>, Job, Pending, bool), ApiError> {
    let fields: Fields = body.parse()?;
    let served = app.served(fields.model.as_deref())?.clone();
    let (sampling, echo): (Sampling, Echo) = (body.parse()?, body.parse()?);
    if fields.background == Some(true) {
        return Err(ApiError::invalid("background", "background: this server answers while the client waits"));
    }
    let start = match &fields.state {
        None => Start::Fresh,
        Some(name) => {
            let state = app.states.of_model(tenant, name, served.name())?;
            if state.tuned.is_none() {
                let message = format!(
                    "state: {name:?} is a text that was read: a response begins from tuned states alone, chats and completions from any"
                );
                return Err(ApiError::invalid("state", message));
            }
            state.start()
        }
    };
    let input = Input::read(fields.input)?;
    let before = match &fields.previous_response_id {
        None => vec![],
        Some(id) => {
            let stored = app.responses.get(tenant, id).filter(|stored| stored.turns.len() < MAX_TURNS);
            let stored = stored.ok_or_else(|| {
                unknown(StatusCode::BAD_REQUEST, "previous_response_not_found", id).at("previous_response_id")
            })?;
            stored.turns.clone()
        }
    };
    let functions = fields.tools.unwrap_or_default().iter().map(|tool| tool.function()).collect::<Result<_, _>>()?;
    let chat = Chat {
        messages: messages(fields.instructions, &before, &input),
        tools: Tools::of_functions(functions, fields.tool_choice.as_ref(), fields.parallel_tool_calls)?,
        thinking: thinking(&served, fields.reasoning.and_then(|reasoning| reasoning.effort), None),
        format: ResponseFormat::check(fields.text.as_ref().and_then(|text| text.format.as_ref()))?,
    };
    let rules = Rules {
        max_n: 1,
        max_tokens: app.bounds.max_tokens,
        default_max_tokens: DEFAULT_MAX_TOKENS,
        n_vocab: served.n_vocab(),
        thinking: chat.thinking,
        grammar: app.compiled(&served, chat.grammar(app.extra_grammars)?)?,
    };
    let drawing = sampling.check(&rules)?;
    let prompt = chat.prompt(&served);
    let tokens = prompt.tokens(served.model.tokenizer()?, &served.transcripts, tenant);
    let generation = Generation {
        served: &served,
        tenant,
        start,
        prompt: tokens.ids,
        turns: tokens.turns,
        drawing: &drawing,
        n_top: None,
        deadline: Instant::now() + app.bounds.request_time,
    };
    let job = generation.answers(&prompt, || chat.call_reader())?;
    let id = ids::fresh("resp_");
    let pending = Pending {
        app: app.clone(),
        tenant,
        object: echo.object(&id, &served, fields.previous_response_id)?,
        ids: OutputIds::fresh(),
        id,
        before,
        input,
        is_stored: fields.store.unwrap_or(true),
    };
    Ok((served, job, pending, fields.stream.unwrap_or(false)))
}

/// The conversation: instructions, all turns before, what the request adds.
fn messages(instructions: Option<String>, before: &[Arc<Turn>], input: &Input) -> Vec<Message> {
    let system = instructions.filter(|text| !text.trim().is_empty()).map(Message::system);
    let before = before.iter().flat_map(|turn| &turn.messages);
    system.into_iter().chain(before.chain(&input.messages).cloned()).collect()
}

impl Echo {
    /// The object of an answer that has just begun.
    fn object(
        self,
        id: &str,
        served: &Served,
        previous_response_id: Option<String>,
    ) -> Result<Map<String, Value>, ApiError> {
        let metadata = self.metadata.unwrap_or_default();
        let n_bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.to_string().len()).sum();
        if metadata.len() > MAX_METADATA || n_bytes > MAX_METADATA_N_BYTES {
            let message =
                format!("metadata: expected at most {MAX_METADATA} entries of {MAX_METADATA_N_BYTES} bytes together");
            return Err(ApiError::invalid("metadata", message));
        }
        let text = self.text.filter(|text| text.get("format").is_some_and(Value::is_object));
        let object = json!({
            "id": id,
            "object": "response",
            "created_at": now(),
            "status": "in_progress",
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": metadata,
            "model": served.name(),
            "output": [],
            "parallel_tool_calls": self.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": previous_response_id,
            "reasoning": self.reasoning.unwrap_or_else(|| json!({ "effort": null, "summary": null })),
            "temperature": self.temperature,
            "text": text.unwrap_or_else(|| json!({ "format": { "type": "text" } })),
            "tool_choice": self.tool_choice.unwrap_or_else(|| "auto".into()),
            "tools": self.tools.unwrap_or_default(),
            "top_p": self.top_p,
            "truncation": "disabled",
            "usage": null,
            "user": self.user,
        });
        match object {
            Value::Object(object) => Ok(object),
            _ => Ok(Map::new()),
        }
    }
}

impl Pending {
    /// The object of the answer before anything was generated.
    fn begun(&self) -> Value {
        Value::Object(self.object.clone())
    }

    /// The whole answer, which is kept if the request did not say otherwise.
    fn complete(&self, text: &Text, counts: Counts) -> Value {
        let mut object = self.object.clone();
        let status = status(text.end);
        object.insert("status".into(), status.into());
        object.insert("output".into(), output(text, &self.ids).into());
        object.insert("usage".into(), usage(counts));
        if status == "incomplete" {
            object.insert("incomplete_details".into(), json!({ "reason": "max_output_tokens" }));
        }
        let response = Value::Object(object);
        if self.is_stored {
            let messages = self.input.messages.iter().cloned().chain([turn(text)]).collect();
            let turns = self.before.iter().cloned().chain([Arc::new(Turn { messages })]).collect();
            self.app.responses.insert(New {
                id: self.id.clone(),
                tenant: self.tenant,
                turns,
                response: response.clone(),
                input: self.input.items.clone(),
            });
        }
        response
    }
}
