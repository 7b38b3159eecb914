//! The tensors of a model and the distributions of their values.

use anser_format::DType;

use crate::older;
use crate::random::normal_quantile;
use crate::shape::{FileType, N_VOCAB, Shape, Version};

/// One tensor of a synthetic model.
#[derive(Clone, Debug)]
pub struct TensorRecipe {
    /// Name in the GGUF file; BlinkDL's in RWKV-4 and RWKV-5, which have none.
    pub name: String,
    /// Stored type.
    pub dtype: DType,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Distribution of the values.
    pub values: Values,
}

/// The distribution of the values of a tensor.
#[derive(Clone, Debug)]
pub enum Values {
    /// A normal distribution.
    Normal {
        /// Mean.
        mean: f32,
        /// Standard deviation.
        std: f32,
    },
    /// Given numbers plus normal noise: parameters that trained models initialise along the channels.
    Curve {
        /// The given numbers, one per element.
        points: Vec<f32>,
        /// Standard deviation of the noise.
        noise: f32,
    },
}

/// The mean of the second norm's bias if the model has a sparsity.
pub(crate) const SPARSE_BIAS: f64 = 0.5;

/// Mean square of the feed-forward input x + (x_before − x) · m, where x and x_before are independent with mean square 1
/// and the mixing vector m = 1 − p^`exponent` runs over the channels' positions p from 0 to 1: the integral of
/// (1 − m)² + m².
pub(crate) fn mixed_mean_square(exponent: f64) -> f64 {
    1.0 + 2.0 / (2.0 * exponent + 1.0) - 2.0 / (exponent + 1.0)
}

/// The mean of the feed-forward key matrix, in units of its standard deviation, for which about the fraction `sparsity`
/// of the pre-activations is negative.
///
/// A pre-activation is the sum over C channels of weight · input. The input is the output of a norm whose bias has the
/// mean b = [`SPARSE_BIAS`], so with weights of mean μ and deviation σ the sum has the mean μ · b · C and the variance
/// σ² · C · (r² + b²), where r² = `mean_square` is that of the input without the bias. (μ meets the rest of the input
/// with next to no effect: a norm's output sums up to zero.) Solve P(sum < 0) = `sparsity` for μ.
pub(crate) fn sparse_key_mean(sparsity: f64, mean_square: f64, n_embd: usize) -> f64 {
    let spread = (mean_square + SPARSE_BIAS.powi(2)).sqrt();
    -normal_quantile(sparsity) * spread / (SPARSE_BIAS * (n_embd as f64).sqrt())
}

/// Collects the tensors of a model.
pub(crate) struct Recipes {
    pub(crate) tensors: Vec<TensorRecipe>,
}

impl Recipes {
    pub(crate) fn add(&mut self, name: String, dtype: DType, shape: &[usize], values: Values) {
        self.tensors.push(TensorRecipe { name, dtype, shape: shape.to_vec(), values });
    }

    pub(crate) fn normal(&mut self, name: String, dtype: DType, shape: &[usize], mean: f64, std: f64) {
        self.add(name, dtype, shape, Values::Normal { mean: mean as f32, std: std as f32 });
    }

    /// A norm's weight around `scale` and its bias around `bias`.
    pub(crate) fn norm(&mut self, name: &str, n_embd: usize, scale: f64, bias: f64) {
        self.normal(format!("{name}.weight"), DType::F32, &[n_embd], scale, 0.1 * scale);
        self.normal(format!("{name}.bias"), DType::F32, &[n_embd], bias, 0.05);
    }

    /// A vector that follows a function of the channel's position, 0 for the first to 1 for the last.
    pub(crate) fn curve(&mut self, name: String, n_embd: usize, noise: f32, point: impl Fn(f64) -> f64) {
        let points = (0..n_embd).map(|i| point(i as f64 / (n_embd - 1) as f64) as f32).collect();
        self.add(name, DType::F32, &[n_embd], Values::Curve { points, noise });
    }
}

/// The tensors of a model in file order.
pub(crate) fn tensors(shape: Shape, file_type: FileType, sparsity: Option<f64>) -> Vec<TensorRecipe> {
    match shape.version {
        Version::V7 => tensors_v7(shape, file_type, sparsity),
        Version::V6 => older::tensors_v6(shape, file_type, sparsity),
        Version::V5 | Version::V4 => older::tensors_v4_v5(shape, sparsity),
    }
}

/// The tensors of an RWKV-7 model under their names in GGUF files. Spreads keep the residual stream and the logits in the range of real models;
/// decays, mixing vectors and gates follow the initialisation of trained models.
fn tensors_v7(shape: Shape, file_type: FileType, sparsity: Option<f64>) -> Vec<TensorRecipe> {
    let c = shape.n_embd;
    let unit = (c as f64).powf(-0.5); // Deviation of a matrix that keeps the scale of its input.
    let matrix = file_type.matrix_dtype();
    let key_bias = if sparsity.is_some() { SPARSE_BIAS } else { 0.0 };

    let mut out = Recipes { tensors: Vec::new() };
    out.normal("token_embd.weight".to_owned(), matrix, &[N_VOCAB, c], 0.0, 0.5);
    out.norm("token_embd_norm", c, 1.0, 0.0);
    for layer in 0..shape.n_layer {
        let name = |suffix: &str| format!("blk.{layer}.{suffix}");
        let rising = layer as f64 / (shape.n_layer.max(2) - 1) as f64; // 0 for the first layer, 1 for the last.
        let falling = 1.0 - layer as f64 / shape.n_layer as f64;
        out.norm(&name("attn_norm"), c, 1.0, 0.0);
        out.norm(&name("attn_norm_2"), c, 1.0, key_bias);

        // One row per input, in the order r w k v a g: how much of the token before is mixed in.
        let exponents = [0.2, 0.9, 0.7, 0.7, 0.9, 0.2];
        let rows = exponents
            .into_iter()
            .flat_map(|exponent| (0..c).map(move |i| (1.0 - (i as f64 / c as f64).powf(exponent * falling)) as f32));
        let mixing = Values::Curve { points: rows.collect(), noise: 0.02 };
        out.add(name("time_mix_lerp_fused.weight"), DType::F32, &[6, 1, 1, c], mixing);

        let power = 0.85 + rising.sqrt();
        out.curve(name("time_mix_w0.weight"), c, 0.2, |x| -6.5 + 5.0 * x.powf(power));
        out.curve(name("time_mix_a0.weight"), c, 0.2, |x| -0.2 + (x - 0.5));
        out.curve(name("time_mix_v0.weight"), c, 0.2, |x| 0.7 - 0.4 * (x - 0.5));
        // The first layer has no value residual; converters fill its place with copies of a1 and a2.
        let n_rank_v = if layer == 0 { shape.n_rank_wa } else { shape.n_rank_v };
        for (kind, dtype, n_rank, gain) in [
            ("w", DType::F32, shape.n_rank_wa, 0.5),
            ("a", DType::F16, shape.n_rank_wa, 0.5),
            ("v", DType::F16, n_rank_v, 0.5),
            ("g", DType::F16, shape.n_rank_g, 1.8),
        ] {
            let down = gain * (n_rank as f64).powf(-0.5);
            out.normal(name(&format!("time_mix_{kind}1.weight")), dtype, &[n_rank, c], 0.0, unit);
            out.normal(name(&format!("time_mix_{kind}2.weight")), dtype, &[c, n_rank], 0.0, down);
        }
        out.curve(name("time_mix_k_k.weight"), c, 0.05, |x| 0.71 - 0.1 * (x - 0.5));
        out.normal(name("time_mix_k_a.weight"), DType::F32, &[c], 1.02, 0.05);
        out.normal(name("time_mix_r_k.weight"), DType::F32, &[c], -0.04, 0.1);
        for (kind, gain) in [("key", 0.6), ("value", 1.0), ("receptance", 0.8), ("output", 0.4)] {
            out.normal(name(&format!("time_mix_{kind}.weight")), matrix, &[c, c], 0.0, gain * unit);
        }
        out.norm(&name("time_mix_ln"), c, ((1 + layer) as f64 / shape.n_layer as f64).powf(0.7), 0.0);

        let exponent = falling.powi(4);
        let key_mean = sparsity.map_or(0.0, |sparsity| sparse_key_mean(sparsity, mixed_mean_square(exponent), c));
        out.curve(name("channel_mix_lerp_k.weight"), c, 0.02, |x| 1.0 - x.powf(exponent));
        out.normal(name("channel_mix_key.weight"), matrix, &[4 * c, c], key_mean * unit, unit);
        out.normal(name("channel_mix_value.weight"), matrix, &[c, 4 * c], 0.0, 0.4 * (6.0 * c as f64).powf(-0.5));
    }
    out.norm("output_norm", c, 1.0, 0.0);
    out.normal("output.weight".to_owned(), file_type.head_dtype(), &[N_VOCAB, c], 0.0, 2.0 * unit);
    out.tensors
}
