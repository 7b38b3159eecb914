//! Dot products of bytes in 256-bit vectors: with AVX2 alone, and with either form of VNNI.
#![allow(unsafe_code)]

use super::Simd;
use super::x86_avx2::{Avx2, Avx512Narrow, AvxVnni};
use std::arch::x86_64::*;

/// [`Simd::dot`] with AVX2 alone. Two products are summed in 16 bits with saturation, which an unsigned factor up to 128
/// cannot reach: the top bit of `w` is therefore multiplied apart.
#[inline(always)]
pub(super) fn dot_avx2(simd: Avx2, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
    let _ = simd;
    // SAFETY: `simd` proves AVX2.
    unsafe {
        let (top, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
        let low = _mm256_maddubs_epi16(_mm256_andnot_si256(top, w), a);
        let high = _mm256_maddubs_epi16(_mm256_and_si256(top, w), a);
        let sum = _mm256_add_epi32(_mm256_madd_epi16(low, ones), _mm256_madd_epi16(high, ones));
        _mm256_add_epi32(acc, sum)
    }
}

/// The sums of two products each in 16 bits, both factors signed. |w| is 128 at most and |a| 127.
#[inline(always)]
pub(super) fn pairs_signed(simd: Avx2, w: __m256i, a: __m256i) -> __m256i {
    let _ = simd;
    // SAFETY: `simd` proves AVX2.
    unsafe { _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w)) }
}

/// Adds sums in 16 bits, two to a lane.
#[inline(always)]
pub(super) fn add_pairs(simd: Avx2, acc: __m256i, pairs: __m256i) -> __m256i {
    let _ = simd;
    // SAFETY: `simd` proves AVX2.
    unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))) }
}

/// [`Simd::dot_signed`] by an unsigned dot product of w + 128.
#[inline(always)]
pub(super) fn dot_signed_by_offset<S: Simd<I32 = __m256i, Bytes = __m256i>>(
    simd: S,
    acc: __m256i,
    w: __m256i,
    a: __m256i,
) -> __m256i {
    let offset = simd.splat_bytes([128; 4]);
    let of_offset = simd.dot(simd.splat_i32(0), offset, a);
    let sum = simd.dot(acc, simd.add_bytes(w, offset), a);
    // SAFETY: vectors of this kind exist on processors with AVX2 only.
    unsafe { _mm256_sub_epi32(sum, of_offset) }
}

#[inline(always)]
pub(super) fn dot_avx_vnni(simd: AvxVnni, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
    let _ = simd;
    // SAFETY: `simd` proves AVX-VNNI.
    unsafe { _mm256_dpbusd_avx_epi32(acc, w, a) }
}

#[inline(always)]
pub(super) fn dot_avx512_vnni(simd: Avx512Narrow, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
    let _ = simd;
    // SAFETY: `simd` proves AVX-512 VNNI and VL.
    unsafe { _mm256_dpbusd_epi32(acc, w, a) }
}
