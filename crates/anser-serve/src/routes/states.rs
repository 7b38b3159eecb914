//! `/v1/states`: texts that are read once and begun from any number of times.

use crate::answer::{EventReader, Update};
use crate::app::{App, Caller};
use crate::blocking;
use crate::body::{self, Id, Json};
use crate::error::{ApiError, json};
use crate::flight::{Flight, Job};
use crate::ids;
use crate::served::now;
use crate::states::{NamedState, check_name, tail};
use crate::wire::prompts::Prompts;
use anser_engine::{Request as EngineRequest, Start, Work};
use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// The bytes that a file of a state may have beside its numbers.
const MAX_OVERHEAD_N_BYTES: usize = 2 << 20;

#[derive(Debug, Deserialize)]
struct Fields {
    model: Option<String>,
    input: Option<Prompts>,
    name: Option<String>,
    /// A state to go on from.
    state: Option<String>,
}

/// The model of an uploaded file.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelQuery {
    model: Option<String>,
}

/// `GET /v1/states`
pub(crate) async fn list(State(app): State<Arc<App>>, Extension(Caller(tenant)): Extension<Caller>) -> Response<Body> {
    let states: Vec<Value> = app.states.list(tenant).iter().map(|state| object(state)).collect();
    json(StatusCode::OK, &json!({ "object": "list", "data": states }))
}

/// `POST /v1/states`: reads a text and keeps the state after it.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    body: Json,
) -> Result<Response<Body>, ApiError> {
    let Fields { model, input, name, state } = body.parse()?;
    let name = name.unwrap_or_else(|| ids::fresh("state_"));
    check_name(&name)?;
    app.states.check_own(&name)?;
    if app.states.has(tenant, &name) {
        let message = format!("name: there is a state {name:?} already; delete it first");
        return Err(ApiError::invalid("name", message).with_code("state_exists"));
    }
    let served = app.served(model.as_deref())?.clone();
    let base = state.map(|state| app.states.of_model(tenant, &state, served.name())).transpose()?;
    let input = input.ok_or_else(|| ApiError::invalid("input", "input: expected a text or token ids"))?;
    let (request, n_tokens, tail) = blocking::run({
        let served = served.clone();
        move || {
            let tokens = input.tokens("input", &served, 1)?.pop().unwrap_or_default();
            let text = String::from_utf8_lossy(&served.model.tokenizer()?.decode(&tokens).map_err(anser::Error::from)?)
                .into_owned();
            let n_before = base.as_ref().map_or(Some(0), |base| base.n_tokens);
            let start = base.map_or(Start::Fresh, |base| base.start());
            let n_tokens = n_before.map(|n| n + tokens.len());
            Ok((EngineRequest { start, ..EngineRequest::new(tokens, Work::State) }, n_tokens, tail(&text)))
        }
    })
    .await?;
    let deadline = Some(Instant::now() + app.bounds.request_time);
    let request = EngineRequest { tenant, deadline, ..request };
    let job = Job { request, reader: EventReader::without_texts() };
    let mut flight = Flight::start(&app, &served, &name, vec![job])?;
    let mut saved = None;
    while let Some((_, update)) = flight.next().await {
        if let Update::State(state) = update? {
            saved = Some(state);
        }
    }
    let saved = saved.ok_or_else(|| ApiError::internal("the engine gave no state"))?;
    let (model, tail) = (served.name().to_owned(), Some(tail));
    let state = NamedState { name, model, created: now(), saved, n_tokens, tail, tuned: None };
    Ok(json(StatusCode::OK, &object(&*app.states.insert(tenant, state)?)))
}

/// `GET /v1/states/{id}`
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    Id(name): Id,
) -> Result<Response<Body>, ApiError> {
    Ok(json(StatusCode::OK, &object(&*app.states.get(tenant, &name)?)))
}

/// `DELETE /v1/states/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    Id(name): Id,
) -> Result<Response<Body>, ApiError> {
    app.states.delete(tenant, &name)?;
    Ok(json(StatusCode::OK, &json!({ "id": name, "object": "state.deleted", "deleted": true })))
}

/// `GET /v1/states/{id}/file`: the state as a safetensors file, which `anser generate --from` reads too.
pub(crate) async fn download(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    Id(name): Id,
) -> Result<Response<Body>, ApiError> {
    let state = app.states.get(tenant, &name)?;
    let served = app.served(Some(&state.model))?.clone();
    let bytes =
        blocking::run(move || Ok(served.model.state_to_bytes(&state.saved.state, &state.saved.logits)?)).await?;
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// `PUT /v1/states/{id}/file`: keeps the state of a file, in place of one of the same name.
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    Id(name): Id,
    query: Result<Query<ModelQuery>, QueryRejection>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let Query(ModelQuery { model }) = query.map_err(|error| ApiError::invalid("model", error.to_string()))?;
    check_name(&name)?;
    let served = app.served(model.as_deref())?.clone();
    let n_numbers = served.model.state_layout().len() + served.n_vocab();
    let bytes = body::read(request, &app, 4 * n_numbers + MAX_OVERHEAD_N_BYTES).await?;
    let state = blocking::run(move || {
        let loaded = served.model.state_from_bytes("the file", bytes.into())?;
        Ok(NamedState::of_file(name, served.name().to_owned(), now(), loaded))
    })
    .await?;
    Ok(json(StatusCode::OK, &object(&*app.states.insert(tenant, state)?)))
}

fn object(state: &NamedState) -> Value {
    json!({
        "id": state.name,
        "object": "state",
        "created": state.created,
        "model": state.model,
        "n_tokens": state.n_tokens,
        "n_bytes": state.n_bytes(),
        "tuned": state.tuned.is_some(),
    })
}
