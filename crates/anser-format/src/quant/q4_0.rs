//! Q4_0: 32 4-bit quants under one scale.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{Linear, Weighted, fit_scaled_single};
use crate::tensor::DType;

/// 32 elements in 18 bytes: element i = `d` · (q − 8), q = 0..=15.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Scale.
    pub d: f16,
    /// Byte j: low nibble q of element j, high nibble q of element j + 16.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18 && DType::Q4_0.block_n_bytes() == 18);

impl BlockQ4_0 {
    /// Reads a block: bytes 0..2 `d`, 2..18 `qs`.
    #[inline]
    pub fn from_bytes(block: &[u8; 18]) -> BlockQ4_0 {
        BlockQ4_0 { d: f16_at::<0, 18>(block), qs: bytes_at::<2, 16, 18>(block) }
    }

    /// q − 8 of every element: −8..=7.
    pub fn quants(&self) -> [i8; 32] {
        std::array::from_fn(|i| (self.qs[i % 16] >> (i / 16 * 4) & 15) as i8 - 8)
    }

    /// The 32 values.
    pub fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, quant) in out.iter_mut().zip(self.quants()) {
            *out = f32::from(quant) * d;
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 18] {
        concat(&[&self.d.to_le_bytes(), &self.qs])
    }

    /// A block of small squared error, in which each element counts by its weight; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 32], weights: Option<&[f32; 32]>) -> BlockQ4_0 {
        let (d, quants) = fit_scaled_single::<Linear<8>, 32>(Weighted::new(values, weights));
        BlockQ4_0::pack(d, &quants)
    }

    /// Packs a block from its numbers, quants −8..=7; the inverse of `quants`.
    pub fn pack(d: f16, quants: &[i8; 32]) -> BlockQ4_0 {
        let q = |i: usize| (quants[i] + 8) as u8;
        BlockQ4_0 { d, qs: std::array::from_fn(|j| q(j) & 15 | q(j + 16) << 4) }
    }
}
