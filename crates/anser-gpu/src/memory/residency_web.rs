//! The twin of `residency.rs` for browsers, whose workers have one thread: weights are uploaded before loading returns.

use crate::error::GpuError;
use crate::memory::upload::Scratch;
use crate::memory::upload_plan::{Progress, UploadPlan};
use std::ops::ControlFlow;

/// What makes weights resident.
pub(crate) struct Residency {
    uploads: UploadPlan,
    scratch: Scratch,
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
            false => Ok(Residency { uploads, scratch: Scratch::default(), n_uploaded: 0 }),
        }
    }

    /// Uploads the next buffer of weights to `target`.
    ///
    /// # Errors
    /// If the device is lost, or loading is cancelled.
    pub(crate) fn provide(&mut self, target: wgpu::Buffer) -> Result<(), GpuError> {
        let Residency { uploads: UploadPlan { plan, device, order, chunks, blocks, on_progress }, scratch, n_uploaded } =
            self;
        for chunk in &chunks[*n_uploaded] {
            let write = |at: usize, bytes: &[u8]| device.queue.write_buffer(&target, chunk.offset + at as u64, bytes);
            let uploaded = device.guard(|| "uploading weights".into(), || chunk.read(plan, scratch, write))?;
            uploaded.map_err(|e| GpuError::File { reason: e.to_string() })?;
        }
        *n_uploaded += 1;
        let n_bytes = (0..*n_uploaded).map(|buffer| order.size(buffer)).sum();
        let layer = blocks.get(*n_uploaded).map_or(plan.residuals.len(), |&block| block);
        let progress = Progress { n_bytes, total_n_bytes: order.total_n_bytes(), layer };
        match on_progress.as_ref().map(|tell| tell(progress)) {
            Some(ControlFlow::Break(())) => Err(GpuError::Cancelled),
            Some(ControlFlow::Continue(())) | None => Ok(()),
        }
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
