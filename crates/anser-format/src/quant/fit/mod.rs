//! The search for scales and minima that all quantizers but Q8_0's share.
//!
//! A block's error is Σ w (x − y)², where w is the importance of an element's column, or else 1 or a weight by magnitude. Each (sub-)block is tried with several
//! step sizes around "the range divided by the number of levels". Rounding to a step size fixes the levels; for fixed levels
//! the best scale (and minimum) is a least-squares problem with a closed solution and a closed residual. [`shared`] then
//! finds the number whose multiples represent the scales of all sub-blocks best; the multiples beside the nearest ones are tried, and the
//! levels are computed once more for what the block stores.
//!
//! Loops have fixed lengths and sums have eight lanes, so that they vectorise without reordering of floats.

mod affine;
mod scaled;
mod shared;

pub(super) use affine::{AffineBlock, fit_affine_block, fit_affine_single};
pub(super) use scaled::{Linear, ScaledBlock, Table, fit_scaled_block, fit_scaled_single};

const LANES: usize = 8;

/// How many steps a search takes.
#[derive(Clone, Copy)]
struct Effort {
    /// Changes of the number of levels that are tried.
    trials: &'static [f32],
    /// How often the levels are computed anew for the best scale found.
    n_refinements: usize,
    /// Whether neighbours of the stored scales two multiples away are tried with the error that they really give, too.
    is_far: bool,
}

/// Without a matrix the best step size is near the obvious one.
const PLAIN: Effort =
    Effort { trials: &[-1.6, -1.1, -0.7, -0.3, 0.0, 0.3, 0.7, 1.1, 1.6], n_refinements: 2, is_far: false };

/// For blocks without sub-blocks, whose search takes little time.
const FINE: Effort = Effort {
    trials: &[-2.0, -1.6, -1.3, -1.0, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7],
    ..PLAIN
};

/// With a matrix a few columns count a hundred times more than others, and the best step size is the one that represents those.
const WEIGHTED: Effort = Effort {
    trials: &[
        -3.0, -2.7, -2.4, -2.1, -1.8, -1.6, -1.4, -1.2, -1.0, -0.9, -0.8, -0.7, -0.6, -0.5, -0.4, -0.3, -0.2, -0.1,
        0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.3, 2.6, 3.0, 3.5, 4.0, 5.0,
    ],
    n_refinements: 3,
    is_far: true,
};

/// Values and the weights of their errors, in a block of `N`.
#[derive(Clone, Copy)]
pub(super) struct Weighted<'a, const N: usize> {
    values: &'a [f32; N],
    /// `None`: all errors count the same.
    weights: Option<&'a [f32; N]>,
    effort: Effort,
}

/// The weights of errors whose importance is not known, for types whose levels fit large values badly: |x| / r + `floor`, where r is the root
/// mean square of the values.
pub(super) fn magnitudes<const N: usize>(values: &[f32; N], floor: f32) -> [f32; N] {
    let inverse = inverse_or_zero((dot(values, values) / N as f32).sqrt());
    // The values are so small that their squares vanish.
    if inverse == 0.0 || !inverse.is_finite() {
        return [1.0; N];
    }
    values.map(|value| value.abs() * inverse + floor)
}

impl<'a, const N: usize> Weighted<'a, N> {
    /// Values whose errors count by these weights, or all the same.
    pub(super) fn new(values: &'a [f32; N], weights: Option<&'a [f32; N]>) -> Weighted<'a, N> {
        Weighted { values, weights, effort: if weights.is_some() { WEIGHTED } else { PLAIN } }
    }

    /// Values whose errors count by these weights, or else by the `usual` ones.
    pub(super) fn or_usual(
        values: &'a [f32; N],
        weights: Option<&'a [f32; N]>,
        usual: &'a [f32; N],
    ) -> Weighted<'a, N> {
        match weights {
            Some(_) => Weighted::new(values, weights),
            None => Weighted { values, weights: Some(usual), effort: PLAIN },
        }
    }

    /// With a finer search, unless it is the finest already.
    pub(super) fn finely(self) -> Weighted<'a, N> {
        Weighted { effort: if self.effort.is_far { self.effort } else { FINE }, ..self }
    }

    /// The block in sub-blocks of `LEN`.
    fn sub_blocks<const LEN: usize>(&self) -> impl ExactSizeIterator<Item = Weighted<'_, LEN>> {
        let (weights, effort) = (self.weights.map(|weights| weights.as_chunks::<LEN>().0), self.effort);
        let values = self.values.as_chunks::<LEN>().0.iter();
        values.enumerate().map(move |(s, values)| Weighted {
            values,
            weights: weights.map(|weights| &weights[s]),
            effort,
        })
    }

    /// Σ w
    fn sum_w(&self) -> f32 {
        self.weights.map_or(N as f32, sum)
    }

    /// Σ w · a
    #[inline(always)]
    fn sum(&self, a: &[f32; N]) -> f32 {
        match self.weights {
            None => sum(a),
            Some(weights) => dot(weights, a),
        }
    }
}

/// 1 / x, but 0 for 0: what is scaled by it becomes 0.
fn inverse_or_zero(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The nearest integer, halves to even, for magnitudes below 2²²: adding 1.5 · 2²³ leaves no bits for a fraction. Unlike
/// `round_ties_even` it is never a call, so loops around it vectorise.
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// `x` within `low..=high`, in two instructions: `f32::clamp` has to pass NaN on, which no value here is.
#[inline(always)]
fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// Σ a, in eight lanes.
#[inline(always)]
fn sum<const N: usize>(a: &[f32; N]) -> f32 {
    let mut lanes = [0.0; LANES];
    for a in a.as_chunks::<LANES>().0 {
        for (lane, a) in lanes.iter_mut().zip(a) {
            *lane += a;
        }
    }
    add_lanes(lanes)
}

/// Σ a · b, in eight lanes.
#[inline(always)]
fn dot<const N: usize>(a: &[f32; N], b: &[f32; N]) -> f32 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    add_lanes(lanes)
}

/// The sum of eight lanes, by halves.
#[inline(always)]
fn add_lanes([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The products a · b, or `a` itself where all weights are 1.
#[inline(always)]
fn times<const N: usize>(a: &[f32; N], weights: Option<&[f32; N]>) -> [f32; N] {
    match weights {
        None => *a,
        Some(weights) => {
            let mut products = *a;
            for (product, weight) in products.iter_mut().zip(weights) {
                *product *= weight;
            }
            products
        }
    }
}
