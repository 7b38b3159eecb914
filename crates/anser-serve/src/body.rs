//! Reads the JSON of requests, within bounds of bytes and time.

use crate::app::App;
use crate::error::ApiError;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The bytes of a request whose content type is JSON. Other types are refused, since a web page of any origin can make a browser
/// send those without asking first.
#[derive(Debug)]
pub(crate) struct Json(pub(crate) Bytes);

impl FromRequest<Arc<App>> for Json {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Json, ApiError> {
        if !is_json(request.headers()) {
            let message = "expected the header Content-Type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, message));
        }
        read(request, app, app.bounds.max_body_n_bytes).await.map(Json)
    }
}

/// What stands in the path of a request in place of `{id}`.
#[derive(Debug)]
pub(crate) struct Id(pub(crate) String);

impl FromRequestParts<Arc<App>> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Id, ApiError> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.map(|Path(id)| Id(id)).map_err(|error| ApiError::invalid("id", format!("id: {error}")))
    }
}

/// The bytes of a request's body, `max_n_bytes` at most.
pub(crate) async fn read(request: Request, app: &App, max_n_bytes: usize) -> Result<Bytes, ApiError> {
    let body = Limited::new(request.into_body(), max_n_bytes);
    let Ok(read) = tokio::time::timeout(app.bounds.body_time, body.collect()).await else {
        let message = format!("the body did not arrive within {} s", app.bounds.body_time.as_secs());
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, None, message));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is too large: expected at most {max_n_bytes} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, None, message))
        }
        Err(error) => Err(ApiError::invalid(None, format!("the body cannot be read: {error}"))),
    }
}

/// Whether the content type is JSON, whatever its parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

impl Json {
    /// The fields of the object that `T` has; others are ignored.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        parse(&self.0)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let wrong =
        |reason: String| ApiError::invalid(None, format!("the body is not the JSON that is expected: {reason}"));
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(format!("it is not UTF-8: {error}")))?;
    if !text.trim_start().starts_with('{') {
        return Err(wrong("expected an object".into()));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner();
        match reason.is_data() && path != "." {
            true => ApiError::invalid(None, format!("{path}: {reason}")).at(path),
            false => wrong(reason.to_string()),
        }
    })?;
    json.end().map_err(|error| wrong(error.to_string()))?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::{is_json, parse};
    use axum::http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Fields {
        #[allow(dead_code, reason = "only errors are looked at")]
        heat: Option<f64>,
        #[allow(dead_code, reason = "only errors are looked at")]
        parts: Option<Vec<u32>>,
    }

    #[test]
    fn errors_name_the_field() {
        let param = |text: &[u8]| {
            let error = parse::<Fields>(text).unwrap_err();
            serde_json::to_value(error.body()).unwrap()["error"]["param"].as_str().map(str::to_owned)
        };
        assert_eq!(param(br#"{"heat": "hot"}"#).as_deref(), Some("heat"));
        assert_eq!(param(br#"{"parts": [1, -2]}"#).as_deref(), Some("parts[1]"));
        for other in [&b""[..], b"{", b"null", b"[]", b"\"x\"", b"{\"heat\": 1e999}", b"\xff\xfe{}", b"{} {}"] {
            assert_eq!(param(other), None, "{other:?}");
        }
        assert!(parse::<Fields>(br#"{"heat": null, "else": [[[]]]}"#).is_ok());
    }

    #[test]
    fn content_types_have_parameters() {
        let is =
            |value: &'static str| is_json(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]));
        assert!(is("application/json") && is("Application/JSON; charset=utf-8"));
        assert!(!is("text/plain") && !is("application/jsonx") && !is(""));
        assert!(!is_json(&HeaderMap::new()));
    }
}
