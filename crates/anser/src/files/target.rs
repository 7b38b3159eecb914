//! Writes an output: to a new file that is renamed when it is complete, or directly to a device or pipe.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The most symbolic links that are followed one after another, as on Linux.
const MAX_N_LINKS: usize = 40;
/// The size of the buffer between `content` and the file, in bytes.
const BUFFER_N_BYTES: usize = 1 << 16;

/// Writes the bytes that `content` writes to `path`.
pub(super) fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let old = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let is_folder = old.as_ref().is_some_and(Metadata::is_dir) || ends_with_separator(path);
    if is_folder {
        return Err(io::Error::new(ErrorKind::IsADirectory, "this is a folder; name a file in it"));
    }
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return fill(&OpenOptions::new().write(true).open(path)?, content);
    }
    let Some(place) = place(path)? else { return overwrite(path, content) };
    if old.is_some() {
        // A file that may not be written is not replaced either, though its folder would allow it.
        OpenOptions::new().write(true).open(&place)?;
    }
    let folder = match place.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let new = match new_file(folder, old.is_none()) {
        Ok(new) => new,
        Err(error) if old.is_some() && is_closed_folder(&error) => return overwrite(&place, content),
        Err(error) => return Err(error),
    };
    fill(new.as_file(), content)?;
    if let Some(old) = &old {
        keep_owner_and_mode(new.as_file(), old)?;
    }
    new.as_file().sync_all()?;
    match new.persist(&place) {
        Ok(_) => sync_folder(folder),
        // A file that is a mount point, as single files in containers are, cannot be replaced.
        Err(failed) if old.is_some() && failed.error.kind() == ErrorKind::ResourceBusy => {
            let mut written = File::open(failed.file.path())?;
            overwrite(&place, |out| io::copy(&mut written, out).map(drop))
        }
        Err(failed) => Err(failed.error),
    }
}

fn ends_with_separator(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().last().is_some_and(|&byte| std::path::is_separator(char::from(byte)))
}

/// Writes the content to an open file.
fn fill(file: &File, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = BufWriter::with_capacity(BUFFER_N_BYTES, file);
    content(&mut buffered)?;
    buffered.flush()
}

/// Overwrites the contents of the file at `path`, which stays the same file.
fn overwrite(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).truncate(true).open(path)?;
    fill(&file, content)?;
    file.sync_all()
}

/// The path at the end of all symbolic links, where there may be no file yet. `None` if a link of /proc is among them:
/// /dev/stdout and its like stand for an open file and not for a name.
fn place(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut at = path.to_path_buf();
    for _ in 0..MAX_N_LINKS {
        let is_link = fs::symlink_metadata(&at).is_ok_and(|metadata| metadata.is_symlink());
        if !is_link {
            return Ok(Some(at));
        }
        let folder = at.parent().unwrap_or(Path::new("")).to_path_buf();
        if folder.canonicalize().is_ok_and(|folder| folder.starts_with("/proc")) {
            return Ok(None);
        }
        at = folder.join(fs::read_link(&at)?);
    }
    Err(io::Error::other(format!("more than {MAX_N_LINKS} symbolic links lead on from here")))
}

/// A file in `folder` with a short name that no other file has. It is deleted when it is dropped, unless it was renamed.
/// With `everyone` it has the mode of an ordinary new file, otherwise only its owner may read and write it.
fn new_file(folder: &Path, everyone: bool) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".anser-").suffix(".part");
    #[cfg(unix)]
    if everyone {
        use std::os::unix::fs::PermissionsExt;
        // The system removes the permissions that the process's mask (umask) has.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    #[cfg(not(unix))]
    let _ = everyone;
    builder.tempfile_in(folder)
}

/// Whether the error says that no file may be created in the folder.
fn is_closed_folder(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

/// Gives `new` the mode of `old`, and its owner and group where the process may do that.
fn keep_owner_and_mode(new: &File, old: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let now = new.metadata()?;
        if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
            // Only the administrator may give a file to another owner. In other processes the new file belongs to the
            // caller.
            let _ = fchown(new, Some(old.uid()), Some(old.gid()));
        }
    }
    new.set_permissions(old.permissions())
}

/// Writes the new name of a file to the disk, so that it is there after a power failure.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems have no such call for folders, and a folder that may be written need not be readable.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Other systems have no such call for folders.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
