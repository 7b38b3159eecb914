//! IQ2_XXS: 256 elements as 32 entries of a codebook of 256, in 8 sub-blocks of 32.

use half::f16;

use super::codebook::CodebookBlock;
use super::codebooks::{IQ2_MAGNITUDES, IQ2_XXS, signed_evenly, unsigned_words};
use super::fields::{bytes_at, f16_at};
use crate::tensor::DType;

/// The codebook's entries as words of bytes.
static GRID: [u64; 256] = unsigned_words(&IQ2_XXS, 2, &IQ2_MAGNITUDES);

/// 256 elements in 66 bytes: element i of sub-block s = i / 32 is `d` / 8 · step(s) · (±m), with magnitudes m of the codebook.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockIq2Xxs {
    /// Scale.
    pub d: f16,
    /// Bytes 8s..8s + 4: the entries of the four groups of eight elements of sub-block s. Bytes 8s + 4..8s + 8, a little-endian
    /// number: bits 7g..7g + 7 the signs of the first seven elements of group g (an even number of the eight is negative), bits
    /// 28..32 (step(s) − 1) / 2.
    pub qs: [u8; 64],
}

const _: () = assert!(size_of::<BlockIq2Xxs>() == 66 && DType::IQ2_XXS.block_n_bytes() == 66);

impl BlockIq2Xxs {
    /// The signs and the step of a sub-block.
    #[inline(always)]
    fn signs_step(&self, sub_block: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.qs[8 * sub_block + 4 + i]))
    }
}

impl CodebookBlock<66, 8> for BlockIq2Xxs {
    const UNIT: f32 = 0.125;
    const MAGNITUDES: &'static [u8] = &IQ2_MAGNITUDES;

    /// Bytes 0..2 `d`, 2..66 `qs`.
    #[inline(always)]
    fn from_bytes(block: &[u8; 66]) -> BlockIq2Xxs {
        BlockIq2Xxs { d: f16_at::<0, 66>(block), qs: bytes_at::<2, 64, 66>(block) }
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
            for (g, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let entry = usize::from(self.qs[8 * s + g]);
                *out = signed_evenly(GRID[entry], signs >> (7 * g)).to_le_bytes();
            }
        }
    }
}
