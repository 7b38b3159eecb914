//! Who may ask: keys, host names, origins, content types; and connections that ask for nothing.

use crate::harness::{ANN, BEN, Running, json_request, limits, options};
use anser_serve::{Bounds, Keys, Options};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn keys_are_needed_and_checked_before_the_body() {
    let server = Running::start();
    server.request("GET", "/health", &[], b"").ok();
    for header in [
        "",
        "Bearer wrong",
        "Bearer",
        ANN,
        &format!("Basic {ANN}"),
        &format!("Bearer {ANN}x"),
        &format!("Bearer {}", &ANN[1..]),
    ] {
        let answer = server.request("POST", "/v1/chat/completions", &[("authorization", header)], b"{");
        assert_eq!(answer.error(401)["code"], "invalid_api_key", "{header}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for path in ["/v1/models", "/metrics", "/props", "/nothing", &format!("/v1/models?api_key={ANN}")] {
        server.request("GET", path, &[], b"").error(401);
    }
    server.request("GET", "/v1/models", &[("x-api-key", BEN)], b"").ok();
    server.request("GET", "/v1/models", &[("authorization", &format!("bEARER {BEN}"))], b"").ok();
    let open = Running::with(Options { keys: Keys::default(), ..options() }, limits(), Duration::ZERO);
    open.request("GET", "/v1/models", &[("authorization", "Bearer anything")], b"").ok();
}

#[test]
fn pages_of_other_names_and_origins_get_nothing() {
    let options =
        Options { host_names: vec!["proxy.example".into()], origins: vec!["https://app.example".into()], ..options() };
    let server = Running::with(options, limits(), Duration::ZERO);
    let key = format!("Bearer {ANN}");
    let get = |headers: &[(&str, &str)]| {
        server.request("GET", "/v1/models", &[&[("authorization", &*key)], headers].concat(), b"")
    };
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
        assert_eq!(get(&[("host", host)]).error(403)["code"], "host_not_allowed", "{host}");
    }
    for host in ["localhost:1", "127.0.0.1", "[::1]:8080", "proxy.example"] {
        get(&[("host", host)]).ok();
    }
    assert_eq!(get(&[("origin", "https://evil.example")]).header("access-control-allow-origin"), None);
    let allowed = get(&[("origin", "https://app.example")]);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(allowed.header("access-control-allow-credentials"), None);
    let preflight = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let asked = server.request("OPTIONS", "/v1/chat/completions", &preflight, b"");
    assert!(asked.header("access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(
        Running::start()
            .request("OPTIONS", "/v1/chat/completions", &preflight, b"")
            .header("access-control-allow-origin"),
        None
    );
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let headers = [("authorization", &*key), ("content-type", kind)];
        server.request("POST", "/v1/chat/completions", &headers, b"{}").error(415);
    }
}

#[test]
fn requests_have_identifiers() {
    let server = Running::start();
    let id = |given: &str| {
        server.request("GET", "/health", &[("x-request-id", given)], b"").header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id("abc-1"), "abc-1");
    assert!(id("a b").starts_with("req_") && id(&"x".repeat(65)).starts_with("req_"));
}

#[test]
fn half_requests_and_large_headers_end() {
    let bounds =
        Bounds { header_time: Duration::from_millis(300), body_time: Duration::from_millis(300), ..Bounds::default() };
    let server = Running::with(Options { bounds, ..options() }, limits(), Duration::ZERO);
    let mut silent = TcpStream::connect(server.address).unwrap();
    let mut half = server.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n");
    let cut = json_request(ANN, "/tokenize", &json!({"content": "hello"}));
    assert_eq!(server.send(&cut[..cut.len() - 3]).rest().status, 408);
    let mut rest = vec![];
    half.stream.read_to_end(&mut rest).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    silent.read_to_end(&mut rest).unwrap();
    let many: Vec<(String, String)> = (0..200).map(|i| (format!("x-{i}"), "y".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(server.request("GET", "/health", &many, b"").status, 431);
    assert_eq!(server.request("GET", "/health", &[("x-long", &"x".repeat(100_000))], b"").status, 431);
    for broken in [
        &b"\x00\x01\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    ] {
        let mut answer = vec![];
        let _ = server.send(broken).stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
    }
    server.get("/v1/models").ok();
}

#[test]
fn connections_beyond_the_bound_wait_for_a_place() {
    let bounds = Bounds { max_connections: 4, header_time: Duration::from_secs(20), ..Bounds::default() };
    let server = Running::with(Options { bounds, ..options() }, limits(), Duration::ZERO);
    let held: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let mut fifth = TcpStream::connect(server.address).unwrap();
    fifth.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    fifth.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(fifth.read(&mut [0; 16]).is_err(), "there is no place for it");
    drop(held);
    fifth.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = String::new();
    fifth.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
