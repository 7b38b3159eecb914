//! A hub of one repository, a host for the bytes of large files, and what they were asked: two servers on this machine that
//! speak the same paths, headers and refusals as the public hub.

#![allow(dead_code, reason = "each test program uses a part")]

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The repository, and the commit that its branches and tags stand at.
pub(crate) const REPO: &str = "ann/geese";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const TOKEN: &str = "hf_secret";
/// Files of at least this many bytes are large: the hub sends to the other host for them.
pub(crate) const LARGE_N_BYTES: usize = 1000;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The first byte of the range.
    pub(crate) from: Option<usize>,
    pub(crate) authorization: Option<String>,
}

/// What is to go wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// What the hub refuses everything with: status and reason.
    pub(crate) refuses: Option<(u16, &'static str)>,
    /// Whether the hub wants a token.
    pub(crate) is_private: bool,
    /// The bodies of large files, in the order of requests, end after this many bytes.
    pub(crate) cuts: Vec<usize>,
    /// Whether the host of large files answers every request with the whole file.
    pub(crate) ignores_ranges: bool,
    /// Whether the host of large files sends other bytes.
    pub(crate) corrupts: bool,
    /// A hash for the header of large files.
    pub(crate) etag: Option<&'static str>,
    /// Where the hub sends instead of to the other host.
    pub(crate) location: Option<&'static str>,
    /// The answer to the request for the list of files.
    pub(crate) listing: Option<String>,
}

/// Both servers.
pub(crate) struct TestHub {
    pub(crate) endpoint: String,
    shared: Arc<Shared>,
}

struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    faults: Mutex<Faults>,
    /// Requests to the hub and to the other host.
    asked: [Mutex<Vec<Asked>>; 2],
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// The connection is closed after this many bytes of the body.
    cut: Option<usize>,
}

impl TestHub {
    pub(crate) fn start(files: &[(&str, Vec<u8>)]) -> TestHub {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect();
        let shared = Arc::new(Shared { files, faults: Mutex::default(), asked: Default::default() });
        let cdn = serve(shared.clone(), 1, |shared, asked| shared.bytes(asked));
        let endpoint = serve(shared.clone(), 0, move |shared, asked| shared.hub(asked, &cdn));
        TestHub { endpoint, shared }
    }

    pub(crate) fn set(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap() = faults;
    }

    /// The requests to the hub (0) or to the host of large files (1) since the last call.
    pub(crate) fn asked(&self, host: usize) -> Vec<Asked> {
        std::mem::take(&mut self.shared.asked[host].lock().unwrap())
    }
}

/// The hash that the hub names for a file.
pub(crate) fn etag(bytes: &[u8]) -> String {
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    // Small files have Git's hash, which has 40 digits.
    if bytes.len() >= LARGE_N_BYTES { digest } else { digest[..40].to_owned() }
}

impl Shared {
    fn hub(&self, asked: &Asked, cdn: &str) -> Answer {
        let faults = self.faults.lock().unwrap().clone();
        let is_known = asked.authorization.as_deref() == Some(&format!("Bearer {TOKEN}"));
        if let Some((status, reason)) = faults.refuses {
            return Answer::refusal(status, reason);
        }
        if faults.is_private && !is_known {
            return Answer::refusal(401, "RepoNotFound");
        }
        if let Some(revision) = asked.path.strip_prefix(&format!("/api/models/{REPO}/revision/")) {
            let revision = revision.split('?').next().unwrap();
            if ![COMMIT, "main", "v1", "refs%2Fpr%2F1"].contains(&revision) {
                return Answer::refusal(404, "RevisionNotFound");
            }
            let listed =
                |(path, bytes): (&String, &Vec<u8>)| format!(r#"{{"rfilename": "{path}", "size": {}}}"#, bytes.len());
            let siblings: Vec<String> = self.files.iter().map(listed).collect();
            let listing = format!(r#"{{"id": "{REPO}", "sha": "{COMMIT}", "siblings": [{}]}}"#, siblings.join(", "));
            return Answer::ok(faults.listing.unwrap_or(listing).into_bytes());
        }
        let file = asked.path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/"));
        let Some(file) = file else { return Answer::refusal(401, "") };
        let file = file.replace("%20", " ");
        let Some(bytes) = self.files.get(&file) else { return Answer::refusal(404, "EntryNotFound") };
        let mut headers = vec![("X-Repo-Commit", COMMIT.to_owned())];
        if bytes.len() < LARGE_N_BYTES {
            headers.push(("ETag", format!("\"{}\"", etag(bytes))));
            return Answer { headers, ..Answer::ok(bytes.clone()) };
        }
        headers.push(("X-Linked-ETag", format!("\"{}\"", faults.etag.map_or_else(|| etag(bytes), str::to_owned))));
        headers.push(("X-Linked-Size", bytes.len().to_string()));
        let location = faults.location.map_or_else(|| format!("{cdn}/bytes/{file}?signature=1"), str::to_owned);
        headers.push(("Location", location.replace(' ', "%20")));
        Answer { status: 302, headers, body: b"Found. Redirecting".to_vec(), cut: None }
    }

    fn bytes(&self, asked: &Asked) -> Answer {
        let mut faults = self.faults.lock().unwrap();
        let path = asked.path.split('?').next().unwrap().replace("%20", " ");
        let Some(mut bytes) = path.strip_prefix("/bytes/").and_then(|path| self.files.get(path)).cloned() else {
            return Answer::refusal(403, "");
        };
        if faults.corrupts {
            *bytes.last_mut().unwrap() ^= 1;
        }
        let cut = (!faults.cuts.is_empty()).then(|| faults.cuts.remove(0));
        match asked.from.filter(|_| !faults.ignores_ranges) {
            Some(from) if from >= bytes.len() => Answer::refusal(416, ""),
            Some(from) => Answer {
                status: 206,
                headers: vec![("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))],
                body: bytes.split_off(from),
                cut,
            },
            None => Answer { cut, ..Answer::ok(bytes) },
        }
    }
}

impl Answer {
    fn ok(body: Vec<u8>) -> Answer {
        Answer { status: 200, headers: vec![], body, cut: None }
    }

    fn refusal(status: u16, reason: &'static str) -> Answer {
        let headers = vec![("X-Error-Code", reason.to_owned())];
        Answer { status, headers, body: b"{\"error\": \"no\"}".to_vec(), cut: None }
    }
}

/// Starts a server and returns its address.
fn serve(
    shared: Arc<Shared>,
    host: usize,
    answer: impl Fn(&Shared, &Asked) -> Answer + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (shared, answer) = (shared.clone(), answer.clone());
            // A client that goes away ends its connection only.
            std::thread::spawn(move || converse(stream, &shared, host, &*answer));
        }
    });
    address
}

fn converse(stream: TcpStream, shared: &Shared, host: usize, answer: &dyn Fn(&Shared, &Asked) -> Answer) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let asked = read_request(&mut lines)?;
        shared.asked[host].lock().unwrap().push(asked.clone());
        let Answer { status, headers, body, cut } = answer(shared, &asked);
        let mut head = format!("HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if asked.method != "HEAD" {
            stream.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())]).ok()?;
        }
        if cut.is_some() {
            return None;
        }
    }
}

fn read_request(lines: &mut impl BufRead) -> Option<Asked> {
    let mut first = String::new();
    lines.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let mut asked = Asked { method: words.next()?, path: words.next()?, from: None, authorization: None };
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => {
                asked.from = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                asked.authorization = Some(value.into())
            }
            Some(_) => {}
            None => return Some(asked),
        }
    }
}
