//! The arithmetic of merging: changes of one tensor, in f32.

use super::names::Target;
use crate::error::ModelError;
use crate::source::squeeze;
use anser_format::quant::{dequantize, quantize};
use anser_format::{DType, ModelFile, Replacement, Tensor};
use std::sync::Arc;

/// The largest number that F16 holds.
pub(super) const MAX_F16: f32 = 65_504.0;

/// What an adapter does to a tensor W of the model.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// W + factor · up·down, of down `[R, in]` and up `[out, R]`.
    Pair { down: Tensor, up: Tensor, factor: f32 },
    /// W + factor · values.
    Add { values: Tensor, factor: f32 },
    /// W + scale · (unit · values − W).
    Blend { values: Tensor, scale: f32, unit: f32 },
    /// W\[o, i\] + factor · blocks\[i mod R, o\], of blocks `[R, out]`.
    Bone { blocks: Tensor, factor: f32 },
    /// W_ab + scale · (W_ab·D_b + unit·D_b) for every block `[R, R]` of W in row a and column b of blocks; blocks D are `[in/R, R, R]`.
    Bat { blocks: Tensor, scale: f32, unit: f32 },
}

/// A tensor of the model, and what adapters do to it.
#[derive(Debug, Clone)]
pub struct Merge {
    base: Arc<ModelFile>,
    /// Name in the model's file.
    tensor: String,
    is_transposed: bool,
    /// Whether it is a matrix, or several.
    is_matrix: bool,
    /// What is done, in this order, to a row of a stack of vectors, or to all of the tensor.
    changes: Vec<(Option<usize>, Change)>,
}

impl Merge {
    pub(super) fn new(base: &Arc<ModelFile>, target: &Target) -> Merge {
        Merge {
            base: base.clone(),
            tensor: target.tensor.clone(),
            is_transposed: target.is_transposed,
            is_matrix: target.row.is_none() && squeeze(&target.shape).len() > 1,
            changes: vec![],
        }
    }

    pub(super) fn push(&mut self, target: &Target, change: Change) {
        self.changes.push((target.row, change));
    }

    /// What is done, in this order, to a row of a stack of vectors, or to all of the tensor.
    pub(super) fn changes(&self) -> &[(Option<usize>, Change)] {
        &self.changes
    }

    /// The tensor's name in the model's file.
    pub fn tensor(&self) -> &str {
        &self.tensor
    }

    /// Computes the merged tensor. Its type keeps what the adapter adds: a matrix of F16 or BF16 becomes F16 (whose numbers are finer than
    /// BF16's), or F32 if a number is beyond F16's range; a quantized one becomes Q8_0, or F16 if its rows are no whole blocks of that; others
    /// and vectors become F32.
    ///
    /// # Errors
    /// If a merged number is not finite, or too large for Q8_0.
    pub fn compute(&self) -> Result<Replacement, ModelError> {
        let refuse = |problem: String| ModelError::Adapter {
            file: self.base.name().into(),
            problem: format!("{} with the adapter merged in: {problem}", self.tensor),
        };
        let tensor = self.base.tensor(&self.tensor);
        let tensor = if self.is_transposed { tensor.and_then(|tensor| tensor.transposed()) } else { tensor };
        // `Names::find` has found it, so this error tells of a fault of this crate.
        let tensor = tensor.ok_or_else(|| refuse("the tensor is not there".into()))?;
        let n_cols = tensor.shape().last().copied().unwrap_or(1);
        let mut w = numbers(&tensor);
        for (row, change) in &self.changes {
            let part = match row {
                Some(row) => &mut w[row * n_cols..(row + 1) * n_cols],
                None => &mut w[..],
            };
            apply(change, part, n_cols);
        }
        if let Some((i, x)) = w.iter().enumerate().find(|(_, x)| !x.is_finite()) {
            return Err(refuse(format!("element {i} is {x}; the adapter is damaged, or its scale too large")));
        }
        let fits_f16 = w.iter().all(|x| x.abs() <= MAX_F16);
        let dtype = match tensor.dtype() {
            _ if !self.is_matrix => DType::F32,
            DType::F32 => DType::F32,
            dtype if dtype.is_quantized() && n_cols.is_multiple_of(DType::Q8_0.block_len()) => DType::Q8_0,
            _ if fits_f16 => DType::F16,
            _ => DType::F32,
        };
        if self.is_transposed {
            w = exchanged(&w, tensor.shape());
        }
        let bytes = quantize(dtype, &w).map_err(|error| refuse(error.to_string()))?;
        Ok(Replacement { name: self.tensor.clone(), dtype, bytes })
    }
}

pub(super) fn numbers(tensor: &Tensor) -> Vec<f32> {
    let mut numbers = vec![0.0; tensor.shape().iter().product()];
    dequantize(tensor.dtype(), tensor.bytes(), &mut numbers);
    numbers
}

/// Changes `w`, rows of `n_in` numbers.
fn apply(change: &Change, w: &mut [f32], n_in: usize) {
    match change {
        Change::Pair { down, up, factor } => {
            let (down, up) = (numbers(down), numbers(up));
            let rank = down.len() / n_in;
            for (row, up) in w.chunks_exact_mut(n_in).zip(up.chunks_exact(rank)) {
                for (down, up) in down.chunks_exact(n_in).zip(up) {
                    let factor = factor * up;
                    row.iter_mut().zip(down).for_each(|(w, down)| *w += factor * down);
                }
            }
        }
        Change::Add { values, factor } => {
            w.iter_mut().zip(numbers(values)).for_each(|(w, value)| *w += factor * value);
        }
        Change::Blend { values, scale, unit } => {
            // A scale of 1 gives the values themselves.
            w.iter_mut().zip(numbers(values)).for_each(|(w, value)| *w = *w * (1.0 - scale) + scale * unit * value);
        }
        Change::Bone { blocks, factor } => {
            let (n_out, blocks) = (w.len() / n_in, numbers(blocks));
            let rank = blocks.len() / n_out;
            for (o, row) in w.chunks_exact_mut(n_in).enumerate() {
                row.iter_mut().enumerate().for_each(|(i, w)| *w += factor * blocks[i % rank * n_out + o]);
            }
        }
        Change::Bat { blocks, scale, unit } => {
            let rank = blocks.shape()[1];
            let blocks = numbers(blocks);
            for row in w.chunks_exact_mut(n_in).enumerate().map(|(o, row)| (o % rank, row)) {
                let (o, row) = row;
                for (part, d) in row.chunks_exact_mut(rank).zip(blocks.chunks_exact(rank * rank)) {
                    let product = |i: usize| part.iter().zip(d.chunks_exact(rank)).map(|(w, d)| w * d[i]).sum::<f32>();
                    let added: Vec<f32> = (0..rank).map(|i| product(i) + unit * d[o * rank + i]).collect();
                    part.iter_mut().zip(added).for_each(|(w, added)| *w += scale * added);
                }
            }
        }
    }
}

/// The elements of a tensor of `shape` with its last two dimensions exchanged.
fn exchanged(w: &[f32], shape: &[usize]) -> Vec<f32> {
    let &[.., n_rows, n_cols] = shape else { return w.to_vec() };
    let mut out = Vec::with_capacity(w.len());
    for matrix in w.chunks_exact(n_rows * n_cols) {
        out.extend((0..n_cols).flat_map(|col| (0..n_rows).map(move |row| matrix[row * n_cols + col])));
    }
    out
}
