//! What a model takes of memory, and what its caches have done.

use pyo3::prelude::*;

/// The counts of a cache.
#[pyclass(frozen, module = "anser")]
pub(crate) struct CacheStats(pub(crate) anser::CacheStats);

#[pymethods]
impl CacheStats {
    /// The number of look-ups that found an entry.
    #[getter]
    fn n_hits(&self) -> u64 {
        self.0.n_hits
    }

    /// The number of look-ups that found none.
    #[getter]
    fn n_misses(&self) -> u64 {
        self.0.n_misses
    }

    /// The number of entries now.
    #[getter]
    fn n_entries(&self) -> usize {
        self.0.n_entries
    }

    /// The number of bytes now.
    #[getter]
    fn n_bytes(&self) -> usize {
        self.0.n_bytes
    }

    /// The fraction of look-ups that found an entry; 0 before the first one.
    #[getter]
    fn hit_rate(&self) -> f64 {
        let n = self.0.n_hits + self.0.n_misses;
        if n == 0 { 0.0 } else { self.0.n_hits as f64 / n as f64 }
    }

    fn __repr__(&self) -> String {
        let stats = &self.0;
        format!(
            "<anser.CacheStats: {} hits, {} misses, {} entries, {} bytes>",
            stats.n_hits, stats.n_misses, stats.n_entries, stats.n_bytes
        )
    }
}

/// The memory that a model takes, in bytes.
#[pyclass(frozen, module = "anser")]
pub(crate) struct MemoryUse {
    host: anser::HostMemory,
    gpu: Option<anser::MemoryUse>,
}

impl MemoryUse {
    pub(crate) fn of(model: &anser::Model) -> Result<MemoryUse, anser::Error> {
        Ok(MemoryUse { host: model.host_memory()?, gpu: model.gpu_memory()? })
    }
}

#[pymethods]
impl MemoryUse {
    /// The model file, mapped into memory: its pages are shared with the system's file cache, which drops them when memory
    /// is short. A model on a GPU reads few of them.
    #[getter]
    fn file(&self) -> u64 {
        self.host.file_n_bytes
    }

    /// States of sessions, in main memory.
    #[getter]
    fn states(&self) -> u64 {
        self.host.states_n_bytes
    }

    /// Values of a step and memory kept for the next states, in main memory.
    #[getter]
    fn scratch(&self) -> u64 {
        self.host.scratch_n_bytes
    }

    /// Cached embeddings (embedding_cache of load()).
    #[getter]
    fn embeddings(&self) -> u64 {
        self.host.embeddings_n_bytes
    }

    /// Weights on the GPU, the embedding table of generations included; None on the CPU.
    #[getter]
    fn gpu_weights(&self) -> Option<u64> {
        self.gpu.map(|gpu| gpu.weights_n_bytes + gpu.table_n_bytes)
    }

    /// States on the GPU, with room for the next ones; None on the CPU.
    #[getter]
    fn gpu_states(&self) -> Option<u64> {
        self.gpu.map(|gpu| gpu.states_n_bytes)
    }

    /// All memory that this process has allocated on the GPU, also for other models; None on the CPU, or if the driver does
    /// not tell.
    #[getter]
    fn gpu_allocated(&self) -> Option<u64> {
        self.gpu.and_then(|gpu| gpu.allocated_n_bytes)
    }

    fn __repr__(&self) -> String {
        let anser::HostMemory { file_n_bytes, states_n_bytes, scratch_n_bytes, embeddings_n_bytes, .. } = self.host;
        let host = format!(
            "file {file_n_bytes}, states {states_n_bytes}, scratch {scratch_n_bytes}, embeddings {embeddings_n_bytes}"
        );
        let gpu = self.gpu.map_or_else(String::new, |gpu| {
            format!("; GPU: weights {}, states {}", gpu.weights_n_bytes + gpu.table_n_bytes, gpu.states_n_bytes)
        });
        format!("<anser.MemoryUse: {host}{gpu}>")
    }
}
