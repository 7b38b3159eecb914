//! Q2_K: 256 2-bit quants in 16 sub-blocks of 16.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{AffineBlock, Weighted, fit_affine_block};
use crate::tensor::DType;

/// 256 elements in 84 bytes: element i of sub-block s = i / 16 is (`d` · scale(s)) · q − `dmin` · min(s), q = 0..=3.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockQ2K {
    /// Byte s: low nibble the scale, high nibble the minimum of sub-block s.
    pub scales: [u8; 16],
    /// Element i = 128·h + 32·g + r (h < 2, g < 4, r < 32): bits 2g..2g + 2 of byte 32·h + r.
    pub qs: [u8; 64],
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
}

const _: () = assert!(size_of::<BlockQ2K>() == 84 && DType::Q2_K.block_n_bytes() == 84);

impl BlockQ2K {
    /// Reads a block: bytes 0..16 `scales`, 16..80 `qs`, 80..82 `d`, 82..84 `dmin`.
    #[inline]
    pub fn from_bytes(block: &[u8; 84]) -> BlockQ2K {
        BlockQ2K {
            scales: bytes_at::<0, 16, 84>(block),
            qs: bytes_at::<16, 64, 84>(block),
            d: f16_at::<80, 84>(block),
            dmin: f16_at::<82, 84>(block),
        }
    }

    /// Scale and minimum of a sub-block, 0..=15 each.
    ///
    /// # Panics
    /// If `sub_block` is not below 16.
    #[inline]
    pub fn scale_min(&self, sub_block: usize) -> (u8, u8) {
        (self.scales[sub_block] & 15, self.scales[sub_block] >> 4)
    }

    /// q of every element: 0..=3.
    pub fn quants(&self) -> [u8; 256] {
        std::array::from_fn(|i| self.qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3)
    }

    /// The 256 values.
    pub fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let quants = self.quants();
        for (s, (out, quants)) in out.as_chunks_mut::<16>().0.iter_mut().zip(quants.as_chunks::<16>().0).enumerate() {
            let (scale, min) = self.scale_min(s);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = scale * f32::from(quant) - min;
            }
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 84] {
        concat(&[&self.scales, &self.qs, &self.d.to_le_bytes(), &self.dmin.to_le_bytes()])
    }

    /// A block of small squared error, in which each element counts by its weight; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 256], weights: Option<&[f32; 256]>) -> BlockQ2K {
        let block = Weighted::new(values, weights);
        let AffineBlock { d, dmin, scales, mins, quants } = fit_affine_block::<16, 16, 3, 15>(block);
        BlockQ2K::pack(d, dmin, &scales, &mins, &quants)
    }

    /// Packs a block from its numbers; the inverse of `scale_min` and `quants`.
    ///
    /// Scales and minima are 0..=15 and quants 0..=3; higher bits are dropped.
    pub fn pack(d: f16, dmin: f16, scales: &[u8; 16], mins: &[u8; 16], quants: &[u8; 256]) -> BlockQ2K {
        let scales = std::array::from_fn(|s| scales[s] & 15 | mins[s] << 4);
        let qs = std::array::from_fn(|at| {
            let first = at / 32 * 128 + at % 32;
            (0..4).fold(0, |byte, g| byte | (quants[first + 32 * g] & 3) << (2 * g))
        });
        BlockQ2K { scales, qs, d, dmin }
    }
}
