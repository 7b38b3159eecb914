//! Models by name: `--model hf:OWNER/REPO` becomes a file on this machine before a command begins.

use crate::args::Command;
use crate::printable::printable;
use crate::report::Failure;
use crate::term::{self, Progress};
use anser_hub::{Event, Hub, HubError, ModelName, Settings};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Replaces names of models on a hub among the arguments by the paths of their files, which are downloaded if the cache does
/// not have them. Nothing is downloaded for any other reason than such a name.
pub(crate) fn bring(command: &mut Command) -> Result<(), Failure> {
    let (models, offline) = command.models();
    for model in models.into_iter().filter(|model| is_hub_name(model)) {
        *model = fetch(&model.to_string_lossy(), offline)?;
    }
    Ok(())
}

fn is_hub_name(model: &std::path::Path) -> bool {
    ModelName::is_meant(&model.to_string_lossy())
}

fn fetch(name: &str, offline: bool) -> Result<PathBuf, Failure> {
    let name = ModelName::parse(name)?;
    let mut settings = Settings::from_env()?;
    settings.offline |= offline;
    let mut download: Option<Download> = None;
    let path = Hub::new(settings).fetch(&name, &mut |event| {
        match event {
            Event::Remark(remark) => term::note(&printable(remark)),
            Event::Waiting { file } => {
                term::note(&printable(&format!("{file}: another process downloads it; waiting for that")));
            }
            Event::Downloading { file, n_bytes, total_n_bytes } => {
                if download.as_ref().is_none_or(|download| download.file != file) {
                    download = None; // The bar of the file before leaves the terminal first.
                    download = Some(Download::new(file, total_n_bytes));
                }
                if let (Some(download), Some(total)) = (&mut download, total_n_bytes) {
                    download.progress.update((n_bytes >> 20) as usize, (total >> 20) as usize);
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(path)
}

/// A file that is being downloaded.
struct Download {
    file: String,
    progress: Progress,
}

impl Download {
    /// Tells that `file` is downloaded, and shows a bar if that takes long.
    fn new(file: &str, total_n_bytes: Option<u64>) -> Download {
        let size = total_n_bytes.map(|n| format!(" ({:.1} MiB)", n as f64 / f64::from(1 << 20))).unwrap_or_default();
        term::note(&printable(&format!("downloading {file}{size}")));
        Download { file: file.to_owned(), progress: Progress::new("downloading, MiB") }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Failure {
        match error {
            HubError::Name { .. } | HubError::Setting { .. } => Failure::Usage(error.to_string()),
            HubError::NoRepository { .. }
            | HubError::Gated { .. }
            | HubError::NoRevision { .. }
            | HubError::NoFile { .. }
            | HubError::NoModel { .. }
            | HubError::Ambiguous { .. }
            | HubError::NotCached { .. }
            | HubError::Network { .. }
            | HubError::Answer { .. }
            | HubError::Broken { .. }
            | HubError::Cancelled { .. }
            | HubError::Damaged { .. }
            | HubError::NoSpace { .. }
            | HubError::Io { .. } => Failure::Run(error.to_string()),
        }
    }
}
