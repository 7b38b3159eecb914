//! Q6_K: 256 6-bit quants in 16 sub-blocks of 16.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{Linear, ScaledBlock, Weighted, fit_scaled_block};
use crate::tensor::DType;

/// 256 elements in 210 bytes: element i of sub-block s = i / 16 is (`d` · `scales[s]`) · (q − 32), q = 0..=63.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockQ6K {
    /// Bits 0..4 of q: of element i = 128·h + 64·n + r (h < 2, n < 2, r < 64), nibble n (0 low, 1 high) of byte 64·h + r.
    pub ql: [u8; 128],
    /// Bits 4 and 5 of q: of element i = 128·h + 32·g + r (h < 2, g < 4, r < 32), bits 2g..2g + 2 of byte 32·h + r.
    pub qh: [u8; 64],
    /// Scale of each sub-block.
    pub scales: [i8; 16],
    /// Scale of the scales.
    pub d: f16,
}

const _: () = assert!(size_of::<BlockQ6K>() == 210 && DType::Q6_K.block_n_bytes() == 210);

impl BlockQ6K {
    /// Reads a block: bytes 0..128 `ql`, 128..192 `qh`, 192..208 `scales`, 208..210 `d`.
    #[inline]
    pub fn from_bytes(block: &[u8; 210]) -> BlockQ6K {
        BlockQ6K {
            ql: bytes_at::<0, 128, 210>(block),
            qh: bytes_at::<128, 64, 210>(block),
            scales: bytes_at::<192, 16, 210>(block).map(|byte| byte as i8),
            d: f16_at::<208, 210>(block),
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 210] {
        concat(&[&self.ql, &self.qh, &self.scales.map(|scale| scale as u8), &self.d.to_le_bytes()])
    }

    /// q − 32 of every element: −32..=31.
    pub fn quants(&self) -> [i8; 256] {
        std::array::from_fn(|i| {
            let low = self.ql[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
            let high = self.qh[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
            (low | high << 4) as i8 - 32
        })
    }

    /// The 256 values.
    pub fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let quants = self.quants();
        for (s, (out, quants)) in out.as_chunks_mut::<16>().0.iter_mut().zip(quants.as_chunks::<16>().0).enumerate() {
            let scale = d * f32::from(self.scales[s]);
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = scale * f32::from(quant);
            }
        }
    }

    /// A block of small squared error, in which each element counts by its weight; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 256], weights: Option<&[f32; 256]>) -> BlockQ6K {
        let block = Weighted::new(values, weights);
        let ScaledBlock { d, scales, levels } = fit_scaled_block::<Linear<32>, 16, 16>(block, 128.0);
        BlockQ6K::pack(d, scales, &levels)
    }

    /// Packs a block from its numbers, quants −32..=31; the inverse of `quants`.
    pub fn pack(d: f16, scales: [i8; 16], quants: &[i8; 256]) -> BlockQ6K {
        let q = quants.map(|quant| quant.wrapping_add(32) as u8);
        let ql = std::array::from_fn(|at| {
            let first = at / 64 * 128 + at % 64;
            q[first] & 15 | q[first + 64] << 4
        });
        let qh = std::array::from_fn(|at| {
            let first = at / 32 * 128 + at % 32;
            (0..4).fold(0, |byte, g| byte | (q[first + 32 * g] >> 4 & 3) << (2 * g))
        });
        BlockQ6K { ql, qh, scales, d }
    }
}
