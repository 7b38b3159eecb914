//! The bounds of an engine.

use crate::turns::Turns;
use anser::{Error, Model};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The bounds of an engine: how much it takes in, and how long anything waits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most sequences that have a state on the device; `None` takes as many as have states of 1 GB together, from 16 to 64.
    pub max_rows: Option<usize>,
    /// The most requests that wait, of all tenants; `None` takes 4 for each row.
    pub max_waiting: Option<usize>,
    /// The most requests of one tenant that wait.
    pub max_waiting_per_tenant: usize,
    /// The most texts that one request generates from its prompt.
    pub max_choices: usize,
    /// The most tokens of a prompt.
    pub max_prompt_tokens: usize,
    /// The longest time that a request waits before its first token is read.
    pub max_wait: Duration,
    /// The time after which a sequence of a tenant that has several makes room for a request of a tenant that has none, by moving to
    /// main memory for a while.
    pub preempt_after: Duration,
    /// The longest time that a request whose events are not taken keeps its place.
    pub max_parked: Duration,
    /// The states that are kept for prompts to come.
    pub cache: CacheLimits,
    /// Loads the model again after the device was lost or a step panicked; without it the engine ends then.
    pub reload: Option<Reload>,
    /// What the engine shares with those of other models on its device, such as the same model with other adapters: they run steps in turns.
    /// Without it steps run when there is something to do. Embeddings are computed beside the turns.
    pub turns: Option<Turns>,
}

/// The bounds of the cache of states after the turns of prompts.
#[derive(Debug, Clone)]
pub struct CacheLimits {
    /// The bytes of states in main memory; 0 keeps none there.
    pub host_n_bytes: usize,
    /// The bytes of states in the device's memory; 0 keeps none there. They are copied faster, and lost with the device.
    pub device_n_bytes: usize,
    /// A folder for states that other processes and later ones find; `None` keeps none. Several processes may share it.
    pub folder: Option<PathBuf>,
    /// The bytes of states in the folder.
    pub folder_n_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_rows: None,
            max_waiting: None,
            max_waiting_per_tenant: 64,
            max_choices: 8,
            max_prompt_tokens: 1_000_000,
            max_wait: Duration::from_secs(30),
            preempt_after: Duration::from_secs(2),
            max_parked: Duration::from_secs(60),
            cache: CacheLimits::default(),
            reload: None,
            turns: None,
        }
    }
}

impl Default for CacheLimits {
    fn default() -> CacheLimits {
        CacheLimits { host_n_bytes: 0, device_n_bytes: 0, folder: None, folder_n_bytes: 4 << 30 }
    }
}

impl Limits {
    /// [`Limits::max_rows`] for `model`.
    pub(crate) fn max_rows(&self, model: &Model) -> usize {
        const STATES_N_BYTES: usize = 1 << 30;

        let state_n_bytes = 4 * model.state_layout().len().max(1);
        self.max_rows.unwrap_or_else(|| (STATES_N_BYTES / state_n_bytes).clamp(16, 64)).max(1)
    }

    /// [`Limits::max_waiting`] for an engine of `max_rows` rows.
    pub(crate) fn max_waiting(&self, max_rows: usize) -> usize {
        self.max_waiting.unwrap_or(4 * max_rows)
    }
}

/// A function that loads the engine's model again.
#[derive(Clone)]
pub struct Reload(Arc<dyn Fn() -> Result<Model, Error> + Send + Sync>);

impl Reload {
    /// Wraps `load`, which loads the same model that the engine was started with.
    pub fn new(load: impl Fn() -> Result<Model, Error> + Send + Sync + 'static) -> Reload {
        Reload(Arc::new(load))
    }

    pub(crate) fn load(&self) -> Result<Model, Error> {
        (self.0)()
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}
