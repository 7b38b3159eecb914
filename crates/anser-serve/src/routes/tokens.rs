//! Routes that turn texts into tokens and back, and conversations into prompts.

use crate::app::App;
use crate::blocking;
use crate::body::Json;
use crate::chat::ChatInput;
use crate::error::{ApiError, json};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
struct Text {
    model: Option<String>,
    content: Option<String>,
    prompt: Option<String>,
    with_pieces: Option<bool>,
}

/// `POST /tokenize`
pub(crate) async fn tokenize(State(app): State<Arc<App>>, body: Json) -> Result<Response<Body>, ApiError> {
    let Text { model, content, prompt, with_pieces } = body.parse()?;
    let served = app.served(model.as_deref())?.clone();
    let text = content.or(prompt).ok_or_else(|| {
        ApiError::invalid("content", "content: expected the text to turn into tokens, as content or prompt")
    })?;
    blocking::run(move || {
        let tokenizer = served.model.tokenizer()?;
        let ids = tokenizer.encode(text.as_bytes());
        let piece = |&id: &u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            let piece = std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text));
            json!({ "id": id, "piece": piece })
        };
        let tokens: Vec<Value> = match with_pieces {
            Some(true) => ids.iter().map(piece).collect(),
            Some(false) | None => ids.iter().map(|&id| id.into()).collect(),
        };
        Ok(json(StatusCode::OK, &json!({ "tokens": tokens, "count": ids.len() })))
    })
    .await
}

#[derive(Debug, Deserialize)]
struct Tokens {
    model: Option<String>,
    tokens: Vec<u32>,
}

/// `POST /detokenize`
pub(crate) async fn detokenize(State(app): State<Arc<App>>, body: Json) -> Result<Response<Body>, ApiError> {
    let Tokens { model, tokens } = body.parse()?;
    let served = app.served(model.as_deref())?.clone();
    blocking::run(move || {
        let bytes =
            served.model.tokenizer()?.decode(&tokens).map_err(|error| ApiError::from(anser::Error::from(error)))?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(json(StatusCode::OK, &json!({ "content": text, "prompt": text })))
    })
    .await
}

/// `POST /apply-template`: the prompt that a chat of the same messages reads.
pub(crate) async fn apply_template(State(app): State<Arc<App>>, body: Json) -> Result<Response<Body>, ApiError> {
    let input: ChatInput = body.parse()?;
    let served = app.served(input.model.as_deref())?;
    let prompt = input.prompt(served)?;
    Ok(json(StatusCode::OK, &json!({ "prompt": prompt.text() })))
}
