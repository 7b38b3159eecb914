//! The embedding table on the device, for sequences that draw their own tokens. Others need a row of it at a time, which
//! the host gathers from the file.

use super::program::Bound;
use crate::compile::dispatch::Extent;
use crate::device::Device;
use crate::error::GpuError;
use crate::kernels::sample::{embed, table_of};
use crate::memory::upload::{Part, PartForm, upload};
use crate::quant::{self, DeviceLayout};
use anser_model::{Plan, ValueId};
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

impl EmbedTable {
    /// Uploads the table of `plan`; `None` if it has none that the device can decode exactly.
    pub(super) async fn new(
        plan: &Plan,
        device: &Device,
        max_binding_n_bytes: u64,
    ) -> Result<Option<EmbedTable>, GpuError> {
        let Some((id, out)) = table_of(plan) else { return Ok(None) };
        let table = plan.weight(id);
        let layout = quant::layout(table);
        let rows = usize::try_from(max_binding_n_bytes / layout.row_n_bytes as u64).unwrap_or(usize::MAX).max(1);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let mut parts = vec![];
        for start in (0..table.n_rows()).step_by(rows) {
            let range = start..(start + rows).min(table.n_rows());
            let n_bytes = range.len() as u64 * layout.row_n_bytes as u64;
            parts.push((range, device.create_buffer_async(table.name(), n_bytes, usage).await?));
        }
        let part = |(rows, buffer): &(Range<usize>, wgpu::Buffer)| {
            let form = PartForm::Matrix(layout);
            (Part { weight: id.index(), rows: rows.clone(), form, offset: 0 }, buffer.clone())
        };
        upload(device, plan, parts.iter().map(part)).await?;
        Ok(Some(EmbedTable { layout, n_cols: table.n_cols(), parts, out }))
    }

    /// The dispatches that write the rows of the tokens at `places` to `out`, `[n_rows, C]`.
    pub(super) fn bind(
        &self,
        device: &Device,
        places: &wgpu::Buffer,
        out: wgpu::BufferBinding,
        n_rows: usize,
    ) -> Result<Vec<Bound>, GpuError> {
        const PIECES_OF_A_WORKGROUP: usize = 64;
        let n = self.n_cols.div_ceil(16).div_ceil(PIECES_OF_A_WORKGROUP) as u32;
        let bind = |(rows, buffer): &(Range<usize>, wgpu::Buffer)| {
            let spec = embed(&self.layout, self.n_cols, rows);
            let buffers = vec![buffer.as_entire_buffer_binding(), places.as_entire_buffer_binding(), out.clone()];
            Bound::new(device, &spec, buffers, [n, n_rows as u32, 1].map(Extent::Fixed))
        };
        self.parts.iter().map(bind).collect()
    }
}
