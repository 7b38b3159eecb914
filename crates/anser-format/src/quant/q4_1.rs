//! Q4_1: 32 4-bit quants under one scale and one minimum.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{Weighted, fit_affine_single, magnitudes};
use crate::tensor::DType;

/// 32 elements in 20 bytes: element i = q · `d` + `m`, q = 0..=15.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: f16,
    /// Minimum.
    pub m: f16,
    /// Byte j: low nibble q of element j, high nibble q of element j + 16.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == 20 && DType::Q4_1.block_n_bytes() == 20);

impl BlockQ4_1 {
    /// Reads a block: bytes 0..2 `d`, 2..4 `m`, 4..20 `qs`.
    #[inline]
    pub fn from_bytes(block: &[u8; 20]) -> BlockQ4_1 {
        BlockQ4_1 { d: f16_at::<0, 20>(block), m: f16_at::<2, 20>(block), qs: bytes_at::<4, 16, 20>(block) }
    }

    /// q of every element: 0..=15.
    pub fn quants(&self) -> [u8; 32] {
        std::array::from_fn(|i| self.qs[i % 16] >> (i / 16 * 4) & 15)
    }

    /// The 32 values.
    pub fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (out, quant) in out.iter_mut().zip(self.quants()) {
            *out = f32::from(quant) * d + m;
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 20] {
        concat(&[&self.d.to_le_bytes(), &self.m.to_le_bytes(), &self.qs])
    }

    /// A block of small squared error, in which each element counts by its weight, or by its magnitude; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 32], weights: Option<&[f32; 32]>) -> BlockQ4_1 {
        let usual = magnitudes(values, 0.05);
        let block = Weighted::or_usual(values, weights, &usual).finely();
        let ([d, m], quants) = fit_affine_single(block, 15);
        BlockQ4_1::pack(d, m, &quants)
    }

    /// Packs a block from its numbers, quants 0..=15; the inverse of `quants`.
    pub fn pack(d: f16, m: f16, quants: &[u8; 32]) -> BlockQ4_1 {
        BlockQ4_1 { d, m, qs: std::array::from_fn(|j| quants[j] & 15 | quants[j + 16] << 4) }
    }
}
