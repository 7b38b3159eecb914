//! What an engine has done so far.

use anser::CacheStats;

/// A snapshot of an engine's counts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// The requests that wait.
    pub n_waiting: usize,
    /// The requests that have a place on the device, or had one and rest.
    pub n_running: usize,
    /// The sequences with a state on the device.
    pub n_rows: usize,
    /// The most sequences with a state on the device.
    pub max_rows: usize,
    /// The sequences that rest because their events are not taken.
    pub n_parked: usize,
    /// The sequences whose states were moved to main memory to make room for others.
    pub n_stored: usize,
    /// The requests that are complete.
    pub n_done: u64,
    /// The requests that have failed.
    pub n_failed: u64,
    /// The requests that were cancelled by their tickets.
    pub n_cancelled: u64,
    /// The tokens of prompts that were read.
    pub n_prompt_tokens: u64,
    /// The tokens of prompts whose states were cached.
    pub n_cached_tokens: u64,
    /// The tokens that were drawn.
    pub n_generated_tokens: u64,
    /// The steps so far.
    pub n_steps: u64,
    /// The times that the model was loaded again.
    pub n_reloads: u64,
    /// The cache of states in main memory.
    pub host_cache: CacheStats,
    /// The cache of states in the device's memory.
    pub device_cache: CacheStats,
    /// The cache of states on disk.
    pub disk_cache: CacheStats,
}
