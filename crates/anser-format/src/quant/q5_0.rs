//! Q5_0: 32 5-bit quants under one scale.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{Linear, Weighted, fit_scaled_single};
use crate::tensor::DType;

/// 32 elements in 22 bytes: element i = `d` · (q − 16), q = 0..=31.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// Scale.
    pub d: f16,
    /// Bit i of these 32 (little-endian): bit 4 of q of element i.
    pub qh: [u8; 4],
    /// Byte j: low nibble, bits 0..4 of q of element j; high nibble, those of element j + 16.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == 22 && DType::Q5_0.block_n_bytes() == 22);

impl BlockQ5_0 {
    /// Reads a block: bytes 0..2 `d`, 2..6 `qh`, 6..22 `qs`.
    #[inline]
    pub fn from_bytes(block: &[u8; 22]) -> BlockQ5_0 {
        BlockQ5_0 { d: f16_at::<0, 22>(block), qh: bytes_at::<2, 4, 22>(block), qs: bytes_at::<6, 16, 22>(block) }
    }

    /// q − 16 of every element: −16..=15.
    pub fn quants(&self) -> [i8; 32] {
        let high = u32::from_le_bytes(self.qh);
        std::array::from_fn(|i| {
            let q = self.qs[i % 16] >> (i / 16 * 4) & 15 | ((high >> i & 1) as u8) << 4;
            q as i8 - 16
        })
    }

    /// The 32 values.
    pub fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, quant) in out.iter_mut().zip(self.quants()) {
            *out = f32::from(quant) * d;
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 22] {
        concat(&[&self.d.to_le_bytes(), &self.qh, &self.qs])
    }

    /// A block of small squared error, in which each element counts by its weight; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 32], weights: Option<&[f32; 32]>) -> BlockQ5_0 {
        let (d, quants) = fit_scaled_single::<Linear<16>, 32>(Weighted::new(values, weights));
        BlockQ5_0::pack(d, &quants)
    }

    /// Packs a block from its numbers, quants −16..=15; the inverse of `quants`.
    pub fn pack(d: f16, quants: &[i8; 32]) -> BlockQ5_0 {
        let q = |i: usize| (quants[i] + 16) as u8;
        let high = (0..32).fold(0, |high, i| high | u32::from(q(i) >> 4 & 1) << i);
        BlockQ5_0 { d, qh: high.to_le_bytes(), qs: std::array::from_fn(|j| q(j) & 15 | (q(j + 16) & 15) << 4) }
    }
}
