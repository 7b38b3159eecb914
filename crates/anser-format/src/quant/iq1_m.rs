//! IQ1_M: 256 elements as 32 entries of IQ1_S's codebook, in 16 sub-blocks of 16.

use half::f16;

use super::codebook::CodebookBlock;
use super::fields::bytes_at;
use super::iq1_s::{MAGNITUDES, shifted_entry};
use crate::tensor::DType;

/// 256 elements in 56 bytes: element i of sub-block s = i / 16 is d · step(s) · (g ± 1/8), with g = −1, 0 or 1 of the codebook.
/// Integers are eighths: 8g ± 1.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockIq1M {
    /// Bits 0..8 of the entry of group g = i / 8: byte g.
    pub qs: [u8; 32],
    /// Of group g, in nibble g % 2 (0 low, 1 high) of byte g / 2: bits 0..3 bits 8..11 of its entry; bit 3 is set if 1/8 is
    /// subtracted, not added.
    pub qh: [u8; 16],
    /// Four little-endian numbers n_0 to n_3. (step(s) − 1) / 2 is in bits 3(s % 4)..3(s % 4) + 3 of n_(s / 4). Bits 12..16 of n_j are bits
    /// 4j..4j + 4 of the F16 scale d.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIq1M>() == 56 && DType::IQ1_M.block_n_bytes() == 56);

impl BlockIq1M {
    /// n_j of `scales`.
    #[inline(always)]
    fn number(&self, j: usize) -> u16 {
        u16::from_le_bytes([self.scales[2 * j], self.scales[2 * j + 1]])
    }
}

impl CodebookBlock<56, 16> for BlockIq1M {
    const UNIT: f32 = 0.125;
    const MAGNITUDES: &'static [u8] = &MAGNITUDES;

    /// Bytes 0..32 `qs`, 32..48 `qh`, 48..56 `scales`.
    #[inline(always)]
    fn from_bytes(block: &[u8; 56]) -> BlockIq1M {
        BlockIq1M {
            qs: bytes_at::<0, 32, 56>(block),
            qh: bytes_at::<32, 16, 56>(block),
            scales: bytes_at::<48, 8, 56>(block),
        }
    }

    #[inline(always)]
    fn d(&self) -> f16 {
        f16::from_bits((0..4).fold(0, |bits, j| bits | (self.number(j) >> 12) << (4 * j)))
    }

    #[inline(always)]
    fn steps(&self) -> [u8; 16] {
        std::array::from_fn(|s| 2 * (self.number(s / 4) >> (s % 4 * 3) & 7) as u8 + 1)
    }

    #[inline(always)]
    fn unsigned_quants(&self, out: &mut [u8; 256]) {
        for (g, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = self.qh[g / 2] >> (g % 2 * 4) & 15;
            let entry = usize::from(self.qs[g]) | usize::from(high & 7) << 8;
            *out = shifted_entry(entry, high >> 3 == 1).to_le_bytes();
        }
    }
}
