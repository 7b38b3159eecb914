//! From the device's memory back to ours.

use crate::device::Device;
use crate::error::GpuError;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Waits until the device is done, and hands the first `n_bytes` of `buffer`, which must be mappable, to `f`.
pub(crate) async fn read(
    device: &Device,
    buffer: &wgpu::Buffer,
    n_bytes: u64,
    f: impl FnOnce(&[u8]),
) -> Result<(), GpuError> {
    let mapping = Mapping::default();
    let on_mapped = mapping.clone();
    buffer.map_async(wgpu::MapMode::Read, ..n_bytes, move |result| on_mapped.finish(result.is_ok()));
    device.wait()?;
    let mapped = mapping.await;
    device.check()?;
    let view = match mapped {
        true => buffer.get_mapped_range(..n_bytes).map_err(|e| device.failed("reading back", &e.to_string()))?,
        false => return Err(device.failed("reading back", "the buffer could not be mapped")),
    };
    f(&view);
    drop(view);
    buffer.unmap();
    Ok(())
}

/// Whether a buffer was mapped, once that is known.
#[derive(Debug, Default, Clone)]
struct Mapping(Arc<Mutex<(Option<bool>, Option<Waker>)>>);

impl Mapping {
    fn finish(&self, mapped: bool) {
        if let Ok(mut state) = self.0.lock() {
            state.0 = Some(mapped);
            state.1.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Future for Mapping {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let Ok(mut state) = self.0.lock() else { return Poll::Ready(false) };
        match state.0 {
            Some(mapped) => Poll::Ready(mapped),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
