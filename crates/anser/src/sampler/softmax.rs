//! Maximum and exponentials of whole logit rows, in plain arithmetic that gives the same bits on every platform (the
//! `exp` of a platform's library may differ in its last bit, and a drawn token with it) and that compilers vectorise.

/// The number of independent sums: enough to hide the latency of an addition.
const LANES: usize = 16;

/// ln(f32::MIN_POSITIVE), below which exponentials are 0.
const LOWEST: f32 = -87.336_54;

/// The largest of `logits` \[V\] (−∞ if there is none), or the index of the first that is NaN or +∞.
pub(super) fn max_logit(logits: &[f32]) -> Result<f32, usize> {
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut nan = [false; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            max[lane] = if chunk[lane] > max[lane] { chunk[lane] } else { max[lane] };
            nan[lane] |= chunk[lane].is_nan();
        }
    }
    let max = max.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    if max == f32::INFINITY || nan.contains(&true) || rest.iter().any(|l| l.is_nan()) {
        let bad = |&l: &f32| l.is_nan() || l == f32::INFINITY;
        return Err(logits.iter().position(bad).unwrap_or_default());
    }
    Ok(max)
}

/// Writes `exp((logit − max) / temperature)` for each of `logits` \[V\] to `weights` \[V\] and returns their sum.
pub(super) fn exp_weights(logits: &[f32], max: f32, temperature: f32, weights: &mut [f32]) -> f64 {
    let scale = inverse(temperature);
    for (logit, weight) in logits.iter().zip(weights.iter_mut()) {
        *weight = exp_of_at_most_0((logit - max) * scale);
    }
    let mut sum = [0.0f64; LANES]; // a loop of its own: with f64 in it, the one above would be vectorised half as wide
    let (chunks, rest) = weights.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sum[lane] += f64::from(chunk[lane]);
        }
    }
    sum.iter().sum::<f64>() + rest.iter().map(|&w| f64::from(w)).sum::<f64>()
}

/// Sum of `weights` \[V\] times the exponents `(logit − max) / temperature` that [`exp_weights`] made them from.
pub(super) fn sum_of_weighted_exponents(logits: &[f32], max: f32, temperature: f32, weights: &[f32]) -> f64 {
    let scale = inverse(temperature);
    // Below LOWEST the weight is 0; −∞ times it must not become NaN.
    let term = |logit: f32, weight: f32| f64::from(weight) * f64::from(((logit - max) * scale).max(LOWEST));
    let mut sum = [0.0f64; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let (weight_chunks, rest_weights) = weights.as_chunks::<LANES>();
    for (logits, weights) in chunks.iter().zip(weight_chunks) {
        for lane in 0..LANES {
            sum[lane] += term(logits[lane], weights[lane]);
        }
    }
    sum.iter().sum::<f64>() + rest.iter().zip(rest_weights).map(|(&l, &w)| term(l, w)).sum::<f64>()
}

/// 1 / temperature, kept finite so that 0 times it is 0 however small the temperature is.
pub(super) fn inverse(temperature: f32) -> f32 {
    (1.0 / temperature).min(f32::MAX)
}

/// exp(x) for x ≤ 0, within 2·10⁻⁷ of the true value; 0 below [`LOWEST`], where f32 loses its precision.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, so that exp(x) = 2ⁿ · exp(r); exp(r) by its Taylor polynomial of degree 7, whose
/// remainder r⁸/8! ≤ 6·10⁻⁹ is below f32's rounding.
#[inline(always)]
pub(super) fn exp_of_at_most_0(x: f32) -> f32 {
    // ln 2 in two parts: the first has 9 significant bits, so n times it is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = (std::f64::consts::LN_2 - 355.0 / 512.0) as f32;
    // Adding 1.5·2²³ leaves no bits for a fraction: the sum is rounded to an integer, held in its lowest bits.
    const ROUND: f32 = 12_582_912.0;

    let in_range = if x > LOWEST { x } else { LOWEST };
    let shifted = in_range * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = in_range - n * LN_2_HIGH - n * LN_2_LOW;
    let mut exp_r = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        exp_r = exp_r * r + coefficient;
    }
    let two_to_n = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x >= LOWEST { exp_r * two_to_n } else { 0.0 }
}
