//! Buffers for one product, and runs of its dispatches.

use super::problem::Problem;
use crate::device::Device;
use crate::error::GpuError;
use crate::kernels::{Binding, Dispatch, Extent};
use crate::matmul::{Form, lower_as};
use std::ops::Range;

/// A product's operands on a device.
pub(crate) struct Rig<'a> {
    device: &'a Device,
    problem: &'a Problem,
    /// Copies of the matrix, so that repeated runs do not find it in a cache; each `[R, row]` from a multiple of `stride`.
    weights: wgpu::Buffer,
    stride: u64,
    pub(crate) n_copies: u32,
    splits: Vec<Range<usize>>,
    x: wgpu::Buffer,
    bias: wgpu::Buffer,
    residual: wgpu::Buffer,
    out: wgpu::Buffer,
    step: wgpu::Buffer,
}

const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);

impl<'a> Rig<'a> {
    /// Uploads the operands, the matrix `n_copies` times and in row ranges of at most `split_rows`.
    pub(crate) fn new(
        device: &'a Device,
        problem: &'a Problem,
        n_copies: u32,
        split_rows: usize,
    ) -> Result<Rig<'a>, GpuError> {
        let (layout, n_rows) = (problem.layout(), problem.product.n_rows);
        let mut rows = vec![0; n_rows * layout.row_n_bytes];
        match layout.is_verbatim() {
            true => rows.copy_from_slice(problem.matrix().bytes()),
            false => layout.repack(problem.matrix(), 0..n_rows, &mut rows),
        }
        let stride = (rows.len() as u64).next_multiple_of(256);
        let weights = device.create_buffer("weights", stride * u64::from(n_copies), STORAGE)?;
        let starts = (0..n_rows).step_by(split_rows);
        let out_len = problem.product.n_tokens.next_power_of_two() * n_rows;
        let rig = Rig {
            device,
            problem,
            weights,
            stride,
            n_copies,
            splits: starts.map(|start| start..(start + split_rows).min(n_rows)).collect(),
            x: upload(device, bytemuck::cast_slice(&problem.x_data), STORAGE)?,
            bias: upload(device, bytemuck::cast_slice(&problem.bias().unwrap_or_default()), STORAGE)?,
            residual: upload(device, bytemuck::cast_slice(&problem.residual_data), STORAGE)?,
            out: upload(device, bytemuck::cast_slice(&vec![f32::NAN; out_len]), STORAGE)?,
            step: upload(
                device,
                bytemuck::cast_slice(&[problem.product.n_tokens as u32, 0, 1, 0]),
                wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            )?,
        };
        for (i, part) in rows.chunks(32 << 20).enumerate() {
            let write = || {
                device.queue.write_buffer(&rig.weights, (i as u64) << 25, part);
                device.queue.submit([]);
            };
            device.guard(|| "uploading".into(), write)?;
        }
        if n_copies > 1 {
            // Copies within one buffer are not allowed.
            let n_bytes = rows.len() as u64;
            let between = device.create_buffer("copy", n_bytes, STORAGE)?;
            let mut encoder = device.inner.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&rig.weights, 0, &between, 0, n_bytes);
            for copy in 1..u64::from(n_copies) {
                encoder.copy_buffer_to_buffer(&between, 0, &rig.weights, copy * stride, n_bytes);
            }
            device.guard(|| "copying".into(), || device.queue.submit([encoder.finish()]))?;
        }
        device.wait()?;
        Ok(rig)
    }

    /// Compiles and binds the dispatches of `form`, for every copy of the matrix.
    pub(crate) fn prepare(&self, form: Form) -> Result<Vec<Prepared>, GpuError> {
        let dispatches = lower_as(&self.problem.op(&self.splits), form);
        self.device.compile_all(dispatches.iter().map(|d| &d.kernel))?;
        let mut memory = vec![];
        for binding in dispatches.iter().flat_map(|d| &d.bindings) {
            let buffer = match binding {
                Binding::Constants(words) => {
                    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                    upload(self.device, bytemuck::cast_slice(words), usage)?
                }
                Binding::Scratch { row_n_bytes, .. } => {
                    let n_rows = self.problem.product.n_tokens.next_power_of_two();
                    self.device.create_buffer("scratch", (row_n_bytes * n_rows) as u64, STORAGE)?
                }
                _ => continue,
            };
            memory.push((*binding, buffer));
        }
        let copies = 0..self.n_copies;
        copies
            .flat_map(|copy| dispatches.iter().map(move |d| (copy, d)))
            .map(|(c, d)| self.bind(c, d, &memory))
            .collect()
    }

    fn bind(&self, copy: u32, dispatch: &Dispatch, memory: &[(Binding, wgpu::Buffer)]) -> Result<Prepared, GpuError> {
        let mut entries = vec![];
        for (i, binding) in dispatch.bindings.iter().enumerate() {
            let buffer = match binding {
                Binding::Matrix { .. } => &self.weights,
                Binding::Value(id) if self.problem.is_residual(*id) => &self.residual,
                Binding::Value(id) if self.problem.is_out(*id) => &self.out,
                Binding::Value(_) => &self.x,
                Binding::Vector(_) => &self.bias,
                Binding::Step => &self.step,
                other => {
                    let found = memory.iter().find(|(b, _)| b == other).map(|(_, buffer)| buffer);
                    found.ok_or_else(|| self.device.failed("binding", "no such memory"))?
                }
            };
            let (offset, size) = match binding {
                Binding::Matrix { split, .. } => {
                    let row_n_bytes = self.problem.layout().row_n_bytes as u64;
                    let rows = &self.splits[*split];
                    let offset = u64::from(copy) * self.stride + rows.start as u64 * row_n_bytes;
                    (offset, wgpu::BufferSize::new(rows.len() as u64 * row_n_bytes))
                }
                _ => (0, None),
            };
            let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
            entries.push(wgpu::BindGroupEntry { binding: i as u32, resource });
        }
        let (layout, _) = self.device.layouts(&dispatch.kernel.access);
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
        let create = || self.device.inner.create_bind_group(&descriptor);
        let bind_group = self.device.guard(|| format!("binding {}", dispatch.kernel.label), create)?;
        let n_tokens = self.problem.product.n_tokens as u32;
        let grid = dispatch.grid.map(|extent| match extent {
            Extent::Fixed(n) => n,
            Extent::Rows { per_workgroup, .. } => n_tokens.div_ceil(per_workgroup),
            Extent::Sequences => 1,
        });
        let reads_matrix = dispatch.bindings.iter().any(|b| matches!(b, Binding::Matrix { .. }));
        Ok(Prepared { pipeline: self.device.pipeline(&dispatch.kernel)?, bind_group, grid, reads_matrix })
    }

    /// Runs the dispatches `n_rounds` times in one pass. Returns the time on the device in µs, if it can tell.
    pub(crate) fn run(&self, prepared: &[&Prepared], n_rounds: usize) -> Result<Option<f64>, GpuError> {
        let device = self.device;
        let timestamps = device.report().timestamps.then(|| {
            let ty = wgpu::QueryType::Timestamp;
            device.inner.create_query_set(&wgpu::QuerySetDescriptor { label: None, ty, count: 2 })
        });
        let mut encoder = device.inner.create_command_encoder(&Default::default());
        let writes = timestamps.as_ref().map(|query_set| wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        });
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: writes });
        for dispatch in (0..n_rounds).flat_map(|_| prepared) {
            let [x, y, z] = dispatch.grid;
            pass.set_pipeline(&dispatch.pipeline);
            pass.set_bind_group(0, &dispatch.bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
        drop(pass);
        let Some(query_set) = timestamps else {
            device.guard(|| "a product".into(), || device.queue.submit([encoder.finish()]))?;
            device.wait()?;
            return Ok(None);
        };
        let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = device.create_buffer("timestamps", 16, resolve)?;
        encoder.resolve_query_set(&query_set, 0..2, &resolved, 0);
        device.guard(|| "a product".into(), || device.queue.submit([encoder.finish()]))?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.read(&resolved, 16)?);
        let elapsed_ns = (ticks[1] - ticks[0]) as f64 * f64::from(device.queue.get_timestamp_period());
        Ok(Some(elapsed_ns / 1e3))
    }

    /// The result `[T, R]`.
    pub(crate) fn result(&self) -> Result<Vec<f32>, GpuError> {
        let len = self.problem.product.n_tokens * self.problem.product.n_rows;
        Ok(bytemuck::pod_collect_to_vec(&self.read(&self.out, 4 * len as u64)?))
    }

    fn read(&self, from: &wgpu::Buffer, n_bytes: u64) -> Result<Vec<u8>, GpuError> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging = self.device.create_buffer("results", n_bytes, usage)?;
        let mut encoder = self.device.inner.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(from, 0, &staging, 0, n_bytes);
        let copied = self.device.guard(|| "reading".into(), || self.device.queue.submit([encoder.finish()]))?;
        let mut bytes = vec![];
        pollster::block_on(crate::mapping::read(self.device, &staging, n_bytes, copied, |b| bytes = b.to_vec()))?;
        Ok(bytes)
    }
}

/// A dispatch, ready to run.
pub(crate) struct Prepared {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [u32; 3],
    /// Not so if it only prepares the input.
    pub(crate) reads_matrix: bool,
}

fn upload(device: &Device, bytes: &[u8], usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, GpuError> {
    let buffer = device.create_buffer("operand", bytes.len() as u64, usage)?;
    device.guard(|| "uploading".into(), || device.queue.write_buffer(&buffer, 0, bytes))?;
    Ok(buffer)
}
