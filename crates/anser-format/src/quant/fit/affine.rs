//! Types with a scale and a minimum: Q4_1 and Q5_1, Q2_K, Q4_K and Q5_K.

use half::f16;

use super::shared::share;
use super::{Weighted, dot, inverse_or_zero, round, sum, times, within};

/// A super-block of `N_SUB` sub-blocks: value = (d · scale) · quant − dmin · min.
pub(in super::super) struct AffineBlock<const N_SUB: usize> {
    pub(in super::super) d: f16,
    pub(in super::super) dmin: f16,
    pub(in super::super) scales: [u8; N_SUB],
    pub(in super::super) mins: [u8; N_SUB],
    /// One quant per element.
    pub(in super::super) quants: [u8; 256],
}

/// What is known of a sub-block after the search.
#[derive(Clone, Copy, Default)]
struct Fitted {
    scale: f32,
    /// value = scale · quant + offset
    offset: f32,
    /// Σ w, Σ w x, Σ w q, Σ w q² for the quants of the best trial.
    sum_w: f32,
    sum_wx: f32,
    sum_wq: f32,
    sum_wqq: f32,
}

impl Fitted {
    /// By how much the error grows with the square of a change of the scale, where the offset follows.
    fn scale_stiffness(&self) -> f32 {
        if self.offset == 0.0 {
            return self.sum_wqq;
        }
        (self.sum_wqq - self.sum_wq * self.sum_wq * inverse_or_zero(self.sum_w)).max(0.0)
    }

    /// The best offset for another scale and the same quants, at most 0.
    fn offset_for(&self, scale: f32) -> f32 {
        ((self.sum_wx - scale * self.sum_wq) * inverse_or_zero(self.sum_w)).min(0.0)
    }
}

/// Fits a super-block of `N_SUB` sub-blocks of `LEN` elements with quants 0..=`MAX_QUANT`, scales and minima 0..=`MAX_SCALE`.
pub(in super::super) fn fit_affine_block<
    const N_SUB: usize,
    const LEN: usize,
    const MAX_QUANT: u8,
    const MAX_SCALE: u8,
>(
    block: Weighted<256>,
) -> AffineBlock<N_SUB> {
    let (max_quant, max_scale) = (f32::from(MAX_QUANT), f32::from(MAX_SCALE));
    let mut fitted = [Fitted::default(); N_SUB];
    for (fitted, block) in fitted.iter_mut().zip(block.sub_blocks::<LEN>()) {
        *fitted = fit::<LEN, true>(block, max_quant);
    }
    let scales = share(&fitted.map(|f| f.scale), &fitted.map(|f| f.scale_stiffness()), [0.0, max_scale]);
    let scale = |s: usize| scales.unit.to_f32() * scales.multiples[s];
    let mins = std::array::from_fn(|s| -fitted[s].offset_for(scale(s)));
    let mins = share(&mins, &fitted.map(|f| f.sum_w), [0.0, max_scale]);

    let (mut d, mut dmin) = (scales.unit, mins.unit);
    let (mut scales, mut mins) = (scales.multiples, mins.multiples);
    let neighbours = if block.effort.is_far { &NEIGHBOURS[..] } else { &NEIGHBOURS[..N_NEAR] };
    for (s, block) in block.sub_blocks::<LEN>().enumerate() {
        let error = |scale: f32, min: f32| error(block, [d.to_f32() * scale, dmin.to_f32() * min], max_quant);
        (scales[s], mins[s]) = better_neighbour(scales[s], mins[s], max_scale, neighbours, error);
    }
    let mut quants = [[0.0; LEN]; N_SUB];
    let quantize = |quants: &mut [[f32; LEN]; N_SUB], d: f16, dmin: f16| {
        for (s, (quants, values)) in quants.iter_mut().zip(block.values.as_chunks::<LEN>().0).enumerate() {
            let (scale, min) = (d.to_f32() * scales[s], dmin.to_f32() * mins[s]);
            *quants = nearest(values, [scale, min], max_quant);
        }
    };
    quantize(&mut quants, d, dmin);
    // For these quants, scales and minima, the best units are another least-squares problem.
    if let Some(better) = best_units(block, &quants, &scales, &mins) {
        [d, dmin] = better;
        quantize(&mut quants, d, dmin);
    }
    let mut flat = [0; 256];
    for (flat, quants) in flat.as_chunks_mut::<LEN>().0.iter_mut().zip(&quants) {
        *flat = quants.map(|quant| quant as u8);
    }
    AffineBlock { d, dmin, scales: scales.map(|scale| scale as u8), mins: mins.map(|min| min as u8), quants: flat }
}

/// The changes of a scale and a minimum that are tried; a scale that grows wants a minimum that does.
const NEIGHBOURS: [(f32, f32); 10] = [
    (-1.0, -1.0),
    (-1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (1.0, 0.0),
    (1.0, 1.0),
    (-1.0, 1.0),
    (1.0, -1.0),
    (-2.0, 0.0),
    (2.0, 0.0),
];
/// The first of them are tried in every search.
const N_NEAR: usize = 6;

/// The scale and minimum, of these and their neighbours, that give the smallest error.
fn better_neighbour(
    scale: f32,
    min: f32,
    max: f32,
    neighbours: &[(f32, f32)],
    error: impl Fn(f32, f32) -> f32,
) -> (f32, f32) {
    let mut best = (error(scale, min), scale, min);
    for (by_scale, by_min) in neighbours {
        let (scale, min) = (scale + by_scale, min + by_min);
        if (0.0..=max).contains(&scale) && (0.0..=max).contains(&min) {
            let error = error(scale, min);
            if error < best.0 {
                best = (error, scale, min);
            }
        }
    }
    (best.1, best.2)
}

/// The quants for which scale · quant − min is nearest to the values.
#[inline(always)]
fn nearest<const LEN: usize>(values: &[f32; LEN], [scale, min]: [f32; 2], max_quant: f32) -> [f32; LEN] {
    let inverse = inverse_or_zero(scale);
    values.map(|value| within(round((value + min) * inverse), 0.0, max_quant))
}

/// Σ w (x − y)² for the nearest quants.
fn error<const LEN: usize>(block: Weighted<LEN>, [scale, min]: [f32; 2], max_quant: f32) -> f32 {
    let mut squares = nearest(block.values, [scale, min], max_quant);
    for (square, value) in squares.iter_mut().zip(block.values) {
        let difference = value + min - scale * *square;
        *square = difference * difference;
    }
    block.sum(&squares)
}

/// The units that minimise Σ w (x − d · scale · q + dmin · min)², if there is one solution with positive units.
fn best_units<const N_SUB: usize, const LEN: usize>(
    block: Weighted<256>,
    quants: &[[f32; LEN]; N_SUB],
    scales: &[f32; N_SUB],
    mins: &[f32; N_SUB],
) -> Option<[f16; 2]> {
    // Sums over the block of a = scale · q and b = −min: aa, ab, bb, ax, bx.
    let [mut aa, mut ab, mut bb, mut ax, mut bx] = [0.0f64; 5];
    for (s, block) in block.sub_blocks::<LEN>().enumerate() {
        let wq = times(&quants[s], block.weights);
        let (scale, min) = (f64::from(scales[s]), f64::from(mins[s]));
        aa += scale * scale * f64::from(dot(&wq, &quants[s]));
        ab -= scale * min * f64::from(sum(&wq));
        bb += min * min * f64::from(block.sum_w());
        ax += scale * f64::from(dot(&wq, block.values));
        bx -= min * f64::from(block.sum(block.values));
    }
    let determinant = aa * bb - ab * ab;
    let (d, dmin) = match bb == 0.0 {
        true if aa > 0.0 => (ax / aa, 0.0),
        true => return None,
        false => ((ax * bb - bx * ab) / determinant, (bx * aa - ax * ab) / determinant),
    };
    let units = [d, dmin].map(|unit| f16::from_f32(unit as f32));
    units.iter().all(|unit| unit.is_finite() && unit.to_f32() >= 0.0).then_some(units)
}

/// Fits a block of its own with quants 0..=`max_quant`: value = scale · quant + minimum, both F16. Gives the quants, too.
pub(in super::super) fn fit_affine_single<const LEN: usize>(
    block: Weighted<LEN>,
    max_quant: u8,
) -> ([f16; 2], [u8; LEN]) {
    let max_quant = f32::from(max_quant);
    let fitted = fit::<LEN, false>(block, max_quant);
    let mut best = (f32::INFINITY, [f16::ZERO; 2]);
    // The numbers beside a rounded scale, too: what it loses is largest where the quants are.
    let rounded = f16::from_f32(fitted.scale);
    for bits in [rounded.to_bits(), rounded.to_bits().saturating_sub(1), rounded.to_bits() + 1] {
        let scale = f16::from_bits(bits);
        if !scale.is_finite() {
            continue;
        }
        let offset = (fitted.sum_wx - scale.to_f32() * fitted.sum_wq) * inverse_or_zero(fitted.sum_w);
        let offset = f16::from_f32(offset);
        let error = error(block, [scale.to_f32(), -offset.to_f32()], max_quant);
        if error < best.0 {
            best = (error, [scale, offset]);
        }
    }
    let [scale, offset] = best.1.map(f16::to_f32);
    (best.1, nearest(block.values, [scale, -offset], max_quant).map(|quant| quant as u8))
}

/// Scale ≥ 0 and offset such that scale · (0..=`max_quant`) + offset is near the values. With `IS_BELOW_ZERO` the offset is at most 0,
/// since the stored minimum is not negative.
fn fit<const LEN: usize, const IS_BELOW_ZERO: bool>(block: Weighted<LEN>, max_quant: f32) -> Fitted {
    let start = if IS_BELOW_ZERO { 0.0 } else { f32::MAX };
    let [low, high] = range(block.values, start);
    let range = high - low;
    // Relative to `low`, so that the closed residual below does not cancel for values far from zero.
    let shifted = block.values.map(|value| value - low);
    let (sum_w, sum_wx) = (block.sum_w(), block.sum(&shifted));
    let all = |scale: f32, offset: f32, sum_wq: f32, sum_wqq: f32| Fitted {
        scale,
        offset: if IS_BELOW_ZERO { (low + offset).min(0.0) } else { low + offset },
        sum_w,
        sum_wx: sum_wx + low * sum_w,
        sum_wq,
        sum_wqq,
    };
    if range <= 0.0 {
        return all(0.0, 0.0, 0.0, 0.0); // All values are `low`.
    }
    // Residual, scale, offset, Σ w q, Σ w q².
    let mut best = [f32::INFINITY, range / max_quant, 0.0, 0.0, 0.0];
    // Keeps the best scale and offset for the quants that a step size and an offset give.
    let attempt = |best: &mut [f32; 5], inverse: f32, offset: f32| {
        let quants = shifted.map(|x| within(round((x - offset) * inverse), 0.0, max_quant));
        let wq = times(&quants, block.weights);
        let (sum_wq, sum_wqq, sum_wqx) = (sum(&wq), dot(&wq, &quants), dot(&wq, &shifted));
        // Minimise Σ w (x − scale · q − offset)².
        let determinant = sum_w * sum_wqq - sum_wq * sum_wq;
        let mut scale = (sum_w * sum_wqx - sum_wq * sum_wx) / determinant;
        let mut offset = (sum_wx - scale * sum_wq) / sum_w;
        if IS_BELOW_ZERO && offset > -low {
            offset = -low;
            scale = (sum_wqx - offset * sum_wq) / sum_wqq;
        }
        // The residual without its constant part Σ w x².
        let residual =
            scale * (scale * sum_wqq - 2.0 * sum_wqx) + offset * (sum_w * offset - 2.0 * sum_wx + 2.0 * scale * sum_wq);
        if residual < best[0] && scale > 0.0 {
            *best = [residual, scale, offset, sum_wq, sum_wqq];
        }
    };
    let effort = block.effort;
    // Without a matrix, no two elements count so differently that it pays to leave the other half of the levels unused.
    let least = if effort.is_far { 0.5 } else { max_quant / 2.0 };
    for change in effort.trials {
        if max_quant + change > least {
            attempt(&mut best, (max_quant + change) / range, 0.0);
        }
    }
    for _ in 0..effort.n_refinements {
        let [_, scale, offset, ..] = best;
        attempt(&mut best, 1.0 / scale, offset);
    }
    let [_, scale, offset, sum_wq, sum_wqq] = best;
    all(scale, offset, sum_wq, sum_wqq)
}

/// The smallest and the largest value; `start` counts as a value.
fn range<const LEN: usize>(values: &[f32; LEN], start: f32) -> [f32; 2] {
    let mut low = [start; super::LANES];
    let mut high = [f32::MIN; super::LANES];
    for values in values.as_chunks::<{ super::LANES }>().0 {
        for ((low, high), &value) in low.iter_mut().zip(&mut high).zip(values) {
            *low = if value < *low { value } else { *low };
            *high = if value > *high { value } else { *high };
        }
    }
    [low.into_iter().fold(start, f32::min), high.into_iter().fold(f32::MIN, f32::max)]
}
