//! The page for people: files that are part of the program. `page/` has their sources and says how they are built.

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use sha2::{Digest, Sha256};

const INDEX: &str = include_str!("../page/dist/index.html");
const SCRIPT: &[u8] = include_bytes!("../page/dist/assets/page.js");
const SCRIPT_GZIPPED: &[u8] = include_bytes!("../page/dist/assets/page.js.gz");
const STYLE: &[u8] = include_bytes!("../page/dist/assets/page.css");
const STYLE_GZIPPED: &[u8] = include_bytes!("../page/dist/assets/page.css.gz");
const LICENSES: &str = include_str!("../page/dist/licenses.txt");

/// What the page's files may do: run and ask for nothing but what this server has, and make no markup of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// How long browsers keep what never changes under its name: a year.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
/// Browsers ask each time whether it has changed.
const ASK: &str = "no-cache";

/// The files of the page.
#[derive(Debug)]
pub(crate) struct Page {
    files: Vec<File>,
}

/// A file as it is sent.
#[derive(Debug)]
struct File {
    path: String,
    kind: &'static str,
    caching: &'static str,
    /// The beginning of the SHA-256 of `bytes`, in hexadecimal digits.
    hash: String,
    bytes: Bytes,
    gzipped: Option<Bytes>,
}

impl Page {
    /// The page, whose script and style have their hashes in their names: browsers keep them for good, and a later version of the
    /// program has others.
    pub(crate) fn new() -> Page {
        let named = |name: &str, ending: &str, bytes: &[u8]| format!("{name}-{}.{ending}", hash(bytes));
        let (script, style) = (named("assets/page", "js", SCRIPT), named("assets/page", "css", STYLE));
        let index = INDEX.replace("assets/page.js", &script).replace("assets/page.css", &style);
        let file = |path: String, kind, caching, bytes: Bytes, gzipped: Option<&'static [u8]>| File {
            path: format!("/{path}"),
            kind,
            caching,
            hash: hash(&bytes),
            bytes,
            gzipped: gzipped.map(Bytes::from_static),
        };
        let text = "text/plain; charset=utf-8";
        Page {
            files: vec![
                file(String::new(), "text/html; charset=utf-8", ASK, index.into(), None),
                file(script, "text/javascript; charset=utf-8", FOR_GOOD, SCRIPT.into(), Some(SCRIPT_GZIPPED)),
                file(style, "text/css; charset=utf-8", FOR_GOOD, STYLE.into(), Some(STYLE_GZIPPED)),
                file("licenses.txt".into(), text, ASK, LICENSES.into(), None),
            ],
        }
    }

    /// The paths of its files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| &*file.path)
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths().any(|known| known == path)
    }

    /// The answer to a request for a file; `None` if there is none of this path.
    pub(crate) fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        let file = self.files.iter().find(|file| file.path == path)?;
        let gzipped = file.gzipped.as_ref().filter(|_| takes_gzip(headers));
        let tag = match gzipped {
            Some(_) => format!("\"{}-gzip\"", file.hash),
            None => format!("\"{}\"", file.hash),
        };
        let is_known = knows(headers, &tag);
        let body = if is_known { Bytes::new() } else { gzipped.unwrap_or(&file.bytes).clone() };
        let mut response = Response::new(Body::from(body));
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let answered = response.headers_mut();
        let constants = [
            (CONTENT_TYPE, file.kind),
            (CACHE_CONTROL, file.caching),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        answered.extend(constants.map(|(name, value)| (name, HeaderValue::from_static(value))));
        answered.extend(HeaderValue::from_str(&tag).ok().map(|tag| (ETAG, tag)));
        if file.gzipped.is_some() {
            answered.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if gzipped.is_some() && !is_known {
            answered.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Some(response)
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the client takes answers that are compressed with gzip.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let of_list = |list: &str| {
        list.split(',').any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            is_gzip && weight.is_none_or(|weight| weight > 0.0)
        })
    };
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(of_list)
}

/// Whether the client has the file of this tag already.
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let is_it = |known: &str| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    };
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(is_it)
}

#[cfg(test)]
mod tests {
    use super::{Page, knows, takes_gzip};
    use axum::http::header::{ACCEPT_ENCODING, IF_NONE_MATCH};
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn gzip_is_for_those_who_ask_for_it() {
        for value in ["gzip", "deflate, gzip;q=0.5", "br, GZIP ; q=1"] {
            assert!(takes_gzip(&with(ACCEPT_ENCODING, value)), "{value}");
        }
        for value in ["", "br", "gzip;q=0", "gzip; q=0.0", "x-gzip-like"] {
            assert!(!takes_gzip(&with(ACCEPT_ENCODING, value)), "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn tags_are_compared_as_a_list() {
        for value in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(knows(&with(IF_NONE_MATCH, value), "\"a\""), "{value}");
        }
        for value in ["\"b\"", "a", ""] {
            assert!(!knows(&with(IF_NONE_MATCH, value), "\"a\""), "{value}");
        }
    }

    #[test]
    fn the_index_names_the_files_that_there_are() {
        let page = Page::new();
        let index = String::from_utf8(page.files[0].bytes.to_vec()).unwrap();
        for file in page.files.iter().filter(|file| file.path.starts_with("/assets/")) {
            assert!(index.contains(&format!("\".{}\"", file.path)), "{}", file.path);
        }
        assert_eq!(index.matches("assets/").count(), 2);
    }
}
