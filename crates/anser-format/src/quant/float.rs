//! F16 and BF16, stored little-endian and unaligned.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Elements converted at a time: enough for the vector conversion of the `half` crate, small enough for the stack.
const CHUNK_LEN: usize = 64;

/// Expands F16 elements; exact for every value, with subnormals and infinities.
///
/// # Panics
/// If `bytes` is not twice as long as `out`.
pub fn f16_to_f32(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * 2, "bytes of {} F16 elements", out.len());
    let (elements, _) = bytes.as_chunks();
    for (elements, out) in elements.chunks(CHUNK_LEN).zip(out.chunks_mut(CHUNK_LEN)) {
        let mut aligned = [f16::ZERO; CHUNK_LEN];
        for (aligned, element) in aligned.iter_mut().zip(elements) {
            *aligned = f16::from_le_bytes(*element);
        }
        aligned[..out.len()].convert_to_f32_slice(out);
    }
}

/// Rounds to F16 elements: to the nearest number, halves to even, beyond the range to infinity.
pub(super) fn f32_to_f16(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    let mut rounded = [f16::ZERO; CHUNK_LEN];
    for values in values.chunks(CHUNK_LEN) {
        let rounded = &mut rounded[..values.len()];
        rounded.convert_from_f32_slice(values);
        bytes.extend(rounded.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

/// Expands BF16 elements: the upper 16 bits of an F32.
///
/// # Panics
/// If `bytes` is not twice as long as `out`.
pub fn bf16_to_f32(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * 2, "bytes of {} BF16 elements", out.len());
    super::expand(bytes, out, |[low, high]| f32::from_le_bytes([0, 0, low, high]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_expands_as_ieee_754_defines_it() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut values = vec![0.0; 1 << 16];
        f16_to_f32(&bytes, &mut values);
        for (bits, value) in (0..=u16::MAX).zip(values) {
            let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
            match exponent {
                31 if fraction != 0.0 => assert!(value.is_nan()),
                31 => assert_eq!(f64::from(value), sign * f64::INFINITY),
                0 => assert_eq!(f64::from(value), sign * fraction * 2f64.powi(-24)),
                _ => assert_eq!(f64::from(value), sign * (1024.0 + fraction) * 2f64.powi(exponent - 25)),
            }
        }
    }
}
