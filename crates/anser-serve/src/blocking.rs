//! Work that takes a processor for a while, such as turning a long text into tokens, apart from the threads that serve connections.

use crate::error::ApiError;

/// Runs `work` on a thread of its own.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ApiError::internal(error)))
}
