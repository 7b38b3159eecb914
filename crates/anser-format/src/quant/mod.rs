//! The definition of every quantized format: block layout, dequantization and quantization.
//!
//! A row of a quantized tensor is a sequence of blocks; a block holds [`DType::block_len`] consecutive elements in
//! [`DType::block_n_bytes`] bytes. Each submodule defines one block struct: its fields in file order, the bits within
//! them, `from_bytes` to read it by value from unaligned bytes, `quants` to unpack the integers and `dequantize` to get
//! the values. Kernels are written against these definitions. All numbers are little-endian. The types whose integers come
//! from codebooks (IQ1_S to IQ3_S) are read and not written; what they have in common is [`CodebookBlock`].
//!
//! The formats are ggml's; the order of the floating-point operations is part of them, so that every implementation
//! gives the same bits.

mod codebook;
mod codebooks;
mod fields;
mod fit;
mod float;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod k_scales;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;

pub use codebook::CodebookBlock;
pub use float::{bf16_to_f32, f16_to_f32};
pub use iq1_m::BlockIq1M;
pub use iq1_s::BlockIq1S;
pub use iq2_s::BlockIq2S;
pub use iq2_xs::BlockIq2Xs;
pub use iq2_xxs::BlockIq2Xxs;
pub use iq3_s::BlockIq3S;
pub use iq3_xxs::BlockIq3Xxs;
pub use iq4_nl::{BlockIq4Nl, IQ4_VALUES};
pub use iq4_xs::BlockIq4Xs;
pub use k_scales::{pack_scales_mins, scale_min};
pub use q2_k::BlockQ2K;
pub use q3_k::BlockQ3K;
pub use q4_0::BlockQ4_0;
pub use q4_1::BlockQ4_1;
pub use q4_k::BlockQ4K;
pub use q5_0::BlockQ5_0;
pub use q5_1::BlockQ5_1;
pub use q5_k::BlockQ5K;
pub use q6_k::BlockQ6K;
pub use q8_0::BlockQ8_0;

use crate::tensor::DType;

/// Expands stored elements to `f32`.
///
/// `bytes` are whole blocks (for floats: elements) of `dtype`, unaligned, for example rows of a
/// [`TensorView`](crate::TensorView).
///
/// # Panics
/// If `bytes` is not `dtype.row_n_bytes(out.len())` long.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(dtype.row_n_bytes(out.len()), Some(bytes.len()), "bytes of {} elements of {dtype}", out.len());
    match dtype {
        DType::F32 => expand(bytes, out, f32::from_le_bytes),
        DType::F16 => f16_to_f32(bytes, out),
        DType::BF16 => bf16_to_f32(bytes, out),
        DType::Q8_0 => unblock(bytes, out, |block, out| BlockQ8_0::from_bytes(block).dequantize(out)),
        DType::Q4_0 => unblock(bytes, out, |block, out| BlockQ4_0::from_bytes(block).dequantize(out)),
        DType::Q4_1 => unblock(bytes, out, |block, out| BlockQ4_1::from_bytes(block).dequantize(out)),
        DType::Q5_0 => unblock(bytes, out, |block, out| BlockQ5_0::from_bytes(block).dequantize(out)),
        DType::Q5_1 => unblock(bytes, out, |block, out| BlockQ5_1::from_bytes(block).dequantize(out)),
        DType::Q2_K => unblock(bytes, out, |block, out| BlockQ2K::from_bytes(block).dequantize(out)),
        DType::Q3_K => unblock(bytes, out, |block, out| BlockQ3K::from_bytes(block).dequantize(out)),
        DType::Q4_K => unblock(bytes, out, |block, out| BlockQ4K::from_bytes(block).dequantize(out)),
        DType::Q5_K => unblock(bytes, out, |block, out| BlockQ5K::from_bytes(block).dequantize(out)),
        DType::Q6_K => unblock(bytes, out, |block, out| BlockQ6K::from_bytes(block).dequantize(out)),
        DType::IQ4_NL => unblock(bytes, out, |block, out| BlockIq4Nl::from_bytes(block).dequantize(out)),
        DType::IQ4_XS => unblock(bytes, out, |block, out| BlockIq4Xs::from_bytes(block).dequantize(out)),
        DType::IQ2_XXS => unblock(bytes, out, |block, out| BlockIq2Xxs::from_bytes(block).dequantize(out)),
        DType::IQ2_XS => unblock(bytes, out, |block, out| BlockIq2Xs::from_bytes(block).dequantize(out)),
        DType::IQ2_S => unblock(bytes, out, |block, out| BlockIq2S::from_bytes(block).dequantize(out)),
        DType::IQ3_XXS => unblock(bytes, out, |block, out| BlockIq3Xxs::from_bytes(block).dequantize(out)),
        DType::IQ3_S => unblock(bytes, out, |block, out| BlockIq3S::from_bytes(block).dequantize(out)),
        DType::IQ1_S => unblock(bytes, out, |block, out| BlockIq1S::from_bytes(block).dequantize(out)),
        DType::IQ1_M => unblock(bytes, out, |block, out| BlockIq1M::from_bytes(block).dequantize(out)),
    }
}

/// Why values cannot be quantized.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantizeError {
    /// The values do not fill whole blocks.
    #[error("{len} values are no multiple of {dtype}'s block of {} elements", dtype.block_len())]
    Length {
        /// Number of values.
        len: usize,
        /// The type asked for.
        dtype: DType,
    },
    /// There is no quantizer for the type.
    #[error(
        "there is no quantizer for {dtype}, a type that is read only; choose another one, for example Q2_K or Q3_K"
    )]
    ReadOnly {
        /// The type asked for.
        dtype: DType,
    },
    /// A value cannot be represented by a block, whose scales are F16.
    #[error("value {value} at position {index} cannot be quantized to {dtype}: it must be finite and at most 65504")]
    OutOfRange {
        /// Position of the value.
        index: usize,
        /// The value.
        value: f32,
        /// The type asked for.
        dtype: DType,
    },
    /// There is not one importance for each value.
    #[error("there are {n_importances} importances for {len} values; one for each value is needed")]
    ImportanceLength {
        /// Number of importances.
        n_importances: usize,
        /// Number of values.
        len: usize,
    },
    /// An importance is no weight.
    #[error("importance {value} at position {index} is no weight: it must be finite and not negative")]
    Importance {
        /// Position of the importance.
        index: usize,
        /// The importance.
        value: f32,
    },
}

/// The largest magnitude that is quantized: the largest finite F16, so that no scale overflows.
const MAX_MAGNITUDE: f32 = 65_504.0;

/// Stores values as `dtype`, where all errors count the same; see [`quantize_row`].
///
/// # Errors
/// As [`quantize_row`].
pub fn quantize(dtype: DType, src: &[f32]) -> Result<Vec<u8>, QuantizeError> {
    quantize_row(dtype, src, None)
}

/// Stores values as `dtype`. `importance` has a number ≥ 0 for each value, by which the square of its error counts: those of an importance
/// matrix, which say how much a column's input is.
///
/// Blocks are independent, so rows may be quantized in any order and in parallel. Q8_0 equals ggml's quantizer bit for
/// bit and knows no importance, as there; all other types minimise Σ importance · error² (ggml's weigh large values more). Floats are
/// converted as IEEE 754 has it: to the nearest value, beyond F16's range to infinity.
///
/// # Errors
/// If there is no quantizer for the type ([`DType::has_quantizer`]), `src` is not whole blocks, a value for a quantized type is not finite or beyond 65504, or the importances are not as many weights.
pub fn quantize_row(dtype: DType, src: &[f32], importance: Option<&[f32]>) -> Result<Vec<u8>, QuantizeError> {
    if !src.len().is_multiple_of(dtype.block_len()) {
        return Err(QuantizeError::Length { len: src.len(), dtype });
    }
    if dtype.is_quantized()
        && let Some(index) = src.iter().position(|value| !value.is_finite() || value.abs() > MAX_MAGNITUDE)
    {
        return Err(QuantizeError::OutOfRange { index, value: src[index], dtype });
    }
    if let Some(importance) = importance {
        if importance.len() != src.len() {
            return Err(QuantizeError::ImportanceLength { n_importances: importance.len(), len: src.len() });
        }
        if let Some(index) = importance.iter().position(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err(QuantizeError::Importance { index, value: importance[index] });
        }
    }
    Ok(match dtype {
        DType::F32 => src.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::F16 => float::f32_to_f16(src),
        DType::BF16 => src.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect(),
        DType::Q8_0 => block(src, None, |values, _| BlockQ8_0::quantize(values).to_bytes()),
        DType::Q4_0 => block(src, importance, |values, weights| BlockQ4_0::quantize(values, weights).to_bytes()),
        DType::Q4_1 => block(src, importance, |values, weights| BlockQ4_1::quantize(values, weights).to_bytes()),
        DType::Q5_0 => block(src, importance, |values, weights| BlockQ5_0::quantize(values, weights).to_bytes()),
        DType::Q5_1 => block(src, importance, |values, weights| BlockQ5_1::quantize(values, weights).to_bytes()),
        DType::Q2_K => block(src, importance, |values, weights| BlockQ2K::quantize(values, weights).to_bytes()),
        DType::Q3_K => block(src, importance, |values, weights| BlockQ3K::quantize(values, weights).to_bytes()),
        DType::Q4_K => block(src, importance, |values, weights| BlockQ4K::quantize(values, weights).to_bytes()),
        DType::Q5_K => block(src, importance, |values, weights| BlockQ5K::quantize(values, weights).to_bytes()),
        DType::Q6_K => block(src, importance, |values, weights| BlockQ6K::quantize(values, weights).to_bytes()),
        DType::IQ4_NL => block(src, importance, |values, weights| BlockIq4Nl::quantize(values, weights).to_bytes()),
        DType::IQ4_XS => block(src, importance, |values, weights| BlockIq4Xs::quantize(values, weights).to_bytes()),
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S | DType::IQ3_XXS | DType::IQ3_S | DType::IQ1_S | DType::IQ1_M => {
            return Err(QuantizeError::ReadOnly { dtype });
        }
    })
}

/// Applies a conversion to every element.
fn expand<const N: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    for (element, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = convert(*element);
    }
}

/// Applies a dequantizer to every block.
fn unblock<const N_BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    dequantize: impl Fn(&[u8; N_BYTES], &mut [f32; LEN]),
) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        dequantize(block, out);
    }
}

/// Applies a quantizer to every block and the weights of its elements.
fn block<const N_BYTES: usize, const LEN: usize>(
    src: &[f32],
    importance: Option<&[f32]>,
    quantize: impl Fn(&[f32; LEN], Option<&[f32; LEN]>) -> [u8; N_BYTES],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(src.len() / LEN * N_BYTES);
    let values = src.as_chunks().0;
    match importance {
        None => values.iter().for_each(|values| bytes.extend_from_slice(&quantize(values, None))),
        Some(importance) => {
            for (values, importance) in values.iter().zip(importance.as_chunks().0) {
                bytes.extend_from_slice(&quantize(values, Some(&weights(importance))));
            }
        }
    }
    bytes
}

/// Importances as weights whose mean is 1, so that sums of a block keep their precision. Columns that count for nothing count for very
/// little instead: a block of such columns alone still gets scales, and in others they decide between equally good ones.
fn weights<const LEN: usize>(importance: &[f32; LEN]) -> [f32; LEN] {
    const LEAST: f32 = 1e-6;
    let mean = importance.iter().map(|&weight| f64::from(weight)).sum::<f64>() / LEN as f64;
    if mean == 0.0 {
        return [1.0; LEN];
    }
    importance.map(|weight| (f64::from(weight) / mean) as f32 + LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantize_refuses_what_it_cannot_do() {
        let refused = |dtype, src: &[f32]| quantize(dtype, src).unwrap_err();
        assert_eq!(refused(DType::Q4_K, &[0.0; 255]), QuantizeError::Length { len: 255, dtype: DType::Q4_K });
        let mut src = [0.5; 64];
        src[40] = f32::NAN;
        assert!(matches!(refused(DType::Q8_0, &src), QuantizeError::OutOfRange { index: 40, .. }));
        assert_eq!(refused(DType::IQ2_XS, &[0.0; 256]), QuantizeError::ReadOnly { dtype: DType::IQ2_XS });
        src[40] = -70_000.0;
        assert!(matches!(refused(DType::Q8_0, &src), QuantizeError::OutOfRange { index: 40, .. }));
    }

    #[test]
    fn extreme_blocks_stay_finite_and_close() {
        // Q2_K has four levels and no minimum above zero, so that a third of the range lies between two of them.
        let ramp: Vec<f32> = (0..256).map(|i| MAX_MAGNITUDE * (i as f32 / 127.5 - 1.0)).collect();
        let cases: [(&str, Vec<f32>, f32); 6] = [
            ("zeros", vec![0.0; 256], 0.0),
            ("constant", vec![0.75; 256], 0.01),
            ("negative constant", vec![-0.75; 256], 0.01),
            ("largest", ramp, MAX_MAGNITUDE / 6.0 + 1.0),
            ("smallest", vec![f32::MIN_POSITIVE; 256], 1e-6),
            ("one outlier", (0..256).map(|i| if i == 77 { 100.0 } else { 0.0 }).collect(), 1.0),
        ];
        for (name, src, bound) in cases {
            for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized() && dtype.has_quantizer()) {
                let mut back = vec![f32::NAN; src.len()];
                dequantize(dtype, &quantize(dtype, &src).unwrap(), &mut back);
                for (a, b) in src.iter().zip(&back) {
                    assert!((a - b).abs() <= bound, "{name} as {dtype}: {a} became {b}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "bytes of 256 elements of Q4_K")]
    fn dequantize_panics_on_a_length_mismatch() {
        dequantize(DType::Q4_K, &[0; 143], &mut [0.0; 256]);
    }
}
