//! Buffers that the host reads or writes.

use crate::device::Device;
use crate::device::faults::Watch;
use crate::error::GpuError;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// A buffer on its way to being mapped.
#[derive(Debug)]
pub(crate) struct Mapping {
    pending: Pending,
    after: wgpu::SubmissionIndex,
}

impl Mapping {
    /// Asks for the first `n_bytes` of `buffer`, which `after` was the last submission to use.
    pub(crate) fn start(
        buffer: &wgpu::Buffer,
        mode: wgpu::MapMode,
        n_bytes: u64,
        after: wgpu::SubmissionIndex,
    ) -> Mapping {
        let pending = Pending::default();
        let on_mapped = pending.clone();
        buffer.map_async(mode, ..n_bytes, move |result| on_mapped.finish(result.is_ok()));
        Mapping { pending, after }
    }

    /// Waits until it is mapped.
    ///
    /// # Errors
    /// A lost device, or a driver that cannot map the buffer.
    pub(crate) async fn finish(self, device: &Device) -> Result<(), GpuError> {
        device.wait_for(self.after)?;
        // Another thread that polls the device may have taken our callback along and not called it yet.
        #[cfg(not(target_arch = "wasm32"))]
        while self.pending.result().is_none() {
            std::thread::yield_now();
            device.poll()?;
        }
        let is_mapped = self.pending.await;
        device.check()?;
        match is_mapped {
            true => Ok(()),
            false => Err(device.failed("mapping a buffer", "the driver refused")),
        }
    }
}

/// What `f` makes of the first `n_bytes` of `buffer`, which `after` was the last submission to use, if nothing went wrong in what is
/// watched.
pub(crate) async fn read<R>(
    device: &Device,
    buffer: &wgpu::Buffer,
    n_bytes: u64,
    (after, watch): (wgpu::SubmissionIndex, Watch),
    f: impl FnOnce(&[u8]) -> R,
) -> Result<R, GpuError> {
    Mapping::start(buffer, wgpu::MapMode::Read, n_bytes, after).finish(device).await?;
    let result = match watch.finish(device).await {
        Ok(()) => {
            let view = buffer.get_mapped_range(..n_bytes);
            view.map(|view| f(&view)).map_err(|e| device.failed("reading back", &e.to_string()))
        }
        Err(error) => Err(error),
    };
    buffer.unmap();
    result
}

/// Whether a buffer was mapped, or other work done, once that is known.
#[derive(Debug, Default, Clone)]
pub(super) struct Pending(Arc<Mutex<(Option<bool>, Option<Waker>)>>);

impl Pending {
    pub(super) fn finish(&self, is_mapped: bool) {
        if let Ok(mut state) = self.0.lock() {
            state.0 = Some(is_mapped);
            state.1.take().into_iter().for_each(Waker::wake);
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn result(&self) -> Option<bool> {
        self.0.lock().ok()?.0
    }
}

impl Future for Pending {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let Ok(mut state) = self.0.lock() else { return Poll::Ready(false) };
        match state.0 {
            Some(is_mapped) => Poll::Ready(is_mapped),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
