//! How matrices lie on the device.
//!
//! Kernels read rows in units of 16 bytes. F32, F16, BF16, Q4_K and Q5_K rows lie as in the file (floats padded to whole
//! pieces of 16 columns, which rows almost always are). Q8_0 and Q6_K blocks are no multiple of 4 bytes: their bits are
//! put in another order, described in `wgsl/weight/`. Rarer types become one of these, without loss where there is one
//! that can hold them, see [`kept`].
//!
//! A matrix whose input is mostly zero lies in panels of rows, column by column, so that columns can be left out: the same
//! numbers in another order, see `wgsl/weight/panels_f16.wgsl`.

use super::repack;
use super::table::{DeviceType, kept};
use anser_format::DType;
use anser_model::Weight;
use half::f16;

/// Columns of a piece, see `wgsl/weight/piece.wgsl`.
pub(crate) const PIECE_LEN: usize = 16;

/// Rows of a panel, see `wgsl/weight/panels_f16.wgsl`.
pub(crate) const PANEL_LEN: usize = 16;

/// What the number of columns of a matrix in panels is a multiple of, see `wgsl/matmul/sparse.wgsl`.
pub(crate) const PANEL_COLS: usize = 256;

/// Bytes of a `vec4<u32>`, which rows are padded to.
const VEC4_N_BYTES: usize = 16;

/// How the rows of one matrix lie on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceLayout {
    /// Storage type on the device: F32, F16, BF16, Q8_0, Q4_K, Q5_K or Q6_K.
    pub(crate) dtype: DType,
    /// Bytes of a row on the device, a multiple of 16.
    pub(crate) row_n_bytes: usize,
    /// Rows of a panel, which lie together column by column, see `wgsl/weight/panels_f16.wgsl`; 1 if every row lies by itself.
    pub(crate) panel_len: usize,
    verbatim: bool,
}

/// The layout of a matrix. That of F32 takes reading all of it, see [`is_f16`].
pub(crate) fn layout(weight: &Weight) -> DeviceLayout {
    layout_of(weight, weight.dtype() == DType::F32 && holds_f16(weight))
}

/// Whether F16 holds all numbers of an F32 matrix exactly. One that cannot be read is told when it is uploaded.
fn holds_f16(weight: &Weight) -> bool {
    /// Bytes to read at once of a matrix that is not in memory.
    const AT_ONCE: usize = 4 << 20;

    if weight.is_in_memory() {
        return is_f16(weight.bytes());
    }
    let n_rows = (AT_ONCE / weight.row_n_bytes().max(1)).max(1);
    let mut scratch = vec![];
    (0..weight.n_rows()).step_by(n_rows).all(|start| {
        let rows = start..(start + n_rows).min(weight.n_rows());
        weight.fetch_rows(rows, &mut scratch).is_ok_and(is_f16)
    })
}

/// The layout of a matrix. `is_f16`: whether it is F32, and F16 holds all of its numbers exactly.
pub(crate) fn layout_of(weight: &Weight, is_f16: bool) -> DeviceLayout {
    let from = weight.dtype();
    let kept = kept(from);
    let dtype = if is_f16 { DType::F16 } else { kept.on_device.dtype };
    let row_n_bytes = row_n_bytes(dtype, weight.n_cols());
    let verbatim = dtype == from && kept.write.is_none() && row_n_bytes == weight.row_n_bytes();
    DeviceLayout { dtype, row_n_bytes, panel_len: 1, verbatim }
}

impl DeviceLayout {
    /// What kernels know of the storage type.
    pub(crate) fn device_type(&self) -> &'static DeviceType {
        kept(self.dtype).on_device
    }

    /// The layout of the same matrix in panels; `None` if there is none for its type and its number of columns.
    pub(crate) fn in_panels(self, [n_rows, n_cols]: [usize; 2]) -> Option<DeviceLayout> {
        let fits = self.dtype == DType::F16 && n_rows.is_multiple_of(PANEL_LEN) && n_cols.is_multiple_of(PANEL_COLS);
        fits.then_some(DeviceLayout { panel_len: PANEL_LEN, verbatim: false, ..self })
    }

    /// Whether the rows are those of the file, byte for byte.
    pub(crate) fn is_verbatim(&self) -> bool {
        self.verbatim
    }

    /// Writes the rows of `weight` that `rows` holds, whole panels, to `out`, `[rows, row_n_bytes]`.
    ///
    /// # Panics
    /// If `out` has another length, or `rows` are not whole rows.
    pub(crate) fn repack(&self, weight: &Weight, rows: &[u8], out: &mut [u8]) {
        if self.panel_len > 1 {
            return self.repack_panels(weight, rows, out);
        }
        let is_rounded = weight.dtype() == DType::F32 && self.dtype == DType::F16;
        let write = if is_rounded { repack::f32_as_f16 } else { kept(weight.dtype()).write.unwrap_or(repack::padded) };
        let rows = rows.chunks_exact(weight.row_n_bytes());
        assert_eq!(out.len(), rows.len() * self.row_n_bytes, "{}", weight.name());
        for (row, out) in rows.zip(out.chunks_exact_mut(self.row_n_bytes)) {
            write(row, weight.n_cols(), out);
        }
    }

    fn repack_panels(&self, weight: &Weight, rows: &[u8], out: &mut [u8]) {
        let by_rows = layout_of(weight, self.dtype == DType::F16);
        let n_bytes = self.panel_len * self.row_n_bytes;
        let mut repacked = vec![0; if by_rows.is_verbatim() { 0 } else { n_bytes }];
        let panels = rows.chunks_exact(self.panel_len * weight.row_n_bytes());
        assert_eq!(out.len(), panels.len() * n_bytes, "{}", weight.name());
        for (panel, out) in panels.zip(out.chunks_exact_mut(n_bytes)) {
            let panel = if by_rows.is_verbatim() {
                panel
            } else {
                by_rows.repack(weight, panel, &mut repacked);
                &repacked
            };
            write_panel(panel, self.row_n_bytes, out);
        }
    }
}

/// Whether a matrix is quantized on the device.
pub(crate) fn is_quantized(weight: &Weight) -> bool {
    kept(weight.dtype()).on_device.float_kind.is_none()
}

/// Bytes of a row on the device; `dtype` is one that kernels read, and rows are whole blocks of it.
fn row_n_bytes(dtype: DType, n_cols: usize) -> usize {
    let n_blocks = n_cols / dtype.block_len();
    let n_bytes = match dtype.is_quantized() {
        true => n_blocks * dtype.block_n_bytes(),
        false => n_cols.next_multiple_of(PIECE_LEN) * dtype.block_n_bytes(),
    };
    n_bytes.next_multiple_of(VEC4_N_BYTES)
}

/// Whether F16 holds all these F32 numbers exactly. Loading waits for this, so that numbers are looked at several at a
/// time, as bits: zeros and what is in the normal range of F16 with ten bits behind the point, the others one by one.
pub(crate) fn is_f16(bytes: &[u8]) -> bool {
    const AT_ONCE: usize = 64;

    let is_plain = |bits: u32| {
        let exponent = (bits >> 23) & 0xff;
        let normal = exponent.wrapping_sub(127 - 14) <= 29;
        (bits & 0x1fff == 0) & (normal | (bits << 1 == 0))
    };
    let is_exact = |bits: u32| f16::from_f32(f32::from_bits(bits)).to_f32().to_bits() == bits;
    bytes.as_chunks::<4>().0.chunks(AT_ONCE).all(|numbers| {
        let bits = || numbers.iter().map(|&number| u32::from_le_bytes(number));
        bits().fold(true, |all, bits| all & is_plain(bits)) || bits().all(is_exact)
    })
}

/// Writes the panel of 16 rows, see `wgsl/weight/panels_f16.wgsl`. Loading waits for this, so that several columns are put in order
/// at once, in registers.
fn write_panel(rows: &[u8], row_n_bytes: usize, out: &mut [u8]) {
    const AT_ONCE: usize = 8;

    let mut each = rows.chunks_exact(row_n_bytes).map(|row| row.as_chunks::<{ 2 * AT_ONCE }>().0);
    let rows: [_; PANEL_LEN] = std::array::from_fn(|_| each.next().unwrap_or_default());
    for (at, columns) in out.as_chunks_mut::<{ 2 * PANEL_LEN * AT_ONCE }>().0.iter_mut().enumerate() {
        let block = rows.map(|row| row[at]);
        for (column, out) in columns.as_chunks_mut::<{ 2 * PANEL_LEN }>().0.iter_mut().enumerate() {
            for (row, halves) in block.iter().enumerate() {
                out[2 * row] = halves[2 * column];
                out[2 * row + 1] = halves[2 * column + 1];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_numbers_are_those_that_come_back() {
        let is_exact = |x: f32| f16::from_f32(x).to_f32().to_bits() == x.to_bits();
        let all_halves = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32());
        let others = (0..1 << 20).map(|i: u32| f32::from_bits(i.wrapping_mul(4099).wrapping_add(i << 21)));
        for x in all_halves.chain(others).chain([65520.0, -65504.0, 2f32.powi(-25), 2f32.powi(-24), f32::NAN]) {
            let among = [[1.0, 0.5, -0.0], [x, 2.0, 0.0]].concat();
            let bytes: Vec<u8> = among.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(is_f16(&bytes), is_exact(x), "{x:e}");
        }
    }
}
