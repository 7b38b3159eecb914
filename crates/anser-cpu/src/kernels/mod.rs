//! The vectorised kernels, written once for every instruction set of [`crate::arch`].

pub(crate) mod codebooks;
pub(crate) mod columns;
pub(crate) mod dot_f32;
pub(crate) mod dot_i8;
mod dot_span;
pub(crate) mod elementwise;
pub(crate) mod few_q8;
pub(crate) mod gemm_f32;
pub(crate) mod gemm_i8;
pub(crate) mod panel;
pub(crate) mod quantized;
pub(crate) mod stretch;
pub(crate) mod unpack;
pub(crate) mod wkv4;
pub(crate) mod wkv6;
pub(crate) mod wkv7;

#[cfg(test)]
mod tests;

use crate::arch::Simd;

/// Repeats a body for every t below n, at most 16, without a loop: in a loop of this length the compiler would keep the
/// sums in memory instead of in registers. n is a constant.
macro_rules! unrolled {
    ($t:ident < $n:expr, $body:block) => {
        $crate::kernels::unrolled!(@ $t $n, $body, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    };
    (@ $t:ident $n:expr, $body:block, $($i:literal),*) => {
        $(
            if const { $i < $n } {
                let $t = $i;
                $body
            }
        )*
    };
}
pub(crate) use unrolled;

/// Prefetches as many bytes as `bytes` has from `ahead` bytes after it on. They may lie past the end of its allocation.
#[inline(always)]
fn prefetch<S: Simd>(simd: S, bytes: &[u8], ahead: usize) {
    for line in bytes.chunks(64) {
        simd.prefetch(line.as_ptr().wrapping_add(ahead));
    }
}

/// [`prefetch`] for numbers: `ahead` counts elements.
#[inline(always)]
fn prefetch_f32<S: Simd>(simd: S, x: &[f32], ahead: usize) {
    for line in x.chunks(16) {
        simd.prefetch(line.as_ptr().wrapping_add(ahead).cast());
    }
}

/// Writes as many lanes as `out` has elements.
#[inline(always)]
fn store_lanes<S: Simd>(simd: S, x: S::F32, out: &mut [f32]) {
    if out.len() >= S::LANES {
        simd.store(x, out);
    } else {
        let mut lanes = [0.0; 16];
        simd.store(x, &mut lanes);
        out.copy_from_slice(&lanes[..out.len()]);
    }
}
