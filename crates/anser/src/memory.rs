//! The host memory that a model takes.

use crate::error::Error;
use crate::model::Model;

/// The host memory that a model takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostMemory {
    /// The model file, which is mapped: its pages are shared with the system's file cache and with other processes, and
    /// the system takes them back when it needs memory. A model on a GPU reads few of them.
    pub file_n_bytes: u64,
    /// States of sessions.
    pub states_n_bytes: u64,
    /// Values of a step and memory kept for the next states.
    pub scratch_n_bytes: u64,
    /// Cached embeddings.
    pub embeddings_n_bytes: u64,
}

impl Model {
    /// The host memory that the model takes, without its tokenizer. States and values of a model on a GPU lie on the
    /// device, see `Model::gpu_memory`.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn host_memory(&self) -> Result<HostMemory, Error> {
        let (states_n_bytes, scratch_n_bytes) = self.executor()?.host_memory();
        Ok(HostMemory {
            file_n_bytes: self.file().n_bytes(),
            states_n_bytes,
            scratch_n_bytes,
            embeddings_n_bytes: self.embedding_cache_stats().n_bytes as u64,
        })
    }
}
