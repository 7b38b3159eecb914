//! Types with a scale alone: Q4_0 and Q5_0, Q3_K, Q6_K, and IQ4_NL and IQ4_XS, whose levels are not evenly spaced.

use half::f16;

use super::shared::share;
use super::{Weighted, dot, inverse_or_zero, round, times, within};

/// The numbers that a scale multiplies.
pub(in super::super) trait Levels {
    /// The level of largest magnitude, for which the value of largest magnitude is tried first.
    const EXTREME: f32;
    /// The level of largest magnitude on the other side of zero.
    const OTHER_EXTREME: f32;
    /// The change of the extreme level by which one unit of a trial changes it: about the distance between two levels.
    const STEP: f32;

    /// The level nearest to `x`.
    fn nearest(x: f32) -> f32;
}

/// The integers −`N`..=`N` − 1.
pub(in super::super) struct Linear<const N: i8>;

impl<const N: i8> Levels for Linear<N> {
    const EXTREME: f32 = -(N as f32);
    const OTHER_EXTREME: f32 = N as f32 - 1.0;
    const STEP: f32 = if N < 8 { 0.5 } else { 1.0 };

    #[inline(always)]
    fn nearest(x: f32) -> f32 {
        within(round(x), -(N as f32), N as f32 - 1.0)
    }
}

/// The table of IQ4_NL and IQ4_XS.
pub(in super::super) struct Table;

/// The table's value nearest to each half of an integer, −128 to 127.5.
const NEAREST: [i8; 512] = {
    let table = crate::quant::IQ4_VALUES;
    let mut nearest = [0; 512];
    let mut at = 0;
    while at < 512 {
        let doubled = at as i32 - 256;
        let mut best = 0;
        let mut i = 1;
        while i < table.len() {
            if (table[i] as i32 * 2 - doubled).abs() < (table[best] as i32 * 2 - doubled).abs() {
                best = i;
            }
            i += 1;
        }
        nearest[at] = table[best];
        at += 1;
    }
    nearest
};

impl Levels for Table {
    const EXTREME: f32 = -127.0;
    const OTHER_EXTREME: f32 = 113.0;
    const STEP: f32 = 12.0;

    #[inline(always)]
    fn nearest(x: f32) -> f32 {
        f32::from(NEAREST[within(2.0 * x + 256.5, 0.0, 511.0) as usize])
    }
}

/// A super-block of `N_SUB` sub-blocks: value = (d · scale) · level.
pub(in super::super) struct ScaledBlock<const N_SUB: usize> {
    pub(in super::super) d: f16,
    pub(in super::super) scales: [i8; N_SUB],
    /// One level per element.
    pub(in super::super) levels: [i8; 256],
}

/// Fits a super-block of `N_SUB` sub-blocks of `LEN` elements, whose scales are in `-max_scale..max_scale`.
pub(in super::super) fn fit_scaled_block<L: Levels, const N_SUB: usize, const LEN: usize>(
    block: Weighted<256>,
    max_scale: f32,
) -> ScaledBlock<N_SUB> {
    let mut fitted = [(0.0, 0.0); N_SUB];
    for (fitted, block) in fitted.iter_mut().zip(block.sub_blocks::<LEN>()) {
        *fitted = fit::<L, LEN>(block);
    }
    let range = [-max_scale, max_scale - 1.0];
    let scales = share(&fitted.map(|(scale, _)| scale), &fitted.map(|(_, stiffness)| stiffness), range);
    let (mut d, mut scales) = (scales.unit, scales.multiples);
    let neighbours: &[f32] = if block.effort.is_far { &[0.0, -1.0, 1.0, -2.0, 2.0] } else { &[0.0, -1.0, 1.0] };
    for (scale, block) in scales.iter_mut().zip(block.sub_blocks::<LEN>()) {
        let best = neighbours
            .iter()
            .map(|by| within(*scale + by, range[0], range[1]))
            .map(|scale| (error::<L, LEN>(block, d.to_f32() * scale), scale))
            .reduce(|best, next| if next.0 < best.0 { next } else { best });
        *scale = best.map_or(*scale, |(_, scale)| scale);
    }
    let mut levels = [[0.0; LEN]; N_SUB];
    let quantize = |levels: &mut [[f32; LEN]; N_SUB], d: f16| {
        for (s, (levels, values)) in levels.iter_mut().zip(block.values.as_chunks::<LEN>().0).enumerate() {
            *levels = nearest::<L, LEN>(values, inverse_or_zero(d.to_f32() * scales[s]));
        }
    };
    quantize(&mut levels, d);
    // For these levels and scales, the best unit is another least-squares problem.
    let [mut aa, mut ax] = [0.0f64; 2];
    for (s, block) in block.sub_blocks::<LEN>().enumerate() {
        let wq = times(&levels[s], block.weights);
        aa += f64::from(scales[s]) * f64::from(scales[s]) * f64::from(dot(&wq, &levels[s]));
        ax += f64::from(scales[s]) * f64::from(dot(&wq, block.values));
    }
    let better = f16::from_f32((ax / aa) as f32);
    if aa > 0.0 && better.is_finite() {
        d = better;
        quantize(&mut levels, d);
    }
    let mut flat = [0; 256];
    for (flat, levels) in flat.as_chunks_mut::<LEN>().0.iter_mut().zip(&levels) {
        *flat = levels.map(|level| level as i8);
    }
    ScaledBlock { d, scales: scales.map(|scale| scale as i8), levels: flat }
}

/// Fits a block of its own: value = scale · level with an F16 as the scale.
pub(in super::super) fn fit_scaled_single<L: Levels, const LEN: usize>(block: Weighted<LEN>) -> (f16, [i8; LEN]) {
    let (scale, _) = fit::<L, LEN>(block);
    let rounded = f16::from_f32(scale);
    // The numbers beside the rounded scale, too: what it loses is largest where the levels are.
    let mut best = (f32::INFINITY, rounded);
    for bits in [rounded.to_bits(), rounded.to_bits().wrapping_sub(1), rounded.to_bits().wrapping_add(1)] {
        let scale = f16::from_bits(bits);
        let error = if scale.is_finite() { error::<L, LEN>(block, scale.to_f32()) } else { f32::NAN };
        if error < best.0 {
            best = (error, scale);
        }
    }
    let levels = nearest::<L, LEN>(block.values, inverse_or_zero(best.1.to_f32()));
    (best.1, levels.map(|level| level as i8))
}

/// The levels nearest to the values times `inverse`.
#[inline(always)]
fn nearest<L: Levels, const LEN: usize>(values: &[f32; LEN], inverse: f32) -> [f32; LEN] {
    values.map(|value| L::nearest(value * inverse))
}

/// Σ w (x − scale · level)² for the nearest levels.
fn error<L: Levels, const LEN: usize>(block: Weighted<LEN>, scale: f32) -> f32 {
    let mut squares = nearest::<L, LEN>(block.values, inverse_or_zero(scale));
    for (square, value) in squares.iter_mut().zip(block.values) {
        let difference = value - scale * *square;
        *square = difference * difference;
    }
    block.sum(&squares)
}

/// Scale, of either sign, such that scale · levels is near the values, and by how much the error grows with the square of a change
/// of it.
fn fit<L: Levels, const LEN: usize>(block: Weighted<LEN>) -> (f32, f32) {
    let extreme = block.values.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    if extreme == 0.0 {
        return (0.0, 0.0);
    }
    // Gain, scale, stiffness.
    let mut best = [0.0, extreme / L::EXTREME, 0.0];
    let attempt = |best: &mut [f32; 3], inverse: f32| {
        let levels = nearest::<L, LEN>(block.values, inverse);
        let wq = times(&levels, block.weights);
        let (sum_wqq, sum_wqx) = (dot(&wq, &levels), dot(&wq, block.values));
        // The least squares of Σ w (x − scale · q)² is Σ w x² less this gain.
        let gain = sum_wqx * sum_wqx / sum_wqq;
        if gain > best[0] {
            *best = [gain, sum_wqx / sum_wqq, sum_wqq];
        }
    };
    let effort = block.effort;
    for change in effort.trials {
        attempt(&mut best, (L::EXTREME - change * L::STEP) / extreme);
        attempt(&mut best, (L::OTHER_EXTREME + change * L::STEP) / extreme);
    }
    for _ in 0..effort.n_refinements {
        let inverse = 1.0 / best[1];
        attempt(&mut best, inverse);
    }
    (best[1], best[2])
}
