//! 128-bit vectors of WebAssembly, in pairs.
#![allow(unsafe_code)]
#![allow(clippy::redundant_closure, reason = "functions of a target feature are no `Fn`")]

use super::{Kernel, Lane, Narrow, Simd, interleave_from};
use core::arch::wasm32::*;

/// Vectors of eight lanes. The module is compiled for simd128, so that there is nothing to detect.
#[derive(Clone, Copy)]
pub(crate) struct Simd128;

/// The lanes 0 to 3 and 4 to 7, or the bytes 0 to 15 and 16 to 31.
type Pair = [v128; 2];

/// The first 16 bytes of a slice that is long enough.
#[inline(always)]
fn load_16<T: Lane>(x: &[T]) -> v128 {
    assert!(x.len() >= 4);
    // SAFETY: the slice has 16 bytes, by the assertion; a `Lane` is 4 bytes of any pattern.
    unsafe { v128_load(x.as_ptr().cast()) }
}

/// [`load_16`] of bytes.
#[inline(always)]
fn load_16_bytes(x: &[u8]) -> v128 {
    assert!(x.len() >= 16);
    // SAFETY: the slice has 16 bytes, by the assertion.
    unsafe { v128_load(x.as_ptr().cast()) }
}

/// The first 8 bytes of a slice that is long enough, and zeros.
#[inline(always)]
fn load_8_bytes(x: &[u8]) -> v128 {
    assert!(x.len() >= 8);
    // SAFETY: the slice has 8 bytes, by the assertion.
    unsafe { v128_load64_zero(x.as_ptr().cast()) }
}

/// Writes to the first 16 bytes of a slice that is long enough.
#[inline(always)]
fn store_16<T: Lane>(x: v128, out: &mut [T]) {
    assert!(out.len() >= 4);
    // SAFETY: the slice has 16 bytes, by the assertion; a `Lane` is 4 bytes of any pattern.
    unsafe { v128_store(out.as_mut_ptr().cast(), x) }
}

/// 2¹¹², the quotient of the units of both exponents of F16 and f32; subnormal numbers come out right, too.
const RESCALE: f32 = f32::from_bits(0x7780_0000);

/// One F16. As a vector it would take five vector constants.
#[inline(always)]
fn one_f16(bits: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bits));
    let (magnitude, sign) = ((bits & 0x7fff) << 13, (bits & 0x8000) << 16);
    // Infinities and NaNs are rare: a branch that is foreseen.
    let scaled =
        if bits & 0x7c00 == 0x7c00 { magnitude | 0x7f80_0000 } else { (f32::from_bits(magnitude) * RESCALE).to_bits() };
    f32::from_bits(scaled | sign)
}

/// Four F16 in the low halves of lanes, as f32.
#[inline(always)]
fn f16_to_f32(x: v128) -> v128 {
    let scaled = f32x4_mul(i32x4_shl(v128_and(x, i32x4_splat(0x7fff)), 13), f32x4_splat(RESCALE));
    let is_special = i32x4_eq(v128_and(x, i32x4_splat(0x7c00)), i32x4_splat(0x7c00));
    let special = v128_and(is_special, i32x4_splat(0x7f80_0000));
    let sign = i32x4_shl(v128_and(x, i32x4_splat(0x8000)), 16);
    v128_or(v128_or(scaled, special), sign)
}

/// Transposes 4 × 4 elements of 4 bytes.
#[inline(always)]
fn transposed(a: v128, b: v128, c: v128, d: v128) -> [v128; 4] {
    let (ab, cd) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d));
    let (ab_high, cd_high) = (i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
    [
        i64x2_shuffle::<0, 2>(ab, cd),
        i64x2_shuffle::<1, 3>(ab, cd),
        i64x2_shuffle::<0, 2>(ab_high, cd_high),
        i64x2_shuffle::<1, 3>(ab_high, cd_high),
    ]
}

/// Bytes 0 and 2 of each lane as signed numbers of 16 bits, and bytes 1 and 3.
#[inline(always)]
fn split_signed(x: v128) -> (v128, v128) {
    (i16x8_shr(i16x8_shl(x, 8), 8), i16x8_shr(x, 8))
}

/// [`split_signed`] of unsigned bytes.
#[inline(always)]
fn split_unsigned(x: v128) -> (v128, v128) {
    (u16x8_shr(i16x8_shl(x, 8), 8), u16x8_shr(x, 8))
}

#[inline(always)]
fn each(a: Pair, f: impl Fn(v128) -> v128) -> Pair {
    [f(a[0]), f(a[1])]
}

#[inline(always)]
fn both(a: Pair, b: Pair, f: impl Fn(v128, v128) -> v128) -> Pair {
    [f(a[0], b[0]), f(a[1], b[1])]
}

impl Simd for Simd128 {
    const LANES: usize = 8;
    const TOKENS: usize = 4;
    const SIGNED: bool = true;
    type F32 = Pair;
    type I32 = Pair;
    type Bytes = Pair;
    type Narrow = Simd128;

    #[inline(always)]
    fn narrow(self) -> Simd128 {
        self
    }

    #[inline(never)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        [f32x4_splat(x); 2]
    }

    #[inline(always)]
    fn halves(self, low: f32, high: f32) -> Pair {
        [f32x4_splat(low), f32x4_splat(high)]
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Pair {
        [load_16(&x[..4]), load_16(&x[4..8])]
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Pair {
        let x = load_16_bytes(bytes);
        [f16_to_f32(u32x4_extend_low_u16x8(x)), f16_to_f32(u32x4_extend_high_u16x8(x))]
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Pair {
        let x = load_16_bytes(bytes);
        each([u32x4_extend_low_u16x8(x), u32x4_extend_high_u16x8(x)], |x| i32x4_shl(x, 16))
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Pair {
        self.load_bytes(bytes)
    }

    #[inline(always)]
    fn store(self, x: Pair, out: &mut [f32]) {
        store_16(x[0], &mut out[..4]);
        store_16(x[1], &mut out[4..8]);
    }

    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| f32x4_add(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| f32x4_mul(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        both(both(a, b, |a, b| f32x4_mul(a, b)), c, |a, b| f32x4_add(a, b))
    }

    #[inline(always)]
    fn neg_mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        both(c, both(a, b, |a, b| f32x4_mul(a, b)), |a, b| f32x4_sub(a, b))
    }

    #[inline(always)]
    fn sum(self, x: Pair) -> f32 {
        let four = f32x4_add(x[0], x[1]);
        let two = f32x4_add(four, i64x2_shuffle::<1, 0>(four, four));
        f32x4_extract_lane::<0>(two) + f32x4_extract_lane::<1>(two)
    }

    #[inline(always)]
    fn sum_4(self, x: [Pair; 4]) -> [f32; 4] {
        let [a, b, c, d] = x.map(|x| f32x4_add(x[0], x[1]));
        let [a, b, c, d] = transposed(a, b, c, d);
        let mut out = [0.0; 4];
        store_16(f32x4_add(f32x4_add(a, b), f32x4_add(c, d)), &mut out);
        out
    }

    #[inline(always)]
    fn f16(self, bits: [u8; 2]) -> f32 {
        one_f16(bits)
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Pair {
        [i32x4_splat(x); 2]
    }

    #[inline(always)]
    fn to_f32(self, x: Pair) -> Pair {
        each(x, |x| f32x4_convert_i32x4(x))
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8]) -> Pair {
        [load_16_bytes(&bytes[..16]), load_16_bytes(&bytes[16..32])]
    }

    #[inline(always)]
    fn store_bytes(self, x: Pair, out: &mut [u8]) {
        let (low, high) = out[..32].split_at_mut(16);
        for (x, out) in [(x[0], low), (x[1], high)] {
            // SAFETY: each half has 16 bytes.
            unsafe { v128_store(out.as_mut_ptr().cast(), x) }
        }
    }

    #[inline(always)]
    fn splat_bytes(self, bytes: [u8; 4]) -> Pair {
        self.splat_i32(i32::from_le_bytes(bytes))
    }

    #[inline(always)]
    fn dot(self, acc: Pair, w: Pair, a: Pair) -> Pair {
        let half = |i: usize| {
            let ((w_even, w_odd), (a_even, a_odd)) = (split_unsigned(w[i]), split_signed(a[i]));
            i32x4_add(acc[i], i32x4_add(i32x4_dot_i16x8(w_even, a_even), i32x4_dot_i16x8(w_odd, a_odd)))
        };
        [half(0), half(1)]
    }

    #[inline(always)]
    fn dot_signed(self, acc: Pair, w: Pair, a: Pair) -> Pair {
        let half = |i: usize| {
            let ((w_even, w_odd), (a_even, a_odd)) = (split_signed(w[i]), split_signed(a[i]));
            i32x4_add(acc[i], i32x4_add(i32x4_dot_i16x8(w_even, a_even), i32x4_dot_i16x8(w_odd, a_odd)))
        };
        [half(0), half(1)]
    }

    #[inline(always)]
    fn and(self, a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| v128_and(a, b))
    }

    #[inline(always)]
    fn or(self, a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| v128_or(a, b))
    }

    #[inline(always)]
    fn add_bytes(self, a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| i8x16_add(a, b))
    }

    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> Pair {
        let x: &[[i32; 4]] = x[..8].as_chunks().0;
        [x[0], x[1]].map(|[a, b, c, d]| i32x4(a, b, c, d))
    }

    #[inline(always)]
    fn store_negated(self, x: Pair, out: &mut [i32]) {
        let x = each(x, |x| i32x4_neg(x));
        out[..8].copy_from_slice(&self.i32_lanes(x));
    }

    #[inline(always)]
    fn repeat_bytes(self, bytes: &[u8; 32]) -> Pair {
        self.load_bytes(bytes)
    }

    #[inline(always)]
    fn repeat<const N: usize>(self, bytes: &[u8]) -> Pair {
        assert!(N == 4 || N == 8);
        let mut eight = [0; 8];
        match N {
            8 => {
                eight[..4].copy_from_slice(&bytes[..4]);
                eight.copy_within(..4, 4);
            }
            _ => eight.copy_from_slice(&bytes[..8]),
        }
        [i64x2_splat(i64::from_le_bytes(eight)); 2]
    }

    #[inline(always)]
    fn splat_f16(self, bits: [u8; 2]) -> Pair {
        self.splat(one_f16(bits))
    }

    #[inline(always)]
    fn load_blocks(self, bytes: &[u8], _: usize) -> Pair {
        self.load_bytes(bytes)
    }

    #[inline(always)]
    fn shr_words(self, x: Pair, n: [u32; 2]) -> Pair {
        each(x, |x| u16x8_shr(x, n[0]))
    }

    #[inline(always)]
    fn shl_words(self, x: Pair, n: [u32; 2]) -> Pair {
        each(x, |x| i16x8_shl(x, n[0]))
    }

    #[inline(always)]
    fn f16_blocks(self, bytes: &[u8], _: usize) -> Pair {
        self.splat_f16([bytes[0], bytes[1]])
    }

    #[inline(always)]
    fn repeat_8(self, x: &[f32]) -> Pair {
        self.splat(x[0])
    }

    #[inline(always)]
    fn repeat_4(self, x: &[f32]) -> Pair {
        self.halves(x[0], x[1])
    }

    #[inline(always)]
    fn columns(self, rows: &[u8], stride: usize) -> [Pair; 4] {
        let row = |r: usize| load_16_bytes(&rows[r * stride..]);
        let low = transposed(row(0), row(1), row(2), row(3));
        let high = transposed(row(4), row(5), row(6), row(7));
        std::array::from_fn(|i| [low[i], high[i]])
    }

    #[inline(always)]
    fn f16_of_rows(self, rows: &[u8], stride: usize) -> Pair {
        let bits = |r: usize| i32::from(u16::from_le_bytes([rows[r * stride], rows[r * stride + 1]]));
        let four = |r: usize| f16_to_f32(i32x4(bits(r), bits(r + 1), bits(r + 2), bits(r + 3)));
        [four(0), four(4)]
    }

    #[inline(always)]
    fn bytes_to_f32(self, x: Pair) -> [Pair; 4] {
        let byte = |n: u32| each(x, |x| f32x4_convert_i32x4(v128_and(u32x4_shr(x, n), i32x4_splat(255))));
        [byte(0), byte(8), byte(16), byte(24)]
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn interleave<T: Lane>(self, rows: &[T], stride: usize, out: &mut [T]) {
        let n = out.len() / 8;
        for i in (0..n / 4 * 4).step_by(4) {
            let row = |r: usize| load_16(&rows[r * stride + i..]);
            let low = transposed(row(0), row(1), row(2), row(3));
            let high = transposed(row(4), row(5), row(6), row(7));
            for (j, out) in out[8 * i..][..32].chunks_exact_mut(8).enumerate() {
                let (first, last) = out.split_at_mut(4);
                store_16(low[j], first);
                store_16(high[j], last);
            }
        }
        interleave_from(n / 4 * 4, 8, rows, stride, out);
    }
}

impl Narrow for Simd128 {
    #[inline(always)]
    fn shr<const N: i32>(self, x: Pair) -> Pair {
        each(x, |x| u8x16_shr(x, N as u32))
    }

    #[inline(always)]
    fn shl<const N: i32>(self, x: Pair) -> Pair {
        each(x, |x| i8x16_shl(x, N as u32))
    }

    #[inline(always)]
    fn nibbles(self, bytes: &[u8; 16]) -> Pair {
        let x = load_16_bytes(bytes);
        [v128_and(x, u8x16_splat(15)), u8x16_shr(x, 4)]
    }

    #[inline(always)]
    fn bits_at_4(self, bits: [u8; 4]) -> Pair {
        // Byte i / 8 in place i, of which the mask keeps bit i % 8.
        let masks = i64x2_splat(0x8040_2010_0804_0201_u64 as i64);
        let spread = |low: u8, high: u8| {
            let bytes = i64x2_shuffle::<0, 2>(u8x16_splat(low), u8x16_splat(high));
            v128_and(u8x16_eq(v128_and(bytes, masks), masks), u8x16_splat(16))
        };
        [spread(bits[0], bits[1]), spread(bits[2], bits[3])]
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], x: Pair) -> Pair {
        let table = load_16_bytes(table);
        each(x, |x| i8x16_swizzle(table, x))
    }

    #[inline(always)]
    fn max_abs(self, a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| f32x4_pmax(a, f32x4_abs(b)))
    }

    #[inline(always)]
    fn largest(self, x: Pair) -> f32 {
        let four = f32x4_pmax(x[0], x[1]);
        let two = f32x4_pmax(four, i64x2_shuffle::<1, 0>(four, four));
        f32x4_extract_lane::<0>(two).max(f32x4_extract_lane::<1>(two)).max(0.0)
    }

    #[inline(always)]
    fn round_to_i8(self, x: Pair, out: &mut [u8; 8]) {
        /// 1.5 · 2²³: adding it rounds a small number to the nearest integer, which its low bits then hold.
        const ROUND: f32 = 12_582_912.0;
        let [low, high] = each(x, |x| f32x4_add(x, f32x4_splat(ROUND)));
        let bytes = i8x16_shuffle::<0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0>(low, high);
        *out = i64x2_extract_lane::<0>(bytes).to_le_bytes();
    }

    #[inline(always)]
    fn i32_lanes(self, x: Pair) -> [i32; 8] {
        let mut out = [[0; 4]; 8];
        store_16(x[0], &mut out[..4]);
        store_16(x[1], &mut out[4..]);
        out.map(i32::from_le_bytes)
    }

    #[inline(always)]
    fn u8_to_f32(self, bytes: &[u8; 8]) -> Pair {
        let x = u16x8_extend_low_u8x16(load_8_bytes(bytes));
        each([u32x4_extend_low_u16x8(x), u32x4_extend_high_u16x8(x)], |x| f32x4_convert_i32x4(x))
    }

    #[inline(always)]
    fn i8_to_f32(self, bytes: &[u8; 8]) -> Pair {
        let x = i16x8_extend_low_i8x16(load_8_bytes(bytes));
        each([i32x4_extend_low_i16x8(x), i32x4_extend_high_i16x8(x)], |x| f32x4_convert_i32x4(x))
    }
}
