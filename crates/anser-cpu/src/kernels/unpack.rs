//! Unpacks blocks of quantized weights to unsigned bytes with f32 scales, the form that the integer kernels multiply.
//!
//! An element is scale·(q − 128) for symmetric types and scale·q − min for affine ones. The bit layouts are those of
//! [`anser_format::quant`]; the code here handles 32 bytes at a time.

use crate::arch::Narrow;
use anser_format::quant::{BlockIq4Xs, BlockQ3K, IQ4_VALUES};

/// An unpacked block: `LEN` elements, of which every `LEN / SUBS` share a scale.
pub(crate) struct Unpacked<const LEN: usize, const SUBS: usize> {
    pub(crate) quants: [u8; LEN],
    pub(crate) scales: [f32; SUBS],
    /// The minima of affine types; 128 · scale for symmetric ones.
    pub(crate) mins: [f32; SUBS],
}

/// A quantized type: `LEN` elements in `N_BYTES` bytes, with `SUBS` scales.
pub(crate) trait Format<const LEN: usize, const N_BYTES: usize, const SUBS: usize> {
    /// How its elements are multiplied.
    type Kind: Kind;

    /// Unpacks a block to memory that the caller uses again: clearing and moving a new block would take as long as
    /// unpacking it.
    fn unpack<S: Narrow>(simd: S, block: &[u8; N_BYTES], out: &mut Unpacked<LEN, SUBS>);
}

/// What the products of an unpacked block depend on. Formats of one kind share the machine code that multiplies them.
pub(crate) trait Kind {
    /// Whether elements are scale·q − min, rather than scale·(q − 128).
    const AFFINE: bool;
    /// Whether q is below 32 in an affine type, or q − 128 from −32 to 32 in a symmetric one.
    const SMALL: bool;
    /// Whether 16 elements share a scale, rather than 32.
    const HALVES: bool;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = ($affine:literal, $small:literal, $halves:literal);)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $kind;

            impl Kind for $kind {
                const AFFINE: bool = $affine;
                const SMALL: bool = $small;
                const HALVES: bool = $halves;
            }
        )*
    };
}
kinds! {
    /// scale·(q − 128), with any q.
    Symmetric = (false, false, false);
    /// scale·(q − 128), with small q − 128.
    SymmetricSmall = (false, true, false);
    /// The same with a scale for every 16 elements.
    SymmetricHalves = (false, true, true);
    /// scale·(q − 128) with any q and a scale for every 16 elements.
    SymmetricWideHalves = (false, false, true);
    /// scale·q − min, with small q.
    Affine = (true, true, false);
    /// The same with a scale and a minimum for every 16 elements.
    AffineHalves = (true, true, true);
}

/// Calls `$kernel!(Format type, LEN, N_BYTES, SUBS)` for a quantized dtype, `$other` for a float one.
macro_rules! with_format {
    ($dtype:expr, $kernel:ident, $other:expr) => {{
        use $crate::kernels::{codebooks, unpack as formats};
        match $dtype {
            anser_format::DType::F32 | anser_format::DType::F16 | anser_format::DType::BF16 => $other,
            anser_format::DType::Q8_0 => $kernel!(formats::Q8_0, 32, 34, 1),
            anser_format::DType::Q4_0 => $kernel!(formats::Q4_0, 32, 18, 1),
            anser_format::DType::Q4_1 => $kernel!(formats::Q4_1, 32, 20, 1),
            anser_format::DType::Q5_0 => $kernel!(formats::Q5_0, 32, 22, 1),
            anser_format::DType::Q5_1 => $kernel!(formats::Q5_1, 32, 24, 1),
            anser_format::DType::Q2_K => $kernel!(formats::Q2K, 256, 84, 16),
            anser_format::DType::Q3_K => $kernel!(formats::Q3K, 256, 110, 16),
            anser_format::DType::Q4_K => $kernel!(formats::Q4K, 256, 144, 8),
            anser_format::DType::Q5_K => $kernel!(formats::Q5K, 256, 176, 8),
            anser_format::DType::Q6_K => $kernel!(formats::Q6K, 256, 210, 16),
            anser_format::DType::IQ4_NL => $kernel!(formats::Iq4Nl, 32, 18, 1),
            anser_format::DType::IQ4_XS => $kernel!(formats::Iq4Xs, 256, 136, 8),
            anser_format::DType::IQ2_XXS => $kernel!(codebooks::Iq2Xxs, 256, 66, 8),
            anser_format::DType::IQ2_XS => $kernel!(codebooks::Iq2Xs, 256, 74, 16),
            anser_format::DType::IQ2_S => $kernel!(codebooks::Iq2S, 256, 82, 16),
            anser_format::DType::IQ3_XXS => $kernel!(codebooks::Iq3Xxs, 256, 98, 8),
            anser_format::DType::IQ3_S => $kernel!(codebooks::Iq3S, 256, 110, 8),
            anser_format::DType::IQ1_S => $kernel!(codebooks::Iq1S, 256, 50, 8),
            anser_format::DType::IQ1_M => $kernel!(codebooks::Iq1M, 256, 56, 16),
        }
    }};
}
pub(crate) use with_format;

/// The `N` bytes of a block from `start` on: a field at the position that the format's `from_bytes` has for it.
#[inline(always)]
fn field<const N: usize>(block: &[u8], start: usize) -> &[u8; N] {
    &block[start..start + N].as_chunks().0[0]
}

impl<const LEN: usize, const SUBS: usize> Unpacked<LEN, SUBS> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Unpacked { quants: [0; LEN], scales: [0.0; SUBS], mins: [0.0; SUBS] }
    }

    /// Sets the minima of a symmetric type, whose signed quants have been made unsigned by adding 128.
    #[inline(always)]
    pub(super) fn set_symmetric(&mut self) {
        for (min, scale) in self.mins.iter_mut().zip(&self.scales) {
            *min = 128.0 * scale;
        }
    }

    /// Sets a block that has one scale.
    #[inline(always)]
    fn set<S: Narrow>(&mut self, simd: S, quants: S::Bytes, scale: f32, min: f32) {
        simd.store_bytes(quants, &mut self.quants);
        (self.scales[0], self.mins[0]) = (scale, min);
    }
}

/// x + n, for every byte.
#[inline(always)]
fn plus<S: Narrow>(simd: S, x: S::Bytes, n: u8) -> S::Bytes {
    simd.add_bytes(x, simd.splat_bytes([n; 4]))
}

/// x & mask, for every byte.
#[inline(always)]
fn masked<S: Narrow>(simd: S, x: S::Bytes, mask: u8) -> S::Bytes {
    simd.and(x, simd.splat_bytes([mask; 4]))
}

/// [`BlockQ8_0`](anser_format::quant::BlockQ8_0)
#[derive(Clone)]
pub(crate) struct Q8_0;

impl Format<32, 34, 1> for Q8_0 {
    type Kind = Symmetric;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 34], out: &mut Unpacked<32, 1>) {
        let q = plus(simd, simd.load_bytes(field::<32>(block, 2)), 128);
        let d = simd.f16(*field(block, 0));
        out.set(simd, q, d, 128.0 * d);
    }
}

/// [`BlockQ4_0`](anser_format::quant::BlockQ4_0)
pub(crate) struct Q4_0;

impl Format<32, 18, 1> for Q4_0 {
    type Kind = SymmetricSmall;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 18], out: &mut Unpacked<32, 1>) {
        let q = plus(simd, simd.nibbles(field(block, 2)), 128 - 8);
        let d = simd.f16(*field(block, 0));
        out.set(simd, q, d, 128.0 * d);
    }
}

/// [`BlockQ4_1`](anser_format::quant::BlockQ4_1)
pub(crate) struct Q4_1;

impl Format<32, 20, 1> for Q4_1 {
    type Kind = Affine;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 20], out: &mut Unpacked<32, 1>) {
        let q = simd.nibbles(field(block, 4));
        out.set(simd, q, simd.f16(*field(block, 0)), -simd.f16(*field(block, 2)));
    }
}

/// [`BlockQ5_0`](anser_format::quant::BlockQ5_0)
pub(crate) struct Q5_0;

impl Format<32, 22, 1> for Q5_0 {
    type Kind = SymmetricSmall;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 22], out: &mut Unpacked<32, 1>) {
        let q = simd.or(simd.nibbles(field(block, 6)), simd.bits_at_4(*field(block, 2)));
        let d = simd.f16(*field(block, 0));
        out.set(simd, plus(simd, q, 128 - 16), d, 128.0 * d);
    }
}

/// [`BlockQ5_1`](anser_format::quant::BlockQ5_1)
pub(crate) struct Q5_1;

impl Format<32, 24, 1> for Q5_1 {
    type Kind = Affine;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 24], out: &mut Unpacked<32, 1>) {
        let q = simd.or(simd.nibbles(field(block, 8)), simd.bits_at_4(*field(block, 4)));
        out.set(simd, q, simd.f16(*field(block, 0)), -simd.f16(*field(block, 2)));
    }
}

/// [`IQ4_VALUES`] + 128.
const IQ4_UNSIGNED: [u8; 16] = {
    let mut values = [0; 16];
    let mut i = 0;
    while i < 16 {
        values[i] = IQ4_VALUES[i] as u8 ^ 0x80;
        i += 1;
    }
    values
};

/// [`BlockIq4Nl`](anser_format::quant::BlockIq4Nl)
pub(crate) struct Iq4Nl;

impl Format<32, 18, 1> for Iq4Nl {
    type Kind = Symmetric;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 18], out: &mut Unpacked<32, 1>) {
        let q = simd.lookup(&IQ4_UNSIGNED, simd.nibbles(field(block, 2)));
        let d = simd.f16(*field(block, 0));
        out.set(simd, q, d, 128.0 * d);
    }
}

/// [`BlockIq4Xs`]
pub(crate) struct Iq4Xs;

impl Format<256, 136, 8> for Iq4Xs {
    type Kind = Symmetric;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 136], out: &mut Unpacked<256, 8>) {
        let qs = field::<128>(block, 8).as_chunks::<16>().0;
        for (quants, qs) in out.quants.chunks_exact_mut(32).zip(qs) {
            simd.store_bytes(simd.lookup(&IQ4_UNSIGNED, simd.nibbles(qs)), quants);
        }
        let d = simd.f16(*field(block, 0));
        let block = BlockIq4Xs::from_bytes(block);
        for (s, scale) in out.scales.iter_mut().enumerate() {
            *scale = d * f32::from(block.scale(s));
        }
        out.set_symmetric();
    }
}

/// The 6-bit scales and minima of Q4_K and Q5_K times their F16 scales: [`scale_min`](anser_format::quant::scale_min())
/// for all eight at once, four bytes in a word.
#[inline(always)]
pub(super) fn scales_mins<S: Narrow>(simd: S, block: &[u8]) -> [S::F32; 2] {
    let packed = field::<12>(block, 4);
    let a = u32::from_le_bytes(*field(packed, 0));
    let b = u32::from_le_bytes(*field(packed, 4));
    let c = u32::from_le_bytes(*field(packed, 8));
    let scales = [a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4];
    let mins = [b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4];
    let (d, dmin) = (simd.splat(simd.f16(*field(block, 0))), simd.splat(simd.f16(*field(block, 2))));
    [simd.mul(simd.u8_to_f32(&bytes_of(scales)), d), simd.mul(simd.u8_to_f32(&bytes_of(mins)), dmin)]
}

/// [`scales_mins`] written to arrays.
#[inline(always)]
fn set_scales_mins<S: Narrow>(simd: S, block: &[u8], out: &mut Unpacked<256, 8>) {
    let [scales, mins] = scales_mins(simd, block);
    simd.store(scales, &mut out.scales);
    simd.store(mins, &mut out.mins);
}

/// The bytes of two words.
#[inline(always)]
fn bytes_of(words: [u32; 2]) -> [u8; 8] {
    (u64::from(words[0]) | u64::from(words[1]) << 32).to_le_bytes()
}

/// [`BlockQ4K`](anser_format::quant::BlockQ4K)
#[derive(Clone)]
pub(crate) struct Q4K;

impl Format<256, 144, 8> for Q4K {
    type Kind = Affine;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 144], out: &mut Unpacked<256, 8>) {
        set_scales_mins(simd, block, out);
        let qs = field::<128>(block, 16).chunks_exact(32);
        for (quants, qs) in out.quants.chunks_exact_mut(64).zip(qs) {
            let qs = simd.load_bytes(qs);
            simd.store_bytes(masked(simd, qs, 15), quants);
            simd.store_bytes(simd.shr::<4>(qs), &mut quants[32..]);
        }
    }
}

/// [`BlockQ5K`](anser_format::quant::BlockQ5K)
#[derive(Clone)]
pub(crate) struct Q5K;

impl Format<256, 176, 8> for Q5K {
    type Kind = Affine;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 176], out: &mut Unpacked<256, 8>) {
        set_scales_mins(simd, block, out);
        // Bit 0 and 1 of every byte: the fifth bits of the next two sub-blocks.
        let mut high = simd.load_bytes(field::<32>(block, 16));
        let qs = field::<128>(block, 48).chunks_exact(32);
        for (quants, qs) in out.quants.chunks_exact_mut(64).zip(qs) {
            let qs = simd.load_bytes(qs);
            let low = simd.or(masked(simd, qs, 15), simd.shl::<4>(masked(simd, high, 1)));
            simd.store_bytes(low, quants);
            let upper = simd.or(simd.shr::<4>(qs), simd.shl::<3>(masked(simd, high, 2)));
            simd.store_bytes(upper, &mut quants[32..]);
            high = simd.shr::<2>(high);
        }
    }
}

/// [`BlockQ6K`](anser_format::quant::BlockQ6K)
#[derive(Clone)]
pub(crate) struct Q6K;

impl Format<256, 210, 16> for Q6K {
    type Kind = SymmetricHalves;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 210], out: &mut Unpacked<256, 16>) {
        let d = simd.splat(simd.f16(*field(block, 208)));
        simd.store(simd.mul(simd.i8_to_f32(field(block, 192)), d), &mut out.scales);
        simd.store(simd.mul(simd.i8_to_f32(field(block, 200)), d), &mut out.scales[8..]);
        let halves = field::<128>(block, 0).chunks_exact(64).zip(field::<64>(block, 128).chunks_exact(32));
        for (quants, (ql, qh)) in out.quants.chunks_exact_mut(128).zip(halves) {
            let (a, b, high) = (simd.load_bytes(ql), simd.load_bytes(&ql[32..]), simd.load_bytes(qh));
            let q = simd.or(masked(simd, a, 15), simd.shl::<4>(masked(simd, high, 3)));
            simd.store_bytes(plus(simd, q, 128 - 32), quants);
            let q = simd.or(masked(simd, b, 15), simd.shl::<2>(masked(simd, high, 12)));
            simd.store_bytes(plus(simd, q, 128 - 32), &mut quants[32..]);
            let q = simd.or(simd.shr::<4>(a), masked(simd, high, 48));
            simd.store_bytes(plus(simd, q, 128 - 32), &mut quants[64..]);
            let q = simd.or(simd.shr::<4>(b), simd.shr::<2>(masked(simd, high, 192)));
            simd.store_bytes(plus(simd, q, 128 - 32), &mut quants[96..]);
        }
        out.set_symmetric();
    }
}

/// [`BlockQ3K`]
pub(crate) struct Q3K;

impl Format<256, 110, 16> for Q3K {
    type Kind = SymmetricHalves;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 110], out: &mut Unpacked<256, 16>) {
        let d = simd.f16(*field(block, 108));
        let fields = BlockQ3K::from_bytes(block);
        for (s, scale) in out.scales.iter_mut().enumerate() {
            *scale = d * f32::from(fields.scale(s));
        }
        // The lowest bits of every byte are those of the next sub-blocks.
        let mut high = simd.load_bytes(field::<32>(block, 0));
        for (quants, qs) in out.quants.chunks_exact_mut(128).zip(field::<64>(block, 32).chunks_exact(32)) {
            let mut low = simd.load_bytes(qs);
            for quants in quants.chunks_exact_mut(32) {
                let q = simd.or(masked(simd, low, 3), simd.shl::<2>(masked(simd, high, 1)));
                simd.store_bytes(plus(simd, q, 128 - 4), quants);
                (low, high) = (simd.shr::<2>(low), simd.shr::<1>(high));
            }
        }
        out.set_symmetric();
    }
}

/// [`BlockQ2K`](anser_format::quant::BlockQ2K)
pub(crate) struct Q2K;

impl Format<256, 84, 16> for Q2K {
    type Kind = AffineHalves;

    #[inline(always)]
    fn unpack<S: Narrow>(simd: S, block: &[u8; 84], out: &mut Unpacked<256, 16>) {
        let (d, dmin) = (simd.f16(*field(block, 80)), simd.f16(*field(block, 82)));
        for (s, &byte) in field::<16>(block, 0).iter().enumerate() {
            out.scales[s] = d * f32::from(byte & 15);
            out.mins[s] = dmin * f32::from(byte >> 4);
        }
        for (quants, qs) in out.quants.chunks_exact_mut(128).zip(field::<64>(block, 16).chunks_exact(32)) {
            let mut low = simd.load_bytes(qs);
            for quants in quants.chunks_exact_mut(32) {
                simd.store_bytes(masked(simd, low, 3), quants);
                low = simd.shr::<2>(low);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::portable_for_tests;
    use anser_format::DType;
    use anser_format::quant::dequantize;

    fn check<F: Format<LEN, N_BYTES, SUBS>, const LEN: usize, const N_BYTES: usize, const SUBS: usize>(dtype: DType) {
        assert_eq!((dtype.block_len(), dtype.block_n_bytes()), (LEN, N_BYTES));
        for seed in 0..20u32 {
            let mut block = [0; N_BYTES];
            let mut random = seed;
            for byte in &mut block {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (random >> 24) as u8;
            }
            let mut expected = [0.0; LEN];
            dequantize(dtype, &block, &mut expected);
            let mut u = Unpacked::new();
            F::unpack(portable_for_tests(), &block, &mut u);
            if expected.iter().any(|x| !x.is_finite()) {
                continue;
            }
            for (i, &e) in expected.iter().enumerate() {
                let s = i / (LEN / SUBS);
                let actual = u.scales[s] * f32::from(u.quants[i]) - u.mins[s];
                let bound = 1e-6 * (u.scales[s] * 256.0).abs().max(u.mins[s].abs());
                assert!((actual - e).abs() <= bound, "{dtype} element {i}: {actual}, expected {e}");
                assert!(F::Kind::AFFINE || u.mins[s] == 128.0 * u.scales[s]);
                let is_small = if F::Kind::AFFINE { u.quants[i] < 32 } else { u.quants[i].abs_diff(128) <= 32 };
                assert_eq!(LEN / SUBS, if F::Kind::HALVES { 16 } else { 32 });
                assert!(is_small || !F::Kind::SMALL, "{dtype} element {i}: {}", u.quants[i]);
            }
        }
    }

    #[test]
    fn unpacked_blocks_are_the_dequantized_ones() {
        for dtype in DType::ALL {
            macro_rules! check {
                ($format:ty, $len:literal, $n_bytes:literal, $subs:literal) => {
                    check::<$format, $len, $n_bytes, $subs>(dtype)
                };
            }
            with_format!(dtype, check, ());
        }
    }
}
