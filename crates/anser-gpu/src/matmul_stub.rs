//! The plainest matrix product: every matrix expanded to F32, one invocation per element.

use crate::kernels::{Access, Binding, Dispatch, Extent, Features, KernelSpec, RowClass, wgsl};
use anser_format::{DType, quant::dequantize};
use anser_model::{Activation, Rows, ValueId, Weight, WeightId};
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceLayout {
    pub(crate) dtype: DType,
    pub(crate) row_n_bytes: usize,
}
impl DeviceLayout {
    pub(crate) fn is_verbatim(&self) -> bool {
        false
    }
    pub(crate) fn repack(&self, weight: &Weight, rows: Range<usize>, out: &mut [u8]) {
        let mut row = vec![0.0f32; weight.n_cols()];
        for (r, out) in rows.zip(out.chunks_exact_mut(self.row_n_bytes)) {
            dequantize(weight.dtype(), weight.row(r), &mut row);
            out.copy_from_slice(bytemuck::cast_slice(&row));
        }
    }
}
pub(crate) fn layout(weight: &Weight, _features: &Features) -> DeviceLayout {
    DeviceLayout { dtype: DType::F32, row_n_bytes: 4 * weight.n_cols() }
}
pub(crate) fn split_rows_multiple(_layout: &DeviceLayout) -> usize {
    1
}
pub(crate) fn row_class(n_rows: usize) -> RowClass {
    RowClass(if n_rows <= 1 { n_rows as u32 } else { n_rows.next_power_of_two() as u32 })
}
pub(crate) struct MatMul<'a> {
    pub(crate) weight: WeightId,
    pub(crate) layout: DeviceLayout,
    pub(crate) n_rows: usize,
    pub(crate) n_cols: usize,
    pub(crate) splits: &'a [Range<usize>],
    pub(crate) x: ValueId,
    pub(crate) bias: Option<WeightId>,
    pub(crate) activation: Activation,
    pub(crate) residual: Option<ValueId>,
    pub(crate) out: ValueId,
    pub(crate) rows: Rows,
    pub(crate) class: RowClass,
}
pub(crate) fn lower(op: &MatMul, _features: &Features) -> Vec<Dispatch> {
    let each = op.splits.iter().enumerate().map(|(split, rows)| {
        let activation = Activation::ALL.iter().position(|a| *a == op.activation).unwrap_or(0) as u32;
        let flags = op.bias.is_some() as u32 + 2 * op.residual.is_some() as u32 + 4 * activation;
        let kernel = KernelSpec::new("matmul_stub", vec![wgsl!("matmul_stub.wgsl")])
            .constant("N_ROWS", op.n_rows as f64)
            .constant("N_COLS", op.n_cols as f64)
            .access(&[Access::Read, Access::Read, Access::Read, Access::Read, Access::Uniform, Access::ReadWrite]);
        let x = Binding::Value(op.x);
        let bindings = vec![
            Binding::Matrix { weight: op.weight, split },
            x,
            op.bias.map_or(x, Binding::Vector),
            op.residual.map_or(x, Binding::Value),
            Binding::Constants([rows.start as u32, rows.end as u32, flags, 0]),
            Binding::Value(op.out),
        ];
        let per_workgroup = 1;
        let _ = (op.layout, op.class);
        kernel.dispatch(
            bindings,
            [
                Extent::Fixed((rows.len() as u32).div_ceil(64)),
                Extent::Rows { rows: op.rows, per_workgroup },
                Extent::Fixed(1),
            ],
        )
    });
    each.collect()
}
