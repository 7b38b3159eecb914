//! Q3_K: 256 3-bit quants in 16 sub-blocks of 16.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{Linear, ScaledBlock, Weighted, fit_scaled_block};
use crate::tensor::DType;

/// 256 elements in 110 bytes: element i of sub-block s = i / 16 is (`d` · (scale(s) − 32)) · (q − 4), q = 0..=7.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockQ3K {
    /// Bit 2 of q: of element i = 32·b + r (b < 8, r < 32), bit b of byte r.
    pub hmask: [u8; 32],
    /// Bits 0..2 of q: of element i = 128·h + 32·g + r (h < 2, g < 4, r < 32), bits 2g..2g + 2 of byte 32·h + r.
    pub qs: [u8; 64],
    /// 6-bit scales. Low four bits of sub-block s: byte s % 8, low nibble for s < 8, else high nibble. High two bits:
    /// byte 8 + s % 4, bits 2·(s / 4)..2·(s / 4) + 2.
    pub scales: [u8; 12],
    /// Scale of the scales.
    pub d: f16,
}

const _: () = assert!(size_of::<BlockQ3K>() == 110 && DType::Q3_K.block_n_bytes() == 110);

impl BlockQ3K {
    /// Reads a block: bytes 0..32 `hmask`, 32..96 `qs`, 96..108 `scales`, 108..110 `d`.
    #[inline]
    pub fn from_bytes(block: &[u8; 110]) -> BlockQ3K {
        BlockQ3K {
            hmask: bytes_at::<0, 32, 110>(block),
            qs: bytes_at::<32, 64, 110>(block),
            scales: bytes_at::<96, 12, 110>(block),
            d: f16_at::<108, 110>(block),
        }
    }

    /// The scale of a sub-block less 32: −32..=31.
    ///
    /// # Panics
    /// If `sub_block` is not below 16.
    #[inline]
    pub fn scale(&self, sub_block: usize) -> i8 {
        let low = self.scales[sub_block % 8] >> (sub_block / 8 * 4) & 15;
        let high = self.scales[8 + sub_block % 4] >> (sub_block / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    }

    /// q − 4 of every element: −4..=3.
    pub fn quants(&self) -> [i8; 256] {
        std::array::from_fn(|i| {
            let low = self.qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
            let high = self.hmask[i % 32] >> (i / 32) & 1;
            (low | high << 2) as i8 - 4
        })
    }

    /// The 256 values.
    pub fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let quants = self.quants();
        for (s, (out, quants)) in out.as_chunks_mut::<16>().0.iter_mut().zip(quants.as_chunks::<16>().0).enumerate() {
            let scale = d * f32::from(self.scale(s));
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = scale * f32::from(quant);
            }
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 110] {
        concat(&[&self.hmask, &self.qs, &self.scales, &self.d.to_le_bytes()])
    }

    /// A block of small squared error, in which each element counts by its weight; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 256], weights: Option<&[f32; 256]>) -> BlockQ3K {
        let block = Weighted::new(values, weights);
        let ScaledBlock { d, scales, levels } = fit_scaled_block::<Linear<4>, 16, 16>(block, 32.0);
        BlockQ3K::pack(d, &scales, &levels)
    }

    /// Packs a block from its numbers, scales −32..=31 and quants −4..=3; the inverse of `scale` and `quants`.
    pub fn pack(d: f16, scales: &[i8; 16], quants: &[i8; 256]) -> BlockQ3K {
        let q = |i: usize| (quants[i] + 4) as u8;
        let scale = |s: usize| (scales[s] + 32) as u8;
        let hmask = std::array::from_fn(|r| (0..8).fold(0, |byte, b| byte | (q(32 * b + r) >> 2 & 1) << b));
        let qs = std::array::from_fn(|at| {
            let first = at / 32 * 128 + at % 32;
            (0..4).fold(0, |byte, g| byte | (q(first + 32 * g) & 3) << (2 * g))
        });
        let packed = std::array::from_fn(|at| match at {
            0..8 => scale(at) & 15 | (scale(at + 8) & 15) << 4,
            at => (0..4).fold(0, |byte, g| byte | (scale(at - 8 + 4 * g) >> 4 & 3) << (2 * g)),
        });
        BlockQ3K { hmask, qs, scales: packed, d }
    }
}
