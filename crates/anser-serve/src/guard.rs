//! What happens to every request before its route: host names, keys, draining; and after it: its identifier, counts and log.

use crate::app::{App, Caller};
use crate::connection::LocalAddress;
use crate::error::ApiError;
use crate::ids;
use crate::metrics::Route;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::IntoResponse;
use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Names a request in the log and in its answer.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The most characters of an identifier that a client gives.
const MAX_REQUEST_ID_LEN: usize = 64;

/// Names the request, counts it, and writes a line of the log.
pub(crate) async fn watch(State(app): State<Arc<App>>, request: Request, next: Next) -> Response<Body> {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let id = request.headers().get(REQUEST_ID).filter(|id| is_plain(id)).cloned();
    let id = id.or_else(|| HeaderValue::from_str(&ids::fresh("req_")).ok());
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    if let Some(id) = id {
        log::debug!("{} {method} {route}: {status}", id.to_str().unwrap_or_default());
        response.headers_mut().insert(REQUEST_ID, id);
    }
    app.metrics.answered(Route(route), status, began.elapsed());
    response
}

fn is_plain(id: &HeaderValue) -> bool {
    let is_plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=MAX_REQUEST_ID_LEN).contains(&id.len()) && id.as_bytes().iter().all(is_plain)
}

/// Refuses foreign host names, requests without a key, and new work while the server ends.
pub(crate) async fn check(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response<Body> {
    let address = request.extensions().get::<LocalAddress>().and_then(|local| local.0);
    if !is_own_host(host(&request), address, &app.host_names) {
        let message = "the host name of this request is not one of the server's: name it with --host-name";
        return ApiError::new(StatusCode::FORBIDDEN, Some("host_not_allowed"), message).into_response();
    }
    let path = request.uri().path();
    let is_open = path == "/health"
        || request.method() == Method::OPTIONS
        || app.page.as_ref().is_some_and(|page| page.has(path));
    let Some(tenant) = app.keys.tenant(request.headers()).or(is_open.then(Default::default)) else {
        let message =
            "Incorrect API key provided: expected the header Authorization: Bearer KEY with a key of this server";
        return ApiError::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message).into_response();
    };
    if app.is_draining() && request.method() != Method::GET {
        return ApiError::draining().into_response();
    }
    request.extensions_mut().insert(Caller(tenant));
    next.run(request).await
}

/// The host that the request was sent to, by its header or its target.
fn host(request: &Request) -> Option<&str> {
    let of_target = request.uri().authority().map(|authority| authority.as_str());
    request.headers().get(HOST).map_or(of_target, |host| host.to_str().ok())
}

/// Whether a request for `host` may be served: a web page could make its own name lead here, but neither `localhost` nor an address.
/// A Unix socket, which has no address and which no page reaches, takes any name.
fn is_own_host(host: Option<&str>, address: Option<IpAddr>, names: &[String]) -> bool {
    let Some(address) = address else { return true };
    let Some(host) = host else { return false };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let name = name.to_ascii_lowercase();
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_own_ip = ip.is_ok_and(|ip| ip.is_loopback() || ip.to_canonical() == address.to_canonical());
    is_own_ip || name == "localhost" || names.contains(&name)
}

pub(crate) async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(100).collect();
    ApiError::new(StatusCode::NOT_FOUND, Some("unknown_url"), format!("there is no {method} {path}"))
}

/// The router adds the header `Allow`.
pub(crate) async fn wrong_method(method: Method, uri: Uri, _: HeaderMap) -> ApiError {
    let path: String = uri.path().chars().take(100).collect();
    let message = format!("{path} does not take {method}: see the header Allow");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_allowed"), message)
}

/// The answer of a request whose handler panicked.
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    ApiError::internal(format!("a request panicked: {}", text.unwrap_or("without a message"))).into_response()
}

#[cfg(test)]
mod tests {
    use super::{is_own_host, is_plain};
    use axum::http::HeaderValue;

    #[test]
    fn a_page_of_another_name_is_refused() {
        let names = ["chat.example".to_owned()];
        let is_own = |host: &str, address: &str| is_own_host(Some(host), Some(address.parse().unwrap()), &names);
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "chat.example:443", "Chat.Example"]
        {
            assert!(is_own(host, "127.0.0.1"), "{host}");
        }
        assert!(is_own("192.168.1.5:8080", "192.168.1.5") && is_own("192.168.1.5", "::ffff:192.168.1.5"));
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "192.168.1.6",
            "",
            ":8080",
            "localhost:x",
            "user@localhost",
        ] {
            assert!(!is_own(host, "192.168.1.5"), "{host}");
        }
        assert!(!is_own_host(None, "127.0.0.1".parse().ok(), &names));
        assert!(is_own_host(None, None, &names), "a Unix socket");
    }

    #[test]
    fn identifiers_are_short_and_plain() {
        let plain = |id: &str| is_plain(&HeaderValue::from_str(id).unwrap());
        assert!(plain("abc-1_2.3:4") && plain(&"x".repeat(64)));
        assert!(!plain("") && !plain(&"x".repeat(65)) && !plain("a b") && !plain("a\tb"));
    }
}
