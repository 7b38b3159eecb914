//! Work that takes a processor for a while, such as turning a long text into tokens, apart from the threads that serve connections.

use crate::app::App;
use crate::body::Json;
use crate::error::ApiError;
use anser_engine::Tenant;
use std::sync::Arc;

/// Runs `work` on a thread of its own.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ApiError::internal(error)))
}

/// What `prepare` makes of a request's body.
pub(crate) async fn prepared<T: Send + 'static>(
    app: &Arc<App>,
    tenant: Tenant,
    body: Json,
    prepare: impl FnOnce(&Arc<App>, Tenant, &Json) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let app = app.clone();
    run(move || prepare(&app, tenant, &body)).await
}
