//! The identity of the file to which a path leads.

use crate::error::Error;
use std::io;
use std::path::Path;

/// The identity of a regular file. Two paths with equal identities lead to one file, through hard links, symbolic links or
/// another spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileId(Id);

/// The number of the device and the number of the file on it.
#[cfg(unix)]
type Id = (u64, u64);

/// The path without links and relative parts.
#[cfg(not(unix))]
type Id = std::path::PathBuf;

impl FileId {
    /// The identity of the regular file at `path`; `None` if there is a device, a pipe or a folder.
    ///
    /// # Errors
    /// If there is nothing at `path`, or the system refuses to tell.
    pub fn of(path: impl AsRef<Path>) -> io::Result<Option<FileId>> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path)?;
        if metadata.is_file() { id(path, &metadata).map(|id| Some(FileId(id))) } else { Ok(None) }
    }
}

#[cfg(unix)]
fn id(_: &Path, metadata: &std::fs::Metadata) -> io::Result<Id> {
    use std::os::unix::fs::MetadataExt;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn id(path: &Path, _: &std::fs::Metadata) -> io::Result<Id> {
    path.canonicalize()
}

/// Checks that an output may be written to `out`, which must lead to none of the files that are read. Each of `inputs` is a
/// description, e.g. "the model", and a path. Inputs that do not exist are left out: reading them fails anyway.
///
/// # Errors
/// [`Error::Output`] names both paths if they lead to one file.
pub fn check_output(out: impl AsRef<Path>, inputs: &[(&str, &Path)]) -> Result<(), Error> {
    let out = out.as_ref();
    let inputs = inputs.iter().filter_map(|&(what, path)| {
        let id = FileId::of(path).ok()??;
        Some((what, path.display().to_string(), id))
    });
    check_output_by_id(out, inputs)
}

/// [`check_output`] for files that were identified before: description, name and identity of each.
pub(crate) fn check_output_by_id<'a>(
    out: &Path,
    inputs: impl IntoIterator<Item = (&'a str, String, FileId)>,
) -> Result<(), Error> {
    // A path with no file, or with none that is regular, leads to none of the inputs.
    let Ok(Some(out_id)) = FileId::of(out) else { return Ok(()) };
    match inputs.into_iter().find(|(_, _, id)| *id == out_id) {
        Some((what, input, _)) => {
            let reason = format!("this is {what} that is read ({input}); name another file to write to");
            Err(Error::Output { file: out.display().to_string(), reason })
        }
        None => Ok(()),
    }
}
