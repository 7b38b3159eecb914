//! Q5_1: 32 5-bit quants under one scale and one minimum.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{Weighted, fit_affine_single};
use crate::tensor::DType;

/// 32 elements in 24 bytes: element i = q · `d` + `m`, q = 0..=31.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// Scale.
    pub d: f16,
    /// Minimum.
    pub m: f16,
    /// Bit i of these 32 (little-endian): bit 4 of q of element i.
    pub qh: [u8; 4],
    /// Byte j: low nibble, bits 0..4 of q of element j; high nibble, those of element j + 16.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == 24 && DType::Q5_1.block_n_bytes() == 24);

impl BlockQ5_1 {
    /// Reads a block: bytes 0..2 `d`, 2..4 `m`, 4..8 `qh`, 8..24 `qs`.
    #[inline]
    pub fn from_bytes(block: &[u8; 24]) -> BlockQ5_1 {
        BlockQ5_1 {
            d: f16_at::<0, 24>(block),
            m: f16_at::<2, 24>(block),
            qh: bytes_at::<4, 4, 24>(block),
            qs: bytes_at::<8, 16, 24>(block),
        }
    }

    /// q of every element: 0..=31.
    pub fn quants(&self) -> [u8; 32] {
        let high = u32::from_le_bytes(self.qh);
        std::array::from_fn(|i| self.qs[i % 16] >> (i / 16 * 4) & 15 | ((high >> i & 1) as u8) << 4)
    }

    /// The 32 values.
    pub fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (out, quant) in out.iter_mut().zip(self.quants()) {
            *out = f32::from(quant) * d + m;
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 24] {
        concat(&[&self.d.to_le_bytes(), &self.m.to_le_bytes(), &self.qh, &self.qs])
    }

    /// A block of small squared error, in which each element counts by its weight; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 32], weights: Option<&[f32; 32]>) -> BlockQ5_1 {
        let block = Weighted::new(values, weights).finely();
        let ([d, m], quants) = fit_affine_single(block, 31);
        BlockQ5_1::pack(d, m, &quants)
    }

    /// Packs a block from its numbers, quants 0..=31; the inverse of `quants`.
    pub fn pack(d: f16, m: f16, quants: &[u8; 32]) -> BlockQ5_1 {
        let high = (0..32).fold(0, |high, i| high | u32::from(quants[i] >> 4 & 1) << i);
        let qs = std::array::from_fn(|j| quants[j] & 15 | (quants[j + 16] & 15) << 4);
        BlockQ5_1 { d, m, qh: high.to_le_bytes(), qs }
    }
}
