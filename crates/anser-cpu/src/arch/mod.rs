//! Vector instructions, chosen at run time.
//!
//! Kernels are written once, in safe code, against the trait [`Simd`]. All code that is specific to an instruction set,
//! and all `unsafe` code, is behind this trait. A value of a `Simd` type proves that the processor has the
//! instructions, since only the type's `detect` makes one. [`run`] picks the widest type and compiles the kernel for
//! it.

use std::sync::LazyLock;

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub(crate) mod pool;
// WebAssembly with simd128 has better ones, which tests compare with these.
#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm32_simd128;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512;
#[cfg(target_arch = "x86_64")]
mod x86_dots;

/// Vectors of one width. All operations are element-wise unless they say otherwise.
pub(crate) trait Simd: Copy {
    /// The number of 32-bit elements of a vector.
    const LANES: usize;
    /// The number of tokens whose sums the matrix kernels keep in registers: a power of two, 16 at most.
    const TOKENS: usize;
    /// Whether [`Simd::dot_signed`] is faster than [`Simd::dot`], so that symmetric weights are multiplied without an offset.
    const SIGNED: bool = false;
    /// A vector of [`Simd::LANES`] f32.
    type F32: Copy;
    /// A vector of [`Simd::LANES`] i32.
    type I32: Copy;
    /// A vector of bytes, four per lane.
    type Bytes: Copy;
    /// The type of vectors with 8 lanes for the same processors.
    type Narrow: Narrow;

    /// The proof for the narrow type.
    fn narrow(self) -> Self::Narrow;

    /// Runs `kernel`, compiled for these instructions, as a function of its own. A kernel that is part of another one and that
    /// works for long is called rather than inlined: compiling time grows faster than the length of a function.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// x in every lane.
    fn splat(self, x: f32) -> Self::F32;
    /// `low` in the lower half of the lanes, `high` in the upper.
    fn halves(self, low: f32, high: f32) -> Self::F32;
    /// The first elements of a slice that is long enough.
    fn load(self, x: &[f32]) -> Self::F32;
    /// The first F16 elements, little-endian.
    fn load_f16(self, bytes: &[u8]) -> Self::F32;
    /// The first BF16 elements, little-endian.
    fn load_bf16(self, bytes: &[u8]) -> Self::F32;
    /// The first F32 elements, little-endian.
    fn load_f32(self, bytes: &[u8]) -> Self::F32;
    /// Writes to the first elements.
    fn store(self, x: Self::F32, out: &mut [f32]);
    /// a + b
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b + c
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// c − a · b
    fn neg_mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// Sum of all lanes.
    fn sum(self, x: Self::F32) -> f32;
    /// The sums of four vectors' lanes.
    fn sum_4(self, x: [Self::F32; 4]) -> [f32; 4];
    /// One F16, little-endian.
    fn f16(self, bits: [u8; 2]) -> f32;

    /// x in every lane.
    fn splat_i32(self, x: i32) -> Self::I32;
    /// The integers, rounded to f32.
    fn to_f32(self, x: Self::I32) -> Self::F32;
    /// The first bytes of a slice that is long enough.
    fn load_bytes(self, bytes: &[u8]) -> Self::Bytes;
    /// Writes to the first bytes.
    fn store_bytes(self, x: Self::Bytes, out: &mut [u8]);
    /// The same four bytes in every lane.
    fn splat_bytes(self, bytes: [u8; 4]) -> Self::Bytes;
    /// a & b
    fn and(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// a | b
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// a + b for every byte, wrapping
    fn add_bytes(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Per lane: acc + Σ w·a over its four bytes, w unsigned, a signed and not −128; exact.
    fn dot(self, acc: Self::I32, w: Self::Bytes, a: Self::Bytes) -> Self::I32;
    /// Per lane: acc + Σ w·a over its four bytes, both signed, a not −128; exact.
    fn dot_signed(self, acc: Self::I32, w: Self::Bytes, a: Self::Bytes) -> Self::I32;
    /// [`Simd::dot`] of up to four pairs of vectors, for w below 32.
    #[inline(always)]
    fn dot_small<const K: usize>(self, acc: Self::I32, w: [Self::Bytes; K], a: [Self::Bytes; K]) -> Self::I32 {
        let mut acc = acc;
        for k in 0..K {
            acc = self.dot(acc, w[k], a[k]);
        }
        acc
    }
    /// [`Simd::dot_signed`] of up to four pairs of vectors, for w from −32 to 32.
    #[inline(always)]
    fn dot_small_signed<const K: usize>(self, acc: Self::I32, w: [Self::Bytes; K], a: [Self::Bytes; K]) -> Self::I32 {
        let mut acc = acc;
        for k in 0..K {
            acc = self.dot_signed(acc, w[k], a[k]);
        }
        acc
    }

    /// The first elements of a slice that is long enough.
    fn load_i32(self, x: &[i32]) -> Self::I32;
    /// −x, written to the first elements.
    fn store_negated(self, x: Self::I32, out: &mut [i32]);
    /// The same 32 bytes for every eight lanes.
    fn repeat_bytes(self, bytes: &[u8; 32]) -> Self::Bytes;
    /// The first bytes, as many as one of N equal parts of a vector has, N times.
    fn repeat<const N: usize>(self, bytes: &[u8]) -> Self::Bytes;
    /// One F16, little-endian, in every lane.
    fn splat_f16(self, bits: [u8; 2]) -> Self::F32;
    /// 32 bytes from the start for the first eight lanes, and 32 from `stride` on for the next.
    fn load_blocks(self, bytes: &[u8], stride: usize) -> Self::Bytes;
    /// Every 16 bits shifted right by N\[0\] in the first eight lanes, by N\[1\] in the next.
    fn shr_words(self, x: Self::Bytes, n: [u32; 2]) -> Self::Bytes;
    /// Every 16 bits shifted left by N\[0\] in the first eight lanes, by N\[1\] in the next.
    fn shl_words(self, x: Self::Bytes, n: [u32; 2]) -> Self::Bytes;
    /// One F16 from the start of `bytes` in the first eight lanes, and one from `stride` on in the next.
    fn f16_blocks(self, bytes: &[u8], stride: usize) -> Self::F32;
    /// Lane i is x\[i / 8\].
    fn repeat_8(self, x: &[f32]) -> Self::F32;
    /// Lane i is x\[i / 4\].
    fn repeat_4(self, x: &[f32]) -> Self::F32;

    /// The first 16 bytes of as many rows as there are lanes, `stride` bytes apart: lane r of vector i is bytes 4·i to
    /// 4·i + 3 of row r.
    fn columns(self, rows: &[u8], stride: usize) -> [Self::Bytes; 4];
    /// Lane r is the F16 at the start of row r.
    fn f16_of_rows(self, rows: &[u8], stride: usize) -> Self::F32;
    /// Lane r of vector i is byte i of lane r.
    fn bytes_to_f32(self, x: Self::Bytes) -> [Self::F32; 4];

    /// Prefetches the cache line at an address, which need not be mapped.
    fn prefetch(self, address: *const u8);

    /// Transposes [`Simd::LANES`] rows: out\[i·LANES + lane\] = rows\[lane·stride + i\], for every i below
    /// `out.len() / LANES`.
    fn interleave<T: Lane>(self, rows: &[T], stride: usize, out: &mut [T]);
}

/// Vectors of 32 bytes. They hold a block of activations, and weights are unpacked with them.
pub(crate) trait Narrow: Simd {
    /// Every byte shifted right by N bits.
    fn shr<const N: i32>(self, x: Self::Bytes) -> Self::Bytes;
    /// Every byte shifted left by N bits.
    fn shl<const N: i32>(self, x: Self::Bytes) -> Self::Bytes;
    /// The low nibbles of 16 bytes, then the high ones.
    fn nibbles(self, bytes: &[u8; 16]) -> Self::Bytes;
    /// Byte i is bit i of the 32, little-endian, in place `1 << 4`.
    fn bits_at_4(self, bits: [u8; 4]) -> Self::Bytes;
    /// table\[x\], for bytes below 16.
    fn lookup(self, table: &[u8; 16], x: Self::Bytes) -> Self::Bytes;
    /// The larger of a and |b|; a if b is not a number.
    fn max_abs(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The largest lane of a vector without negative numbers.
    fn largest(self, x: Self::F32) -> f32;
    /// The integers nearest to numbers between −127 and 127, as signed bytes. The result for other numbers is not
    /// specified.
    fn round_to_i8(self, x: Self::F32, out: &mut [u8; 8]);
    /// The lanes as an array.
    fn i32_lanes(self, x: Self::I32) -> [i32; 8];
    /// 8 unsigned bytes as f32.
    fn u8_to_f32(self, bytes: &[u8; 8]) -> Self::F32;
    /// 8 signed bytes as f32.
    fn i8_to_f32(self, bytes: &[u8; 8]) -> Self::F32;
}

/// An element that fills one lane.
///
/// # Safety
/// A type of 4 bytes in which every bit pattern is valid.
#[allow(unsafe_code)]
pub(crate) unsafe trait Lane: Copy {}

#[allow(unsafe_code)]
// SAFETY: 4 bytes, all patterns valid.
unsafe impl Lane for f32 {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Lane for [u8; 4] {}

/// The plain loop of [`Simd::interleave`], from element `first` of every row on.
#[inline(always)]
fn interleave_from<T: Lane>(first: usize, n_lanes: usize, rows: &[T], stride: usize, out: &mut [T]) {
    for (i, out) in out.chunks_exact_mut(n_lanes).enumerate().skip(first) {
        for (lane, out) in out.iter_mut().enumerate() {
            *out = rows[lane * stride + i];
        }
    }
}

/// Code that runs with vectors of any width. `run` and all functions that it calls must be `#[inline(always)]`, so that the
/// compiler may use the instructions in them; kernels that it runs by [`Simd::call`] need not be.
pub(crate) trait Kernel {
    /// The result of the kernel.
    type Output;
    /// Runs the kernel with vectors of type `S`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` with the best instructions of this processor.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = x86_avx512::Avx512::detect() {
            return simd.call(kernel);
        }
        if let Some(simd) = x86_avx2::AvxVnni::detect() {
            return simd.call(kernel);
        }
        if let Some(simd) = x86_avx2::Avx2::detect() {
            return simd.call(kernel);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(neon) = aarch64::Neon::detect() {
        return portable::Portable(neon).call(kernel);
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    return wasm32_simd128::Simd128.call(kernel);
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    portable::Portable(()).call(kernel)
}

/// The instructions that [`run`] uses, for reports.
pub(crate) fn name() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if x86_avx512::Avx512::detect().is_some() {
            return "AVX-512 VNNI";
        }
        if x86_avx2::AvxVnni::detect().is_some() {
            return "AVX-VNNI";
        }
        if x86_avx2::Avx2::detect().is_some() {
            return "AVX2";
        }
    }
    #[cfg(target_arch = "aarch64")]
    if aarch64::Neon::detect().is_some() {
        return "NEON dotprod";
    }
    if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) { "simd128" } else { "portable" }
}

/// The prefetch distance, in bytes, for weights that a kernel reads once. The processor's own prefetcher does not cross
/// the end of a page. Measured: AMD's Zen 5 is best at 6 to 8 KiB, and worse with 1 KiB than without; Intel's Sapphire
/// Rapids is best at 1.5 KiB.
pub(crate) fn prefetch_n_bytes() -> usize {
    static N_BYTES: LazyLock<usize> = LazyLock::new(|| {
        #[cfg(target_arch = "x86_64")]
        if is_amd() {
            return 6144;
        }
        1536
    });
    *N_BYTES
}

/// Whether the processor calls itself "AuthenticAMD".
#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    let id = std::arch::x86_64::__cpuid(0);
    [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// Rows of a weight panel on this processor: [`Simd::LANES`] of the type that [`run`] uses.
pub(crate) fn n_lanes() -> usize {
    struct Lanes;
    impl Kernel for Lanes {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::LANES
        }
    }
    run(Lanes)
}

/// The portable vectors, for tests.
#[cfg(test)]
pub(crate) fn portable_for_tests() -> impl Narrow {
    portable::Portable(())
}

/// Runs a kernel with the portable vectors and, on x86-64 and WebAssembly, with every kind of vectors that this processor has, for tests.
#[cfg(test)]
pub(crate) fn run_all<K: Kernel + Clone>(kernel: K) -> Vec<K::Output> {
    let mut results = vec![portable::Portable(()).call(kernel.clone())];
    #[cfg(target_arch = "x86_64")]
    {
        results.extend(x86_avx2::Avx2::detect().map(|simd| simd.call(kernel.clone())));
        results.extend(x86_avx2::AvxVnni::detect().map(|simd| simd.call(kernel.clone())));
        results.extend(x86_avx512::Avx512::detect().map(|simd| simd.call(kernel.clone())));
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    results.push(wasm32_simd128::Simd128.call(kernel.clone()));
    results
}
