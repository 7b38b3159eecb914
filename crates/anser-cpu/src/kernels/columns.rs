//! Rows of a float matrix that the file has column by column, as BlinkDL's low-rank matrices lie: some rows at a time become f32
//! in the processor's cache, and the kernels of ordinary matrices read them there. No copy of the matrix is kept.

use super::gemm_f32::convert;
use crate::arch::{Kernel, Simd};
use anser_format::DType;

/// The most rows that are gathered at a time. Two bytes of each fill a cache line of a column.
pub(crate) const MAX_N_ROWS: usize = 32;
/// The number of rows of the widest vectors.
const MAX_LANES: usize = 16;

/// out `[n_rows, n_cols]` = the first `n_rows`, at most [`MAX_N_ROWS`], of the matrix that begins at `columns`.
pub(crate) struct Gather<'a> {
    pub(crate) dtype: DType,
    /// From the first row of the first column on.
    pub(crate) columns: &'a [u8],
    /// Elements from one column to the next.
    pub(crate) stride: usize,
    pub(crate) n_rows: usize,
    pub(crate) n_cols: usize,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Gather { dtype, columns, stride, n_rows, n_cols, out } = self;
        let size = dtype.block_n_bytes();
        let mut converted = [0.0; MAX_LANES * MAX_N_ROWS]; // [LANES columns, rows]
        let mut turned = [0.0; MAX_LANES * MAX_N_ROWS]; // [rows, LANES columns]
        for first in (0..n_cols).step_by(S::LANES) {
            let n = S::LANES.min(n_cols - first);
            for (i, column) in converted.chunks_exact_mut(MAX_N_ROWS).take(n).enumerate() {
                let column_bytes = &columns[(first + i) * stride * size..][..n_rows * size];
                // Columns lie too far apart for the processor's own prefetcher.
                super::prefetch(simd, column_bytes, S::LANES * stride * size);
                convert(simd, dtype, column_bytes, &mut column[..n_rows]);
            }
            simd.interleave(&converted[..], MAX_N_ROWS, &mut turned[..n_rows * S::LANES]);
            for (row, turned) in out.chunks_exact_mut(n_cols).zip(turned.chunks_exact(S::LANES)) {
                row[first..first + n].copy_from_slice(&turned[..n]);
            }
        }
    }
}
