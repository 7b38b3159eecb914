//! The draw: a race of the candidates.
//!
//! A token of weight w arrives after a random time that is exponentially distributed with mean 1 / w, and the first one to arrive is
//! drawn. The first of such times is that of token i with probability w_i / Σw, so no sum of weights is needed (the exponential race,
//! also known as the Gumbel-max trick: the logarithms of the times are Gumbel variables).
//!
//! The time follows from the draw's seed, the token's id and its weight alone. So a draw hardly depends on rounding: logits that differ
//! in their last bits, as those of a text generated alone and beside others do, give the same token but for near ties of two times.
//! A walk along the sums of weights gives another token whenever a sum moves over the random number, or two tokens change places.

/// 2⁻²⁴
const STEP_OF_24_BITS: f32 = 1.0 / (1 << 24) as f32;
/// 2⁻³²
const STEP_OF_32_BITS: f32 = 1.0 / 4_294_967_296.0;

/// Candidates that have entered one draw, of which the fastest is known.
#[derive(Debug)]
pub(super) struct Race {
    seed: u32,
    /// When the fastest so far arrives, and its id.
    first: (f32, u32),
}

impl Race {
    pub(super) fn new(seed: u32) -> Race {
        Race { seed, first: (f32::INFINITY, u32::MAX) }
    }

    /// Lets `token` run. Weight 0 never arrives.
    pub(super) fn enter(&mut self, token: u32, weight: f32) {
        let arrival = waiting_time(self.seed, token) / weight;
        let (first, of_token) = self.first;
        if arrival < first || (arrival == first && token < of_token) {
            self.first = (arrival, token);
        }
    }

    /// Lets the tokens from 0 on run whose weights \[V\] are given.
    pub(super) fn enter_all(&mut self, weights: &[f32]) {
        const LANES: usize = 16;
        const ABOVE: f32 = 1.0 + 1e-5; // on the safe side of rounding
        let mut first = 0;
        for chunk in weights.chunks(LANES) {
            // A waiting time is at least the random number that it is made of, so that hardly any chunk needs more than one test.
            let to_beat = self.first.0 * ABOVE;
            let mut may_win = false;
            for (lane, &weight) in (0..).zip(chunk) {
                let at_least = (random(self.seed, first + lane) >> 8) as i32 as f32 * STEP_OF_24_BITS;
                may_win |= (weight > 0.0) & (at_least <= to_beat * weight);
            }
            if may_win {
                (first..).zip(chunk).for_each(|(token, &weight)| self.enter(token, weight));
            }
            first += LANES as u32;
        }
    }

    /// The token that arrives first, if any does.
    pub(super) fn winner(&self) -> Option<u32> {
        let (arrival, token) = self.first;
        (arrival < f32::INFINITY).then_some(token)
    }
}

/// −ln(1 − u) for a random u between 0 and 1, within 10⁻⁶ of its value: exponentially distributed with mean 1. The same formula as on
/// the device.
///
/// 1 − u = 2⁻ⁿ·(1 − d) with 0 < d ≤ ½, so that −ln(1 − u) = n·ln 2 + 2·artanh(z) with z = d / (2 − d) ≤ ⅓; artanh by its series up to
/// z¹³ / 13, whose remainder is below f32's rounding.
pub(super) fn waiting_time(seed: u32, token: u32) -> f32 {
    // 1 − u = (rest + ½) / 2³², but for rest = 0, which is taken for 1.
    let rest = (!random(seed, token)).max(1);
    let n = rest.leading_zeros();
    let rest_and_half = rest << n | (1 << n) >> 1;
    let d = (!rest_and_half as f32 + 0.5) * STEP_OF_32_BITS;
    let z = d / (2.0 - d);
    let square = z * z;
    let mut series = 1.0 / 13.0;
    for coefficient in [1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 0.2, 1.0 / 3.0, 1.0] {
        series = series * square + coefficient;
    }
    n as f32 * std::f32::consts::LN_2 + 2.0 * z * series
}

/// The random number of a token in the draw of `seed`.
fn random(seed: u32, token: u32) -> u32 {
    mix(mix(token.wrapping_add(0x9e37_79b9)) ^ seed)
}

/// A permutation of the numbers of 32 bits in which every bit of the argument moves every bit of the result half of the time
/// (`lowbias32` of Wellons' search for hash functions).
#[inline(always)]
fn mix(x: u32) -> u32 {
    let x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
    let x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}
