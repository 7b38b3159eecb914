//! IQ2_S: 256 elements as 32 entries of a codebook of 1024, in 16 sub-blocks of 16.

use half::f16;

use super::codebook::CodebookBlock;
use super::codebooks::{IQ2_MAGNITUDES, IQ2_S, signed, unsigned_words};
use super::fields::{bytes_at, f16_at};
use crate::tensor::DType;

/// The codebook's entries as words of bytes.
static GRID: [u64; 1024] = unsigned_words(&IQ2_S, 2, &IQ2_MAGNITUDES);

/// 256 elements in 82 bytes: element i of sub-block s = i / 16 is `d` / 8 · step(s) · (±m), with magnitudes m of the codebook.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockIq2S {
    /// Scale.
    pub d: f16,
    /// Bits 0..8 of the entry of group g = i / 8: byte g.
    pub qs: [u8; 32],
    /// Of element i = 8g + r: bit r of byte g is set if it is negative.
    pub signs: [u8; 32],
    /// Bits 8 and 9 of the entry of group g = 4b + r (r < 4): bits 2r..2r + 2 of byte b.
    pub qh: [u8; 8],
    /// (step(s) − 1) / 2: of s = 2b in the low nibble of byte b, of s = 2b + 1 in the high one.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIq2S>() == 82 && DType::IQ2_S.block_n_bytes() == 82);

/// The steps of 16 sub-blocks: 2n + 1 for each nibble n, the low one of a byte first.
#[inline(always)]
pub(super) fn steps_of_nibbles<const N: usize, const SUBS: usize>(nibbles: &[u8; N]) -> [u8; SUBS] {
    const { assert!(SUBS == 2 * N) };
    std::array::from_fn(|s| 2 * (nibbles[s / 2] >> (s % 2 * 4) & 15) + 1)
}

impl CodebookBlock<82, 16> for BlockIq2S {
    const UNIT: f32 = 0.125;
    const MAGNITUDES: &'static [u8] = &IQ2_MAGNITUDES;

    /// Bytes 0..2 `d`, 2..34 `qs`, 34..66 `signs`, 66..74 `qh`, 74..82 `scales`.
    #[inline(always)]
    fn from_bytes(block: &[u8; 82]) -> BlockIq2S {
        BlockIq2S {
            d: f16_at::<0, 82>(block),
            qs: bytes_at::<2, 32, 82>(block),
            signs: bytes_at::<34, 32, 82>(block),
            qh: bytes_at::<66, 8, 82>(block),
            scales: bytes_at::<74, 8, 82>(block),
        }
    }

    #[inline(always)]
    fn d(&self) -> f16 {
        self.d
    }

    #[inline(always)]
    fn steps(&self) -> [u8; 16] {
        steps_of_nibbles(&self.scales)
    }

    #[inline(always)]
    fn unsigned_quants(&self, out: &mut [u8; 256]) {
        for (g, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = self.qh[g / 4] >> (g % 4 * 2) & 3;
            let entry = usize::from(self.qs[g]) | usize::from(high) << 8;
            *out = signed(GRID[entry], self.signs[g]).to_le_bytes();
        }
    }
}
