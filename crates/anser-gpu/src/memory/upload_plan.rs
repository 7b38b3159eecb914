//! What there is to upload, in which order, and the callback that follows it.

use crate::device::Device;
use crate::memory::order::Order;
use crate::memory::upload::Chunk;
use anser_model::Plan;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How far loading has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of weights on the device, or on their way.
    pub n_bytes: u64,
    /// Bytes of all weights.
    pub total_n_bytes: u64,
    /// Layers that can be run.
    pub layer: usize,
}

/// Told of [`Progress`] by the threads that load; `Break` ends loading, and the next step fails with
/// [`GpuError::Cancelled`](crate::GpuError::Cancelled), or loading itself where a browser has no threads for it.
pub type OnProgress = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// What there is to upload, and where to.
pub(crate) struct UploadPlan {
    pub(crate) plan: Arc<Plan>,
    pub(crate) device: Arc<Device>,
    pub(crate) order: Order,
    /// The chunks of each buffer of weights.
    pub(crate) chunks: Vec<Vec<Chunk>>,
    /// The block of each buffer of weights.
    pub(crate) blocks: Vec<usize>,
    pub(crate) on_progress: Option<OnProgress>,
}
