//! The files of the page.

use crate::app::App;
use crate::error::ApiError;
use crate::guard;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use std::sync::Arc;

/// A file of the page, by the path of the request.
pub(crate) async fn file(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    match app.page.as_ref().and_then(|page| page.answer(uri.path(), &headers)) {
        Some(answer) => Ok(answer),
        None => Err(guard::unknown_route(method, uri).await),
    }
}
