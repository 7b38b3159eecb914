//! Reads and writes files: an output appears whole or not at all and never overwrites an input, and an input is read up
//! to a bound.

mod identity;
#[cfg(not(target_arch = "wasm32"))]
mod target;

use crate::error::Error;
pub(crate) use identity::check_output_by_id;
pub use identity::{FileId, check_output};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Writes `bytes` to the file at `path`; see [`write_with`].
///
/// # Errors
/// As [`write_with`].
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    write_with(path, |out| out.write_all(bytes))
}

/// Writes the bytes that `content` writes to the file at `path`.
///
/// A regular file is written in the same folder, under a name that no other file has, and renamed when all of it is on
/// the disk: readers see the old file or the new one, several writers of one name do not disturb each other, and a
/// failure leaves the old file and nothing else. It keeps the mode of the file that it replaces; a new file gets the
/// mode that the process gives to new files. A symbolic link is followed, also one whose target does not exist yet.
/// Devices and pipes are written directly. A file that may not be written is not replaced either. A file that may be
/// written, but lies in a folder that may not, is written in place, as is a file that is a mount point.
///
/// # Errors
/// [`Error::Io`] if `path` is a folder, if its folder does not exist, or if the system cannot write.
#[cfg(not(target_arch = "wasm32"))]
pub fn write_with(path: impl AsRef<Path>, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let path = path.as_ref();
    target::write(path, content).map_err(|e| Error::io(path, told(&e, "cannot write")))
}

/// Writes the bytes that `content` writes to the file at `path`.
///
/// # Errors
/// [`Error::Io`] if the system cannot write.
#[cfg(target_arch = "wasm32")]
pub fn write_with(path: impl AsRef<Path>, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let path = path.as_ref();
    let written = File::create(path).and_then(|mut file| content(&mut file));
    written.map_err(|e| Error::io(path, told(&e, "cannot write")))
}

/// All bytes of the file, pipe or device at `path`, which `what` describes, e.g. "a vocabulary file".
///
/// # Errors
/// [`Error::Io`] if the system cannot read it, or if it has more than `max_n_bytes` bytes: at most one byte more than
/// those is read.
pub fn read_at_most(path: impl AsRef<Path>, max_n_bytes: u64, what: &str) -> Result<Vec<u8>, Error> {
    let path = path.as_ref();
    let read = File::open(path).and_then(|file| {
        let n_bytes = file.metadata()?.len();
        if n_bytes > max_n_bytes { Err(too_long(max_n_bytes, what)) } else { read_stream(file, max_n_bytes, what) }
    });
    read.map_err(|e| Error::io(path, e))
}

/// All bytes of `stream`, which `what` describes.
///
/// # Errors
/// If the stream cannot be read, or gives more than `max_n_bytes` bytes: at most one byte more than those is read.
pub fn read_stream(stream: impl Read, max_n_bytes: u64, what: &str) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    stream.take(max_n_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_n_bytes { Err(too_long(max_n_bytes, what)) } else { Ok(bytes) }
}

fn too_long(max_n_bytes: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("{what} has at most {max_n_bytes} bytes, this file has more"))
}

/// An error of the same kind as `error`, whose message begins with `what`: the action that failed.
fn told(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
