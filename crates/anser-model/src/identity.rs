//! What tells a model from others of its shape, whatever file it lies in.

use crate::plan::{Op, Plan, WeightId};
use anser_format::FormatError;
use anser_format::quant::dequantize;
use std::collections::BTreeSet;

/// Numbers taken of every vector.
const N_SAMPLES: usize = 8;

/// By how much two roundings of one number may differ, relative to the power of two below it: half a step of BF16 (2^-8)
/// and half a step of F16 (2^-11), with room for a second rounding. Numbers that were trained in BF16, as published models
/// were, differ by a whole step (2^-7) if they differ at all.
const MAX_ROUNDING: f32 = 1.0 / 256.0 + 1.0 / 1024.0;
/// A whole step of BF16: so much one number in 32 changes when it is rounded to F16 first and then to BF16.
const MAX_TWO_ROUNDINGS: f32 = 1.0 / 128.0;
/// Samples per one that may differ by a whole step of BF16.
const MIN_N_PER_STEP: usize = 16;
/// The absolute difference that counts as none: a step of F16 near zero.
const MAX_ABSOLUTE: f32 = 1.0 / (1 << 24) as f32;

/// Sizes of a model, and samples of its vectors: of every layer's norms, token-shift mixes, biases of decay, learning
/// rate and value gate, and key and bonus scales.
///
/// Quantizers leave these vectors in F32, and converters to F16 and BF16 round them. Rounded numbers of two files can
/// fall to two sides of any border, so a hash of them would split one model into two; samples are compared with a
/// tolerance instead. Matrices are not part of it, since quantizers change them by more than a fine-tune does.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    title: String,
    /// [`N_SAMPLES`] of every vector, in the order of the plan's weights; NaN where a file keeps a vector quantized.
    samples: Vec<f32>,
}

impl Identity {
    /// The identity of the model of `plan`.
    ///
    /// # Errors
    /// If its file cannot be read, or was changed.
    pub fn of(plan: &Plan) -> Result<Identity, FormatError> {
        let mut samples = vec![];
        let mut scratch = vec![];
        // An adapter's pair of inner width 1 has a matrix of one row.
        let matrices = plan.nodes.iter().filter_map(|node| match &node.op {
            Op::MatMul { weight, .. } => Some(*weight),
            _ => None,
        });
        let matrices: BTreeSet<usize> = matrices.map(WeightId::index).collect();
        let vectors =
            plan.weights.iter().enumerate().filter(|(i, weight)| weight.n_rows() == 1 && !matrices.contains(i));
        for (_, vector) in vectors {
            let len = vector.n_cols();
            if vector.dtype().block_len() > 1 {
                samples.extend([f32::NAN; N_SAMPLES]);
                continue;
            }
            let mut numbers = vec![0.0; len];
            dequantize(vector.dtype(), vector.fetch_rows(0..1, &mut scratch)?, &mut numbers);
            samples.extend((0..N_SAMPLES).map(|i| numbers.get(i * len / N_SAMPLES).copied().unwrap_or(f32::NAN)));
        }
        Ok(Identity { title: plan.title.clone(), samples })
    }

    /// An identity that was written down: [`Identity::title`] and [`Identity::samples`].
    pub fn new(title: String, samples: Vec<f32>) -> Identity {
        Identity { title, samples }
    }

    /// Version and sizes in one line; see [`Plan::title`].
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The samples.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// Whether both may be the same model in two files: equal sizes, and samples that differ by no more than what
    /// conversion between F32, F16 and BF16 does.
    pub fn is_same_model(&self, other: &Identity) -> bool {
        if self.title != other.title || self.samples.len() != other.samples.len() {
            return false;
        }
        let differ =
            |max: f32| self.samples.iter().zip(&other.samples).filter(|&(&a, &b)| !is_within(a, b, max)).count();
        differ(MAX_TWO_ROUNDINGS) == 0 && differ(MAX_ROUNDING) * MIN_N_PER_STEP <= self.samples.len()
    }
}

/// Whether two samples differ by at most `max`, relative to the power of two below them. Nothing is known of a NaN.
fn is_within(a: f32, b: f32, max: f32) -> bool {
    const EXPONENT_BITS: u32 = 0x7f80_0000;
    if a.is_nan() || b.is_nan() || a == b {
        return true;
    }
    // Rounding may go up to the next power of two: the one below the smaller number counts.
    let power_of_two = f32::from_bits(a.abs().min(b.abs()).to_bits() & EXPONENT_BITS);
    (a - b).abs() <= power_of_two * max + MAX_ABSOLUTE
}

#[cfg(test)]
mod tests {
    use super::Identity;

    /// To the nearest number with `n_bits` significant bits, ties to even, as converters round.
    fn round(x: f32, n_bits: u32) -> f32 {
        let n_cut = 24 - n_bits;
        let (bits, half) = (x.to_bits(), 1u32 << (n_cut - 1));
        let odd = (bits >> n_cut) & 1;
        f32::from_bits((bits + half - 1 + odd) >> n_cut << n_cut)
    }

    fn identity(samples: Vec<f32>) -> Identity {
        Identity::new("rwkv7 L=1".into(), samples)
    }

    /// Numbers of 2^-12 to 2^8 with either sign.
    fn numbers() -> Vec<f32> {
        let mut bits = 1u32;
        let next = |_| {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits((bits & 0x807f_ffff) | (115 + (bits >> 8) % 20) << 23)
        };
        (0..50_000).map(next).collect()
    }

    #[test]
    fn files_of_one_model_are_equal_whatever_they_were_rounded_to() {
        let f32s = numbers();
        let rounded = |from: &[f32], n_bits| from.iter().map(|&x| round(x, n_bits)).collect::<Vec<_>>();
        let (f16s, bf16s) = (rounded(&f32s, 11), rounded(&f32s, 8));
        let twice = rounded(&f16s, 8);
        assert!(bf16s.iter().zip(&twice).any(|(once, twice)| once != twice), "the second rounding changes some");
        let files = [f32s, f16s, bf16s, twice].map(identity);
        for a in &files {
            assert!(files.iter().all(|b| a.is_same_model(b)));
        }
    }

    #[test]
    fn steps_of_bf16_make_another_model() {
        let bf16s: Vec<f32> = numbers().into_iter().map(|x| round(x, 8)).collect();
        let changed_in = |n: usize, steps: f32| {
            let change = |(i, &x): (usize, &f32)| {
                let step = f32::from_bits(x.to_bits() & 0x7f80_0000) / 128.0;
                if i % (bf16s.len() / n) == 0 { x + steps * step.copysign(x) } else { x }
            };
            identity(bf16s.iter().enumerate().map(change).collect())
        };
        let model = identity(bf16s.clone());
        assert!(!model.is_same_model(&changed_in(bf16s.len() / 8, 1.0)), "one step in an eighth of the samples");
        assert!(!model.is_same_model(&changed_in(1, 3.0)), "three steps in one sample");
        let samples = |x: f32| identity(vec![x; 32]);
        assert!(samples(1.0e-8).is_same_model(&samples(0.0)), "F16 near zero has steps of 2^-24");
        assert!(samples(0.0).is_same_model(&samples(-0.0)) && samples(f32::NAN).is_same_model(&samples(3.0)));
        for (a, b) in [(1.0e-5, 0.0), (0.5, -0.5), (f32::INFINITY, 1.0)] {
            assert!(!samples(a).is_same_model(&samples(b)), "{a} {b}");
        }
        assert!(!model.is_same_model(&identity(bf16s[1..].to_vec())));
        assert!(!model.is_same_model(&Identity::new("rwkv7 L=2".into(), bf16s)));
    }
}
