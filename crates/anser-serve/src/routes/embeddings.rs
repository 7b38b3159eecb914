//! `POST /v1/embeddings`

use crate::answer::{EventReader, Update};
use crate::app::{App, Caller};
use crate::blocking;
use crate::body::Json;
use crate::error::{ApiError, json};
use crate::flight::{Flight, Job};
use crate::ids;
use crate::served::Served;
use crate::wire::prompts::Prompts;
use anser::{EmbedOptions, Pooling, TaskHead};
use anser_engine::{Request, Tenant, Work};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// The most texts of a request, and the most tokens of all.
const MAX_INPUTS: usize = 2048;
const MAX_TOKENS: usize = 300_000;

#[derive(Debug, Deserialize)]
struct Fields {
    model: Option<String>,
    input: Option<Prompts>,
    encoding_format: Option<Encoding>,
    dimensions: Option<usize>,
    pooling: Option<WirePooling>,
    normalize: Option<bool>,
    head: Option<WireHead>,
}

/// How numbers are sent.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    /// As numbers of JSON.
    Float,
    /// As the base64 of little-endian floats of 32 bits.
    Base64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WirePooling {
    Last,
    Mean,
    #[serde(rename = "eos-mean")]
    EosMean,
}

/// The head of an embedding model.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireHead {
    Cls,
    Sts,
    Retr,
    None,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Numbers,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Numbers {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// What is made of each row that the engine gives.
#[derive(Debug, Clone, Copy)]
struct Form {
    encoding: Encoding,
    n_dimensions: usize,
    normalize: bool,
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(Caller(tenant)): Extension<Caller>,
    body: Json,
) -> Result<Response<Body>, ApiError> {
    let (served, job, form, n_tokens) = blocking::prepared(&app, tenant, body, prepare).await?;
    let mut flight = Flight::start(&app, &served, &ids::fresh("emb-"), vec![job])?;
    let mut rows = vec![];
    while let Some((_, update)) = flight.next().await {
        if let Update::Embedding(embedding) = update? {
            rows = embedding;
        }
    }
    blocking::run(move || {
        let rows = rows.chunks_exact(served.model.config().n_embd.max(1)).enumerate();
        let data = rows.map(|(index, row)| Embedding { object: "embedding", index, embedding: form.numbers(row) });
        let usage = Usage { prompt_tokens: n_tokens, total_tokens: n_tokens };
        let answer = Answer { object: "list", data: data.collect(), model: served.name(), usage };
        Ok(json(StatusCode::OK, &answer))
    })
    .await
}

fn prepare(app: &Arc<App>, tenant: Tenant, body: &Json) -> Result<(Arc<Served>, Job, Form, usize), ApiError> {
    let Fields { model, input, encoding_format, dimensions, pooling, normalize, head } = body.parse()?;
    let served = app.served(model.as_deref())?.clone();
    let input = input.ok_or_else(|| ApiError::invalid("input", "input: expected a text, texts or token ids"))?;
    let texts = input.tokens("input", &served, MAX_INPUTS)?;
    if let Some(at) = texts.iter().position(Vec::is_empty) {
        return Err(ApiError::invalid("input", format!("input: text {at} is empty: expected at least one character")));
    }
    let n_tokens = texts.iter().map(Vec::len).sum();
    if n_tokens > MAX_TOKENS {
        let message = format!("input: expected at most {MAX_TOKENS} tokens in all texts, found {n_tokens}");
        return Err(ApiError::invalid("input", message));
    }
    let n_embd = served.model.config().n_embd;
    let n_dimensions = dimensions.unwrap_or(n_embd);
    if !(1..=n_embd).contains(&n_dimensions) {
        let message = format!("dimensions: expected 1 to {n_embd}, found {n_dimensions}");
        return Err(ApiError::invalid("dimensions", message));
    }
    let base = match pooling {
        None => served.model.usual_embed_options(),
        Some(WirePooling::Last) => EmbedOptions { pooling: Pooling::Last, ..EmbedOptions::default() },
        Some(WirePooling::Mean) => EmbedOptions { pooling: Pooling::Mean, ..EmbedOptions::default() },
        Some(WirePooling::EosMean) => EmbedOptions::of_chunks(),
    };
    let head = match head {
        None => base.head,
        Some(WireHead::Cls) => Some(TaskHead::Cls),
        Some(WireHead::Sts) => Some(TaskHead::Sts),
        Some(WireHead::Retr) => Some(TaskHead::Retr),
        Some(WireHead::None) => None,
    };
    let normalize = normalize.unwrap_or(true);
    let options = EmbedOptions { head, normalize, ..base };
    let deadline = Some(Instant::now() + app.bounds.request_time);
    let request = Request { tenant, deadline, ..Request::new(vec![], Work::EmbedMany { options, texts }) };
    let form = Form { encoding: encoding_format.unwrap_or(Encoding::Float), n_dimensions, normalize };
    Ok((served, Job { request, reader: EventReader::without_texts() }, form, n_tokens))
}

impl Form {
    fn numbers(self, row: &[f32]) -> Numbers {
        let mut row = row[..self.n_dimensions.min(row.len())].to_vec();
        if self.normalize {
            // What was cut has another length than 1.
            let norm = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
            if norm > 0.0 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
        }
        match self.encoding {
            Encoding::Float => Numbers::Floats(row),
            Encoding::Base64 => {
                let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
                Numbers::Base64(STANDARD.encode(bytes))
            }
        }
    }
}
