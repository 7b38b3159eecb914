//! IQ1_S: 256 elements as 32 entries of a codebook of 2048, in 8 sub-blocks of 32.

use half::f16;

use super::codebook::CodebookBlock;
use super::codebooks::{IQ1, IQ1_EIGHTHS, unsigned_words};
use super::fields::{bytes_at, f16_at};
use crate::tensor::DType;

/// The codebook's entries as words of bytes.
static GRID: [u64; 2048] = unsigned_words(&IQ1, 2, &IQ1_EIGHTHS);

/// The magnitudes of 8g ± 1.
pub(super) const MAGNITUDES: [u8; 3] = [1, 7, 9];

/// 256 elements in 50 bytes: element i of sub-block s = i / 32 is `d` · step(s) · (g ± 1/8), with g = −1, 0 or 1 of the codebook.
/// Integers are eighths: 8g ± 1.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockIq1S {
    /// Scale.
    pub d: f16,
    /// Bits 0..8 of the entry of group g = i / 8: byte g.
    pub qs: [u8; 32],
    /// Bytes 2s and 2s + 1, a little-endian number: bits 3r..3r + 3 (r < 4) bits 8..11 of the entry of group 4s + r, bits 12..15
    /// (step(s) − 1) / 2; bit 15 is set if 1/8 is subtracted, not added, in sub-block s.
    pub qh: [u8; 16],
}

const _: () = assert!(size_of::<BlockIq1S>() == 50 && DType::IQ1_S.block_n_bytes() == 50);

/// An entry of the codebook in eighths plus 1, or less 1, with 128 added to every byte.
#[inline(always)]
pub(super) fn shifted_entry(entry: usize, is_less: bool) -> u64 {
    // Bytes are 120, 128 or 136, so that nothing is carried.
    const ONES: u64 = 0x0101_0101_0101_0101;
    if is_less { GRID[entry] - ONES } else { GRID[entry] + ONES }
}

impl BlockIq1S {
    /// High bits of entries, step and sign of the shift of a sub-block.
    #[inline(always)]
    fn high(&self, sub_block: usize) -> u16 {
        u16::from_le_bytes([self.qh[2 * sub_block], self.qh[2 * sub_block + 1]])
    }
}

impl CodebookBlock<50, 8> for BlockIq1S {
    const UNIT: f32 = 0.125;
    const MAGNITUDES: &'static [u8] = &MAGNITUDES;

    /// Bytes 0..2 `d`, 2..34 `qs`, 34..50 `qh`.
    #[inline(always)]
    fn from_bytes(block: &[u8; 50]) -> BlockIq1S {
        BlockIq1S { d: f16_at::<0, 50>(block), qs: bytes_at::<2, 32, 50>(block), qh: bytes_at::<34, 16, 50>(block) }
    }

    #[inline(always)]
    fn d(&self) -> f16 {
        self.d
    }

    #[inline(always)]
    fn steps(&self) -> [u8; 8] {
        std::array::from_fn(|s| 2 * (self.high(s) >> 12 & 7) as u8 + 1)
    }

    #[inline(always)]
    fn unsigned_quants(&self, out: &mut [u8; 256]) {
        for (g, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = self.high(g / 4);
            let entry = usize::from(self.qs[g]) | usize::from(high >> (g % 4 * 3) & 7) << 8;
            *out = shifted_entry(entry, high >> 15 == 1).to_le_bytes();
        }
    }
}
