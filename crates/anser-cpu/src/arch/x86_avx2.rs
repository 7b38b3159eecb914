//! 256-bit vectors: AVX2 with FMA, alone or with either form of the VNNI dot product.
#![allow(unsafe_code)]

use super::x86_dots::{add_pairs, dot_avx_vnni, dot_avx2, dot_avx512_vnni, dot_signed_by_offset, pairs_signed};
use super::{Kernel, Lane, Narrow, Simd, interleave_from};
use std::arch::x86_64::*;

/// 16 bytes each from `address` and from four `stride`s behind it.
///
/// # Safety
/// The processor has AVX2, and both may be read.
#[inline(always)]
unsafe fn halves_at(address: *const u8, stride: usize) -> __m256i {
    // SAFETY: by the caller.
    unsafe {
        let (low, high) = (_mm_loadu_si128(address.cast()), _mm_loadu_si128(address.add(4 * stride).cast()));
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
    }
}

/// Transposes the 4 × 4 elements of every 128-bit lane.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn transposed(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> [__m256i; 4] {
    // SAFETY: by the caller.
    unsafe {
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

/// A type of 256-bit vectors: the features it needs beyond AVX2, FMA and F16C, and its dot product.
macro_rules! vectors_256 {
    ($(#[$doc:meta])* $name:ident, [$($feature:tt),*], $features:literal, $dot:ident, { $($dots:item)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(());

        impl $name {
            /// The proof, if the processor has the features.
            #[inline]
            pub(crate) fn detect() -> Option<$name> {
                let has = is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
                    $(&& is_x86_feature_detected!($feature))*;
                has.then_some($name(()))
            }
        }

        // SAFETY of every block below: `self` proves the instructions; loads and stores stay within slices whose length
        // is asserted in the same function.
        impl Simd for $name {
            const LANES: usize = 8;
            const TOKENS: usize = 4;
            $($dots)*
            type F32 = __m256;
            type I32 = __m256i;
            type Bytes = __m256i;
            type Narrow = $name;

            #[inline(always)]
            fn narrow(self) -> $name {
                self
            }

            #[inline]
            fn call<K: Kernel>(self, kernel: K) -> K::Output {
                #[inline(never)]
                #[target_feature(enable = $features)]
                fn with_features<K: Kernel>(simd: $name, kernel: K) -> K::Output {
                    kernel.run(simd)
                }
                // SAFETY: `self` proves that the processor has the features.
                unsafe { with_features(self, kernel) }
            }

            #[inline(always)]
            fn splat(self, x: f32) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_set1_ps(x) }
            }

            #[inline(always)]
            fn halves(self, low: f32, high: f32) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_blend_ps::<0xf0>(_mm256_set1_ps(low), _mm256_set1_ps(high)) }
            }

            #[inline(always)]
            fn load(self, x: &[f32]) -> __m256 {
                assert!(x.len() >= 8);
                // SAFETY: see above.
                unsafe { _mm256_loadu_ps(x.as_ptr()) }
            }

            #[inline(always)]
            fn load_f16(self, bytes: &[u8]) -> __m256 {
                assert!(bytes.len() >= 16);
                // SAFETY: see above.
                unsafe { _mm256_cvtph_ps(_mm_loadu_si128(bytes.as_ptr().cast())) }
            }

            #[inline(always)]
            fn load_bf16(self, bytes: &[u8]) -> __m256 {
                assert!(bytes.len() >= 16);
                // SAFETY: see above.
                unsafe {
                    let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(bytes.as_ptr().cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                }
            }

            #[inline(always)]
            fn load_f32(self, bytes: &[u8]) -> __m256 {
                assert!(bytes.len() >= 32);
                // SAFETY: see above.
                unsafe { _mm256_loadu_ps(bytes.as_ptr().cast()) }
            }

            #[inline(always)]
            fn store(self, x: __m256, out: &mut [f32]) {
                assert!(out.len() >= 8);
                // SAFETY: see above.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), x) }
            }

            #[inline(always)]
            fn add(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_add_ps(a, b) }
            }

            #[inline(always)]
            fn mul(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_mul_ps(a, b) }
            }

            #[inline(always)]
            fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_fmadd_ps(a, b, c) }
            }

            #[inline(always)]
            fn neg_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_fnmadd_ps(a, b, c) }
            }

            #[inline(always)]
            fn sum(self, x: __m256) -> f32 {
                // SAFETY: see above.
                unsafe {
                    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
                }
            }

            #[inline(always)]
            fn sum_4(self, [a, b, c, d]: [__m256; 4]) -> [f32; 4] {
                // SAFETY: see above.
                unsafe {
                    // Lanes a b a b …, then a b c d … in both 128 bits, each with a part of the sum.
                    let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                    let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                    let low = _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd);
                    let abcd = _mm256_add_ps(low, _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd));
                    let sums = _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps::<1>(abcd));
                    let mut out = [0.0; 4];
                    _mm_storeu_ps(out.as_mut_ptr(), sums);
                    out
                }
            }

            #[inline(always)]
            fn f16(self, bits: [u8; 2]) -> f32 {
                // SAFETY: see above.
                unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(u16::from_le_bytes(bits).into()))) }
            }

            #[inline(always)]
            fn splat_i32(self, x: i32) -> __m256i {
                // SAFETY: see above.
                unsafe { _mm256_set1_epi32(x) }
            }

            #[inline(always)]
            fn to_f32(self, x: __m256i) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_cvtepi32_ps(x) }
            }

            #[inline(always)]
            fn load_bytes(self, bytes: &[u8]) -> __m256i {
                assert!(bytes.len() >= 32);
                // SAFETY: see above.
                unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
            }

            #[inline(always)]
            fn store_bytes(self, x: __m256i, out: &mut [u8]) {
                assert!(out.len() >= 32);
                // SAFETY: see above.
                unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), x) }
            }

            #[inline(always)]
            fn splat_bytes(self, bytes: [u8; 4]) -> __m256i {
                self.splat_i32(i32::from_ne_bytes(bytes))
            }

            #[inline(always)]
            fn dot(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
                $dot(self, acc, w, a)
            }

            #[inline(always)]
            fn and(self, a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: see above.
                unsafe { _mm256_and_si256(a, b) }
            }

            #[inline(always)]
            fn or(self, a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: see above.
                unsafe { _mm256_or_si256(a, b) }
            }

            #[inline(always)]
            fn add_bytes(self, a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: see above.
                unsafe { _mm256_add_epi8(a, b) }
            }

            #[inline(always)]
            fn load_i32(self, x: &[i32]) -> __m256i {
                assert!(x.len() >= 8);
                // SAFETY: see above.
                unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
            }

            #[inline(always)]
            fn store_negated(self, x: __m256i, out: &mut [i32]) {
                assert!(out.len() >= 8);
                // SAFETY: see above.
                unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_sub_epi32(_mm256_setzero_si256(), x)) }
            }

            #[inline(always)]
            fn repeat_bytes(self, bytes: &[u8; 32]) -> __m256i {
                self.load_bytes(bytes)
            }

            #[inline(always)]
            fn repeat<const N: usize>(self, bytes: &[u8]) -> __m256i {
                assert!(N == 4 || N == 8);
                assert!(bytes.len() >= 32 / N);
                // SAFETY: see above; each reads 32 / N bytes.
                unsafe {
                    match N {
                        8 => _mm256_broadcastd_epi32(_mm_loadu_si32(bytes.as_ptr())),
                        _ => _mm256_broadcastq_epi64(_mm_loadl_epi64(bytes.as_ptr().cast())),
                    }
                }
            }

            #[inline(always)]
            fn splat_f16(self, bits: [u8; 2]) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_cvtph_ps(_mm_set1_epi16(i16::from_le_bytes(bits))) }
            }

            #[inline(always)]
            fn load_blocks(self, bytes: &[u8], _: usize) -> __m256i {
                self.load_bytes(bytes)
            }

            #[inline(always)]
            fn shr_words(self, x: __m256i, n: [u32; 2]) -> __m256i {
                // SAFETY: see above.
                unsafe { _mm256_srl_epi16(x, _mm_cvtsi32_si128(n[0] as i32)) }
            }

            #[inline(always)]
            fn shl_words(self, x: __m256i, n: [u32; 2]) -> __m256i {
                // SAFETY: see above.
                unsafe { _mm256_sll_epi16(x, _mm_cvtsi32_si128(n[0] as i32)) }
            }

            #[inline(always)]
            fn f16_blocks(self, bytes: &[u8], _: usize) -> __m256 {
                self.splat(self.f16([bytes[0], bytes[1]]))
            }

            #[inline(always)]
            fn repeat_8(self, x: &[f32]) -> __m256 {
                self.splat(x[0])
            }

            #[inline(always)]
            fn repeat_4(self, x: &[f32]) -> __m256 {
                self.halves(x[0], x[1])
            }

            #[inline(always)]
            fn columns(self, rows: &[u8], stride: usize) -> [__m256i; 4] {
                assert!(stride < 1 << 32 && rows.len() >= 7 * stride + 16);
                // SAFETY: see above; rows 0 to 7 have 16 bytes each, by the assertion.
                unsafe {
                    let at = rows.as_ptr();
                    transposed(
                        halves_at(at, stride),
                        halves_at(at.add(stride), stride),
                        halves_at(at.add(2 * stride), stride),
                        halves_at(at.add(3 * stride), stride),
                    )
                }
            }

            #[inline(always)]
            fn f16_of_rows(self, rows: &[u8], stride: usize) -> __m256 {
                let bits: [u16; 8] = std::array::from_fn(|r| u16::from_le_bytes([rows[r * stride], rows[r * stride + 1]]));
                // SAFETY: see above.
                unsafe { _mm256_cvtph_ps(_mm_loadu_si128(bits.as_ptr().cast())) }
            }

            #[inline(always)]
            fn bytes_to_f32(self, x: __m256i) -> [__m256; 4] {
                // SAFETY: see above.
                unsafe {
                    let byte = _mm256_set1_epi32(255);
                    let (second, third) = (_mm256_srli_epi32::<8>(x), _mm256_srli_epi32::<16>(x));
                    [
                        _mm256_cvtepi32_ps(_mm256_and_si256(x, byte)),
                        _mm256_cvtepi32_ps(_mm256_and_si256(second, byte)),
                        _mm256_cvtepi32_ps(_mm256_and_si256(third, byte)),
                        _mm256_cvtepi32_ps(_mm256_srli_epi32::<24>(x)),
                    ]
                }
            }

            #[inline(always)]
            fn prefetch(self, address: *const u8) {
                // SAFETY: a prefetch reads nothing that the program can see, and never faults.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
            }

            /// The same steps as for 512 bits, with two 128-bit lanes.
            #[inline(always)]
            fn interleave<T: Lane>(self, rows: &[T], stride: usize, out: &mut [T]) {
                let n = out.len() / 8;
                assert!(n == 0 || rows.len() >= 7 * stride + n);
                for i in (0..n / 4 * 4).step_by(4) {
                    // SAFETY: i + 4 <= n, so that every row has the 4 elements read, by the assertion, and `out` has
                    // the 32 written; a `Lane` is 4 bytes of any pattern.
                    unsafe {
                        let (at, stride): (*const u8, _) = (rows.as_ptr().add(i).cast(), 4 * stride);
                        let to: *mut __m256i = out.as_mut_ptr().add(8 * i).cast();
                        let [a, b, c, d] = transposed(
                            halves_at(at, stride),
                            halves_at(at.add(stride), stride),
                            halves_at(at.add(2 * stride), stride),
                            halves_at(at.add(3 * stride), stride),
                        );
                        _mm256_storeu_si256(to, a);
                        _mm256_storeu_si256(to.add(1), b);
                        _mm256_storeu_si256(to.add(2), c);
                        _mm256_storeu_si256(to.add(3), d);
                    }
                }
                interleave_from(n / 4 * 4, 8, rows, stride, out);
            }
        }

        impl Narrow for $name {
            #[inline(always)]
            fn shr<const N: i32>(self, x: __m256i) -> __m256i {
                // SAFETY: see above.
                unsafe { _mm256_and_si256(_mm256_srli_epi16::<N>(x), _mm256_set1_epi8((0xff_u8 >> N) as i8)) }
            }

            #[inline(always)]
            fn shl<const N: i32>(self, x: __m256i) -> __m256i {
                // SAFETY: see above.
                unsafe { _mm256_and_si256(_mm256_slli_epi16::<N>(x), _mm256_set1_epi8((0xff_u8 << N) as i8)) }
            }

            #[inline(always)]
            fn nibbles(self, bytes: &[u8; 16]) -> __m256i {
                // SAFETY: see above.
                unsafe {
                    let x = _mm_loadu_si128(bytes.as_ptr().cast());
                    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(x), x), _mm256_set1_epi8(15))
                }
            }

            #[inline(always)]
            fn bits_at_4(self, bits: [u8; 4]) -> __m256i {
                // SAFETY: see above.
                unsafe {
                    // Byte i / 8 in place i, of which the mask keeps bit i % 8.
                    let spread = _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
                    let masks = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
                    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(bits)), spread);
                    let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, masks), masks);
                    _mm256_and_si256(is_set, _mm256_set1_epi8(16))
                }
            }

            #[inline(always)]
            fn lookup(self, table: &[u8; 16], x: __m256i) -> __m256i {
                // SAFETY: see above.
                unsafe {
                    let table = _mm_loadu_si128(table.as_ptr().cast());
                    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), x)
                }
            }

            #[inline(always)]
            fn max_abs(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: see above.
                unsafe {
                    // The instruction returns its second operand if the first is not a number.
                    _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0), b), a)
                }
            }

            #[inline(always)]
            fn largest(self, x: __m256) -> f32 {
                // SAFETY: see above.
                unsafe {
                    let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
                }
            }

            #[inline(always)]
            fn round_to_i8(self, x: __m256, out: &mut [u8; 8]) {
                // SAFETY: see above; the 8 bytes are those of `out`.
                unsafe {
                    let wide = _mm256_cvtps_epi32(x);
                    let words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
                    _mm_storel_epi64(out.as_mut_ptr().cast(), _mm_packs_epi16(words, words));
                }
            }

            #[inline(always)]
            fn i32_lanes(self, x: __m256i) -> [i32; 8] {
                let mut out = [0; 8];
                // SAFETY: see above.
                unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), x) };
                out
            }

            #[inline(always)]
            fn u8_to_f32(self, bytes: &[u8; 8]) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes.as_ptr().cast()))) }
            }

            #[inline(always)]
            fn i8_to_f32(self, bytes: &[u8; 8]) -> __m256 {
                // SAFETY: see above.
                unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(bytes.as_ptr().cast()))) }
            }
        }
    };
}

vectors_256!(
    /// Proof of AVX2, FMA and F16C.
    Avx2, [], "avx2,fma,f16c", dot_avx2,
    {
        const SIGNED: bool = true;

        #[inline(always)]
        fn dot_signed(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
            add_pairs(self, acc, pairs_signed(self, w, a))
        }

        /// Four sums of two products of 31 · 127 stay below 2¹⁵.
        #[inline(always)]
        fn dot_small<const K: usize>(self, acc: __m256i, w: [__m256i; K], a: [__m256i; K]) -> __m256i {
            const { assert!(K <= 4) };
            // SAFETY: `self` proves AVX2.
            let mut sum = unsafe { _mm256_maddubs_epi16(w[0], a[0]) };
            for k in 1..K {
                // SAFETY: as above.
                sum = unsafe { _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[k], a[k])) };
            }
            add_pairs(self, acc, sum)
        }

        /// Four sums of two products of 32 · 127 stay below 2¹⁵.
        #[inline(always)]
        fn dot_small_signed<const K: usize>(self, acc: __m256i, w: [__m256i; K], a: [__m256i; K]) -> __m256i {
            const { assert!(K <= 4) };
            let mut sum = pairs_signed(self, w[0], a[0]);
            for k in 1..K {
                // SAFETY: `self` proves AVX2.
                sum = unsafe { _mm256_add_epi16(sum, pairs_signed(self, w[k], a[k])) };
            }
            add_pairs(self, acc, sum)
        }
    }
);
vectors_256!(
    /// Proof of AVX-VNNI besides: the dot product of client processors without AVX-512.
    AvxVnni, ["avxvnni"], "avx2,fma,f16c,avxvnni", dot_avx_vnni,
    {
        #[inline(always)]
        fn dot_signed(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
            dot_signed_by_offset(self, acc, w, a)
        }
    }
);
vectors_256!(
    /// Proof of AVX-512 VNNI and VL besides: the narrow vectors of a processor with AVX-512.
    Avx512Narrow,
    ["avx512f", "avx512vl", "avx512vnni"],
    "avx2,fma,f16c,avx512f,avx512vl,avx512vnni",
    dot_avx512_vnni,
    {
        #[inline(always)]
        fn dot_signed(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
            dot_signed_by_offset(self, acc, w, a)
        }
    }
);
