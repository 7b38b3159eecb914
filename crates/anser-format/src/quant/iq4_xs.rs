//! IQ4_XS: 256 4-bit indices into a table, in 8 sub-blocks of 32.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{ScaledBlock, Table, Weighted, fit_scaled_block, magnitudes};
use super::iq4_nl::{IQ4_VALUES, index};
use crate::tensor::DType;

/// 256 elements in 136 bytes: element i of sub-block s = i / 32 is (`d` · (scale(s) − 32)) · [`IQ4_VALUES`]\[q\],
/// q = 0..=15.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockIq4Xs {
    /// Scale of the scales.
    pub d: f16,
    /// High two bits of the scale of sub-block s: bits 2s..2s + 2 of this little-endian 16-bit number.
    pub scales_h: [u8; 2],
    /// Low four bits of the scale of sub-block s: byte s / 2, low nibble for even s, else high nibble.
    pub scales_l: [u8; 4],
    /// Element i = 32·s + 16·n + r (n < 2, r < 16): nibble n (0 low, 1 high) of byte 16·s + r.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockIq4Xs>() == 136 && DType::IQ4_XS.block_n_bytes() == 136);

impl BlockIq4Xs {
    /// Reads a block: bytes 0..2 `d`, 2..4 `scales_h`, 4..8 `scales_l`, 8..136 `qs`.
    #[inline]
    pub fn from_bytes(block: &[u8; 136]) -> BlockIq4Xs {
        BlockIq4Xs {
            d: f16_at::<0, 136>(block),
            scales_h: bytes_at::<2, 2, 136>(block),
            scales_l: bytes_at::<4, 4, 136>(block),
            qs: bytes_at::<8, 128, 136>(block),
        }
    }

    /// The scale of a sub-block less 32: −32..=31.
    ///
    /// # Panics
    /// If `sub_block` is not below 8.
    #[inline]
    pub fn scale(&self, sub_block: usize) -> i8 {
        let low = self.scales_l[sub_block / 2] >> (sub_block % 2 * 4) & 15;
        let high = (u16::from_le_bytes(self.scales_h) >> (sub_block * 2) & 3) as u8;
        (low | high << 4) as i8 - 32
    }

    /// The table's value for every element: −127..=113.
    pub fn quants(&self) -> [i8; 256] {
        std::array::from_fn(|i| IQ4_VALUES[usize::from(self.qs[i / 32 * 16 + i % 16] >> (i % 32 / 16 * 4) & 15)])
    }

    /// The 256 values.
    pub fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let quants = self.quants();
        for (s, (out, quants)) in out.as_chunks_mut::<32>().0.iter_mut().zip(quants.as_chunks::<32>().0).enumerate() {
            let scale = d * f32::from(self.scale(s));
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = scale * f32::from(quant);
            }
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 136] {
        concat(&[&self.d.to_le_bytes(), &self.scales_h, &self.scales_l, &self.qs])
    }

    /// A block of small squared error, in which each element counts by its weight, or by its magnitude; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 256], weights: Option<&[f32; 256]>) -> BlockIq4Xs {
        let usual = magnitudes(values, 2.0);
        let block = Weighted::or_usual(values, weights, &usual);
        let ScaledBlock { d, scales, levels } = fit_scaled_block::<Table, 8, 32>(block, 32.0);
        BlockIq4Xs::pack(d, &scales, &levels)
    }

    /// Packs a block from its numbers, scales −32..=31 and the table's values; the inverse of `scale` and `quants`.
    pub fn pack(d: f16, scales: &[i8; 8], levels: &[i8; 256]) -> BlockIq4Xs {
        let scale = |s: usize| (scales[s] + 32) as u8;
        let high = (0..8).fold(0, |high, s| high | u16::from(scale(s) >> 4 & 3) << (2 * s));
        let scales_l = std::array::from_fn(|at| scale(2 * at) & 15 | (scale(2 * at + 1) & 15) << 4);
        let qs = std::array::from_fn(|at| {
            let first = at / 16 * 32 + at % 16;
            index(levels[first]) | index(levels[first + 16]) << 4
        });
        BlockIq4Xs { d, scales_h: high.to_le_bytes(), scales_l, qs }
    }
}
