//! Kernels by instruction set, chosen at run time.

#[cfg(target_arch = "x86_64")]
mod x86;

mod portable;

use anser_format::DType;

/// Rows of a weight against all tokens: pieces[t][i] = x[t] · row i.
///
/// `rows` holds `pieces[0].len()` weight rows of `n_cols` elements as they lie in the file, `x` is `[T, n_cols]`, and
/// there is one piece per token.
pub(crate) fn product(dtype: DType, rows: &[u8], n_cols: usize, x: &[f32], pieces: &mut [&mut [f32]]) {
    #[cfg(target_arch = "x86_64")]
    if x86::product(dtype, rows, n_cols, x, pieces) {
        return;
    }
    portable::product::<4, false>(dtype, rows, n_cols, x, pieces);
}
