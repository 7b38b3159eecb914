//! Matrix products: out `[T, R]` = residual + activation(x `[T, n_cols]` · weightᵀ + bias), for a weight `[R, n_cols]` of
//! any storage type.
//!
//! [`layout()`] says how weights lie on the device, [`lower`] which kernels multiply them. Up to 8 tokens are computed by
//! mat-vec kernels, which read every weight once; more by tiled ones, see [`Form`].

#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
mod form;
mod layout;
mod spec;
#[cfg(test)]
mod tests;
mod vec;

pub(crate) use form::{Form, MAX_COLUMNS, Precision};
#[cfg(test)]
use layout::device_dtype;
pub(crate) use layout::{DeviceLayout, PIECE_LEN, is_quantized, layout};
pub(crate) use vec::{NOTHING, Sites, float_kind};

pub(crate) use spec::weight_modules;

use crate::kernels::{Access, Binding, Dispatch, Extent, Features, KernelSpec, RowClass, wgsl};
use anser_model::{Activation, Rows, ValueId, WeightId};
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
pub(crate) fn lower(ops: &[MatMul], sites: &Sites, features: &Features, precision: Precision) -> Vec<Dispatch> {
    let (few, many): (Vec<MatMul>, Vec<MatMul>) = ops.iter().cloned().partition(|op| op.class.0 <= MAX_COLUMNS);
    let mut lowered = vec::lower(&few, sites, features, precision == Precision::Int8, None);
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
                if let Binding::Scratch { product, .. } = binding {
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
        Form::VecF32 { shape } => vec::lower(std::slice::from_ref(op), sites, features, false, Some(shape)),
        Form::VecInt8 { shape } => vec::lower(std::slice::from_ref(op), sites, features, true, Some(shape)),
        Form::Tiled { .. } | Form::Coop { .. } => tiles(op, form),
    }
}

fn tiles(op: &MatMul, form: Form) -> Vec<Dispatch> {
    let [tile_rows, tile_tokens] = match form {
        Form::VecF32 { .. } | Form::VecInt8 { .. } => return vec![],
        Form::Tiled { shape, .. } => shape.tile(),
        Form::Coop { shape } => shape.tile(),
    };
    let halved = matches!(form, Form::Coop { .. }).then(|| halve(op));
    let x = halved.as_ref().map_or(Binding::Value(op.x), |(_, halves)| halves.clone());
    let product = |(split, rows): (usize, &Range<usize>)| {
        let matrix = Binding::Matrix { weight: op.weight, split };
        // Absent vectors still need a buffer to bind; it is not read.
        let bias = op.bias.map_or(matrix.clone(), Binding::Vector);
        let residual = op.residual.map_or(matrix.clone(), Binding::Value);
        let words = [rows.len() as u32, rows.start as u32, op.n_rows as u32, epilogue_word(op)];
        let constants = Binding::Constants(Arc::from(words));
        let bindings = vec![matrix, x.clone(), bias, residual, Binding::Value(op.out), Binding::Step, constants];
        let tokens = Extent::Rows { rows: op.rows, per_workgroup: tile_tokens };
        let grid = [tokens, Extent::Fixed((rows.len() as u32).div_ceil(tile_rows)), Extent::Fixed(1)];
        Some(spec::product(op, form)?.dispatch(bindings, grid))
    };
    let products = op.splits.iter().enumerate().filter_map(product);
    halved.iter().map(|(dispatch, _)| dispatch.clone()).chain(products).collect()
}

/// The dispatch that brings the input into halves, and the buffer it writes.
fn halve(op: &MatMul) -> (Dispatch, Binding) {
    /// Threads, each with a piece.
    const WORKGROUP: u32 = 64;

    let n_pieces = op.n_cols.div_ceil(PIECE_LEN);
    let (name, row_n_bytes) = ("halves", 2 * n_pieces * PIECE_LEN);
    let halves = Binding::Scratch { name, rows: op.rows, row_n_bytes, product: 0 };
    let modules = vec![wgsl!("weight/piece.wgsl"), spec::input_module(op.n_cols), wgsl!("matmul/halve.wgsl")];
    let kernel = KernelSpec::new("halve", modules)
        .access(&[Access::ReadWrite, Access::Read])
        .constant("N_COLS", op.n_cols as f64)
        .constant("WORKGROUP", f64::from(WORKGROUP));
    let per_row = Extent::Fixed((n_pieces as u32).div_ceil(WORKGROUP));
    let grid = [per_row, Extent::Rows { rows: op.rows, per_workgroup: 1 }, Extent::Fixed(1)];
    (kernel.dispatch(vec![halves.clone(), Binding::Value(op.x)], grid), halves)
}

/// `TargetRows::epilogue` of `wgsl/matmul/epilogue.wgsl`, `Job::epilogue` of `wgsl/matmul/jobs.wgsl`.
fn epilogue_word(op: &MatMul) -> u32 {
    let activation = match op.activation {
        Activation::Identity => 0,
        Activation::Tanh => 1,
        Activation::Sigmoid => 2,
        Activation::ReluSquared => 3,
        Activation::Decay => 4,
    };
    activation | u32::from(op.bias.is_some()) << 4 | u32::from(op.residual.is_some()) << 5
}
