//! The embedding table on the device, for sequences that draw their own tokens. Others need a row of it at a time, which
//! the host gathers from the file.

use super::Launch;
use crate::device::Device;
use crate::error::GpuError;
use crate::kernels::{Access, KernelSpec, wgsl};
use crate::matmul::{self, DeviceLayout, weight_modules};
use crate::upload::{Part, PartForm, upload};
use anser_format::DType;
use anser_model::{Op, Plan, ValueId, WeightId};
use std::ops::Range;

/// The table, in several buffers where one would be too large to bind.
#[derive(Debug)]
pub(crate) struct EmbedTable {
    layout: DeviceLayout,
    n_cols: usize,
    /// Row ranges with their buffers.
    parts: Vec<(Range<usize>, wgpu::Buffer)>,
    /// The value that its rows become.
    pub(super) out: ValueId,
}

/// The plan's table and the value of its rows; `None` if the device cannot give the host's very numbers, or if there is more
/// than one table.
pub(super) fn of_plan(plan: &Plan) -> Option<(WeightId, ValueId)> {
    let mut tables = plan.nodes.iter().filter_map(|node| match &node.op {
        Op::Embed { table, out } => Some((*table, *out)),
        _ => None,
    });
    let first = tables.next().filter(|(table, _)| is_exact(plan.weight(*table).dtype()));
    first.filter(|_| tables.next().is_none())
}

/// Whether the device decodes the very numbers that the host does: products of a scale and a quant are exact in f32, and
/// the layout on the device loses nothing.
fn is_exact(dtype: DType) -> bool {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0 | DType::Q4_K | DType::Q5_K | DType::Q6_K => true,
        DType::Q4_0 | DType::Q5_0 | DType::IQ4_NL | DType::Q3_K => true,
        DType::IQ4_XS | DType::Q4_1 | DType::Q5_1 | DType::Q2_K => false,
    }
}

fn kernel(layout: &DeviceLayout, n_cols: usize, rows: &Range<usize>) -> KernelSpec {
    let mut modules = vec![wgsl!("weight/words.wgsl")];
    modules.extend(weight_modules(layout.dtype));
    modules.extend([wgsl!("sample/place.wgsl"), wgsl!("sample/embed.wgsl")]);
    KernelSpec::new("embed", modules)
        .constant("N_COLS", n_cols as f64)
        .constant("FIRST_ROW", rows.start as f64)
        .constant("N_ROWS", rows.len() as f64)
        .access(&[Access::Read, Access::Read, Access::ReadWrite])
}

/// The kernel for the plan's table in one buffer. One of F32 may turn out to hold numbers of F16: finding out takes reading it.
pub(super) fn kernel_of(plan: &Plan) -> Option<KernelSpec> {
    let table = plan.weight(of_plan(plan)?.0);
    Some(kernel(&matmul::layout_of(table, false), table.n_cols(), &(0..table.n_rows())))
}

impl EmbedTable {
    /// Uploads the table of `plan`; `None` if it has none that the device can decode exactly.
    pub(super) fn new(plan: &Plan, device: &Device, max_binding_n_bytes: u64) -> Result<Option<EmbedTable>, GpuError> {
        let Some((id, out)) = of_plan(plan) else { return Ok(None) };
        let table = plan.weight(id);
        let layout = matmul::layout(table);
        let rows = usize::try_from(max_binding_n_bytes / layout.row_n_bytes as u64).unwrap_or(usize::MAX).max(1);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let part = |start: usize| {
            let range = start..(start + rows).min(table.n_rows());
            let n_bytes = range.len() as u64 * layout.row_n_bytes as u64;
            Ok((range, device.create_buffer(table.name(), n_bytes, usage)?))
        };
        let parts = (0..table.n_rows()).step_by(rows).map(part).collect::<Result<Vec<_>, GpuError>>()?;
        let part = |(rows, buffer): &(Range<usize>, wgpu::Buffer)| {
            let form = PartForm::Matrix(layout);
            (Part { weight: id.index(), rows: rows.clone(), form, offset: 0 }, buffer.clone())
        };
        upload(device, plan, parts.iter().map(part))?;
        Ok(Some(EmbedTable { layout, n_cols: table.n_cols(), parts, out }))
    }

    /// The dispatches that write the rows of the tokens at `places` to `out`, `[n_rows, C]`.
    pub(super) fn launches(
        &self,
        device: &Device,
        places: &wgpu::Buffer,
        out: wgpu::BufferBinding,
        n_rows: usize,
    ) -> Result<Vec<Launch>, GpuError> {
        const PIECES_OF_A_WORKGROUP: usize = 64;
        let n = self.n_cols.div_ceil(16).div_ceil(PIECES_OF_A_WORKGROUP) as u32;
        let launch = |(rows, buffer): &(Range<usize>, wgpu::Buffer)| {
            let spec = kernel(&self.layout, self.n_cols, rows);
            let buffers = vec![buffer.as_entire_buffer_binding(), places.as_entire_buffer_binding(), out.clone()];
            Launch::new(device, &spec, buffers, [n, n_rows as u32, 1])
        };
        self.parts.iter().map(launch).collect()
    }
}
