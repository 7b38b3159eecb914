//! `POST /v1/rerank`: documents by how well they answer a query.

use crate::app::{App, Caller};
use crate::blocking;
use crate::body::Json;
use crate::error::{ApiError, json};
use crate::ids;
use crate::served::Served;
use anser::{Error, Reranker};
use anser_engine::Tenant;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The most documents of a request, and the most tokens of all.
const MAX_DOCUMENTS: usize = 2048;
const MAX_TOKENS: usize = 1_000_000;
/// How long ranking pauses after each step, so that steps of other requests come between: the device's lock knows no queue.
const PAUSE: Duration = Duration::from_micros(500);

#[derive(Debug, Deserialize)]
struct Fields {
    model: Option<String>,
    query: Option<String>,
    documents: Option<Vec<Document>>,
    top_n: Option<usize>,
    return_documents: Option<bool>,
}

/// A document: a text, or an object with one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Object { text: String },
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    results: Vec<Found>,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Found {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Text>,
}

#[derive(Debug, Serialize)]
struct Text {
    text: String,
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Tells the thread that ranks when the connection is closed, which drops it.
struct Closed(Arc<AtomicBool>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    body: Json,
) -> Result<Response<Body>, ApiError> {
    let is_closed = Arc::new(AtomicBool::new(false));
    let _closed = Closed(is_closed.clone());
    blocking::run(move || {
        let fields: Fields = body.parse()?;
        let served = app.served(fields.model.as_deref())?.clone();
        let deadline = Instant::now() + app.bounds.request_time;
        let has_ended = || is_closed.load(Ordering::Relaxed) || Instant::now() > deadline;
        let answer = rank(&served, tenant, fields, has_ended)?;
        Ok(json(StatusCode::OK, &answer))
    })
    .await
}

fn rank(
    served: &Served,
    Tenant(tenant): Tenant,
    fields: Fields,
    has_ended: impl Fn() -> bool,
) -> Result<Answer<'_>, ApiError> {
    let Fields { model: _, query, documents, top_n, return_documents } = fields;
    let Some(reranker) = &served.reranker else {
        let message = format!("the model {:?} has no reranker: start the server with --reranker FILE", served.name());
        return Err(ApiError::invalid("model", message).with_code("no_reranker"));
    };
    let query = query.ok_or_else(|| ApiError::invalid("query", "query: expected a text"))?;
    let documents = documents.ok_or_else(|| ApiError::invalid("documents", "documents: expected a list of texts"))?;
    if !(1..=MAX_DOCUMENTS).contains(&documents.len()) {
        let message = format!("documents: expected 1 to {MAX_DOCUMENTS}, found {}", documents.len());
        return Err(ApiError::invalid("documents", message));
    }
    if top_n == Some(0) {
        return Err(ApiError::invalid("top_n", "top_n: expected at least 1, found 0"));
    }
    let documents: Vec<String> =
        documents.into_iter().map(|(Document::Text(text) | Document::Object { text })| text).collect();
    let n_tokens = n_tokens(reranker, &query, &documents)?;
    if n_tokens > MAX_TOKENS {
        let message = format!("documents: expected at most {MAX_TOKENS} tokens with the query, found {n_tokens}");
        return Err(ApiError::invalid("documents", message));
    }
    let ranked = reranker.rank_of(tenant, &query, &documents, |_, _| {
        std::thread::sleep(PAUSE);
        if has_ended() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let ranked = ranked.map_err(|error| match error {
        Error::Cancelled => ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            Some("timeout"),
            "the documents took longer than the server gives a request: send fewer",
        ),
        error => error.into(),
    })?;
    let text = |index: usize| return_documents.unwrap_or(false).then(|| Text { text: documents[index].clone() });
    let found = |anser::Ranked { index, score, .. }: anser::Ranked| Found {
        index,
        relevance_score: score,
        document: text(index),
    };
    Ok(Answer {
        id: ids::fresh("rerank-"),
        object: "list",
        model: served.name(),
        results: ranked.into_iter().take(top_n.unwrap_or(usize::MAX)).map(found).collect(),
        usage: Usage { prompt_tokens: n_tokens, total_tokens: n_tokens },
    })
}

/// The tokens of all documents, each with the query.
fn n_tokens(reranker: &Reranker, query: &str, documents: &[String]) -> Result<usize, ApiError> {
    let n_query = reranker.query_tokens(query)?.len();
    let of_document = |document: &String| Ok(reranker.document_tokens(document)?.len() + n_query);
    documents.iter().map(of_document).sum()
}
