//! Errors as clients of the OpenAI API read them.

use anser_engine::{Failure, Refusal};
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use std::time::Duration;

/// The most characters of a message. Messages may quote a request, which may be large.
const MAX_MESSAGE_CHARS: usize = 600;
/// When a client shall come again that found the server full or ending and whose wait cannot be measured.
const SOON: Duration = Duration::from_secs(5);

/// The answer to a request that is not served.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    message: String,
    /// The field of the request that is wrong, as a path.
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
}

/// The JSON object of an error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> ApiError {
        ApiError { status, message: shortened(&message.into()), param: None, code, retry_after: None }
    }

    /// A request with something wrong in its body.
    pub(crate) fn invalid(param: impl Into<Option<&'static str>>, message: impl Into<String>) -> ApiError {
        let param = param.into().map(str::to_owned);
        ApiError { param, ..ApiError::new(StatusCode::BAD_REQUEST, None, message) }
    }

    /// The same error with the field of the request that is wrong.
    pub(crate) fn at(mut self, param: impl Into<String>) -> ApiError {
        self.param = Some(shortened(&param.into()));
        self
    }

    /// The same error with a code for programs.
    pub(crate) fn with_code(mut self, code: &'static str) -> ApiError {
        self.code = Some(code);
        self
    }

    /// Something that the server should be able to do and cannot. The reason is for the log alone, since it may name files.
    pub(crate) fn internal(reason: impl std::fmt::Display) -> ApiError {
        log::error!("{reason}");
        let message = "the server failed to compute the answer; its log says why";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, Some("internal_error"), message)
    }

    pub(crate) fn draining() -> ApiError {
        let message = "the server is shutting down: try again later";
        ApiError::unavailable(Some("draining"), message, SOON)
    }

    fn unavailable(code: Option<&'static str>, message: impl Into<String>, retry_after: Duration) -> ApiError {
        let retry_after = Some(retry_after);
        ApiError { retry_after, ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    /// The object that answers the request.
    pub(crate) fn body(&self) -> ErrorBody<'_> {
        let r#type = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        ErrorBody {
            error: ErrorObject { message: &self.message, r#type, param: self.param.as_deref(), code: self.code },
        }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn code(&self) -> Option<&'static str> {
        self.code
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let message = refusal.to_string();
        match refusal {
            Refusal::Full { retry_after, .. } => ApiError {
                retry_after: Some(retry_after),
                ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded"), message)
            },
            Refusal::TooLarge { .. } => ApiError::new(StatusCode::BAD_REQUEST, None, message),
            Refusal::Invalid(error) => error.into(),
            Refusal::Draining => ApiError::draining(),
        }
    }
}

impl From<anser::Error> for ApiError {
    fn from(error: anser::Error) -> ApiError {
        match error {
            anser::Error::Step(_)
            | anser::Error::Decode(_)
            | anser::Error::Option { .. }
            | anser::Error::State(_)
            | anser::Error::Grammar { .. }
            | anser::Error::StateFile { .. } => ApiError::invalid(None, error.to_string()),
            anser::Error::Sampler(anser::sampler::SamplerError::NotANumber { .. }) => ApiError::internal(error),
            anser::Error::Sampler(_) => ApiError::invalid(None, error.to_string()),
            other => ApiError::internal(other),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        let message = failure.to_string();
        match failure {
            Failure::Model(error) => error.into(),
            Failure::Waited { .. } => ApiError::unavailable(Some("queue_timeout"), message, SOON),
            Failure::Deadline => ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                Some("request_timeout"),
                "the request took longer than this server allows: ask for fewer tokens",
            ),
            Failure::NotTaken { .. } => ApiError::new(StatusCode::GATEWAY_TIMEOUT, Some("not_read"), message),
            Failure::DeviceLost { reason } => {
                log::error!("{reason}");
                ApiError::unavailable(Some("device_lost"), "the device failed: try again", SOON)
            }
            Failure::Step { reason } => ApiError::internal(reason),
            Failure::Draining => ApiError::draining(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = json(self.status, &self.body());
        let headers = response.headers_mut();
        if let Some(time) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(time.as_secs().clamp(1, 120)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An answer of JSON.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let (status, text) = match serde_json::to_vec(body) {
        Ok(text) => (status, text),
        Err(error) => {
            log::error!("an answer cannot be written as JSON: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, vec![])
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The text, with an ellipsis for its middle if it is long.
fn shortened(text: &str) -> String {
    if text.chars().nth(MAX_MESSAGE_CHARS).is_none() {
        return text.to_owned();
    }
    let n_side = MAX_MESSAGE_CHARS / 2;
    let head: String = text.chars().take(n_side).collect();
    let n_skipped = text.chars().count() - n_side;
    let tail: String = text.chars().skip(n_skipped).collect();
    format!("{head} […] {tail}")
}

#[cfg(test)]
mod tests {
    use super::{MAX_MESSAGE_CHARS, shortened};

    #[test]
    fn long_messages_keep_both_ends() {
        assert_eq!(shortened("as it is"), "as it is");
        let exact = "é".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(shortened(&exact), exact);
        let long = format!("begin {} end", "é".repeat(100_000));
        let short = shortened(&long);
        assert!(short.starts_with("begin é") && short.ends_with("é end") && short.chars().count() < 610, "{short}");
    }
}
