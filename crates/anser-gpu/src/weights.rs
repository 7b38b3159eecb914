//! Weights on the device: every matrix in a buffer of its own (or several, where one would be too large to bind), all
//! vectors together in one.

use crate::device::Device;
use crate::error::GpuError;
use crate::matmul::{self, DeviceLayout};
use crate::upload::{Upload, upload};
use anser_format::DType;
use anser_model::{Op, Plan, WeightId};
use std::collections::BTreeMap;
use std::ops::Range;

/// How a matrix lies on the device.
#[derive(Debug, Clone)]
pub(crate) struct MatrixLayout {
    pub(crate) layout: DeviceLayout,
    /// Row ranges that are buffers of their own, in order.
    pub(crate) splits: Vec<Range<usize>>,
}

/// Where everything a plan reads will lie, before any of it is there.
#[derive(Debug)]
pub(crate) struct WeightLayout {
    /// Matrices by index of their weight.
    pub(crate) matrices: BTreeMap<usize, MatrixLayout>,
    /// Byte ranges in the buffer of the vectors, by index of their weight.
    vectors: BTreeMap<usize, Range<u64>>,
    vectors_n_bytes: u64,
    /// Of the start of a vector.
    alignment: u64,
}

impl WeightLayout {
    /// Lays out the weights of `plan` so that no matrix needs a binding of more than `max_binding_n_bytes`, and vectors
    /// start at multiples of `alignment`. Embedding tables stay on the host.
    pub(crate) fn new(plan: &Plan, max_binding_n_bytes: u64, alignment: u64) -> WeightLayout {
        let (matrices, vectors) = (BTreeMap::new(), BTreeMap::new());
        let mut layout = WeightLayout { matrices, vectors, vectors_n_bytes: 0, alignment };
        for node in &plan.nodes {
            let (matrix, vectors): (Option<WeightId>, Vec<WeightId>) = match &node.op {
                Op::Embed { .. } => (None, vec![]),
                Op::MatMul { weight, bias, .. } => (Some(*weight), bias.iter().copied().collect()),
                op => (None, op.weights()),
            };
            if let Some(id) = matrix {
                let weight = plan.weight(id);
                let device = matmul::layout(weight);
                let rows = max_binding_n_bytes / device.row_n_bytes as u64;
                let rows = usize::try_from(rows).unwrap_or(usize::MAX).max(1);
                let starts = (0..weight.n_rows()).step_by(rows);
                let splits = starts.map(|start| start..(start + rows).min(weight.n_rows())).collect();
                layout.matrices.insert(id.index(), MatrixLayout { layout: device, splits });
            }
            for id in vectors {
                let start = layout.vectors_n_bytes;
                let end = start + 4 * plan.weight(id).n_cols() as u64;
                layout.vectors.insert(id.index(), start..end);
                layout.vectors_n_bytes = end.next_multiple_of(alignment);
            }
        }
        layout
    }

    /// Elements from the start of a vector of `n_cols` to that of the operation's next one: an operation's vectors lie one
    /// after another.
    pub(crate) fn vector_stride(&self, n_cols: usize) -> u64 {
        (4 * n_cols as u64).next_multiple_of(self.alignment) / 4
    }

    /// Bytes on the device.
    pub(crate) fn n_bytes(&self, plan: &Plan) -> u64 {
        let matrix = |(&id, m): (&usize, &MatrixLayout)| plan.weights[id].n_rows() as u64 * m.layout.row_n_bytes as u64;
        self.matrices.iter().map(matrix).sum::<u64>() + self.vectors_n_bytes
    }

    /// One line for each storage type that the device keeps as another one.
    pub(crate) fn notices(&self, plan: &Plan) -> Vec<String> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (&id, m) in &self.matrices {
            let (from, to): (DType, DType) = (plan.weights[id].dtype(), m.layout.dtype);
            // An F32 matrix that is stored as F16 holds nothing but F16 numbers.
            if from != to && from != DType::F32 {
                *counts.entry((from.name(), to.name())).or_default() += 1;
            }
        }
        let notice = |((from, to), n)| format!("{n} matrices of type {from} are kept as {to} on the GPU");
        counts.into_iter().map(notice).collect()
    }
}

/// The weights of a plan on a device.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) layout: WeightLayout,
    /// One buffer per split of each matrix, by index of the weight.
    matrices: BTreeMap<usize, Vec<wgpu::Buffer>>,
    vectors: wgpu::Buffer,
}

impl Weights {
    /// Allocates everything, which tells early whether it fits.
    ///
    /// # Errors
    /// If the device's memory does not hold the weights, or is lost.
    pub(crate) fn allocate(plan: &Plan, device: &Device, layout: WeightLayout) -> Result<Weights, GpuError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let mut matrices = BTreeMap::new();
        for (&id, matrix) in &layout.matrices {
            let n_bytes = |rows: &Range<usize>| rows.len() as u64 * matrix.layout.row_n_bytes as u64;
            let create = |rows| device.create_buffer(plan.weights[id].name(), n_bytes(rows), usage);
            matrices.insert(id, matrix.splits.iter().map(create).collect::<Result<Vec<_>, _>>()?);
        }
        let vectors = device.create_buffer("vectors", layout.vectors_n_bytes, usage)?;
        Ok(Weights { layout, matrices, vectors })
    }

    /// Copies everything to where it was allocated.
    ///
    /// # Errors
    /// If there is no memory to copy through, or the device is lost.
    pub(crate) fn upload(&self, plan: &Plan, device: &Device) -> Result<(), GpuError> {
        let mut uploads = vec![];
        for (id, buffers) in &self.matrices {
            let MatrixLayout { layout, splits } = &self.layout.matrices[id];
            for (buffer, rows) in buffers.iter().zip(splits) {
                uploads.push(Upload { weight: &plan.weights[*id], layout, rows: rows.clone(), buffer });
            }
        }
        upload(device, &uploads)?;
        for (&id, range) in &self.layout.vectors {
            let data = plan.weights[id].to_f32();
            let write = || device.queue.write_buffer(&self.vectors, range.start, bytemuck::cast_slice(&data));
            device.guard(|| format!("uploading {}", plan.weights[id].name()), write)?;
        }
        Ok(())
    }

    /// The vectors of an operation from `first` to `last`; `None` if there are none.
    pub(crate) fn vectors(&self, first: WeightId, last: WeightId) -> Option<wgpu::BufferBinding<'_>> {
        let start = self.layout.vectors.get(&first.index())?.start;
        let end = self.layout.vectors.get(&last.index())?.end;
        let size = wgpu::BufferSize::new(end.checked_sub(start)?);
        Some(wgpu::BufferBinding { buffer: &self.vectors, offset: start, size })
    }

    /// One row range of a matrix; `None` if there is none.
    pub(crate) fn matrix(&self, id: WeightId, split: usize) -> Option<wgpu::BufferBinding<'_>> {
        let buffer = self.matrices.get(&id.index())?.get(split)?;
        Some(wgpu::BufferBinding { buffer, offset: 0, size: None })
    }
}
