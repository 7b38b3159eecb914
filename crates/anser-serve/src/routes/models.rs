//! `/v1/models`: the models that requests may name.

use crate::app::App;
use crate::body::Id;
use crate::error::{ApiError, json};
use crate::served::Served;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /v1/models`
pub(crate) async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    let models = app.models.iter().flat_map(|served| served.names.iter().map(|name| model(served, name)));
    json(StatusCode::OK, &json!({ "object": "list", "data": models.collect::<Vec<_>>() }))
}

/// `GET /v1/models/{id}`
pub(crate) async fn one(State(app): State<Arc<App>>, Id(id): Id) -> Result<Response<Body>, ApiError> {
    let served = app.served(Some(&id))?;
    Ok(json(StatusCode::OK, &model(served, &id)))
}

fn model(served: &Served, name: &str) -> Value {
    let config = served.model.config();
    let weights = &served.model.plan().weights;
    let n_params: u64 = weights.iter().map(|weight| weight.n_rows() as u64 * weight.n_cols() as u64).sum();
    json!({
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "anser",
        "meta": {
            "n_vocab": config.n_vocab,
            "n_embd": config.n_embd,
            "n_layer": config.n_layer,
            "n_params": n_params,
            "n_bytes": served.model.file().n_bytes(),
            "state_bytes": 4 * served.model.state_layout().len(),
        },
    })
}
