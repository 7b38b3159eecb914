//! The cache of Hugging Face's tools, which all of them share.
//!
//! ```text
//! models--OWNER--REPO/refs/REVISION          the commit that a branch or tag stood at when it was last looked up
//! models--OWNER--REPO/blobs/ETAG             the bytes of a file; ETAG.incomplete while they arrive
//! models--OWNER--REPO/snapshots/COMMIT/PATH  a link to the blob, under the file's own name
//! .locks/models--OWNER--REPO/ETAG.lock       locked by the process that downloads the blob
//! ```

use crate::error::HubError;
use crate::listing::{Listed, Listing, is_hash};
use crate::name::check_path;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The most files, and the deepest folders, of a snapshot that are looked at.
const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 8;

/// The part of the cache that belongs to one repository.
pub(crate) struct RepoCache {
    root: PathBuf,
    folder: PathBuf,
    /// `models--OWNER--REPO`
    name: String,
}

impl RepoCache {
    /// `repo` is a valid `OWNER/REPO`.
    pub(crate) fn new(root: &Path, repo: &str) -> RepoCache {
        let name = format!("models--{}", repo.replace('/', "--"));
        RepoCache { root: root.to_owned(), folder: root.join(&name), name }
    }

    /// The place of the file at `path` of a commit.
    pub(crate) fn snapshot(&self, commit: &str, path: &str) -> PathBuf {
        let mut place = self.folder.join("snapshots").join(commit);
        place.extend(path.split('/'));
        place
    }

    /// The place of the bytes with this hash.
    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The files of the commit that `revision` stood at when it was last looked up; `None` if the cache has none.
    pub(crate) fn listing(&self, revision: &str) -> Option<Listing> {
        let noted = fs::read_to_string(self.reference(revision)).ok();
        let commit = noted.as_deref().map_or(revision, str::trim).to_owned();
        let folder = self.folder.join("snapshots").join(&commit);
        if !is_hash(&commit) || !folder.is_dir() {
            return None;
        }
        let mut files = vec![];
        collect(&folder, "", MAX_DEPTH, &mut files);
        files.sort_by(|a: &Listed, b| a.path.cmp(&b.path));
        Some(Listing { commit, files })
    }

    /// Notes that `revision` stands at `commit`.
    pub(crate) fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.reference(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|noted| noted == commit) {
            return Ok(());
        }
        make_folder_of(&path)?;
        fs::write(&path, commit).map_err(|source| about(&path, source))
    }

    fn reference(&self, revision: &str) -> PathBuf {
        let mut path = self.folder.join("refs");
        path.extend(revision.split('/'));
        path
    }

    /// Locks the bytes with this hash for this process until the returned file is closed. If another process has the
    /// lock, `on_wait` is called and this waits for it.
    pub(crate) fn lock(&self, etag: &str, on_wait: impl FnOnce()) -> Result<File, HubError> {
        let path = self.root.join(".locks").join(&self.name).join(format!("{etag}.lock"));
        make_folder_of(&path)?;
        let file = File::create(&path).map_err(|source| about(&path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait();
                file.lock().map_err(|source| about(&path, source))?;
            }
            // Some network file systems have no locks. Two downloads of one file at once are found by its hash.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(source)) => return Err(about(&path, source)),
        }
        Ok(file)
    }

    /// Gives the bytes with this hash their name in a commit: as a link, or by moving them where the system makes no links.
    pub(crate) fn link(&self, commit: &str, path: &str, etag: &str) -> Result<PathBuf, HubError> {
        let place = self.snapshot(commit, path);
        make_folder_of(&place)?;
        // A link to bytes that are gone is in the way.
        if place.symlink_metadata().is_ok() && !place.exists() {
            fs::remove_file(&place).map_err(|source| about(&place, source))?;
        }
        let mut target: PathBuf = path.split('/').map(|_| "..").collect();
        target.push("..");
        target.push("blobs");
        target.push(etag);
        match symlink(&target, &place) {
            Ok(()) => Ok(place),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(place),
            Err(_) => match fs::rename(self.blob(etag), &place) {
                Ok(()) => Ok(place),
                Err(source) => Err(about(&place, source)),
            },
        }
    }
}

#[cfg(unix)]
fn symlink(target: &Path, place: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, place)
}

#[cfg(windows)]
fn symlink(target: &Path, place: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, place)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Adds the files below `folder`, whose path in the repository is `prefix`.
fn collect(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<Listed>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if files.len() >= MAX_FILES {
            return;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        // Follows links; a link to bytes that are gone is left out.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_dir() && depth > 0 {
            collect(&entry.path(), &path, depth - 1, files);
        } else if metadata.is_file() && check_path(&path).is_ok() {
            files.push(Listed { path, n_bytes: Some(metadata.len()) });
        }
    }
}

/// Makes the folder in which `path` is to lie.
pub(crate) fn make_folder_of(path: &Path) -> Result<(), HubError> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(|source| about(folder, source)),
        None => Ok(()),
    }
}

pub(crate) fn about(path: &Path, source: io::Error) -> HubError {
    HubError::Io { path: path.display().to_string(), source }
}
