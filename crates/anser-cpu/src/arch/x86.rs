//! The portable product compiled for AVX-512 and for AVX2 with FMA.
#![allow(unsafe_code)]

use super::portable;
use anser_format::DType;

/// See [`super::product`]; `false` if this processor has neither instruction set.
pub(super) fn product(dtype: DType, rows: &[u8], n_cols: usize, x: &[f32], pieces: &mut [&mut [f32]]) -> bool {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
        // SAFETY: the features the function is compiled for have just been detected.
        unsafe { product_avx512(dtype, rows, n_cols, x, pieces) };
        true
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: as above.
        unsafe { product_avx2(dtype, rows, n_cols, x, pieces) };
        true
    } else {
        false
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
fn product_avx512(dtype: DType, rows: &[u8], n_cols: usize, x: &[f32], pieces: &mut [&mut [f32]]) {
    portable::product::<16, true>(dtype, rows, n_cols, x, pieces);
}

#[target_feature(enable = "avx2,fma")]
fn product_avx2(dtype: DType, rows: &[u8], n_cols: usize, x: &[f32], pieces: &mut [&mut [f32]]) {
    portable::product::<8, true>(dtype, rows, n_cols, x, pieces);
}
