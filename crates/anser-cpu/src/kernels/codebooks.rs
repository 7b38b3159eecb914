//! Unpacks blocks of the types whose integers come from codebooks ([`CodebookBlock`]): eight elements a look-up.

use super::stretch::Lanes;
use super::unpack::{Format, Symmetric, SymmetricHalves, SymmetricSmall, SymmetricWideHalves, Unpacked};
use crate::arch::Narrow;
use anser_format::quant::{
    BlockIq1M, BlockIq1S, BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S, BlockIq3Xxs, CodebookBlock,
};

/// Unpacks a block. The scales are exact: the products of an F16 and a number below 32.
#[inline(always)]
fn unpack<S: Narrow, B: CodebookBlock<N_BYTES, SUBS>, const N_BYTES: usize, const SUBS: usize>(
    simd: S,
    block: &[u8; N_BYTES],
    out: &mut Unpacked<256, SUBS>,
) {
    let block = B::from_bytes(block);
    block.unsigned_quants(&mut out.quants);
    let unit = simd.f16(block.d().to_le_bytes()) * B::UNIT;
    for (scale, step) in out.scales.iter_mut().zip(block.steps()) {
        *scale = unit * f32::from(step);
    }
    out.set_symmetric();
}

macro_rules! formats {
    ($($format:ident = ($block:ident, $n_bytes:literal, $subs:literal, $kind:ident);)*) => {
        $(
            #[doc = concat!("[`", stringify!($block), "`]")]
            pub(crate) struct $format;

            impl Format<256, $n_bytes, $subs> for $format {
                type Kind = $kind;

                #[inline(always)]
                fn unpack<S: Narrow>(simd: S, block: &[u8; $n_bytes], out: &mut Unpacked<256, $subs>) {
                    unpack::<S, $block, $n_bytes, $subs>(simd, block, out);
                }
            }

            impl Lanes for $format {}
        )*
    };
}
formats! {
    Iq2Xxs = (BlockIq2Xxs, 66, 8, Symmetric);
    Iq2Xs = (BlockIq2Xs, 74, 16, SymmetricWideHalves);
    Iq2S = (BlockIq2S, 82, 16, SymmetricWideHalves);
    Iq3Xxs = (BlockIq3Xxs, 98, 8, Symmetric);
    Iq3S = (BlockIq3S, 110, 8, SymmetricSmall);
    Iq1S = (BlockIq1S, 50, 8, SymmetricSmall);
    Iq1M = (BlockIq1M, 56, 16, SymmetricHalves);
}
