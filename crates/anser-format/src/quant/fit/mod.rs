//! The search for scales and minima that all quantizers but Q8_0's share.
//!
//! A block's error is Σ w (x − y)², where w is the importance of an element's column, or 1. Each (sub-)block is tried with several
//! step sizes around "the range divided by the number of levels". Rounding to a step size fixes the levels; for fixed levels
//! the best scale (and minimum) is a least-squares problem with a closed solution and a closed residual. [`shared`] then
//! finds the number whose multiples represent the scales of all sub-blocks best, and the levels are computed once more
//! for what the block stores.
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
    /// Whether neighbours of the stored scales are tried with the error that they really give.
    tries_neighbours: bool,
}

/// Without a matrix all elements count the same, and the best step size is near the obvious one.
const PLAIN: Effort =
    Effort { trials: &[-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9, 1.2], n_refinements: 1, tries_neighbours: false };

/// With a matrix a few columns count a hundred times more than others, and the best step size is the one that represents those.
const WEIGHTED: Effort = Effort {
    trials: &[
        -3.0, -2.7, -2.4, -2.1, -1.8, -1.6, -1.4, -1.2, -1.0, -0.9, -0.8, -0.7, -0.6, -0.5, -0.4, -0.3, -0.2, -0.1,
        0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.3, 2.6, 3.0, 3.5, 4.0, 5.0,
    ],
    n_refinements: 3,
    tries_neighbours: true,
};

/// Values and the weights of their errors, in a block of `N`.
#[derive(Clone, Copy)]
pub(super) struct Weighted<'a, const N: usize> {
    pub(super) values: &'a [f32; N],
    /// `None`: all errors count the same.
    pub(super) weights: Option<&'a [f32; N]>,
}

impl<const N: usize> Weighted<'_, N> {
    fn effort(&self) -> Effort {
        if self.weights.is_some() { WEIGHTED } else { PLAIN }
    }

    /// The block in sub-blocks of `LEN`.
    fn sub_blocks<const LEN: usize>(&self) -> impl ExactSizeIterator<Item = Weighted<'_, LEN>> {
        let weights = self.weights.map(|weights| weights.as_chunks::<LEN>().0);
        let values = self.values.as_chunks::<LEN>().0.iter();
        values.enumerate().map(move |(s, values)| Weighted { values, weights: weights.map(|weights| &weights[s]) })
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
