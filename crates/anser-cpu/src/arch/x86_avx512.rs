//! 512-bit vectors: AVX-512 with VNNI, whose 8-bit dot product sums four products per lane in one instruction.
#![allow(unsafe_code)]

use super::x86_avx2::Avx512Narrow;
use super::{Kernel, Lane, Simd, interleave_from};
use std::arch::x86_64::*;

/// Proof that the processor has the features of [`Avx512::detect`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512(Avx512Narrow);

impl Avx512 {
    /// The proof, if the processor has the features.
    #[inline]
    pub(crate) fn detect() -> Option<Avx512> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        Avx512Narrow::detect().filter(|_| has).map(Avx512)
    }
}

// SAFETY of every block below: `self` proves the instructions; loads and stores stay within slices whose length is
// asserted in the same function.
impl Simd for Avx512 {
    const LANES: usize = 16;
    const TOKENS: usize = 16;
    type F32 = __m512;
    type I32 = __m512i;
    type Bytes = __m512i;
    type Narrow = Avx512Narrow;

    #[inline(always)]
    fn narrow(self) -> Avx512Narrow {
        self.0
    }

    #[inline]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn with_features<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves that the processor has the features.
        unsafe { with_features(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn halves(self, low: f32, high: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(low), _mm512_set1_ps(high)) }
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        assert!(x.len() >= 16);
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> __m512 {
        assert!(bytes.len() >= 32);
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> __m512 {
        assert!(bytes.len() >= 32);
        // SAFETY: see above.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(bytes.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> __m512 {
        assert!(bytes.len() >= 64);
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, x: __m512, out: &mut [f32]) {
        assert!(out.len() >= 16);
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_add_ps(x) }
    }

    #[inline(always)]
    fn sum_4(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: see above.
        unsafe {
            // Lanes a b a b …, then a b c d … in every 128 bits, each with a part of the sum.
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let low = _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd);
            let abcd = _mm512_add_ps(low, _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd));
            let half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps::<1>(abcd));
            let sums = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        }
    }

    #[inline(always)]
    fn f16(self, bits: [u8; 2]) -> f32 {
        self.0.f16(bits)
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn to_f32(self, x: __m512i) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8]) -> __m512i {
        assert!(bytes.len() >= 64);
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_bytes(self, x: __m512i, out: &mut [u8]) {
        assert!(out.len() >= 64);
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn splat_bytes(self, bytes: [u8; 4]) -> __m512i {
        self.splat_i32(i32::from_ne_bytes(bytes))
    }

    #[inline(always)]
    fn dot(self, acc: __m512i, w: __m512i, a: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_dpbusd_epi32(acc, w, a) }
    }

    #[inline(always)]
    fn dot_signed(self, acc: __m512i, w: __m512i, a: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe {
            let offset = _mm512_set1_epi8(-128);
            let of_offset = _mm512_dpbusd_epi32(_mm512_setzero_si512(), offset, a);
            _mm512_sub_epi32(_mm512_dpbusd_epi32(acc, _mm512_xor_si512(w, offset), a), of_offset)
        }
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_and_si512(a, b) }
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn add_bytes(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_add_epi8(a, b) }
    }

    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> __m512i {
        assert!(x.len() >= 16);
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_negated(self, x: __m512i, out: &mut [i32]) {
        assert!(out.len() >= 16);
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_sub_epi32(_mm512_setzero_si512(), x)) }
    }

    #[inline(always)]
    fn repeat_bytes(self, bytes: &[u8; 32]) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_broadcast_i64x4(_mm256_loadu_si256(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn repeat<const N: usize>(self, bytes: &[u8]) -> __m512i {
        assert!(N == 4 || N == 8 || N == 16);
        assert!(bytes.len() >= 64 / N);
        // SAFETY: see above; each reads 64 / N bytes.
        unsafe {
            match N {
                16 => _mm512_broadcastd_epi32(_mm_loadu_si32(bytes.as_ptr())),
                8 => _mm512_broadcastq_epi64(_mm_loadl_epi64(bytes.as_ptr().cast())),
                _ => _mm512_broadcast_i32x4(_mm_loadu_si128(bytes.as_ptr().cast())),
            }
        }
    }

    #[inline(always)]
    fn splat_f16(self, bits: [u8; 2]) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_set1_epi16(i16::from_le_bytes(bits))) }
    }

    #[inline(always)]
    fn load_blocks(self, bytes: &[u8], stride: usize) -> __m512i {
        let high = &bytes[stride..];
        assert!(bytes.len() >= 32 && high.len() >= 32);
        // SAFETY: see above.
        unsafe {
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(bytes.as_ptr().cast()));
            _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.as_ptr().cast()))
        }
    }

    #[inline(always)]
    fn shr_words(self, x: __m512i, n: [u32; 2]) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_srlv_epi16(x, words(n)) }
    }

    #[inline(always)]
    fn shl_words(self, x: __m512i, n: [u32; 2]) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_sllv_epi16(x, words(n)) }
    }

    #[inline(always)]
    fn f16_blocks(self, bytes: &[u8], stride: usize) -> __m512 {
        let bits = |i: usize| i16::from_le_bytes([bytes[i], bytes[i + 1]]);
        // SAFETY: see above.
        unsafe {
            let (low, high) = (_mm_set1_epi16(bits(0)), _mm_set1_epi16(bits(stride)));
            _mm512_cvtph_ps(_mm256_set_m128i(high, low))
        }
    }

    #[inline(always)]
    fn repeat_8(self, x: &[f32]) -> __m512 {
        assert!(x.len() >= 2);
        // SAFETY: see above.
        unsafe {
            let pair = _mm512_castpd_ps(_mm512_set1_pd(x.as_ptr().cast::<f64>().read_unaligned()));
            _mm512_permutexvar_ps(_mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0), pair)
        }
    }

    #[inline(always)]
    fn repeat_4(self, x: &[f32]) -> __m512 {
        assert!(x.len() >= 4);
        // SAFETY: see above.
        unsafe {
            let four = _mm512_broadcast_f32x4(_mm_loadu_ps(x.as_ptr()));
            _mm512_permutevar_ps(four, _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0))
        }
    }

    #[inline(always)]
    fn columns(self, rows: &[u8], stride: usize) -> [__m512i; 4] {
        assert!(stride < 1 << 32 && rows.len() >= 15 * stride + 16);
        // SAFETY: see above; rows 0 to 15 have 16 bytes each, by the assertion.
        unsafe {
            let at = |row: usize| _mm_loadu_si128(rows.as_ptr().add(row * stride).cast());
            transposed(gather(at, 0), gather(at, 1), gather(at, 2), gather(at, 3))
        }
    }

    #[inline(always)]
    fn f16_of_rows(self, rows: &[u8], stride: usize) -> __m512 {
        assert!(stride < 1 << 32 && rows.len() >= 15 * stride + 2);
        // SAFETY: see above; rows 0 to 15 have 2 bytes each, by the assertion.
        unsafe {
            let at = |row: usize| rows.as_ptr().add(row * stride).cast::<i16>().read_unaligned();
            let eight = |r: usize| {
                _mm_set_epi16(at(r + 7), at(r + 6), at(r + 5), at(r + 4), at(r + 3), at(r + 2), at(r + 1), at(r))
            };
            _mm512_cvtph_ps(_mm256_set_m128i(eight(8), eight(0)))
        }
    }

    #[inline(always)]
    fn bytes_to_f32(self, x: __m512i) -> [__m512; 4] {
        // SAFETY: see above.
        unsafe {
            let byte = |x| _mm512_cvtepi32_ps(_mm512_and_si512(x, _mm512_set1_epi32(255)));
            let last = _mm512_cvtepi32_ps(_mm512_srli_epi32::<24>(x));
            [byte(x), byte(_mm512_srli_epi32::<8>(x)), byte(_mm512_srli_epi32::<16>(x)), last]
        }
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        self.0.prefetch(address);
    }

    #[inline(always)]
    fn interleave<T: Lane>(self, rows: &[T], stride: usize, out: &mut [T]) {
        let n = out.len() / 16;
        assert!(n == 0 || rows.len() >= 15 * stride + n);
        for i in (0..n / 4 * 4).step_by(4) {
            // SAFETY: i + 4 <= n, so that every row has the 4 elements read, by the assertion, and `out` has the 64
            // written; a `Lane` is 4 bytes of any pattern.
            unsafe {
                let at = |row: usize| _mm_loadu_si128(rows.as_ptr().add(row * stride + i).cast());
                let to: *mut __m512i = out.as_mut_ptr().add(16 * i).cast();
                let columns = transposed(gather(at, 0), gather(at, 1), gather(at, 2), gather(at, 3));
                columns.into_iter().enumerate().for_each(|(j, x)| _mm512_storeu_si512(to.add(j), x));
            }
        }
        interleave_from(n / 4 * 4, 16, rows, stride, out);
    }
}

/// 16 bytes of rows r, r + 4, r + 8 and r + 12: transposing 4 × 4 elements within each 128-bit lane of four such vectors,
/// r = 0..4, puts 16 rows in order.
#[inline(always)]
fn gather(at: impl Fn(usize) -> __m128i, r: usize) -> __m512i {
    // SAFETY: only called with a proof of AVX-512. From memory each is one load that leaves the other lanes as they are.
    unsafe {
        let first = _mm512_castsi128_si512(at(r));
        let two = _mm512_mask_broadcast_i32x4(first, 0x00f0, at(r + 4));
        let three = _mm512_mask_broadcast_i32x4(two, 0x0f00, at(r + 8));
        _mm512_mask_broadcast_i32x4(three, 0xf000, at(r + 12))
    }
}

/// Transposes the 4 × 4 elements of every 128-bit lane.
#[inline(always)]
fn transposed(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    // SAFETY: only called with a proof of AVX-512.
    unsafe {
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

/// Shift counts for words: one for each half of a vector.
#[inline(always)]
fn words([low, high]: [u32; 2]) -> __m512i {
    // SAFETY: only called with a proof of AVX-512.
    unsafe {
        let (low, high) = (_mm256_set1_epi16(low as i16), _mm256_set1_epi16(high as i16));
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
    }
}
