//! Reading a state: in pieces, so that the host copies one while the device brings the next.

use crate::device::Device;
use crate::device::mapping::Mapping;
use crate::error::GpuError;
use anser_model::all_finite;
use std::ops::Range;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

/// Less than this is copied sooner than a thread starts, and brought sooner than another submission is made.
const MIN_N_BYTES: usize = 1 << 20;

/// Staging buffers that numbers pass through, each a piece of them.
#[derive(Debug)]
pub(crate) struct Pieces {
    n: usize,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    /// Which of the numbers.
    range: Range<usize>,
    buffer: wgpu::Buffer,
}

/// What was read.
pub(crate) struct Numbers {
    pub(crate) data: Vec<f32>,
    /// Looked at while they were copied, which costs little then.
    pub(crate) all_finite: bool,
}

impl Pieces {
    /// Staging buffers for `n` numbers.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(crate) fn new(device: &Device, n: usize) -> Result<Pieces, GpuError> {
        /// With more, submissions cost more than waiting for the last piece does.
        const MAX_PIECES: usize = 4;

        let n_pieces = (4 * n / MIN_N_BYTES).clamp(1, MAX_PIECES);
        let piece = |i: usize| {
            let range = n * i / n_pieces..n * (i + 1) / n_pieces;
            let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
            let buffer = device.create_buffer("a piece of a state", 4 * range.len() as u64, usage)?;
            Ok(Piece { range, buffer })
        };
        Ok(Pieces { n, pieces: (0..n_pieces).map(piece).collect::<Result<_, GpuError>>()? })
    }

    /// Reads all numbers. `submit` submits the copy of a range of them to the start of a buffer.
    ///
    /// # Errors
    /// A lost device: the buffers are of no more use then.
    pub(crate) async fn read(
        &self,
        device: &Device,
        submit: impl Fn(&Range<usize>, &wgpu::Buffer) -> Result<wgpu::SubmissionIndex, GpuError>,
    ) -> Result<Numbers, GpuError> {
        let start = |Piece { range, buffer }: &Piece| {
            let submission = submit(range, buffer)?;
            Ok(Mapping::start(buffer, wgpu::MapMode::Read, 4 * range.len() as u64, submission))
        };
        let mappings = self.pieces.iter().map(start).collect::<Result<Vec<_>, GpuError>>()?;
        // From here on the device is busy: a good time to get memory.
        let mut data = vec![0.0; self.n];
        let all_finite = self.collect(device, mappings, &mut data).await?;
        self.pieces.iter().for_each(|piece| piece.buffer.unmap());
        Ok(Numbers { data, all_finite })
    }

    /// Copies the pieces to `data` as they arrive, and says whether all numbers are finite.
    async fn collect(&self, device: &Device, mappings: Vec<Mapping>, data: &mut [f32]) -> Result<bool, GpuError> {
        #[cfg(not(target_arch = "wasm32"))]
        {
            const MAX_THREADS: usize = 8;

            let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
            let n_threads = (4 * self.n / MIN_N_BYTES).min(MAX_THREADS).min(n_cores);
            if n_threads > 1 {
                return self.collect_by_threads(device, mappings, data, n_threads);
            }
        }
        let mut all_finite = true;
        for (piece, mapping) in self.pieces.iter().zip(mappings) {
            mapping.finish(device).await?;
            all_finite &= copy(&piece.view(device)?, &mut data[piece.range.clone()]);
        }
        Ok(all_finite)
    }

    /// [`Pieces::collect`] by threads that have a share of every piece. The memory of `data` is new: they make its pages
    /// present, which takes longer than the copy, while the device brings the first piece.
    #[cfg(not(target_arch = "wasm32"))]
    fn collect_by_threads(
        &self,
        device: &Device,
        mappings: Vec<Mapping>,
        data: &mut [f32],
        n_threads: usize,
    ) -> Result<bool, GpuError> {
        let mut shares: Vec<Vec<Share>> = (0..n_threads).map(|_| vec![]).collect();
        let mut rest = data;
        for (i, piece) in self.pieces.iter().enumerate() {
            let (numbers, others) = std::mem::take(&mut rest).split_at_mut(piece.range.len());
            rest = others;
            let len = numbers.len().div_ceil(n_threads).max(1);
            for (t, to) in numbers.chunks_mut(len).enumerate() {
                shares[t].push(Share { piece: i, start: 4 * t * len, to });
            }
        }
        // `None`: it will never arrive.
        let arrived: Vec<OnceLock<Option<wgpu::BufferView>>> = self.pieces.iter().map(|_| OnceLock::new()).collect();
        let all_finite = AtomicBool::new(true);
        let work = |mut shares: Vec<Share>| {
            shares.iter_mut().for_each(|share| touch(share.to));
            for Share { piece, start, to } in shares {
                let Some(view) = arrived[piece].wait() else { return };
                if !copy(&view[start..start + 4 * to.len()], to) {
                    all_finite.store(false, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            shares.into_iter().for_each(|shares| drop(scope.spawn(|| work(shares))));
            let mut result = Ok(());
            for ((piece, mapping), arrived) in self.pieces.iter().zip(mappings).zip(&arrived) {
                let mapped = result.and_then(|()| pollster::block_on(mapping.finish(device)));
                let view = mapped.and_then(|()| piece.view(device));
                let (view, failed) = view.map_or_else(|error| (None, Err(error)), |view| (Some(view), Ok(())));
                // Nobody else sets it.
                let _ = arrived.set(view);
                result = failed;
            }
            result
        })?;
        Ok(all_finite.into_inner())
    }
}

/// What a thread copies of a piece.
#[cfg(not(target_arch = "wasm32"))]
struct Share<'a> {
    /// Its number.
    piece: usize,
    /// First byte in it.
    start: usize,
    to: &'a mut [f32],
}

impl Piece {
    fn view(&self, device: &Device) -> Result<wgpu::BufferView, GpuError> {
        let view = self.buffer.get_mapped_range(..4 * self.range.len() as u64);
        view.map_err(|e| device.failed("reading back", &e.to_string()))
    }
}

/// Makes the pages of new memory present.
#[cfg(not(target_arch = "wasm32"))]
fn touch(memory: &mut [f32]) {
    /// Numbers of the smallest page that a system has.
    const PAGE_LEN: usize = 4096 / 4;

    memory.iter_mut().step_by(PAGE_LEN).for_each(|x| *std::hint::black_box(x) = 0.0);
}

/// Copies bytes to numbers, of the same length, and says whether all of them are finite.
fn copy(from: &[u8], to: &mut [f32]) -> bool {
    /// Few enough to be in the fastest cache still when they are looked at.
    const AT_ONCE: usize = 4096;

    let mut finite = true;
    for (from, to) in from.chunks(4 * AT_ONCE).zip(to.chunks_mut(AT_ONCE)) {
        bytemuck::cast_slice_mut(to).copy_from_slice(from);
        finite &= all_finite(to);
    }
    finite
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_tell_numbers_that_are_not_finite() {
        let numbers: Vec<f32> = (0..10_000).map(|i| i as f32 - 5000.0).collect();
        let mut copied = vec![0.0; numbers.len()];
        assert!(copy(bytemuck::cast_slice(&numbers), &mut copied));
        assert_eq!(copied, numbers);
        for (at, bad) in [(0, f32::NAN), (4096, f32::INFINITY), (9999, f32::NEG_INFINITY)] {
            let mut spoilt = numbers.clone();
            spoilt[at] = bad;
            assert!(!copy(bytemuck::cast_slice(&spoilt), &mut copied), "{bad} at {at}");
        }
    }
}
