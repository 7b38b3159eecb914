//! What is copied from the model file to the device, in pieces that fit in a staging buffer, and the staging buffers.

use crate::device::Device;
#[cfg(not(target_arch = "wasm32"))]
use crate::device::mapping::Mapping;
#[cfg(not(target_arch = "wasm32"))]
use crate::device::parallel::for_each_parallel;
use crate::error::GpuError;
use crate::quant::DeviceLayout;
use anser_format::FormatError;
use anser_format::quant::dequantize;
use anser_model::{Plan, Weight};
use std::ops::Range;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that upload: with more, copies are not faster, since the link to the device is full.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) const MAX_THREADS: usize = 8;

/// Bytes of a staging buffer: large enough to amortise a submission.
pub(crate) const STAGING_N_BYTES: u64 = 4 << 20;

/// A range of a buffer of weights, copied at once.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// First byte in the buffer.
    pub(crate) offset: u64,
    pub(crate) n_bytes: u64,
    pub(crate) parts: Vec<Part>,
}

/// Rows of a weight, or a vector, at `offset` in a buffer.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Index of the weight.
    pub(crate) weight: usize,
    /// Rows of a matrix; `0..1` of a vector.
    pub(crate) rows: Range<usize>,
    pub(crate) form: PartForm,
    pub(crate) offset: u64,
}

/// How a part lies on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PartForm {
    Matrix(DeviceLayout),
    /// f32
    Vector,
}

/// What threads reuse from part to part.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// As in the file.
    file: Vec<u8>,
    /// As on the device.
    device: Vec<u8>,
    vector: Vec<f32>,
}

impl Part {
    fn row_n_bytes(&self, plan: &Plan) -> usize {
        match &self.form {
            PartForm::Matrix(layout) => layout.row_n_bytes,
            PartForm::Vector => 4 * plan.weights[self.weight].n_cols(),
        }
    }

    /// Rows that lie together.
    fn panel_len(&self) -> usize {
        match &self.form {
            PartForm::Matrix(layout) => layout.panel_len,
            PartForm::Vector => 1,
        }
    }

    fn n_bytes(&self, plan: &Plan) -> u64 {
        (self.rows.len() * self.row_n_bytes(plan)) as u64
    }

    /// The part in pieces of at most `n_bytes`, but at least a panel or row.
    fn split(self, plan: &Plan, n_bytes: u64) -> impl Iterator<Item = Part> + use<> {
        let row_n_bytes = self.row_n_bytes(plan) as u64;
        let n_rows = usize::try_from(n_bytes / row_n_bytes.max(1)).unwrap_or(usize::MAX);
        let n_rows = (n_rows / self.panel_len() * self.panel_len()).max(self.panel_len());
        self.rows.clone().step_by(n_rows).map(move |start| Part {
            rows: start..(start + n_rows).min(self.rows.end),
            offset: self.offset + (start - self.rows.start) as u64 * row_n_bytes,
            ..self
        })
    }

    /// Its bytes as on the device.
    fn bytes<'a>(&self, weight: &'a Weight, scratch: &'a mut Scratch) -> Result<&'a [u8], FormatError> {
        let rows = weight.fetch_rows(self.rows.clone(), &mut scratch.file)?;
        match &self.form {
            PartForm::Matrix(layout) if layout.is_verbatim() => Ok(rows),
            PartForm::Matrix(layout) => {
                scratch.device.resize(self.rows.len() * layout.row_n_bytes, 0);
                layout.repack(weight, rows, &mut scratch.device);
                Ok(&scratch.device)
            }
            PartForm::Vector => {
                scratch.vector.resize(weight.n_cols(), 0.0);
                dequantize(weight.dtype(), rows, &mut scratch.vector);
                Ok(bytemuck::cast_slice(&scratch.vector))
            }
        }
    }
}

impl Chunk {
    /// The parts of a buffer, in the order of their offsets, as chunks of at most `max_n_bytes`, but at least a
    /// panel or row.
    pub(crate) fn of(plan: &Plan, parts: Vec<Part>, max_n_bytes: u64) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = vec![];
        for part in parts.into_iter().flat_map(|part| part.split(plan, max_n_bytes)) {
            let end = part.offset + part.n_bytes(plan);
            match chunks.last_mut().filter(|chunk| end - chunk.offset <= max_n_bytes) {
                Some(chunk) => {
                    chunk.n_bytes = end - chunk.offset;
                    chunk.parts.push(part);
                }
                None => chunks.push(Chunk { offset: part.offset, n_bytes: end - part.offset, parts: vec![part] }),
            }
        }
        chunks
    }

    /// Hands its bytes to `write`, with their offsets in the chunk. They are read a little at a time, so that they pass
    /// through the processor's cache only.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn read(
        &self,
        plan: &Plan,
        scratch: &mut Scratch,
        mut write: impl FnMut(usize, &[u8]),
    ) -> Result<(), FormatError> {
        const AT_ONCE: u64 = 256 << 10;

        for part in self.parts.iter().flat_map(|part| part.clone().split(plan, AT_ONCE)) {
            let at = (part.offset - self.offset) as usize;
            write(at, part.bytes(&plan.weights[part.weight], scratch)?);
        }
        Ok(())
    }
}

/// A staging buffer, and the wait until the copy out of it is done.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) struct Stage {
    buffer: wgpu::Buffer,
    mapping: Option<Mapping>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Stage {
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn new(device: &Device, n_bytes: u64) -> Result<Stage, GpuError> {
        let descriptor = wgpu::BufferDescriptor {
            label: Some("staging"),
            size: n_bytes.next_multiple_of(4).max(4),
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        };
        let buffer = device.guard(|| "a staging buffer".into(), || device.inner.create_buffer(&descriptor))?;
        Ok(Stage { buffer, mapping: None })
    }

    /// Waits for the previous copy, and reads `chunk` into the buffer.
    pub(crate) fn fill(
        &mut self,
        device: &Device,
        plan: &Plan,
        chunk: &Chunk,
        scratch: &mut Scratch,
    ) -> Result<(), GpuError> {
        self.wait(device)?;
        let view = self.buffer.get_mapped_range_mut(..chunk.n_bytes);
        let mut view = view.map_err(|e| device.failed("writing a staging buffer", &e.to_string()))?;
        let write = |at: usize, bytes: &[u8]| view.slice(at..at + bytes.len()).copy_from_slice(bytes);
        chunk.read(plan, scratch, write).map_err(|e| GpuError::File { reason: e.to_string() })
    }

    /// Waits for the previous copy, and copies `bytes` to the start of the buffer.
    pub(crate) fn fill_with(&mut self, device: &Device, bytes: &[u8]) -> Result<(), GpuError> {
        self.wait(device)?;
        let view = self.buffer.get_mapped_range_mut(..bytes.len() as u64);
        let mut view = view.map_err(|e| device.failed("writing a staging buffer", &e.to_string()))?;
        view.slice(..bytes.len()).copy_from_slice(bytes);
        Ok(())
    }

    /// Waits for the previous copy.
    fn wait(&mut self, device: &Device) -> Result<(), GpuError> {
        self.mapping.take().map_or(Ok(()), |mapping| pollster::block_on(mapping.finish(device)))
    }

    /// Starts copying `chunk`, which the buffer was filled with, to its place in `target`.
    pub(crate) fn send(&mut self, device: &Device, chunk: &Chunk, target: &wgpu::Buffer) -> Result<(), GpuError> {
        self.buffer.unmap();
        let copy = || {
            let mut encoder = device.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(&self.buffer, 0, target, chunk.offset, chunk.n_bytes);
            device.queue.submit([encoder.finish()])
        };
        let submission = device.guard(|| "uploading weights".into(), copy)?;
        self.mapping = Some(Mapping::start(&self.buffer, wgpu::MapMode::Write, self.buffer.size(), submission));
        Ok(())
    }
}

/// Copies parts, each to its own buffer, and waits until all of them are on their way.
///
/// # Errors
/// If the file cannot be read, there is no memory for staging buffers, or the device is lost.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) async fn upload(
    device: &Device,
    plan: &Plan,
    parts: impl Iterator<Item = (Part, wgpu::Buffer)>,
) -> Result<(), GpuError> {
    let chunks = |(part, target): (Part, wgpu::Buffer)| {
        Chunk::of(plan, vec![part], STAGING_N_BYTES).into_iter().map(move |chunk| (chunk, target.clone()))
    };
    let chunks: Vec<(Chunk, wgpu::Buffer)> = parts.flat_map(chunks).collect();
    let largest = chunks.iter().map(|(chunk, _)| chunk.n_bytes).max().unwrap_or(0);
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(chunks.len());
    let next = AtomicUsize::new(0);
    for_each_parallel(&(0..n_threads).collect::<Vec<_>>(), n_threads, |_| {
        let (mut stages, mut scratch) = (vec![], Scratch::default());
        for turn in 0.. {
            let Some((chunk, target)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            if turn < 2 {
                stages.push(Stage::new(device, largest)?);
            }
            let stage = &mut stages[turn % 2];
            stage.fill(device, plan, chunk, &mut scratch)?;
            stage.send(device, chunk, target)?;
        }
        Ok(())
    })
}

/// Copies parts, each to its own buffer.
///
/// # Errors
/// If the file cannot be read, or the device is lost.
#[cfg(target_arch = "wasm32")]
pub(crate) async fn upload(
    device: &Device,
    plan: &Plan,
    parts: impl Iterator<Item = (Part, wgpu::Buffer)>,
) -> Result<(), GpuError> {
    let mut stream = Stream::default();
    for (part, target) in parts {
        for chunk in Chunk::of(plan, vec![part], STAGING_N_BYTES) {
            stream.send(device, plan, &chunk, &target).await?;
        }
    }
    Ok(())
}

/// Uploads where there is one thread, which must not fill the browser's memory with what the device has not taken yet.
#[cfg(target_arch = "wasm32")]
#[derive(Debug, Default)]
pub(crate) struct Stream {
    scratch: Scratch,
    /// Bytes that were sent since the device had taken all.
    n_sent: u64,
}

#[cfg(target_arch = "wasm32")]
impl Stream {
    /// Sends `chunk` to its place in `target`. Whether it then waited until the device had taken all.
    ///
    /// # Errors
    /// If the file cannot be read, or the device is lost.
    pub(crate) async fn send(
        &mut self,
        device: &Device,
        plan: &Plan,
        chunk: &Chunk,
        target: &wgpu::Buffer,
    ) -> Result<bool, GpuError> {
        /// A device takes so much in some hundredths of a second.
        const MAX_ON_THE_WAY: u64 = 64 << 20;

        // A part at once: a call costs more than the processor's cache would save.
        for part in &chunk.parts {
            let weight = &plan.weights[part.weight];
            weight.prepare_rows(part.rows.clone()).await;
            let bytes = part.bytes(weight, &mut self.scratch);
            let bytes = bytes.map_err(|e| GpuError::File { reason: e.to_string() })?;
            device.guard(|| "uploading weights".into(), || device.queue.write_buffer(target, part.offset, bytes))?;
        }
        self.n_sent += chunk.n_bytes;
        let is_full = self.n_sent >= MAX_ON_THE_WAY;
        if is_full {
            device.wait_async().await?;
            self.n_sent = 0;
        }
        Ok(is_full)
    }
}
