//! How fast the link to a device is, and how fast weights go over it: for benchmarks.

use crate::device::Device;
use crate::device::parallel::for_each_parallel;
use crate::error::GpuError;
use crate::kernels::matmul::reads_panels;
use crate::memory::layout::{MatrixKinds, WeightLayout};
use crate::memory::upload::{Chunk, STAGING_N_BYTES, Scratch, Stage};
use anser_model::Plan;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What staging buffers are filled with before they are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// The same bytes over and over: what the link can do.
    Memory,
    /// Weights from the file, as when a model is loaded.
    Weights,
}

/// Copies as many bytes as the weights of `plan` have as loading does, by `n_threads`; returns GB/s.
///
/// # Errors
/// If the device has too little memory, or is lost.
pub fn rate(plan: &Plan, device: &Device, filling: Filling, n_threads: usize) -> Result<f64, GpuError> {
    let kinds = MatrixKinds::of(plan, reads_panels(&device.features()));
    let layout = WeightLayout::new(plan, &kinds, device.report().max_binding_n_bytes, 256);
    let parts = layout.parts(plan);
    let chunks: Vec<Chunk> = parts.into_iter().flat_map(|parts| Chunk::of(plan, parts, STAGING_N_BYTES)).collect();
    let largest = chunks.iter().map(|chunk| chunk.n_bytes).max().unwrap_or(0);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let target = device.create_buffer("target", largest, usage)?;
    let pair = || Ok(Mutex::new([Stage::new(device, largest)?, Stage::new(device, largest)?]));
    let stages = (0..n_threads).map(|_| pair()).collect::<Result<Vec<_>, GpuError>>()?;
    let memory = vec![1; largest as usize];
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    for_each_parallel(&stages, n_threads, |stages| {
        let mut stages = stages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = Scratch::default();
        for turn in 0.. {
            let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let stage = &mut stages[turn % 2];
            match filling {
                Filling::Memory => stage.fill_with(device, &memory[..chunk.n_bytes as usize])?,
                Filling::Weights => stage.fill(device, plan, chunk, &mut scratch)?,
            }
            stage.send(device, &Chunk { offset: 0, parts: vec![], ..*chunk }, &target)?;
        }
        Ok(())
    })?;
    device.wait()?;
    Ok(chunks.iter().map(|chunk| chunk.n_bytes as f64).sum::<f64>() / began.elapsed().as_secs_f64() / 1e9)
}
