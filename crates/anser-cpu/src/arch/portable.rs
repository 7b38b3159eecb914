//! Vectors as arrays, written so that the compiler vectorises them for any target.

use super::{Kernel, Lane, Narrow, Simd, interleave_from};
use anser_format::quant::{bf16_to_f32, f16_to_f32};

/// Vectors of eight lanes in plain Rust, and the proof that the processor has the instructions they are compiled to.
#[derive(Clone, Copy)]
pub(crate) struct Portable<P>(pub(super) P);

/// A proof that the processor has some instructions.
pub(crate) trait Proof: Copy {
    /// Runs `kernel`, compiled for these instructions, as a function of its own.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;
}

/// The instructions that every processor of the target has need no proof.
impl Proof for () {
    #[inline(never)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(Portable(self))
    }
}

/// The first `N` elements.
#[inline(always)]
fn first<T: Copy + Default, const N: usize>(x: &[T]) -> [T; N] {
    let mut out = [T::default(); N];
    out.copy_from_slice(&x[..N]);
    out
}

impl<P: Proof> Simd for Portable<P> {
    const LANES: usize = 8;
    const TOKENS: usize = 4;
    type F32 = [f32; 8];
    type I32 = [i32; 8];
    type Bytes = [u8; 32];
    type Narrow = Portable<P>;

    #[inline(always)]
    fn narrow(self) -> Portable<P> {
        self
    }

    #[inline]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        self.0.call(kernel)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }

    #[inline(always)]
    fn halves(self, low: f32, high: f32) -> [f32; 8] {
        [low, low, low, low, high, high, high, high]
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> [f32; 8] {
        first(x)
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> [f32; 8] {
        let mut out = [0.0; 8];
        f16_to_f32(&bytes[..16], &mut out);
        out
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> [f32; 8] {
        let mut out = [0.0; 8];
        bf16_to_f32(&bytes[..16], &mut out);
        out
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> [f32; 8] {
        std::array::from_fn(|i| f32::from_le_bytes(first(&bytes[4 * i..])))
    }

    #[inline(always)]
    fn store(self, x: [f32; 8], out: &mut [f32]) {
        out[..8].copy_from_slice(&x);
    }

    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn neg_mul_add(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| c[i] - a[i] * b[i])
    }

    #[inline(always)]
    fn sum(self, x: [f32; 8]) -> f32 {
        x.iter().sum()
    }

    #[inline(always)]
    fn sum_4(self, x: [[f32; 8]; 4]) -> [f32; 4] {
        [self.sum(x[0]), self.sum(x[1]), self.sum(x[2]), self.sum(x[3])]
    }

    #[inline(always)]
    fn f16(self, bits: [u8; 2]) -> f32 {
        let mut out = [0.0];
        f16_to_f32(&bits, &mut out);
        out[0]
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> [i32; 8] {
        [x; 8]
    }

    #[inline(always)]
    fn to_f32(self, x: [i32; 8]) -> [f32; 8] {
        x.map(|x| x as f32)
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8]) -> [u8; 32] {
        first(bytes)
    }

    #[inline(always)]
    fn store_bytes(self, x: [u8; 32], out: &mut [u8]) {
        out[..32].copy_from_slice(&x);
    }

    #[inline(always)]
    fn splat_bytes(self, bytes: [u8; 4]) -> [u8; 32] {
        std::array::from_fn(|i| bytes[i % 4])
    }

    #[inline(always)]
    fn dot(self, acc: [i32; 8], w: [u8; 32], a: [u8; 32]) -> [i32; 8] {
        let product = |i: usize| i32::from(w[i]) * i32::from(a[i] as i8);
        std::array::from_fn(|lane| acc[lane] + (4 * lane..4 * lane + 4).map(product).sum::<i32>())
    }

    #[inline(always)]
    fn dot_signed(self, acc: [i32; 8], w: [u8; 32], a: [u8; 32]) -> [i32; 8] {
        let product = |i: usize| i32::from(w[i] as i8) * i32::from(a[i] as i8);
        std::array::from_fn(|lane| acc[lane] + (4 * lane..4 * lane + 4).map(product).sum::<i32>())
    }

    #[inline(always)]
    fn and(self, a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|i| a[i] & b[i])
    }

    #[inline(always)]
    fn or(self, a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn add_bytes(self, a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> [i32; 8] {
        first(x)
    }

    #[inline(always)]
    fn store_negated(self, x: [i32; 8], out: &mut [i32]) {
        out[..8].copy_from_slice(&x.map(|x| -x));
    }

    #[inline(always)]
    fn repeat_bytes(self, bytes: &[u8; 32]) -> [u8; 32] {
        *bytes
    }

    #[inline(always)]
    fn repeat<const N: usize>(self, bytes: &[u8]) -> [u8; 32] {
        std::array::from_fn(|i| bytes[i % (32 / N)])
    }

    #[inline(always)]
    fn splat_f16(self, bits: [u8; 2]) -> [f32; 8] {
        [self.f16(bits); 8]
    }

    #[inline(always)]
    fn load_blocks(self, bytes: &[u8], _: usize) -> [u8; 32] {
        first(bytes)
    }

    #[inline(always)]
    fn shr_words(self, x: [u8; 32], n: [u32; 2]) -> [u8; 32] {
        let word = |i: usize| u16::from_le_bytes([x[i / 2 * 2], x[i / 2 * 2 + 1]]) >> n[0];
        std::array::from_fn(|i| word(i).to_le_bytes()[i % 2])
    }

    #[inline(always)]
    fn shl_words(self, x: [u8; 32], n: [u32; 2]) -> [u8; 32] {
        let word = |i: usize| u16::from_le_bytes([x[i / 2 * 2], x[i / 2 * 2 + 1]]) << n[0];
        std::array::from_fn(|i| word(i).to_le_bytes()[i % 2])
    }

    #[inline(always)]
    fn f16_blocks(self, bytes: &[u8], _: usize) -> [f32; 8] {
        [self.f16([bytes[0], bytes[1]]); 8]
    }

    #[inline(always)]
    fn repeat_8(self, x: &[f32]) -> [f32; 8] {
        [x[0]; 8]
    }

    #[inline(always)]
    fn repeat_4(self, x: &[f32]) -> [f32; 8] {
        self.halves(x[0], x[1])
    }

    #[inline(always)]
    fn columns(self, rows: &[u8], stride: usize) -> [[u8; 32]; 4] {
        std::array::from_fn(|i| std::array::from_fn(|byte| rows[byte / 4 * stride + 4 * i + byte % 4]))
    }

    #[inline(always)]
    fn f16_of_rows(self, rows: &[u8], stride: usize) -> [f32; 8] {
        let bits: [u8; 16] = std::array::from_fn(|byte| rows[byte / 2 * stride + byte % 2]);
        self.load_f16(&bits)
    }

    #[inline(always)]
    fn bytes_to_f32(self, x: [u8; 32]) -> [[f32; 8]; 4] {
        std::array::from_fn(|i| std::array::from_fn(|lane| f32::from(x[4 * lane + i])))
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn interleave<T: Lane>(self, rows: &[T], stride: usize, out: &mut [T]) {
        interleave_from(0, 8, rows, stride, out);
    }
}

impl<P: Proof> Narrow for Portable<P> {
    #[inline(always)]
    fn shr<const N: i32>(self, x: [u8; 32]) -> [u8; 32] {
        x.map(|x| x >> N)
    }

    #[inline(always)]
    fn shl<const N: i32>(self, x: [u8; 32]) -> [u8; 32] {
        x.map(|x| x << N)
    }

    #[inline(always)]
    fn nibbles(self, bytes: &[u8; 16]) -> [u8; 32] {
        std::array::from_fn(|i| bytes[i % 16] >> (i / 16 * 4) & 15)
    }

    #[inline(always)]
    fn bits_at_4(self, bits: [u8; 4]) -> [u8; 32] {
        std::array::from_fn(|i| (bits[i / 8] >> (i % 8) & 1) << 4)
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], x: [u8; 32]) -> [u8; 32] {
        x.map(|x| table[usize::from(x & 15)])
    }

    #[inline(always)]
    fn max_abs(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if b[i].abs() > a[i] { b[i].abs() } else { a[i] })
    }

    #[inline(always)]
    fn largest(self, x: [f32; 8]) -> f32 {
        x.iter().fold(0.0, |max, &x| if x > max { x } else { max })
    }

    #[inline(always)]
    fn round_to_i8(self, x: [f32; 8], out: &mut [u8; 8]) {
        /// 1.5 · 2²³: adding it rounds a small number to the nearest integer, which its low bits then hold.
        const ROUND: f32 = 12_582_912.0;
        *out = x.map(|x| (x + ROUND).to_bits() as u8);
    }

    #[inline(always)]
    fn i32_lanes(self, x: [i32; 8]) -> [i32; 8] {
        x
    }

    #[inline(always)]
    fn u8_to_f32(self, bytes: &[u8; 8]) -> [f32; 8] {
        bytes.map(f32::from)
    }

    #[inline(always)]
    fn i8_to_f32(self, bytes: &[u8; 8]) -> [f32; 8] {
        bytes.map(|byte| f32::from(byte as i8))
    }
}
