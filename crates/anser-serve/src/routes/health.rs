//! Routes for those who run the server.

use crate::app::App;
use crate::error::{ApiError, json};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// `GET /health`: whether the server takes work. It needs no key.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    let has_failed = app.models.iter().any(|served| served.engine.has_ended());
    let (status, text) = match (app.is_draining(), has_failed) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        (false, false) => (StatusCode::OK, "ok"),
    };
    json(status, &json!({ "status": text }))
}

/// `GET /metrics`: counts and times in Prometheus' text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response<Body>, ApiError> {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    let text = app.metrics.text(&app.models).map_err(ApiError::internal)?;
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Ok(response)
}

/// `GET /props`: the models and the bounds of this server, for people and pages.
pub(crate) async fn props(State(app): State<Arc<App>>) -> Response<Body> {
    let model = |served: &Arc<crate::served::Served>| {
        let stats = served.engine.stats();
        json!({
            "id": served.name(),
            "names": served.names,
            "device": served.model.device(),
            "chat_format": format!("{:?}", served.template).to_lowercase(),
            "thinks": served.can_think,
            "max_rows": stats.max_rows,
            "max_prompt_tokens": served.limits.max_prompt_tokens,
            "max_n": served.max_n,
        })
    };
    let bounds = &app.bounds;
    let props = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "models": app.models.iter().map(model).collect::<Vec<_>>(),
        "max_tokens": bounds.max_tokens,
        "max_body_bytes": bounds.max_body_n_bytes,
        "request_timeout_s": bounds.request_time.as_secs(),
        "extra_grammars": app.extra_grammars,
    });
    json(StatusCode::OK, &props)
}
