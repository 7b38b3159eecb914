//! Copies matrices from the mapped file to the device, each byte once: several threads, each with two staging buffers,
//! one of which is filled while the device empties the other.

use crate::device::Device;
use crate::error::GpuError;
#[cfg(not(target_arch = "wasm32"))]
use crate::mapping::Mapping;
use crate::matmul::DeviceLayout;
use anser_model::Weight;
use std::ops::Range;

/// Rows of a matrix that lie one after another.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    pub(crate) weight: &'a Weight,
    pub(crate) layout: &'a DeviceLayout,
    pub(crate) rows: Range<usize>,
    pub(crate) buffer: &'a wgpu::Buffer,
    /// Where the rows begin in it.
    pub(crate) offset: u64,
}

/// A part of an upload that fits in a staging buffer.
#[derive(Debug)]
struct Chunk<'a> {
    upload: &'a Upload<'a>,
    rows: Range<usize>,
}

impl Chunk<'_> {
    fn n_bytes(&self) -> usize {
        self.rows.len() * self.upload.layout.row_n_bytes
    }

    /// Where it goes in its buffer.
    fn offset(&self) -> u64 {
        self.upload.offset + ((self.rows.start - self.upload.rows.start) * self.upload.layout.row_n_bytes) as u64
    }

    /// Its bytes in the device's layout, in `scratch` if they differ from the file's.
    fn bytes<'s>(&'s self, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        let Upload { weight, layout, .. } = self.upload;
        if layout.is_verbatim() {
            let n = weight.row_n_bytes();
            return &weight.bytes()[self.rows.start * n..self.rows.end * n];
        }
        scratch.resize(self.n_bytes(), 0);
        layout.repack(weight, self.rows.clone(), scratch);
        scratch
    }
}

/// Bytes of a staging buffer: large enough to amortise a submission, small enough to stay in the processor's cache.
const STAGING_N_BYTES: usize = 8 << 20;

/// Splits the uploads at row boundaries, in their order.
fn chunks<'a>(uploads: &'a [Upload<'a>]) -> Vec<Chunk<'a>> {
    let split = |upload: &'a Upload<'a>| {
        let n_rows = (STAGING_N_BYTES / upload.layout.row_n_bytes).max(1);
        let end = upload.rows.end;
        upload.rows.clone().step_by(n_rows).map(move |start| Chunk { upload, rows: start..(start + n_rows).min(end) })
    };
    uploads.iter().flat_map(split).collect()
}

/// Copies every upload to its buffer, and waits until the device has them.
///
/// # Errors
/// A lost device, or no memory for the staging buffers.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn upload(device: &Device, uploads: &[Upload]) -> Result<(), GpuError> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    /// More threads than this do not copy faster: the link to the device is full.
    const MAX_THREADS: usize = 4;

    let chunks = chunks(uploads);
    let largest = chunks.iter().map(Chunk::n_bytes).max().unwrap_or(0);
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, MAX_THREADS);
    let next = AtomicUsize::new(0);
    let workers: Vec<usize> = (0..n_threads.min(chunks.len())).collect();
    crate::pipelines::for_each_parallel(&workers, |_| {
        let mut stages = [Stage::new(device, largest)?, Stage::new(device, largest)?];
        let mut scratch = vec![];
        for turn in 0.. {
            let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            stages[turn % 2].send(device, chunk, &mut scratch)?;
        }
        Ok(())
    })?;
    device.wait()
}

/// Copies every upload to its buffer.
#[cfg(target_arch = "wasm32")]
pub(crate) fn upload(device: &Device, uploads: &[Upload]) -> Result<(), GpuError> {
    let mut scratch = vec![];
    for chunk in chunks(uploads) {
        let bytes = chunk.bytes(&mut scratch);
        let write = || device.queue.write_buffer(chunk.upload.buffer, chunk.offset(), bytes);
        device.guard(|| format!("uploading {}", chunk.upload.weight.name()), write)?;
    }
    Ok(())
}

/// A staging buffer, and the wait until the copy out of it is done.
#[cfg(not(target_arch = "wasm32"))]
struct Stage {
    buffer: wgpu::Buffer,
    mapping: Option<Mapping>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Stage {
    fn new(device: &Device, n_bytes: usize) -> Result<Stage, GpuError> {
        let descriptor = wgpu::BufferDescriptor {
            label: Some("staging"),
            size: (n_bytes as u64).next_multiple_of(4).max(4),
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        };
        let buffer = device.guard(|| "a staging buffer".into(), || device.inner.create_buffer(&descriptor))?;
        Ok(Stage { buffer, mapping: None })
    }

    /// Waits for the previous copy, writes `chunk` and starts copying it to its buffer.
    fn send(&mut self, device: &Device, chunk: &Chunk, scratch: &mut Vec<u8>) -> Result<(), GpuError> {
        if let Some(mapping) = self.mapping.take() {
            pollster::block_on(mapping.finish(device))?;
        }
        let n_bytes = chunk.n_bytes() as u64;
        {
            let bytes = chunk.bytes(scratch);
            let view = self.buffer.get_mapped_range_mut(..n_bytes);
            let mut view = view.map_err(|e| device.failed("writing a staging buffer", &e.to_string()))?;
            view.slice(..bytes.len()).copy_from_slice(bytes);
        }
        self.buffer.unmap();
        let copy = || {
            let mut encoder = device.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(&self.buffer, 0, chunk.upload.buffer, chunk.offset(), n_bytes);
            device.queue.submit([encoder.finish()])
        };
        let submission = device.guard(|| format!("uploading {}", chunk.upload.weight.name()), copy)?;
        self.mapping = Some(Mapping::start(&self.buffer, wgpu::MapMode::Write, self.buffer.size(), submission));
        Ok(())
    }
}
