//! IQ2_XS: 256 elements as 32 entries of a codebook of 512, in 16 sub-blocks of 16.

use half::f16;

use super::codebook::CodebookBlock;
use super::codebooks::{IQ2_MAGNITUDES, IQ2_XS, signed_evenly, unsigned_words};
use super::fields::{bytes_at, f16_at};
use super::iq2_s::steps_of_nibbles;
use crate::tensor::DType;

/// The codebook's entries as words of bytes.
static GRID: [u64; 512] = unsigned_words(&IQ2_XS, 2, &IQ2_MAGNITUDES);

/// 256 elements in 74 bytes: element i of sub-block s = i / 16 is `d` / 8 · step(s) · (±m), with magnitudes m of the codebook.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockIq2Xs {
    /// Scale.
    pub d: f16,
    /// Bytes 2g and 2g + 1, a little-endian number: bits 0..9 the entry of group g = i / 8, bits 9..16 the signs of its first
    /// seven elements (an even number of the eight is negative).
    pub qs: [u8; 64],
    /// (step(s) − 1) / 2: of s = 2b in the low nibble of byte b, of s = 2b + 1 in the high one.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIq2Xs>() == 74 && DType::IQ2_XS.block_n_bytes() == 74);

impl CodebookBlock<74, 16> for BlockIq2Xs {
    const UNIT: f32 = 0.125;
    const MAGNITUDES: &'static [u8] = &IQ2_MAGNITUDES;

    /// Bytes 0..2 `d`, 2..66 `qs`, 66..74 `scales`.
    #[inline(always)]
    fn from_bytes(block: &[u8; 74]) -> BlockIq2Xs {
        BlockIq2Xs { d: f16_at::<0, 74>(block), qs: bytes_at::<2, 64, 74>(block), scales: bytes_at::<66, 8, 74>(block) }
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
        for (out, code) in out.as_chunks_mut::<8>().0.iter_mut().zip(self.qs.as_chunks().0) {
            let code = u16::from_le_bytes(*code);
            *out = signed_evenly(GRID[usize::from(code & 511)], u32::from(code >> 9)).to_le_bytes();
        }
    }
}
