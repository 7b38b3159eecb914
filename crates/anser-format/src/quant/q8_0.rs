//! Q8_0: 32 signed bytes under one scale.

use half::f16;

use super::fields::{bytes_at, concat, f16_at};
use crate::tensor::DType;

/// 32 elements in 34 bytes: element i = `d` · `qs[i]`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: f16,
    /// The quants, −127..=127 (−128 may occur in foreign files), element by element.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34 && DType::Q8_0.block_n_bytes() == 34);

impl BlockQ8_0 {
    /// Reads a block: bytes 0..2 `d`, 2..34 `qs`.
    #[inline]
    pub fn from_bytes(block: &[u8; 34]) -> BlockQ8_0 {
        BlockQ8_0 { d: f16_at::<0, 34>(block), qs: bytes_at::<2, 32, 34>(block).map(|byte| byte as i8) }
    }

    /// The block as it stands in a file.
    pub fn to_bytes(&self) -> [u8; 34] {
        concat(&[&self.d.to_le_bytes(), &self.qs.map(|quant| quant as u8)])
    }

    /// The 32 values.
    pub fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, quant) in out.iter_mut().zip(self.qs) {
            *out = f32::from(quant) * d;
        }
    }

    /// The nearest block: the largest magnitude becomes ±127, halves round away from zero.
    ///
    /// The quants are computed with the scale before its rounding to F16, as ggml does. Values must be finite and at
    /// most 65504.
    pub fn quantize(values: &[f32; 32]) -> BlockQ8_0 {
        let amax = values.iter().fold(0.0f32, |amax, value| amax.max(value.abs()));
        let d = amax / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        BlockQ8_0 { d: f16::from_f32(d), qs: values.map(|value| round_half_away(value * inverse) as i8) }
    }
}

/// `value.round()` in additions and a truncation, which vectorise where `round` is a call. The addend is the largest
/// number below a half: a half itself would carry the number just below 0.5 up to 1.
fn round_half_away(value: f32) -> i32 {
    (value + 0.499_999_97_f32.copysign(value)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_agrees_with_the_standard_library() {
        let near = |v: f32| [v.next_down(), v, v.next_up()];
        for value in (-600..=600).flat_map(|i| near(i as f32 * 0.25)) {
            assert_eq!(round_half_away(value), value.round() as i32, "{value}");
        }
    }
}
