//! Buffers for one product, and runs of its dispatches.

use super::problem::Problem;
use crate::compile::dispatch::{Binding, Dispatch, Extent};
use crate::compile::fuse;
use crate::compile::lowering::Lowering;
use crate::compile::schedule::{Schedule, Sharing};
use crate::compile::target::{Precision, RowClass};
use crate::device::Device;
use crate::device::features::Features;
use crate::error::GpuError;
use crate::kernels::matmul::{Form, lower_as};
use crate::kernels::{RULES, target};
use crate::memory::layout::{WeightLayout, WeightPlace};

/// A product's operands on a device.
pub(crate) struct Rig<'a> {
    device: &'a Device,
    /// What its kernels use.
    features: Features,
    problem: &'a Problem,
    /// Copies of the weights, so that repeated runs do not find them in a cache; each from a multiple of `stride`.
    weights: wgpu::Buffer,
    stride: u64,
    pub(crate) n_copies: u32,
    layout: WeightLayout,
    /// Where each of the layout's buffers starts in a copy.
    starts: Vec<u64>,
    schedule: Schedule,
    x: wgpu::Buffer,
    residual: wgpu::Buffer,
    out: wgpu::Buffer,
    step: wgpu::Buffer,
}

/// The most tokens that any device computes by mat-vecs.
const MAX_COLUMNS: u32 = 8;

/// What the first byte of a weight is a multiple of.
const ALIGNMENT: u64 = 256;

const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);

impl<'a> Rig<'a> {
    /// Uploads the operands, the matrix `n_copies` times and in row ranges of at most `split_rows`.
    pub(crate) fn new(
        device: &'a Device,
        features: Features,
        problem: &'a Problem,
        n_copies: u32,
        split_rows: usize,
    ) -> Result<Rig<'a>, GpuError> {
        let row_n_bytes = problem.layout().row_n_bytes;
        let layout = WeightLayout::new(problem.plan(), &problem.kinds(), (split_rows * row_n_bytes) as u64, ALIGNMENT);
        let (mut starts, mut stride) = (vec![], 0);
        for &n_bytes in layout.buffers(0) {
            starts.push(stride);
            stride = (stride + n_bytes).next_multiple_of(ALIGNMENT);
        }
        let mut bytes = vec![0; stride as usize];
        let at = |place: WeightPlace| (starts[place.buffer] + place.offset) as usize;
        if let Some(matrix) = layout.matrices.get(&problem.weight().index()) {
            for (split, rows) in matrix.splits.iter().enumerate() {
                let Some(place) = layout.place(problem.weight(), split) else { continue };
                let to = &mut bytes[at(place)..][..place.n_bytes as usize];
                match matrix.layout.is_verbatim() {
                    true => {
                        to.copy_from_slice(&problem.matrix().bytes()[rows.start * row_n_bytes..rows.end * row_n_bytes])
                    }
                    false => matrix.layout.repack(problem.matrix(), rows.clone(), to),
                }
            }
        }
        if let Some((place, data)) = problem.bias().and_then(|(id, data)| Some((layout.place(id, 0)?, data))) {
            bytes[at(place)..][..place.n_bytes as usize].copy_from_slice(bytemuck::cast_slice(&data));
        }
        let n_rows = problem.product.n_rows;
        let weights = device.create_buffer("weights", stride * u64::from(n_copies), STORAGE)?;
        let class = RowClass::of(problem.product.n_tokens);
        let sharing = match class.0 <= MAX_COLUMNS {
            true => Sharing::Nothing { n_rows: [class.0, 0], in_bytes: false },
            false => Sharing::Layers { in_halves: false },
        };
        let schedule = schedule(device, problem, &layout, sharing);
        let out_len = problem.product.n_tokens.next_power_of_two() * n_rows;
        let rig = Rig {
            device,
            features,
            problem,
            weights,
            stride,
            n_copies,
            layout,
            starts,
            schedule,
            x: upload(device, bytemuck::cast_slice(&problem.x_data), STORAGE)?,
            residual: upload(device, bytemuck::cast_slice(&problem.residual_data), STORAGE)?,
            out: upload(device, bytemuck::cast_slice(&vec![f32::NAN; out_len]), STORAGE)?,
            step: upload(
                device,
                bytemuck::cast_slice(&[problem.product.n_tokens as u32, 0, 1, 0]),
                wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            )?,
        };
        for (i, part) in bytes.chunks(32 << 20).enumerate() {
            let write = || {
                device.queue.write_buffer(&rig.weights, (i as u64) << 25, part);
                device.queue.submit([]);
            };
            device.guard(|| "uploading".into(), write)?;
        }
        if n_copies > 1 {
            // Copies within one buffer are not allowed.
            let n_bytes = bytes.len() as u64;
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
        let splits = self.layout.matrices.get(&self.problem.weight().index()).map_or(&[][..], |m| &m.splits);
        let class = RowClass::of(self.problem.product.n_tokens);
        let (weights, schedule) = (&self.layout, &self.schedule);
        let target = target(&self.features, weights, Precision::Int8, [class, RowClass(0)], false);
        let lowering = Lowering { plan: self.problem.plan(), weights, schedule, target };
        let dispatches = lower_as(&self.problem.op(splits), form, &lowering);
        let dispatches = dispatches.map_err(|error| self.device.failed("a product", error.0))?;
        self.device.compile_all(dispatches.iter().map(|d| &d.kernel))?;
        let mut memory = vec![];
        for binding in dispatches.iter().flat_map(|d| &d.bindings) {
            let buffer = match binding {
                Binding::Constants(words) => {
                    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                    upload(self.device, bytemuck::cast_slice(words), usage)?
                }
                Binding::Scratch { row_n_bytes, .. } => {
                    let n_rows = self.problem.product.n_tokens.next_power_of_two().max(256);
                    self.device.create_buffer("scratch", (row_n_bytes * n_rows) as u64, STORAGE)?
                }
                Binding::Expanded { n_bytes, .. } => self.device.create_buffer("expanded", *n_bytes as u64, STORAGE)?,
                _ => continue,
            };
            memory.push((binding.clone(), buffer));
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
            let of_weights = |place: Option<WeightPlace>, whole: bool| {
                let place = place.ok_or_else(|| self.device.failed("binding", "no such weight"))?;
                let offset = u64::from(copy) * self.stride + self.starts[place.buffer];
                let (start, n_bytes) = match whole {
                    true => (0, self.layout.buffers(0)[place.buffer]),
                    false => (place.offset, place.n_bytes),
                };
                Ok::<_, GpuError>((&self.weights, offset + start, wgpu::BufferSize::new(n_bytes)))
            };
            let (buffer, offset, size) = match binding {
                Binding::Matrix { weight, split } => of_weights(self.layout.place(*weight, *split), false)?,
                Binding::Vector(weight) => of_weights(self.layout.place(*weight, 0), false)?,
                Binding::Block { weight, split } => of_weights(self.layout.place(*weight, *split), true)?,
                Binding::Value(id) | Binding::Region(id) if self.problem.is_residual(*id) => (&self.residual, 0, None),
                Binding::Value(id) | Binding::Region(id) if self.problem.is_out(*id) => (&self.out, 0, None),
                Binding::Value(_) | Binding::Region(_) => (&self.x, 0, None),
                Binding::Step => (&self.step, 0, None),
                other => {
                    let found = memory.iter().find(|(b, _)| b == other).map(|(_, buffer)| buffer);
                    (found.ok_or_else(|| self.device.failed("binding", "no such memory"))?, 0, None)
                }
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
        let prepares = matches!(dispatch.kernel.label, "halve" | "expand");
        Ok(Prepared { pipeline: self.device.pipeline(&dispatch.kernel)?, bind_group, grid, prepares })
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
        pollster::block_on(crate::device::mapping::read(self.device, &staging, n_bytes, copied, |b| {
            bytes = b.to_vec()
        }))?;
        Ok(bytes)
    }
}

/// The schedule of the product by itself.
fn schedule(device: &Device, problem: &Problem, layout: &WeightLayout, sharing: Sharing) -> Schedule {
    let target = target(&device.features(), layout, Precision::Int8, [RowClass(1); 2], false).unfused();
    Schedule::new(problem.plan(), fuse::units(problem.plan(), &target, &RULES), sharing)
}

/// A dispatch, ready to run.
pub(crate) struct Prepared {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [u32; 3],
    /// Whether it only prepares the operands.
    pub(crate) prepares: bool,
}

fn upload(device: &Device, bytes: &[u8], usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, GpuError> {
    let buffer = device.create_buffer("operand", bytes.len() as u64, usage)?;
    device.guard(|| "uploading".into(), || device.queue.write_buffer(&buffer, 0, bytes))?;
    Ok(buffer)
}
