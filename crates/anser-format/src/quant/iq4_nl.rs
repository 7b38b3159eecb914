//! IQ4_NL: 32 4-bit indices into a table of unevenly spaced values.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use super::fit::{Table, Weighted, fit_scaled_single, magnitudes};
use crate::tensor::DType;

/// The values that the 4-bit indices of IQ4_NL and IQ4_XS stand for: denser around zero, where weights are.
pub const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 elements in 18 bytes: element i = `d` · [`IQ4_VALUES`]\[q\], q = 0..=15.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockIq4Nl {
    /// Scale.
    pub d: f16,
    /// Byte j: low nibble q of element j, high nibble q of element j + 16.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIq4Nl>() == 18 && DType::IQ4_NL.block_n_bytes() == 18);

impl BlockIq4Nl {
    /// Reads a block: bytes 0..2 `d`, 2..18 `qs`.
    #[inline]
    pub fn from_bytes(block: &[u8; 18]) -> BlockIq4Nl {
        BlockIq4Nl { d: f16_at::<0, 18>(block), qs: bytes_at::<2, 16, 18>(block) }
    }

    /// The table's value for every element: −127..=113.
    pub fn quants(&self) -> [i8; 32] {
        std::array::from_fn(|i| IQ4_VALUES[usize::from(self.qs[i % 16] >> (i / 16 * 4) & 15)])
    }

    /// The 32 values.
    pub fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, quant) in out.iter_mut().zip(self.quants()) {
            *out = d * f32::from(quant);
        }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 18] {
        concat(&[&self.d.to_le_bytes(), &self.qs])
    }

    /// A block of small squared error, in which each element counts by its weight, or by its magnitude; values must be finite and at most 65504.
    pub fn quantize(values: &[f32; 32], weights: Option<&[f32; 32]>) -> BlockIq4Nl {
        let usual = magnitudes(values, 2.0);
        let (d, levels) = fit_scaled_single::<Table, 32>(Weighted::or_usual(values, weights, &usual));
        BlockIq4Nl::pack(d, &levels)
    }

    /// Packs a block from its scale and the table's values; the inverse of `quants`.
    pub fn pack(d: f16, levels: &[i8; 32]) -> BlockIq4Nl {
        BlockIq4Nl { d, qs: std::array::from_fn(|j| index(levels[j]) | index(levels[j + 16]) << 4) }
    }
}

/// Where the table has its value nearest to `level`, the lower one of two.
pub(super) fn index(level: i8) -> u8 {
    const INDEX: [u8; 256] = {
        let mut index = [0; 256];
        let mut at = 0;
        while at < 256 {
            let level = at as i32 - 128;
            let mut best = 0;
            let mut i = 1;
            while i < IQ4_VALUES.len() {
                if (IQ4_VALUES[i] as i32 - level).abs() < (IQ4_VALUES[best] as i32 - level).abs() {
                    best = i;
                }
                i += 1;
            }
            index[at] = best as u8;
            at += 1;
        }
        index
    };
    INDEX[(i16::from(level) + 128) as usize]
}
