//! The search for scales that the quantizers of the K types share.
//!
//! Each sub-block is tried with several step sizes around "the range divided by the number of levels". Rounding to a
//! step size fixes the quants; for fixed quants the best scale (and minimum) is a least-squares problem with a closed
//! solution and a closed residual. The best trial's scale and minimum are then themselves rounded to what the
//! super-block can store, and the quants computed once more for the rounded ones.
//!
//! Loops have fixed lengths and sums have eight lanes, so that they vectorise without reordering of floats.

use half::f16;

const LANES: usize = 8;

/// Relative changes of the number of levels, in steps, that are tried for each sub-block.
const TRIALS: [f32; 13] = [-0.9, -0.75, -0.6, -0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9];

/// A super-block of 8 × 32 elements: value = (d · scale) · quant − dmin · min.
pub(super) struct AffineBlock {
    pub(super) d: f16,
    pub(super) dmin: f16,
    /// 0..=63, one per sub-block.
    pub(super) scales: [u8; 8],
    /// 0..=63, one per sub-block.
    pub(super) mins: [u8; 8],
    /// One quant per element.
    pub(super) quants: [u8; 256],
}

/// A super-block of 16 × 16 elements: value = (d · scale) · quant.
pub(super) struct SymmetricBlock {
    pub(super) d: f16,
    pub(super) scales: [i8; 16],
    /// −32..=31, one per element.
    pub(super) quants: [i8; 256],
}

/// Fits a super-block with quants 0..=`MAX_QUANT`.
pub(super) fn fit_affine_block<const MAX_QUANT: u8>(values: &[f32; 256]) -> AffineBlock {
    let (sub_blocks, _) = values.as_chunks::<32>();
    let mut scales = [0.0; 8];
    let mut mins = [0.0; 8];
    for (s, values) in sub_blocks.iter().enumerate() {
        (scales[s], mins[s]) = fit_affine(values, f32::from(MAX_QUANT));
    }
    let (d, scales) = share_scale(&scales);
    let (dmin, mins) = share_scale(&mins);

    let mut quants = [0; 256];
    for (s, (values, quants)) in sub_blocks.iter().zip(quants.as_chunks_mut::<32>().0).enumerate() {
        let scale = d.to_f32() * f32::from(scales[s]);
        let min = dmin.to_f32() * f32::from(mins[s]);
        let inverse = inverse_or_zero(scale);
        for (quant, value) in quants.iter_mut().zip(values) {
            *quant = round((value + min) * inverse).clamp(0.0, f32::from(MAX_QUANT)) as u8;
        }
    }
    AffineBlock { d, dmin, scales, mins, quants }
}

/// Fits a super-block with quants −32..=31.
pub(super) fn fit_symmetric_block(values: &[f32; 256]) -> SymmetricBlock {
    let (sub_blocks, _) = values.as_chunks::<16>();
    let mut scales = [0.0f32; 16];
    for (scale, values) in scales.iter_mut().zip(sub_blocks) {
        *scale = fit_symmetric(values);
    }
    // The scale of largest magnitude becomes −128, the one number without a positive twin.
    let largest = scales.into_iter().fold(0.0f32, |a, b| if b.abs() > a.abs() { b } else { a });
    let d = f16::from_f32(largest / -128.0);
    let inverse = inverse_or_zero(d.to_f32());
    let scales = scales.map(|scale| round(scale * inverse).clamp(-128.0, 127.0) as i8);

    let mut quants = [0; 256];
    for ((values, quants), &scale) in sub_blocks.iter().zip(quants.as_chunks_mut::<16>().0).zip(&scales) {
        let inverse = inverse_or_zero(d.to_f32() * f32::from(scale));
        for (quant, value) in quants.iter_mut().zip(values) {
            *quant = round(value * inverse).clamp(-32.0, 31.0) as i8;
        }
    }
    SymmetricBlock { d, scales, quants }
}

/// Scale ≥ 0 and minimum ≥ 0 such that scale · (0..=`max_quant`) − minimum is near the values.
fn fit_affine(values: &[f32; 32], max_quant: f32) -> (f32, f32) {
    let low = values.iter().fold(0.0f32, |low, &value| low.min(value));
    let high = values.iter().fold(f32::MIN, |high, &value| high.max(value));
    let range = high - low;
    if range <= 0.0 {
        return (0.0, -low); // All values are `low`, which is not positive.
    }
    // Relative to `low`, so that the closed residual below does not cancel for values far from zero.
    let shifted = values.map(|value| value - low);
    let n = values.len() as f32;
    let sum_x = lane_sum(&shifted, |x| x);
    let mut best = (f32::INFINITY, range / max_quant, 0.0);
    for change in TRIALS {
        let inverse = (max_quant + change) / range;
        let quants = shifted.map(|x| round(x * inverse).min(max_quant));
        let sum_q = lane_sum(&quants, |q| q);
        let sum_qq = lane_sum(&quants, |q| q * q);
        let sum_qx = lane_dot(&quants, &shifted);
        // Minimise Σ (x − scale · q − offset)². The offset may not lift zero: the stored minimum is not negative.
        let determinant = n * sum_qq - sum_q * sum_q;
        let mut scale = (n * sum_qx - sum_q * sum_x) / determinant;
        let mut offset = (sum_x - scale * sum_q) / n;
        if offset > -low {
            offset = -low;
            scale = (sum_qx - offset * sum_q) / sum_qq;
        }
        // The residual without its constant part Σ x².
        let residual =
            scale * (scale * sum_qq - 2.0 * sum_qx) + offset * (n * offset - 2.0 * sum_x + 2.0 * scale * sum_q);
        if residual < best.0 && scale > 0.0 {
            best = (residual, scale, offset);
        }
    }
    (best.1, (-low - best.2).max(0.0))
}

/// Scale, of either sign, such that scale · (−32..=31) is near the values.
fn fit_symmetric(values: &[f32; 16]) -> f32 {
    let extreme = values.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    if extreme == 0.0 {
        return 0.0;
    }
    let mut best = (0.0, extreme / -32.0);
    for change in TRIALS {
        let inverse = (-32.0 - change) / extreme;
        let quants = values.map(|x| round(x * inverse).clamp(-32.0, 31.0));
        let sum_qq = lane_sum(&quants, |q| q * q);
        let sum_qx = lane_dot(&quants, values);
        // The least squares of Σ (x − scale · q)² is Σ x² less this gain.
        let gain = sum_qx * sum_qx / sum_qq;
        if gain > best.0 {
            best = (gain, sum_qx / sum_qq);
        }
    }
    best.1
}

/// Rounds eight numbers ≥ 0 to multiples 0..=63 of one F16.
fn share_scale(numbers: &[f32; 8]) -> (f16, [u8; 8]) {
    let largest = numbers.iter().fold(0.0f32, |a, &b| a.max(b));
    let d = f16::from_f32(largest / 63.0);
    let inverse = inverse_or_zero(d.to_f32());
    (d, numbers.map(|number| round(number * inverse).clamp(0.0, 63.0) as u8))
}

/// 1 / x, but 0 for 0: what is scaled by it becomes 0.
fn inverse_or_zero(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The nearest integer, halves to even, for magnitudes below 2²²: adding 1.5 · 2²³ leaves no bits for a fraction. Unlike
/// `round_ties_even` it is never a call, so loops around it vectorise.
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

fn lane_sum<const N: usize>(values: &[f32; N], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for values in values.as_chunks::<LANES>().0 {
        for (lane, &value) in lanes.iter_mut().zip(values) {
            *lane += term(value);
        }
    }
    lanes.into_iter().sum()
}

fn lane_dot<const N: usize>(a: &[f32; N], b: &[f32; N]) -> f32 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.into_iter().sum()
}
