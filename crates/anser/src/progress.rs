//! How far loading has got.

use std::ops::ControlFlow;
use std::sync::Arc;

/// How much of a model is on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of weights on the device, or on their way.
    pub n_bytes: u64,
    /// Bytes of all weights.
    pub total_n_bytes: u64,
    /// Layers that can be run.
    pub layer: usize,
}

/// A callback that is told of [`LoadProgress`] until all weights are there: in order, by a thread of its own, and also
/// after [`crate::Model::load`] has returned. `Break` ends loading: what the model is asked then fails.
#[derive(Clone)]
pub struct OnLoad(Arc<dyn Fn(LoadProgress) -> ControlFlow<()> + Send + Sync>);

impl OnLoad {
    /// Tells `callback`.
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
