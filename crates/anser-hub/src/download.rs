//! Getting one file into the cache: resumed where an earlier download ended, and compared with the hash that the hub names.

use crate::cache::{RepoCache, about, make_folder_of};
use crate::error::HubError;
use crate::http::{FileFacts, Http, Response};
use crate::name::ModelName;
use crate::{Event, OnEvent};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often in a row a download may break off without a byte.
const MAX_FAILURES: u32 = 4;
/// The time before the first new attempt; it doubles with every failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The bytes that are read, hashed and written at a time.
const PIECE_N_BYTES: usize = 1 << 18;
/// The length of a SHA-256 in hexadecimal digits.
const SHA256_LEN: usize = 64;

/// A file of a repository at a commit.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a ModelName,
    pub(crate) commit: &'a str,
    /// The path in the repository.
    pub(crate) path: &'a str,
}

/// The file that is `wanted`, from the cache or from the hub.
pub(crate) fn get(
    http: &Http,
    cache: &RepoCache,
    wanted: &Wanted<'_>,
    on_event: &mut OnEvent<'_>,
) -> Result<PathBuf, HubError> {
    let place = cache.snapshot(wanted.commit, wanted.path);
    if place.is_file() {
        return Ok(place);
    }
    let facts = http.facts(wanted.name, wanted.commit, wanted.path)?;
    let blob = cache.blob(&facts.etag);
    make_folder_of(&blob)?;
    let _lock = cache.lock(&facts.etag, || {
        let _ = on_event(Event::Waiting { file: wanted.path });
    })?;
    if !blob.is_file() {
        let incomplete = blob.with_file_name(format!("{}.incomplete", facts.etag));
        download(http, wanted, &facts, &incomplete, on_event)?;
        fs::rename(&incomplete, &blob).map_err(|source| about(&blob, source))?;
    }
    cache.link(wanted.commit, wanted.path, &facts.etag)
}

/// Downloads what `incomplete` lacks, and checks the whole.
fn download(
    http: &Http,
    wanted: &Wanted<'_>,
    facts: &FileFacts,
    incomplete: &Path,
    on_event: &mut OnEvent<'_>,
) -> Result<(), HubError> {
    let mut growing = Growing::open(incomplete, wanted.path, facts)?;
    let mut n_failures = 0;
    while !growing.is_complete() {
        let before = growing.n_bytes;
        let problem = match http.bytes(wanted.name, wanted.commit, wanted.path, growing.n_bytes) {
            Ok((response, begins)) => {
                if begins != growing.n_bytes {
                    growing.restart()?;
                }
                match growing.append(response, on_event)? {
                    Ended::AtTheEnd => break,
                    Ended::Early(problem) => problem,
                }
            }
            Err(error) if error.is_transient() => error.to_string(),
            Err(error) => return Err(error),
        };
        n_failures = if growing.n_bytes > before { 1 } else { n_failures + 1 };
        if n_failures > MAX_FAILURES {
            return Err(HubError::Broken { file: wanted.path.to_owned(), n_bytes: growing.n_bytes, problem });
        }
        thread::sleep(FIRST_PAUSE * (1 << (n_failures - 1)));
    }
    growing.check()
}

/// How the body of an answer ended.
enum Ended {
    AtTheEnd,
    /// The connection broke, for this reason.
    Early(String),
}

/// A file that grows, with the hash of what it has.
struct Growing<'a> {
    file: File,
    place: &'a Path,
    /// The path in the repository.
    path: &'a str,
    facts: &'a FileFacts,
    n_bytes: u64,
    /// If the hub names a SHA-256.
    sha256: Option<Sha256>,
}

impl<'a> Growing<'a> {
    /// Opens the file at `place`, and hashes what an earlier download left there.
    fn open(place: &'a Path, path: &'a str, facts: &'a FileFacts) -> Result<Growing<'a>, HubError> {
        let io = |source| about(place, source);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(place).map_err(io)?;
        let is_sha256 = facts.etag.len() == SHA256_LEN && facts.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut growing = Growing { file, place, path, facts, n_bytes: 0, sha256: is_sha256.then(Sha256::new) };
        let n_left = growing.file.metadata().map_err(io)?.len();
        if facts.n_bytes.is_none_or(|n_bytes| n_left > n_bytes) {
            // Without a size nothing tells whether the rest is missing or the whole is another file.
            growing.restart()?;
        } else {
            let mut piece = vec![0; PIECE_N_BYTES];
            while growing.n_bytes < n_left {
                match growing.file.read(&mut piece).map_err(io)? {
                    0 => break,
                    n => growing.count(&piece[..n]),
                }
            }
        }
        Ok(growing)
    }

    fn restart(&mut self) -> Result<(), HubError> {
        let io = |source| about(self.place, source);
        self.file.set_len(0).map_err(io)?;
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        self.n_bytes = 0;
        self.sha256 = self.sha256.take().map(|_| Sha256::new());
        Ok(())
    }

    fn count(&mut self, piece: &[u8]) {
        self.n_bytes += piece.len() as u64;
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(piece);
        }
    }

    fn is_complete(&self) -> bool {
        self.facts.n_bytes == Some(self.n_bytes)
    }

    /// Appends the body of `response`.
    fn append(&mut self, response: Response, on_event: &mut OnEvent<'_>) -> Result<Ended, HubError> {
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE_N_BYTES];
        loop {
            let n = match body.read(&mut piece) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Ended::Early(error.to_string())),
            };
            if n == 0 {
                return Ok(match self.facts.n_bytes {
                    Some(n_bytes) if self.n_bytes < n_bytes => Ended::Early("the connection was closed".into()),
                    Some(_) | None => Ended::AtTheEnd,
                });
            }
            if self.facts.n_bytes.is_some_and(|n_bytes| self.n_bytes + n as u64 > n_bytes) {
                return Err(self.damaged(format!("more bytes came than the {} that the hub names", self.in_words())));
            }
            self.file.write_all(&piece[..n]).map_err(|error| self.unwritten(error))?;
            self.count(&piece[..n]);
            let (n_bytes, total_n_bytes) = (self.n_bytes, self.facts.n_bytes);
            if on_event(Event::Downloading { file: self.path, n_bytes, total_n_bytes }).is_break() {
                return Err(HubError::Cancelled { file: self.path.to_owned(), n_bytes });
            }
        }
    }

    /// Checks size and hash of the whole, and that the bytes have reached the disk.
    fn check(mut self) -> Result<(), HubError> {
        if self.facts.n_bytes.is_some_and(|n_bytes| n_bytes != self.n_bytes) {
            return Err(self.damaged(format!("it has {} bytes instead of {}", self.n_bytes, self.in_words())));
        }
        if let Some(sha256) = self.sha256.take() {
            let found: String = sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            if !found.eq_ignore_ascii_case(&self.facts.etag) {
                return Err(self.damaged(format!("its SHA-256 is {found} instead of {}", self.facts.etag)));
            }
        }
        self.file.sync_all().map_err(|error| self.unwritten(error))
    }

    fn in_words(&self) -> String {
        self.facts.n_bytes.map(|n| n.to_string()).unwrap_or_default()
    }

    /// Deletes the file, since going on from it would give the same again.
    fn damaged(&self, problem: String) -> HubError {
        let _ = fs::remove_file(self.place);
        HubError::Damaged { file: self.path.to_owned(), problem }
    }

    fn unwritten(&self, error: io::Error) -> HubError {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => HubError::NoSpace {
                path: self.place.display().to_string(),
                file: self.path.to_owned(),
                n_bytes: self.facts.n_bytes.unwrap_or(self.n_bytes),
            },
            _ => about(self.place, error),
        }
    }
}
