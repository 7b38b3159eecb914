//! Requests to the hub, and to where it sends for the bytes of large files.

use crate::error::HubError;
use crate::listing::{Listing, is_hash};
use crate::name::ModelName;
use crate::settings::Settings;
use std::fmt::Write;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode};

/// A response with its body.
pub(crate) type Response = ureq::http::Response<ureq::Body>;

/// The most redirections that are followed.
const MAX_REDIRECTS: usize = 10;
/// The longest list of a repository's files that is read, in bytes.
const MAX_LISTING_N_BYTES: u64 = 64 << 20;
/// The longest time until a host is found and answers a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest time between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one hub.
pub(crate) struct Http {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// What the hub says about a file before it sends it.
#[derive(Debug)]
pub(crate) struct FileFacts {
    /// The hash of the file, which is the name of its bytes in the cache: SHA-256 of files in large file storage, else Git's.
    pub(crate) etag: String,
    /// The size, if the hub tells it.
    pub(crate) n_bytes: Option<u64>,
}

/// The kind of request.
#[derive(Clone, Copy)]
enum Method {
    /// The headers alone. Redirections to other hosts are not followed.
    Head,
    /// Headers and body, from this byte on.
    Get { from: u64 },
}

impl Http {
    pub(crate) fn new(settings: &Settings) -> Http {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirections are followed here, since the token must not go to other hosts.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .user_agent(concat!("anser/", env!("CARGO_PKG_VERSION")))
            // Bytes as they are, so that sizes and ranges are those of the file.
            .accept_encoding("identity")
            .build();
        Http { agent: config.new_agent(), endpoint: settings.endpoint.clone(), token: settings.token.clone() }
    }

    /// The files of the repository at the revision of `name`.
    pub(crate) fn listing(&self, name: &ModelName) -> Result<Listing, HubError> {
        let url = format!(
            "{}/api/models/{}/revision/{}?blobs=true",
            self.endpoint,
            name.repo(),
            escaped(name.revision(), Slash::Escaped)
        );
        let mut response = self.send(&url, Method::Get { from: 0 })?;
        if !response.status().is_success() {
            return Err(self.refusal(&url, &response, name, None));
        }
        let bytes = response.body_mut().with_config().limit(MAX_LISTING_N_BYTES).read_to_vec();
        let bytes = bytes.map_err(|error| network(&url, &error))?;
        Listing::parse(&bytes).map_err(|problem| answer(&url, problem))
    }

    /// What the hub says about the file at `path` of a commit.
    pub(crate) fn facts(&self, name: &ModelName, commit: &str, path: &str) -> Result<FileFacts, HubError> {
        let url = self.file_url(name, commit, path);
        let response = self.send(&url, Method::Head)?;
        if !response.status().is_success() && !is_redirect(response.status()) {
            return Err(self.refusal(&url, &response, name, Some(path)));
        }
        let headers = response.headers();
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        if !is_hash(etag) {
            return Err(answer(&url, format!("the file's hash is missing or is no hash ({etag:?})")));
        }
        if let Some(other) = text(headers, "x-repo-commit").filter(|other| *other != commit) {
            return Err(answer(&url, format!("the file is of commit {other:?}, not of {commit}")));
        }
        // Of a redirection the length is that of its own body.
        let length = if is_redirect(response.status()) { None } else { text(headers, "content-length") };
        let n_bytes = text(headers, "x-linked-size").or(length).and_then(|n| n.parse().ok());
        Ok(FileFacts { etag: etag.to_owned(), n_bytes })
    }

    /// The bytes of the file at `path` of a commit, from byte `from` on if the server can, and where they begin.
    pub(crate) fn bytes(
        &self,
        name: &ModelName,
        commit: &str,
        path: &str,
        from: u64,
    ) -> Result<(Response, u64), HubError> {
        let url = self.file_url(name, commit, path);
        let response = self.send(&url, Method::Get { from })?;
        let begins = match response.status() {
            StatusCode::PARTIAL_CONTENT => text(response.headers(), "content-range").and_then(range_start),
            // There is nothing after the last byte.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return self.bytes(name, commit, path, 0),
            status if status.is_success() => Some(0),
            _ => return Err(self.refusal(&url, &response, name, Some(path))),
        };
        match begins {
            Some(begins) if begins == from || begins == 0 => Ok((response, begins)),
            Some(_) | None => Err(answer(&url, format!("the server sent other bytes than those from {from} on"))),
        }
    }

    fn file_url(&self, name: &ModelName, commit: &str, path: &str) -> String {
        format!(
            "{}/{}/resolve/{}/{}",
            self.endpoint,
            name.repo(),
            escaped(commit, Slash::Escaped),
            escaped(path, Slash::Kept)
        )
    }

    /// Sends a request and follows redirections. The token goes to the hub alone.
    fn send(&self, url: &str, method: Method) -> Result<Response, HubError> {
        let hub = origin(&self.endpoint);
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = match method {
                Method::Head => self.agent.head(&url),
                Method::Get { .. } => self.agent.get(&url),
            };
            match method {
                Method::Get { from } if from > 0 => request = request.header("range", format!("bytes={from}-")),
                Method::Get { .. } | Method::Head => {}
            }
            match &self.token {
                Some(token) if origin(&url) == hub => {
                    request = request.header("authorization", format!("Bearer {token}"))
                }
                Some(_) | None => {}
            }
            let response = request.call().map_err(|error| network(&url, &error))?;
            if !is_redirect(response.status()) {
                return Ok(response);
            }
            let Some(location) = text(response.headers(), "location") else {
                return Err(answer(&url, "it sends elsewhere without saying where".into()));
            };
            let next = joined(&url, location).ok_or_else(|| answer(&url, format!("it sends to {location:?}")))?;
            if url.starts_with("https://") && !next.starts_with("https://") {
                return Err(answer(&url, format!("it sends from https to {next:?}, which is not encrypted")));
            }
            match method {
                // The other host knows nothing about the repository: these headers are the hub's.
                Method::Head if origin(&next) != hub => return Ok(response),
                Method::Head | Method::Get { .. } => url = next,
            }
        }
        Err(answer(&url, format!("more than {MAX_REDIRECTS} redirections")))
    }

    /// The error that a refusal stands for. Hubs name the reason in a header.
    fn refusal(&self, url: &str, response: &Response, name: &ModelName, path: Option<&str>) -> HubError {
        let status = response.status();
        let reason = text(response.headers(), "x-error-code").unwrap_or_default();
        let (repo, endpoint) = (name.repo().to_owned(), self.endpoint.clone());
        let has_token = self.token.is_some();
        let no_repository = |repo, endpoint| HubError::NoRepository {
            repo,
            endpoint,
            advice: match has_token {
                true => ", and whether your token (HF_TOKEN) may read it",
                false => ", and set HF_TOKEN to a token that may read it if it is private",
            },
        };
        match (status.as_u16(), reason, path) {
            (401 | 403, "GatedRepo", _) => HubError::Gated {
                repo,
                endpoint,
                advice: match has_token {
                    true => {
                        "check that your token (HF_TOKEN) is of the account that did, and may read gated repositories"
                    }
                    false => "set HF_TOKEN to a token of that account",
                },
            },
            (404, "RevisionNotFound", _) => HubError::NoRevision { repo, revision: name.revision().to_owned() },
            (404, "EntryNotFound", Some(path)) => {
                HubError::NoFile { repo, file: path.to_owned(), found: "the hub lists it, but does not have it".into() }
            }
            // Hubs answer 401 for repositories that do not exist, too, so that a stranger cannot find out which private ones do.
            (401 | 404, _, _) => no_repository(repo, endpoint),
            (429, ..) => HubError::Answer {
                url: url.to_owned(),
                problem: format!("the hub wants fewer requests ({status})"),
                advice: "wait some minutes and repeat the command",
                is_transient: true,
            },
            (500..=599, ..) => HubError::Answer {
                url: url.to_owned(),
                problem: format!("the hub failed ({status})"),
                advice: "repeat the command later",
                is_transient: true,
            },
            _ => answer(url, format!("the hub answered {status} {reason}")),
        }
    }
}

/// Where a range `bytes 5-9/10` begins.
fn range_start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<&str> {
    let at = url.find("://")? + 3;
    let end = url[at..].find(['/', '?', '#']).map_or(url.len(), |n| at + n);
    Some(&url[..end])
}

/// The address that `location` names from `url`.
fn joined(url: &str, location: &str) -> Option<String> {
    if location.starts_with("https://") || location.starts_with("http://") {
        return Some(location.to_owned());
    }
    let origin = origin(url)?;
    if location.starts_with("//") {
        return Some(format!("{}{location}", &origin[..origin.find("//")?]));
    }
    location.starts_with('/').then(|| format!("{origin}{location}"))
}

/// Whether a slash separates parts of a path, or is a character of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slash {
    Kept,
    Escaped,
}

/// `text` as a part of an address.
fn escaped(text: &str, slash: Slash) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~')
            || byte == b'/' && slash == Slash::Kept;
        if is_plain {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}"); // A string takes everything.
        }
    }
    url
}

/// The error of a request that got no answer.
fn network(url: &str, error: &ureq::Error) -> HubError {
    let problem = match error {
        ureq::Error::HostNotFound => "the host is not known".to_owned(),
        ureq::Error::Timeout(_) => format!("no answer within {} s", READ_TIMEOUT.as_secs()),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    HubError::Network { url: without_query(url), problem }
}

/// The error of an answer that cannot be used.
fn answer(url: &str, problem: String) -> HubError {
    let advice = "check HF_ENDPOINT, or repeat the command later";
    HubError::Answer { url: without_query(url), problem, advice, is_transient: false }
}

/// An address without what may be a signature in it.
fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_joined_and_escaped() {
        let url = "https://hub.example:8443/a/resolve/main/x?y";
        assert_eq!(origin(url), Some("https://hub.example:8443"));
        assert_eq!(joined(url, "/b/c").as_deref(), Some("https://hub.example:8443/b/c"));
        assert_eq!(joined(url, "//cdn.example/c").as_deref(), Some("https://cdn.example/c"));
        assert_eq!(joined(url, "https://cdn.example/c").as_deref(), Some("https://cdn.example/c"));
        for location in ["file:///etc/passwd", "c", "", "javascript:x"] {
            assert_eq!(joined(url, location), None, "{location}");
        }
        assert_eq!(escaped("a b/ü#?%.gguf", Slash::Kept), "a%20b/%C3%BC%23%3F%25.gguf");
        assert_eq!(escaped("refs/pr/1", Slash::Escaped), "refs%2Fpr%2F1");
        assert_eq!((range_start("bytes 5-9/10"), range_start("bytes */10"), range_start("5-9")), (Some(5), None, None));
    }
}
