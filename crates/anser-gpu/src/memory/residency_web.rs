//! The twin of `residency.rs` for browsers, whose workers have one thread: weights are uploaded before loading returns.

use crate::error::GpuError;
use crate::memory::upload::Stream;
use crate::memory::upload_plan::{Progress, UploadPlan};
use std::ops::ControlFlow;

/// What makes weights resident.
pub(crate) struct Residency {
    uploads: UploadPlan,
    stream: Stream,
    /// Number of buffers, from the first, that are uploaded.
    n_uploaded: usize,
}

impl std::fmt::Debug for Residency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Residency").field("order", &self.uploads.order).finish()
    }
}

impl Residency {
    /// Prepares uploading to memory that is provided later, one buffer after another.
    ///
    /// # Errors
    /// If weights would have to be streamed, which takes threads.
    pub(crate) fn start(uploads: UploadPlan) -> Result<Residency, GpuError> {
        match uploads.order.streams() {
            true => {
                Err(uploads.device.failed("streaming weights", "a browser has no threads for it; give it more memory"))
            }
            false => Ok(Residency { uploads, stream: Stream::default(), n_uploaded: 0 }),
        }
    }

    /// Uploads the next buffer of weights to `target`. Progress is told, and may end loading, each time that the device has taken what was
    /// sent, and after the buffer.
    ///
    /// # Errors
    /// If the file cannot be read, the device is lost, or loading is cancelled.
    pub(crate) async fn provide(&mut self, target: wgpu::Buffer) -> Result<(), GpuError> {
        let Residency { uploads, stream, n_uploaded } = self;
        let before: u64 = (0..*n_uploaded).map(|buffer| uploads.order.size(buffer)).sum();
        for chunk in &uploads.chunks[*n_uploaded] {
            if stream.send(&uploads.device, &uploads.plan, chunk, &target).await? {
                uploads.tell(before + chunk.offset + chunk.n_bytes, *n_uploaded)?;
            }
        }
        let n_bytes = before + uploads.order.size(*n_uploaded);
        *n_uploaded += 1;
        uploads.tell(n_bytes, *n_uploaded)
    }

    /// Whether all weights are there.
    ///
    /// # Errors
    /// None here.
    pub(crate) fn is_settled(&self) -> Result<bool, GpuError> {
        Ok(true)
    }

    /// Returns at once.
    ///
    /// # Errors
    /// None here.
    pub(crate) fn wait(&self) -> Result<(), GpuError> {
        Ok(())
    }

    /// Begins reading the weights once, in order.
    pub(crate) fn pass(&self) -> Pass {
        Pass { n_buffers: self.n_uploaded }
    }
}

impl UploadPlan {
    /// Tells that `n_bytes`, and with them the first `n_buffers` buffers, were sent.
    ///
    /// # Errors
    /// [`GpuError::Cancelled`] if the caller ends loading.
    fn tell(&self, n_bytes: u64, n_buffers: usize) -> Result<(), GpuError> {
        let layer = self.blocks.get(n_buffers).map_or(self.plan.residuals.len(), |&block| block);
        let progress = Progress { n_bytes, total_n_bytes: self.order.total_n_bytes(), layer };
        match self.on_progress.as_ref().map(|tell| tell(progress)) {
            Some(ControlFlow::Break(())) => Err(GpuError::Cancelled),
            Some(ControlFlow::Continue(())) | None => Ok(()),
        }
    }
}

/// Reading the weights once, in order.
pub(crate) struct Pass {
    n_buffers: usize,
}

impl Pass {
    /// All buffers can be read.
    ///
    /// # Errors
    /// None here.
    pub(crate) fn wait_for(&self, _: usize) -> Result<usize, GpuError> {
        Ok(self.n_buffers)
    }

    /// Nobody waits for them.
    pub(crate) fn release(&self, _: usize) {}
}
