//! What kernels are chosen by: the device, and what steps that run the same dispatches have in common.

use crate::device::features::Features;
use anser_model::Rows;

/// A number of rows, rounded up to one that kernels are chosen by and buffers are made for.
///
/// A plan is lowered once for each pair of classes (of T and of O) that occurs; the exact T and O are parameters of the
/// dispatches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RowClass(pub(crate) u32);

impl RowClass {
    /// The class of `n_rows`: the next power of two, so that few kernels are compiled; 0 of none.
    pub(crate) fn of(n_rows: usize) -> RowClass {
        let class = n_rows.checked_next_power_of_two().and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX);
        RowClass(if n_rows == 0 { 0 } else { class })
    }
}

/// How far activations may be rounded inside a product.
///
/// Bounds are on the normalised squared error of a product, Σ(out − ref)² / Σ ref², against 64-bit arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Precision {
    /// f32 throughout: below 1e-11, as sums of up to 10⁴ terms each lose a few of 2⁻²⁴.
    Exact,
    /// 8 bits per activation in products of few tokens with quantized weights: below 1e-4, as each of 16 activations that share
    /// a scale loses up to 1/254 of the largest. In products of many tokens f16 operands where the device has cooperative
    /// matrices for them: below 1e-6, as each operand loses up to 2⁻¹¹ and the sums are f32.
    Int8,
}

/// A device, and a kind of steps on it. Steps of equal targets run the same dispatches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) features: Features,
    /// Classes of T and O.
    pub(crate) classes: [RowClass; 2],
    /// Whether every sequence of the step has one token.
    pub(crate) one_token_each: bool,
    /// How far products may round.
    pub(crate) precision: Precision,
    /// Whether kernels may compute several operations together.
    pub(crate) fuses: bool,
    /// Whether T and O are so small that mat-vec kernels compute all products. The results of each unit then have a buffer of
    /// their own.
    pub(crate) has_few_rows: bool,
    /// Most tokens of a product that mat-vec kernels compute.
    pub(crate) max_columns: u32,
    /// Whether products keep their inputs in registers (`kernels/matmul/held.rs`).
    pub(crate) holds: bool,
    /// Whether values that only products read are kept in f16.
    pub(crate) keeps_halves: bool,
    /// Whether most bytes of the plan's matrices are quantized.
    pub(crate) quantized: bool,
    /// Whether everything that a layer reads lies in one buffer of weights.
    pub(crate) whole_layers: bool,
}

impl Target {
    /// The same steps, with every operation computed by itself.
    pub(crate) fn unfused(self) -> Target {
        Target { fuses: false, keeps_halves: false, ..self }
    }

    /// The class of a number of rows of this kind.
    pub(crate) fn class(&self, rows: Rows) -> RowClass {
        match rows {
            Rows::Tokens => self.classes[0],
            Rows::Outputs => self.classes[1],
        }
    }
}
