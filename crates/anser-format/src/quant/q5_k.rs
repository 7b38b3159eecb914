//! Q5_K: 256 5-bit quants in 8 sub-blocks of 32.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{AffineBlock, Weighted, fit_affine_block};
use super::k_scales::{pack_scales_mins, scale_min};
use crate::tensor::DType;

/// 256 elements in 176 bytes: element i of sub-block s = i / 32 is (`d` · scale(s)) · q − `dmin` · min(s), q = 0..=31.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockQ5K {
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
    /// 6-bit scales and minima, packed as [`scale_min`](super::scale_min()) describes.
    pub scales: [u8; 12],
    /// Bit 4 of q: of element i = 32·s + r (r < 32), bit s of byte r.
    pub qh: [u8; 32],
    /// Bits 0..4 of q: of element i = 64·g + 32·n + r (g < 4, n < 2, r < 32), nibble n (0 low, 1 high) of byte 32·g + r.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5K>() == 176 && DType::Q5_K.block_n_bytes() == 176);

impl BlockQ5K {
    /// Reads a block: bytes 0..2 `d`, 2..4 `dmin`, 4..16 `scales`, 16..48 `qh`, 48..176 `qs`.
    #[inline]
    pub fn from_bytes(block: &[u8; 176]) -> BlockQ5K {
        BlockQ5K {
            d: f16_at::<0, 176>(block),
            dmin: f16_at::<2, 176>(block),
            scales: bytes_at::<4, 12, 176>(block),
            qh: bytes_at::<16, 32, 176>(block),
            qs: bytes_at::<48, 128, 176>(block),
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 176] {
        concat(&[&self.d.to_le_bytes(), &self.dmin.to_le_bytes(), &self.scales, &self.qh, &self.qs])
    }

    /// Scale and minimum of a sub-block, 0..=63 each.
    ///
    /// # Panics
    /// If `sub_block` is not below 8.
    #[inline]
    pub fn scale_min(&self, sub_block: usize) -> (u8, u8) {
        scale_min(&self.scales, sub_block)
    }

    /// q of every element: 0..=31.
    pub fn quants(&self) -> [u8; 256] {
        std::array::from_fn(|i| {
            let low = self.qs[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
            low | (self.qh[i % 32] >> (i / 32) & 1) << 4
        })
    }

    /// The 256 values.
    pub fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let quants = self.quants();
        for (s, (out, quants)) in out.as_chunks_mut::<32>().0.iter_mut().zip(quants.as_chunks::<32>().0).enumerate() {
            let (scale, min) = self.scale_min(s);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = scale * f32::from(quant) - min;
            }
        }
    }

    /// A block of small squared error, in which each element counts by its weight; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 256], weights: Option<&[f32; 256]>) -> BlockQ5K {
        let block = Weighted::new(values, weights);
        let AffineBlock { d, dmin, scales, mins, quants } = fit_affine_block::<8, 32, 31, 63>(block);
        BlockQ5K::pack(d, dmin, &scales, &mins, &quants)
    }

    /// Packs a block from its numbers; the inverse of `scale_min` and `quants`.
    ///
    /// Scales and minima are 0..=63 and quants 0..=31; higher bits are dropped.
    pub fn pack(d: f16, dmin: f16, scales: &[u8; 8], mins: &[u8; 8], quants: &[u8; 256]) -> BlockQ5K {
        let qs = std::array::from_fn(|at| {
            let first = at / 32 * 64 + at % 32;
            quants[first] & 15 | quants[first + 32] << 4
        });
        let qh = std::array::from_fn(|r| (0..8).fold(0, |byte, s| byte | (quants[32 * s + r] >> 4 & 1) << s));
        BlockQ5K { d, dmin, scales: pack_scales_mins(scales, mins), qh, qs }
    }
}
