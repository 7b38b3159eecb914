//! Files in the folder where a device keeps what takes long to make.

use std::fs;
use std::path::Path;

/// Writes a file that appears at `path` when it is complete, in a folder that is made if there is none.
///
/// # Errors
/// If it cannot be written; nothing is left then.
pub(crate) fn write(path: &Path, data: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let unfinished = path.with_extension(format!("{}.part", std::process::id()));
    let written = fs::write(&unfinished, data).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // There may be none.
        let _ = fs::remove_file(&unfinished);
    }
    written
}
