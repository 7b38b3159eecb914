//! The page for people: its files, how browsers keep them, and what they may do. `page/tests` use it.

use crate::harness::{ANN, Answer, Running, limits, options};
use anser_serve::Options;
use std::time::Duration;

/// The most bytes of all files that a browser loads.
const MAX_N_BYTES: usize = 150_000;

fn get(server: &Running, path: &str, headers: &[(&str, &str)]) -> Answer {
    server.request("GET", path, headers, b"")
}

/// The paths of the files that the page names.
fn assets(page: &str) -> Vec<String> {
    let parts = page.split("\"./assets/").skip(1);
    parts.map(|part| format!("/assets/{}", part.split('"').next().unwrap())).collect()
}

/// The check sum of gzip, RFC 1952.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[test]
fn the_page_needs_no_key_and_may_do_little() {
    let server = Running::start();
    let page = get(&server, "/", &[]);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let assets = assets(&page.text());
    assert_eq!(assets.len(), 2, "a script and a style");
    let mut n_bytes = page.body.len();
    for path in assets.iter().map(String::as_str).chain(["/", "/licenses.txt"]) {
        let file = get(&server, path, &[]);
        assert_eq!(file.status, 200, "{path}");
        let policy = file.header("content-security-policy").unwrap();
        for rule in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.split("; ").any(|known| known == rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(file.header("referrer-policy"), Some("no-referrer"));
        n_bytes += if path.starts_with("/assets/") { file.body.len() } else { 0 };
    }
    assert!(n_bytes < MAX_N_BYTES, "{n_bytes} bytes");
    assert_eq!(get(&server, "/", &[("host", "evil.example")]).error(403)["code"], "host_not_allowed");
    let wrong = server.request("POST", "/", &[("authorization", &format!("Bearer {ANN}"))], b"");
    wrong.error(405);
    assert_eq!(wrong.header("allow"), Some("GET,HEAD"));
    get(&server, "/v1/models", &[]).error(401);
}

#[test]
fn browsers_keep_files_by_their_hashes() {
    let server = Running::start();
    for path in assets(&get(&server, "/", &[]).text()) {
        let whole = get(&server, &path, &[]);
        assert_eq!(whole.header("cache-control"), Some("public, max-age=31536000, immutable"), "{path}");
        assert_eq!((whole.header("content-encoding"), whole.header("vary")), (None, Some("accept-encoding")));
        let zipped = get(&server, &path, &[("accept-encoding", "br, gzip")]);
        assert_eq!((zipped.header("content-encoding"), zipped.header("vary")), (Some("gzip"), Some("accept-encoding")));
        assert!(zipped.body.starts_with(&[0x1f, 0x8b]) && 2 * zipped.body.len() < whole.body.len());
        let end = [crc32(&whole.body).to_le_bytes(), (whole.body.len() as u32).to_le_bytes()].concat();
        assert!(zipped.body.ends_with(&end), "{path}: it is compressed from other bytes: build the page");
        let (tag, other) = (whole.header("etag").unwrap(), zipped.header("etag").unwrap());
        assert_ne!(tag, other);
        let known = get(&server, &path, &[("if-none-match", tag)]);
        assert_eq!((known.status, known.header("etag"), known.body.len()), (304, Some(tag), 0));
        let known = get(&server, &path, &[("if-none-match", other), ("accept-encoding", "gzip")]);
        assert_eq!((known.status, known.body.len()), (304, 0));
        assert_eq!(get(&server, &path, &[("if-none-match", other)]).status, 200);
        let head = server.request("HEAD", &path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(&*whole.body.len().to_string()));
        // Without its hash, or with another one, there is no such file.
        for wrong in
            ["/assets/page.js".to_owned(), path.replace("page-", "page-0"), format!("{path}/"), format!("{path}.gz")]
        {
            get(&server, &wrong, &[]).error(401);
            server.get(&wrong).error(404);
        }
    }
    let tag = get(&server, "/", &[]).header("etag").unwrap().to_owned();
    assert_eq!(get(&server, "/", &[("if-none-match", &tag)]).status, 304);
}

#[test]
fn a_server_may_have_no_page() {
    let server = Running::with(Options { has_page: false, ..options() }, limits(), Duration::ZERO);
    get(&server, "/", &[]).error(401);
    for path in ["/", "/licenses.txt"] {
        assert_eq!(server.get(path).error(404)["code"], "unknown_url");
    }
    get(&server, "/health", &[]).ok();
}
