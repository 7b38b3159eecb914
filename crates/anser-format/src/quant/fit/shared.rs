//! One number whose multiples stand for the scales of all sub-blocks.

use half::f16;

use super::{inverse_or_zero, round, within};

/// A number, and for each sub-block the multiple of it.
pub(super) struct Shared<const N_SUB: usize> {
    pub(super) unit: f16,
    pub(super) multiples: [f32; N_SUB],
}

/// How far below the largest multiple the largest scale may lie, in steps of half a multiple or less.
const N_CANDIDATES: usize = 24;

/// Rounds scales to multiples `low..=high` of one F16 such that Σ stiffness · (scale − multiple · unit)² is small.
///
/// The unit is "the scale of largest magnitude over `anchor`", where the anchor goes through numbers from the far end of the range
/// towards its middle: the number that suits the sub-blocks of high stiffness is among them.
pub(super) fn share<const N_SUB: usize>(
    scales: &[f32; N_SUB],
    stiffness: &[f32; N_SUB],
    [low, high]: [f32; 2],
) -> Shared<N_SUB> {
    let largest = scales.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    // The end of the range of larger magnitude, the one number of a signed range that has no twin.
    let end = if -low > high { low } else { high };
    let step = end.signum() * (end.abs() / 80.0).max(0.1);
    let mut best = Shared { unit: f16::ZERO, multiples: [0.0; N_SUB] };
    let mut best_error = f32::INFINITY;
    for i in 0..N_CANDIDATES {
        let unit = f16::from_f32(largest / (end - step * i as f32));
        let inverse = inverse_or_zero(unit.to_f32());
        let multiples = scales.map(|scale| within(round(scale * inverse), low, high));
        let unit_f32 = unit.to_f32();
        let error: f32 = (0..N_SUB).map(|s| stiffness[s] * (scales[s] - multiples[s] * unit_f32).powi(2)).sum();
        if error < best_error {
            best_error = error;
            best = Shared { unit, multiples };
        }
    }
    best
}
