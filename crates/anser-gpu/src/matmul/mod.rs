//! Matrix products: out `[T, R]` = residual + activation(x `[T, n_cols]` · weightᵀ + bias), for a weight `[R, n_cols]` of
//! any storage type.
//!
//! `layout` says how weights lie on the device, [`lower`] which kernels multiply them. Up to 8 tokens are computed by
//! mat-vec kernels, which read every weight once, or only those that do not meet zeros; more by tiled ones, see [`Form`].

#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
mod coop;
mod form;
mod held;
mod layout;
mod sparse;
mod spec;
#[cfg(test)]
mod tests;
mod vec;

pub(crate) use coop::multiplies_halves;
pub(crate) use form::{Form, Precision, max_columns};
pub(crate) use held::holds;
#[cfg(test)]
use layout::device_dtype;
pub(crate) use layout::{DeviceLayout, PIECE_LEN, is_f16, is_quantized, layout, layout_of};
pub(crate) use sparse::{meets_zeros, reads_panels};
pub(crate) use vec::{NOTHING, Shift, Sites, float_kind, lower_shifted, max_shifted_cols};

pub(crate) use spec::weight_modules;

use crate::kernels::{Binding, Dispatch, Extent, Features, RowClass};
use anser_model::{Activation, Rows, ValueId, WeightId};
use sparse::SparseShape;
use std::ops::Range;
use std::sync::Arc;

/// A matrix product to lower.
#[derive(Debug, Clone)]
pub(crate) struct MatMul<'a> {
    /// Matrix `[R, n_cols]`.
    pub(crate) weight: WeightId,
    /// How it lies on the device.
    pub(crate) layout: DeviceLayout,
    /// R.
    pub(crate) n_rows: usize,
    /// Input features.
    pub(crate) n_cols: usize,
    /// Its row ranges that are buffers of their own.
    pub(crate) splits: &'a [Range<usize>],
    /// Input `[T, n_cols]`.
    pub(crate) x: ValueId,
    /// Offset `[R]`.
    pub(crate) bias: Option<WeightId>,
    /// Applied after the bias.
    pub(crate) activation: Activation,
    /// Added last, `[T, R]`.
    pub(crate) residual: Option<ValueId>,
    /// Result `[T, R]`.
    pub(crate) out: ValueId,
    /// Whether x and out are kept in halves, all of their regions.
    pub(crate) in_halves: [bool; 2],
    /// Kind of rows of x and out.
    pub(crate) rows: Rows,
    /// Class of their number.
    pub(crate) class: RowClass,
}

/// The class of a number of rows: the next power of two. Kernels are made for classes, so that few are compiled.
pub(crate) fn row_class(n_rows: usize) -> RowClass {
    let class = n_rows.checked_next_power_of_two().and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX);
    RowClass(if n_rows == 0 { 0 } else { class })
}

/// The dispatches that compute `ops`, none of which needs another one's result.
///
/// Mat-vec kernels compute those of up to `max_columns` tokens, leaving out what a matrix in panels has for zeros.
pub(crate) fn lower(
    ops: &[MatMul],
    sites: &Sites,
    features: &Features,
    precision: Precision,
    max_columns: u32,
) -> Vec<Dispatch> {
    let (few, many): (Vec<MatMul>, Vec<MatMul>) = ops.iter().cloned().partition(|op| op.class.0 <= max_columns);
    let (few, sparse): (Vec<MatMul>, Vec<MatMul>) = few.into_iter().partition(|op| op.layout.panel_len == 1);
    let mut lowered = vec::lower(&few, sites, features, precision, None);
    lowered.extend(
        sparse
            .iter()
            .flat_map(|op| sparse::lower(op, SparseShape::choose([op.n_rows, op.n_cols], op.class.0, features))),
    );
    let many = many.iter().map(|op| lower_as(op, Form::choose(op, features, precision), sites, features));
    lowered.extend(side_by_side(many.collect()));
    lowered
}

/// Puts the first dispatches of all products before the second ones, and so on, and gives each product scratch memory of
/// its own, so that none has to wait for its neighbour.
fn side_by_side(products: Vec<Vec<Dispatch>>) -> Vec<Dispatch> {
    let mut numbered = vec![];
    for (number, dispatches) in products.into_iter().enumerate() {
        for (turn, mut dispatch) in dispatches.into_iter().enumerate() {
            for binding in &mut dispatch.bindings {
                if let Binding::Scratch { product, .. } | Binding::Expanded { product, .. } = binding {
                    *product = number;
                }
            }
            numbered.push((turn, dispatch));
        }
    }
    numbered.sort_by_key(|(turn, _)| *turn);
    numbered.into_iter().map(|(_, dispatch)| dispatch).collect()
}

/// The dispatches that compute `op` in a given form, in order.
pub(crate) fn lower_as(op: &MatMul, form: Form, sites: &Sites, features: &Features) -> Vec<Dispatch> {
    match form {
        Form::VecF32 { .. } | Form::VecInt8 { .. } | Form::Held { .. } => {
            let precision = if matches!(form, Form::VecF32 { .. }) { Precision::Half } else { Precision::Int8 };
            vec::lower(std::slice::from_ref(op), sites, features, precision, Some(form))
        }
        Form::Sparse { shape } => sparse::lower(op, shape),
        Form::Tiled { .. } => tiles(op, form),
        Form::Gemm { shape } => coop::lower(op, shape),
    }
}

fn tiles(op: &MatMul, form: Form) -> Vec<Dispatch> {
    let [tile_rows, tile_tokens] = match form {
        Form::VecF32 { .. } | Form::VecInt8 { .. } | Form::Held { .. } | Form::Sparse { .. } | Form::Gemm { .. } => {
            return vec![];
        }
        Form::Tiled { shape, .. } => shape.tile(),
    };
    let product = |(split, rows): (usize, &Range<usize>)| {
        let matrix = Binding::Matrix { weight: op.weight, split };
        // Absent vectors still need a buffer to bind; it is not read.
        let bias = op.bias.map_or(matrix.clone(), Binding::Vector);
        let residual = op.residual.map_or(matrix.clone(), Binding::Value);
        let out = Binding::Value(op.out);
        let bindings = vec![matrix, Binding::Value(op.x), bias, residual, out, Binding::Step, target_rows(op, rows)];
        let tokens = Extent::Rows { rows: op.rows, per_workgroup: tile_tokens };
        let grid = [tokens, Extent::Fixed((rows.len() as u32).div_ceil(tile_rows)), Extent::Fixed(1)];
        Some(spec::product(op, form)?.dispatch(bindings, grid))
    };
    op.splits.iter().enumerate().filter_map(product).collect()
}

/// `TargetRows` of `wgsl/matmul/epilogue.wgsl` for a row range of the matrix.
fn target_rows(op: &MatMul, rows: &Range<usize>) -> Binding {
    let words = [rows.len() as u32, rows.start as u32, op.n_rows as u32, epilogue_word(op)];
    Binding::Constants(Arc::from(words))
}

/// `TargetRows::epilogue` of `wgsl/matmul/epilogue.wgsl`, `Job::epilogue` of `wgsl/matmul/jobs.wgsl`.
fn epilogue_word(op: &MatMul) -> u32 {
    let activation = match op.activation {
        Activation::Identity => 0,
        Activation::Tanh => 1,
        Activation::Sigmoid => 2,
        Activation::ReluSquared => 3,
        Activation::Decay => 4,
        Activation::Silu => 5,
        Activation::Decay6 => 6,
    };
    activation | u32::from(op.bias.is_some()) << 4 | u32::from(op.residual.is_some()) << 5
}
