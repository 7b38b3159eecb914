//! Element types and borrowed tensor views.

use std::borrow::Cow;
use std::fmt;

use crate::error::FormatError;
use crate::file::{ModelFile, TensorEntry};
use crate::stored::StoredType;

/// How the elements of a tensor are stored.
///
/// Float types hold one element per "block"; quantized types hold [`block_len`](DType::block_len) consecutive elements
/// of a row in [`block_n_bytes`](DType::block_n_bytes) bytes. The bit layouts are defined in [`quant`](crate::quant).
#[allow(non_camel_case_types, reason = "the names are those of the GGUF specification")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper 16 bits of an F32.
    BF16,
    /// 32 signed bytes and one F16 scale: 8.5 bits per element.
    Q8_0,
    /// 32 × 4 bits and one F16 scale: 4.5 bits per element.
    Q4_0,
    /// 32 × 4 bits, one F16 scale and one F16 minimum: 5 bits per element.
    Q4_1,
    /// 32 × 5 bits and one F16 scale: 5.5 bits per element.
    Q5_0,
    /// 32 × 5 bits, one F16 scale and one F16 minimum: 6 bits per element.
    Q5_1,
    /// 256 × 2 bits in 16 sub-blocks with 4-bit scales and minima: 2.625 bits per element.
    Q2_K,
    /// 256 × 3 bits in 16 sub-blocks with 6-bit scales: 3.4375 bits per element.
    Q3_K,
    /// 256 × 4 bits in 8 sub-blocks with 6-bit scales and minima: 4.5 bits per element.
    Q4_K,
    /// 256 × 5 bits in 8 sub-blocks with 6-bit scales and minima: 5.5 bits per element.
    Q5_K,
    /// 256 × 6 bits in 16 sub-blocks with 8-bit scales: 6.5625 bits per element.
    Q6_K,
    /// 32 × 4-bit indices into a fixed table and one F16 scale: 4.5 bits per element.
    IQ4_NL,
    /// 256 × 4-bit indices into a fixed table, 8 sub-blocks with 6-bit scales: 4.25 bits per element.
    IQ4_XS,
}

impl DType {
    /// Every type, in the order of the declaration.
    pub const ALL: [DType; 15] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q2_K,
        DType::Q3_K,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
        DType::IQ4_NL,
        DType::IQ4_XS,
    ];

    /// The type's name as GGUF tools write it, for example `"Q4_K"`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            DType::Q8_0 => "Q8_0",
            DType::Q4_0 => "Q4_0",
            DType::Q4_1 => "Q4_1",
            DType::Q5_0 => "Q5_0",
            DType::Q5_1 => "Q5_1",
            DType::Q2_K => "Q2_K",
            DType::Q3_K => "Q3_K",
            DType::Q4_K => "Q4_K",
            DType::Q5_K => "Q5_K",
            DType::Q6_K => "Q6_K",
            DType::IQ4_NL => "IQ4_NL",
            DType::IQ4_XS => "IQ4_XS",
        }
    }

    /// The number that stands for the type in a GGUF tensor table.
    pub const fn ggml_id(self) -> u32 {
        match self {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::Q4_0 => 2,
            DType::Q4_1 => 3,
            DType::Q5_0 => 6,
            DType::Q5_1 => 7,
            DType::Q8_0 => 8,
            DType::Q2_K => 10,
            DType::Q3_K => 11,
            DType::Q4_K => 12,
            DType::Q5_K => 13,
            DType::Q6_K => 14,
            DType::IQ4_NL => 20,
            DType::IQ4_XS => 23,
            DType::BF16 => 30,
        }
    }

    /// The type that a number in a GGUF tensor table stands for, if it is one of [`DType::ALL`].
    pub fn from_ggml_id(id: u32) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.ggml_id() == id)
    }

    /// Elements per block: 1 for floats, 32 or 256 for quantized types.
    pub const fn block_len(self) -> usize {
        match self {
            DType::F32 | DType::F16 | DType::BF16 => 1,
            DType::Q8_0 | DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::IQ4_NL => 32,
            DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K | DType::IQ4_XS => 256,
        }
    }

    /// Bytes per block.
    pub const fn block_n_bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Q8_0 => 34,
            DType::Q4_0 => 18,
            DType::Q4_1 => 20,
            DType::Q5_0 => 22,
            DType::Q5_1 => 24,
            DType::Q2_K => 84,
            DType::Q3_K => 110,
            DType::Q4_K => 144,
            DType::Q5_K => 176,
            DType::Q6_K => 210,
            DType::IQ4_NL => 18,
            DType::IQ4_XS => 136,
        }
    }

    /// Bytes of a row of `n_cols` elements; `None` if `n_cols` is not a multiple of the block length or the product
    /// does not fit in a `usize`.
    pub fn row_n_bytes(self, n_cols: usize) -> Option<usize> {
        if !n_cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (n_cols / self.block_len()).checked_mul(self.block_n_bytes())
    }

    /// Whether the type packs several elements into a block with shared scales.
    pub fn is_quantized(self) -> bool {
        self.block_len() > 1
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor as it lies in a file: name, type, shape and bytes, all borrowed from the [`ModelFile`](crate::ModelFile).
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The tensor's name in the file.
    pub name: &'a str,
    /// How the elements are stored.
    pub dtype: DType,
    /// Slowest dimension first (row-major); a GGUF file's dimensions are reversed to get this.
    pub shape: &'a [usize],
    /// The stored elements, unaligned, in row-major order; their length is what `dtype` and `shape` ask for.
    pub bytes: &'a [u8],
}

/// What a file's index says about a tensor of any type, borrowed from the [`ModelFile`](crate::ModelFile).
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo<'a> {
    /// The tensor's name in the file.
    pub name: &'a str,
    /// How the elements are stored.
    pub stored: &'a StoredType,
    /// Slowest dimension first (row-major).
    pub shape: &'a [usize],
    /// Bytes of the stored elements; `None` if the size of such elements is not known.
    pub n_bytes: Option<usize>,
    pub(crate) file: &'a ModelFile,
    pub(crate) entry: &'a TensorEntry,
}

impl<'a> TensorInfo<'a> {
    /// The tensor with its elements, if their type is one that the engine computes with, and they are mapped or in memory. Elements that a
    /// file has in another than row-major order are copied by the first call.
    pub fn view(&self) -> Option<TensorView<'a>> {
        let dtype = self.stored.computed()?;
        Some(TensorView { name: self.name, dtype, shape: self.shape, bytes: self.file.entry_bytes(self.entry)? })
    }

    /// The elements in row-major order, read if they are neither mapped nor in memory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(&self) -> Result<Cow<'a, [u8]>, FormatError> {
        self.file.read_entry(self.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_round_trip() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_ggml_id(dtype.ggml_id()), Some(dtype));
        }
        assert_eq!(DType::from_ggml_id(4), None);
        assert_eq!(DType::from_ggml_id(u32::MAX), None);
    }

    #[test]
    fn row_bytes_need_whole_blocks_and_do_not_overflow() {
        assert_eq!(DType::Q4_K.row_n_bytes(2560), Some(1440));
        assert_eq!(DType::Q4_K.row_n_bytes(64), None);
        assert_eq!(DType::F16.row_n_bytes(3), Some(6));
        assert_eq!(DType::Q6_K.row_n_bytes(0), Some(0));
        assert_eq!(DType::F32.row_n_bytes(usize::MAX), None);
    }
}
