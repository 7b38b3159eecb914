//! The operations between the matrix products, over rows of activations: the formulas of [`crate::ops`], with sums in
//! several lanes and exponentials that the compiler vectorises.

use crate::arch::{Kernel, Simd};
use crate::ops::{NormBonusGate, NormGate};
use anser_model::Activation;

/// e^x within 2 units in the last place: 2^n · e^r with |r| ≤ ln 2 / 2 and a polynomial for e^r (Taylor, degree 7).
/// Arguments beyond ±87 count as ±87, so that the result is normal.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to an integer, which the low bits then hold.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts: the first has so few digits that n times it is exact.
    const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];
    let x = if x > 87.0 { 87.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

#[inline(always)]
fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + exp(-z))
}

#[inline(always)]
fn tanh(z: f32) -> f32 {
    // Near zero 1 − 2 / (e^2z + 1) cancels; the series (to z⁷) does not.
    let square = z * z;
    let small = z * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let large = 1.0 - 2.0 / (exp(2.0 * z) + 1.0);
    if z.abs() < 0.2 { small } else { large }
}

/// z ← residual + activation(z + bias) for one row or a part of it.
pub(crate) struct Finish<'a> {
    pub(crate) z: &'a mut [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Activation,
    pub(crate) residual: Option<&'a [f32]>,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Finish { z, bias, activation, residual } = self;
        if let Some(bias) = bias {
            z.iter_mut().zip(bias).for_each(|(z, &b)| *z += b);
        }
        match activation {
            Activation::Identity => {}
            Activation::Tanh => z.iter_mut().for_each(|z| *z = tanh(*z)),
            Activation::Sigmoid => z.iter_mut().for_each(|z| *z = sigmoid(*z)),
            Activation::ReluSquared => z.iter_mut().for_each(|z| *z = z.max(0.0) * z.max(0.0)),
            Activation::Decay => z.iter_mut().for_each(|z| *z = exp(-0.606_531 * sigmoid(*z))),
            Activation::Silu => z.iter_mut().for_each(|z| *z *= sigmoid(*z)),
            Activation::Decay6 => z.iter_mut().for_each(|z| *z = exp(-exp(*z))),
        }
        if let Some(residual) = residual {
            z.iter_mut().zip(residual).for_each(|(z, &r)| *z += r);
        }
    }
}

/// Σ f(i) for i below `n`, in 16 partial sums.
#[inline(always)]
fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0f32; 16];
    let whole = n / 16 * 16;
    for start in (0..whole).step_by(16) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += f(start + i);
        }
    }
    sums.iter().sum::<f32>() + (whole..n).map(f).sum::<f32>()
}

/// Mean, and 1/√(variance + eps) with the biased variance, in two passes.
#[inline(always)]
fn mean_and_scale(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x.len(), |i| x[i]) / n;
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// [`crate::ops::layer_norm`] of every row: x and out `[T, C]`.
pub(crate) struct LayerNorm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let c = self.weight.len();
        for (x, out) in self.x.chunks_exact(c).zip(self.out.chunks_exact_mut(c)) {
            let (mean, scale) = mean_and_scale(x, self.eps);
            for (((o, &x), &w), &b) in out.iter_mut().zip(x).zip(self.weight).zip(self.bias) {
                *o = (x - mean) * scale * w + b;
            }
        }
    }
}

/// [`crate::ops::token_shift`] of one row for one mix vector.
pub(crate) struct TokenShift<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) x_prev: &'a [f32],
    pub(crate) mix: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for TokenShift<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (((o, &x), &prev), &m) in self.out.iter_mut().zip(self.x).zip(self.x_prev).zip(self.mix) {
            *o = x + (prev - x) * m;
        }
    }
}

/// [`crate::ops::key_control`] of every row: k, a, kk, k_out `[T, C]`.
pub(crate) struct KeyControl<'a> {
    pub(crate) k: &'a [f32],
    pub(crate) a: &'a [f32],
    pub(crate) k_k: &'a [f32],
    pub(crate) k_a: &'a [f32],
    pub(crate) head_size: usize,
    pub(crate) kk: &'a mut [f32],
    pub(crate) k_out: &'a mut [f32],
}

impl Kernel for KeyControl<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let KeyControl { k, a, k_k, k_a, head_size, kk, k_out } = self;
        let c = k_k.len();
        let rows = k.chunks_exact(c).zip(a.chunks_exact(c)).zip(kk.chunks_exact_mut(c)).zip(k_out.chunks_exact_mut(c));
        for (((k, a), kk), k_out) in rows {
            for (((o, &k), &a), &k_a) in k_out.iter_mut().zip(k).zip(a).zip(k_a) {
                *o = k * (1.0 + (a - 1.0) * k_a);
            }
            kk.iter_mut().zip(k).zip(k_k).for_each(|((kk, &k), &scale)| *kk = k * scale);
            for head in kk.chunks_exact_mut(head_size) {
                let length = sum(head.len(), |i| head[i] * head[i]).sqrt();
                let inverse = 1.0 / if length > 1e-12 { length } else { 1e-12 };
                head.iter_mut().for_each(|x| *x *= inverse);
            }
        }
    }
}

/// [`crate::ops::norm_bonus_gate`] of one row.
pub(crate) struct NormBonusGateRow<'a> {
    pub(crate) row: NormBonusGate<'a>,
    pub(crate) eps: f32,
    pub(crate) head_size: usize,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for NormBonusGateRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let NormBonusGate { y, r, k, v, g, r_k, weight, bias } = self.row;
        let n = self.head_size;
        for (h, out) in self.out.chunks_exact_mut(n).enumerate() {
            let at = h * n..(h + 1) * n;
            let (y, r, k, v, g) = (&y[at.clone()], &r[at.clone()], &k[at.clone()], &v[at.clone()], &g[at.clone()]);
            let (r_k, weight, bias) = (&r_k[at.clone()], &weight[at.clone()], &bias[at]);
            let (mean, scale) = mean_and_scale(y, self.eps);
            let bonus = sum(n, |i| r[i] * k[i] * r_k[i]);
            for i in 0..n {
                out[i] = ((y[i] - mean) * scale * weight[i] + bias[i] + bonus * v[i]) * g[i];
            }
        }
    }
}

/// [`crate::ops::norm_gate`] of one row.
pub(crate) struct NormGateRow<'a> {
    pub(crate) row: NormGate<'a>,
    pub(crate) eps: f32,
    pub(crate) head_size: usize,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for NormGateRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let NormGate { y, g, weight, bias } = self.row;
        let n = self.head_size;
        for (h, out) in self.out.chunks_exact_mut(n).enumerate() {
            let at = h * n..(h + 1) * n;
            let (y, weight, bias) = (&y[at.clone()], &weight[at.clone()], &bias[at.clone()]);
            let (mean, scale) = mean_and_scale(y, self.eps);
            for (((o, &y), &w), &b) in out.iter_mut().zip(y).zip(weight).zip(bias) {
                *o = (y - mean) * scale * w + b;
            }
            if let Some(g) = g {
                out.iter_mut().zip(&g[at]).for_each(|(o, &g)| *o *= g);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for i in -86_900..=86_900 {
            let x = i as f32 * 1e-3;
            let (actual, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((actual / expected - 1.0).abs() < 2.5e-7, "exp({x}) = {actual}, expected {expected}");
            let expected = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - expected).abs() <= 6e-7 * expected.abs(), "tanh({x})");
        }
        assert!(exp(-1e9) > 0.0 && exp(-1e9) < 1e-37 && exp(1e9).is_finite());
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        assert_eq!((tanh(1e9), tanh(-1e9), sigmoid(1e9)), (1.0, -1.0, 1.0));
    }
}
