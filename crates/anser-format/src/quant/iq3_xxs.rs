//! IQ3_XXS: 256 elements as 64 entries of a codebook of 256, in 8 sub-blocks of 32.

use half::f16;

use super::codebook::CodebookBlock;
use super::codebooks::{IQ3_XXS, IQ3_XXS_MAGNITUDES, signed_evenly, unsigned_words};
use super::fields::{bytes_at, f16_at};
use crate::tensor::DType;

/// The codebook's entries as words of bytes, of which the low four count.
static GRID: [u64; 256] = unsigned_words(&IQ3_XXS, 3, &IQ3_XXS_MAGNITUDES);

/// 256 elements in 98 bytes: element i of sub-block s = i / 32 is `d` / 4 · step(s) · (±m), with magnitudes m of the codebook.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockIq3Xxs {
    /// Scale.
    pub d: f16,
    /// The entry of group g = i / 4: byte g.
    pub qs: [u8; 64],
    /// Bytes 4s..4s + 4, a little-endian number: bits 7e..7e + 7 the signs of the first seven of the eight elements from 32s + 8e
    /// on (an even number of them is negative), bits 28..32 (step(s) − 1) / 2.
    pub signs_steps: [u8; 32],
}

const _: () = assert!(size_of::<BlockIq3Xxs>() == 98 && DType::IQ3_XXS.block_n_bytes() == 98);

impl BlockIq3Xxs {
    /// The signs and the step of a sub-block.
    #[inline(always)]
    fn signs_step(&self, sub_block: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.signs_steps[4 * sub_block + i]))
    }
}

impl CodebookBlock<98, 8> for BlockIq3Xxs {
    const UNIT: f32 = 0.25;
    const MAGNITUDES: &'static [u8] = &IQ3_XXS_MAGNITUDES;

    /// Bytes 0..2 `d`, 2..66 `qs`, 66..98 `signs_steps`.
    #[inline(always)]
    fn from_bytes(block: &[u8; 98]) -> BlockIq3Xxs {
        BlockIq3Xxs {
            d: f16_at::<0, 98>(block),
            qs: bytes_at::<2, 64, 98>(block),
            signs_steps: bytes_at::<66, 32, 98>(block),
        }
    }

    #[inline(always)]
    fn d(&self) -> f16 {
        self.d
    }

    #[inline(always)]
    fn steps(&self) -> [u8; 8] {
        std::array::from_fn(|s| 2 * (self.signs_step(s) >> 28) as u8 + 1)
    }

    #[inline(always)]
    fn unsigned_quants(&self, out: &mut [u8; 256]) {
        for (s, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let signs = self.signs_step(s);
            for (e, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let entry = |i: usize| GRID[usize::from(self.qs[8 * s + 2 * e + i])];
                *out = signed_evenly(entry(0) | entry(1) << 32, signs >> (7 * e)).to_le_bytes();
            }
        }
    }
}
