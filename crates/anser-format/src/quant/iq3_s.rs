//! IQ3_S: 256 elements as 64 entries of a codebook of 512, in 8 sub-blocks of 32.

use half::f16;

use super::codebook::CodebookBlock;
use super::codebooks::{IQ3_S, IQ3_S_MAGNITUDES, signed, unsigned_words};
use super::fields::{bytes_at, f16_at};
use super::iq2_s::steps_of_nibbles;
use crate::tensor::DType;

/// The codebook's entries as words of bytes, of which the low four count.
static GRID: [u64; 512] = unsigned_words(&IQ3_S, 3, &IQ3_S_MAGNITUDES);

/// 256 elements in 110 bytes: element i of sub-block s = i / 32 is `d` · step(s) · (±m), with magnitudes m of the codebook.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockIq3S {
    /// Scale.
    pub d: f16,
    /// Bits 0..8 of the entry of group g = i / 4: byte g.
    pub qs: [u8; 64],
    /// Bit 8 of the entry of group g = 8s + r (r < 8): bit r of byte s.
    pub qh: [u8; 8],
    /// Of element i = 8e + r: bit r of byte e is set if it is negative.
    pub signs: [u8; 32],
    /// (step(s) − 1) / 2: of s = 2b in the low nibble of byte b, of s = 2b + 1 in the high one.
    pub scales: [u8; 4],
}

const _: () = assert!(size_of::<BlockIq3S>() == 110 && DType::IQ3_S.block_n_bytes() == 110);

impl CodebookBlock<110, 8> for BlockIq3S {
    const UNIT: f32 = 1.0;
    const MAGNITUDES: &'static [u8] = &IQ3_S_MAGNITUDES;

    /// Bytes 0..2 `d`, 2..66 `qs`, 66..74 `qh`, 74..106 `signs`, 106..110 `scales`.
    #[inline(always)]
    fn from_bytes(block: &[u8; 110]) -> BlockIq3S {
        BlockIq3S {
            d: f16_at::<0, 110>(block),
            qs: bytes_at::<2, 64, 110>(block),
            qh: bytes_at::<66, 8, 110>(block),
            signs: bytes_at::<74, 32, 110>(block),
            scales: bytes_at::<106, 4, 110>(block),
        }
    }

    #[inline(always)]
    fn d(&self) -> f16 {
        self.d
    }

    #[inline(always)]
    fn steps(&self) -> [u8; 8] {
        steps_of_nibbles(&self.scales)
    }

    #[inline(always)]
    fn unsigned_quants(&self, out: &mut [u8; 256]) {
        for (e, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = usize::from(self.qh[e / 4]) >> (e % 4 * 2);
            let entry = |i: usize| GRID[usize::from(self.qs[2 * e + i]) | (high >> i & 1) << 8];
            *out = signed(entry(0) | entry(1) << 32, self.signs[e]).to_le_bytes();
        }
    }
}
