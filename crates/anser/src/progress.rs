//! The progress of loading.

use std::ops::ControlFlow;
use std::sync::Arc;

/// The part of a model that is on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// The bytes of weights on the device, or submitted to it.
    pub n_bytes: u64,
    /// Bytes of all weights.
    pub total_n_bytes: u64,
    /// The number of layers that can be run.
    pub layer: usize,
}

/// A callback for [`LoadProgress`]. A thread of its own calls it in order until all weights are on the device, also after
/// [`crate::Model::load`] has returned. `Break` ends loading, and later calls of the model fail.
#[derive(Clone)]
pub struct OnLoad(Arc<dyn Fn(LoadProgress) -> ControlFlow<()> + Send + Sync>);

impl OnLoad {
    /// Wraps `callback`.
    pub fn new(callback: impl Fn(LoadProgress) -> ControlFlow<()> + Send + Sync + 'static) -> OnLoad {
        OnLoad(Arc::new(callback))
    }

    pub(crate) fn tell(&self, progress: LoadProgress) -> ControlFlow<()> {
        (self.0)(progress)
    }
}

impl std::fmt::Debug for OnLoad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnLoad")
    }
}
