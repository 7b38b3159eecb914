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

pub(crate) use form::{Form, Precision};
#[cfg(test)]
use layout::device_dtype;
pub(crate) use layout::{DeviceLayout, layout};

use crate::kernels::{Access, Binding, Dispatch, Extent, Features, KernelSpec, RowClass, wgsl};
use anser_model::{Activation, Rows, ValueId, WeightId};
use layout::PIECE_LEN;
use std::ops::Range;

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

/// The dispatches that compute `op`, in order.
pub(crate) fn lower(op: &MatMul, features: &Features) -> Vec<Dispatch> {
    lower_as(op, Form::choose(op, features, Precision::default()))
}

/// The dispatches that compute `op` in a given form.
pub(crate) fn lower_as(op: &MatMul, form: Form) -> Vec<Dispatch> {
    let prepared = prepare_input(op, form);
    let inputs = match &prepared {
        Some((_, inputs)) => inputs.clone(),
        None => vec![Binding::Value(op.x)],
    };
    let product = |(split, rows): (usize, &Range<usize>)| {
        let matrix = Binding::Matrix { weight: op.weight, split };
        // Absent vectors still need a buffer to bind; it is not read.
        let bias = op.bias.map_or(matrix, Binding::Vector);
        let residual = op.residual.map_or(matrix, Binding::Value);
        let constants = Binding::Constants([rows.len() as u32, rows.start as u32, op.n_rows as u32, epilogue_word(op)]);
        let common = [matrix, inputs[0], bias, residual, Binding::Value(op.out), Binding::Step, constants];
        let bindings = common.into_iter().chain(inputs.iter().skip(1).copied()).collect();
        spec::product(op, form).dispatch(bindings, grid(op, form, rows.len() as u32))
    };
    let products = op.splits.iter().enumerate().map(product);
    prepared.iter().map(|(dispatch, _)| dispatch.clone()).chain(products).collect()
}

/// The dispatch that brings the input into the number format of `form`, and the buffers it writes; `None` if the product
/// reads f32.
fn prepare_input(op: &MatMul, form: Form) -> Option<(Dispatch, Vec<Binding>)> {
    /// Threads, each with a piece.
    const WORKGROUP: u32 = 64;

    let n_pieces = op.n_cols.div_ceil(PIECE_LEN);
    let scratch = |name, piece_n_bytes| Binding::Scratch {
        name,
        rows: op.rows,
        row_n_bytes: n_pieces * piece_n_bytes,
        product: 0,
    };
    let x = Binding::Value(op.x);
    let (kernel, bindings, inputs) = match form {
        Form::VecF32 { .. } | Form::Tiled { .. } => return None,
        Form::VecInt8 { .. } => {
            let inputs = vec![scratch("quants", PIECE_LEN), scratch("scales", 8)];
            let kernel = KernelSpec::new("quantize", vec![wgsl!("matmul/quantize.wgsl")]);
            let kernel = kernel.access(&[Access::Read, Access::ReadWrite, Access::ReadWrite]);
            (kernel, vec![x, inputs[0], inputs[1]], inputs)
        }
        Form::Coop { .. } => {
            let inputs = vec![scratch("halves", 2 * PIECE_LEN)];
            let modules = vec![wgsl!("weight/piece.wgsl"), spec::input_module(op.n_cols), wgsl!("matmul/halve.wgsl")];
            let kernel = KernelSpec::new("halve", modules).access(&[Access::ReadWrite, Access::Read]);
            (kernel, vec![inputs[0], x], inputs)
        }
    };
    let kernel = kernel.constant("N_COLS", op.n_cols as f64).constant("WORKGROUP", f64::from(WORKGROUP));
    let per_row = Extent::Fixed((n_pieces as u32).div_ceil(WORKGROUP));
    let grid = [per_row, Extent::Rows { rows: op.rows, per_workgroup: 1 }, Extent::Fixed(1)];
    Some((kernel.dispatch(bindings, grid), inputs))
}

/// The grid of the kernel that multiplies `n_rows` rows of the matrix.
fn grid(op: &MatMul, form: Form, n_rows: u32) -> [Extent; 3] {
    match form {
        Form::VecF32 { shape, .. } | Form::VecInt8 { shape, .. } => {
            /// GRID_WIDTH of `wgsl/matmul/columns.wgsl`.
            const WIDTH: u32 = 1 << 15;
            let n = n_rows.div_ceil(shape.workgroup / shape.n_lanes);
            [Extent::Fixed(n.min(WIDTH)), Extent::Fixed(n.div_ceil(WIDTH)), Extent::Fixed(1)]
        }
        Form::Tiled { shape, .. } => {
            let [tile_rows, tile_tokens] = shape.tile();
            tiles(op, n_rows, tile_rows, tile_tokens)
        }
        Form::Coop { shape } => {
            let [tile_rows, tile_tokens] = shape.tile();
            tiles(op, n_rows, tile_rows, tile_tokens)
        }
    }
}

fn tiles(op: &MatMul, n_rows: u32, tile_rows: u32, tile_tokens: u32) -> [Extent; 3] {
    let tokens = Extent::Rows { rows: op.rows, per_workgroup: tile_tokens };
    [tokens, Extent::Fixed(n_rows.div_ceil(tile_rows)), Extent::Fixed(1)]
}

/// `TargetRows::epilogue` of `wgsl/matmul/epilogue.wgsl`.
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
