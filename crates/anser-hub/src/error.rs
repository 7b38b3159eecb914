//! What can go wrong between a name and a file. Every message says what was asked, what was found and what to do.

use std::io;

/// Why a model cannot be had by its name.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The name is not of the form that is needed.
    #[error("{name:?}: {problem}; a model on a hub is named hf:OWNER/REPO[:FILE][@REVISION]")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A variable of the environment cannot be followed.
    #[error("the environment variable {variable}: {problem}")]
    Setting {
        /// The name of the variable.
        variable: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// The hub shows this user no such repository.
    #[error("{repo}: {endpoint} has no such repository, or it is private; check the name{advice}")]
    NoRepository {
        /// `OWNER/REPO`.
        repo: String,
        /// The hub.
        endpoint: String,
        /// What to do if the repository is private.
        advice: &'static str,
    },
    /// The owner of the repository wants to know who downloads.
    #[error("{repo}: it is gated; accept its conditions at {endpoint}/{repo} and {advice}")]
    Gated {
        /// `OWNER/REPO`.
        repo: String,
        /// The hub.
        endpoint: String,
        /// What to do next.
        advice: &'static str,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repo}: it has no revision {revision:?}; without @REVISION the branch main is taken")]
    NoRevision {
        /// `OWNER/REPO`.
        repo: String,
        /// The branch, tag or commit that was named.
        revision: String,
    },
    /// The repository has no such file, or none that is a model.
    #[error("{repo}: there is no model {file:?} in it; {found}")]
    NoFile {
        /// `OWNER/REPO`.
        repo: String,
        /// What was named.
        file: String,
        /// The models that are there.
        found: String,
    },
    /// The repository has no file that Anser reads.
    #[error(
        "{repo}: none of its {n_files} files is a model that Anser reads (GGUF, safetensors with config.json, .pth)"
    )]
    NoModel {
        /// `OWNER/REPO`.
        repo: String,
        /// The number of files in the repository.
        n_files: usize,
    },
    /// The name fits several models.
    #[error("{name}: {found}; name one, for example {example}")]
    Ambiguous {
        /// The name as it was given.
        name: String,
        /// The models that it fits.
        found: String,
        /// A complete name.
        example: String,
    },
    /// Only the cache may be looked at, and the model is not there.
    #[error(
        "{name}: it is not in the cache {cache}, and the hub is not asked (--offline, HF_HUB_OFFLINE); fetch it once online"
    )]
    NotCached {
        /// The name as it was given.
        name: String,
        /// The folder of the cache.
        cache: String,
    },
    /// The hub cannot be reached.
    #[error("{url}: {problem}; check the network (HTTPS_PROXY, HF_ENDPOINT), or name a model file that is here")]
    Network {
        /// The address that was asked.
        url: String,
        /// What the system said.
        problem: String,
    },
    /// The hub answered, but not with what was asked.
    #[error("{url}: {problem}; {advice}")]
    Answer {
        /// The address that was asked.
        url: String,
        /// The answer, in words.
        problem: String,
        /// What to do.
        advice: &'static str,
        /// Whether a later attempt may succeed.
        is_transient: bool,
    },
    /// A download broke off several times.
    #[error(
        "{file}: the download broke off after {n_bytes} bytes ({problem}); repeat the command, which goes on from there"
    )]
    Broken {
        /// The path of the file in its repository.
        file: String,
        /// The number of bytes that are in the cache.
        n_bytes: u64,
        /// What happened.
        problem: String,
    },
    /// The caller ended the download.
    #[error("{file}: the download was cancelled after {n_bytes} bytes; the next one goes on from there")]
    Cancelled {
        /// The path of the file in its repository.
        file: String,
        /// The number of bytes that are in the cache.
        n_bytes: u64,
    },
    /// The bytes that came are not those that the hub names.
    #[error("{file}: {problem}, so the download is damaged and was deleted; repeat the command")]
    Damaged {
        /// The path of the file in its repository.
        file: String,
        /// What differs.
        problem: String,
    },
    /// There is no room for the file.
    #[error(
        "{path}: no space is left for the {n_bytes} bytes of {file}; make room, or name another cache with HF_HOME"
    )]
    NoSpace {
        /// The file in the cache that cannot grow.
        path: String,
        /// The path of the file in its repository.
        file: String,
        /// The size of the file.
        n_bytes: u64,
    },
    /// The system refused something in the cache.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl HubError {
    /// Whether the cause may be gone at another time, so that what is in the cache may stand in.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            HubError::Network { .. } => true,
            HubError::Answer { is_transient, .. } => *is_transient,
            HubError::Name { .. }
            | HubError::Setting { .. }
            | HubError::NoRepository { .. }
            | HubError::Gated { .. }
            | HubError::NoRevision { .. }
            | HubError::NoFile { .. }
            | HubError::NoModel { .. }
            | HubError::Ambiguous { .. }
            | HubError::NotCached { .. }
            | HubError::Broken { .. }
            | HubError::Cancelled { .. }
            | HubError::Damaged { .. }
            | HubError::NoSpace { .. }
            | HubError::Io { .. } => false,
        }
    }
}
