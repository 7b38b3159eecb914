//! The tensors of RWKV-4 to RWKV-6.

use anser_format::DType;

use crate::recipe::{Recipes, SPARSE_BIAS, TensorRecipe, Values, mixed_mean_square, sparse_key_mean};
use crate::shape::{FileType, HEAD_SIZE, N_VOCAB, Shape, Version};

/// How far a layer is from the last one: 1 for the first layer, near 0 for the last.
fn falling(shape: Shape, layer: usize) -> f64 {
    1.0 - layer as f64 / shape.n_layer as f64
}

/// The mean and the deviation of the feed-forward key matrix, see [`crate::Synth::sparsity`].
fn key_spread(shape: Shape, layer: usize, sparsity: Option<f64>) -> (f64, f64) {
    let unit = (shape.n_embd as f64).powf(-0.5);
    let mean_square = mixed_mean_square(falling(shape, layer).powi(4));
    let mean = sparsity.map_or(0.0, |sparsity| sparse_key_mean(sparsity, mean_square, shape.n_embd));
    (mean * unit, unit)
}

/// The tensors of an RWKV-6 model, under their names in GGUF files and in the order of llama.cpp's converter.
pub(crate) fn tensors_v6(shape: Shape, file_type: FileType, sparsity: Option<f64>) -> Vec<TensorRecipe> {
    let (c, f) = (shape.n_embd, shape.n_ffn());
    let (n_mix, n_decay) = (shape.n_rank_v, shape.n_rank_wa);
    let unit = (c as f64).powf(-0.5);
    let matrix = file_type.matrix_dtype();
    let key_bias = if sparsity.is_some() { SPARSE_BIAS } else { 0.0 };

    let mut out = Recipes { tensors: Vec::new() };
    out.normal("token_embd.weight".to_owned(), matrix, &[N_VOCAB, c], 0.0, 0.5);
    out.norm("token_embd_norm", c, 1.0, 0.0);
    for layer in 0..shape.n_layer {
        let name = |suffix: &str| format!("blk.{layer}.{suffix}.weight");
        let falling = falling(shape, layer);
        out.norm(&format!("blk.{layer}.attn_norm"), c, 1.0, 0.0);
        out.norm(&format!("blk.{layer}.attn_norm_2"), c, 1.0, key_bias);
        let scale = ((1 + layer) as f64 / shape.n_layer as f64).powf(0.7);
        out.norm(&format!("blk.{layer}.time_mix_ln"), c, scale, 0.0);

        out.curve(name("time_mix_lerp_x"), c, 0.02, |x| 1.0 - x.powf(falling));
        // One row per input, in the order w k v r g.
        let rows = [1.0, 1.0, 0.7, 0.5, 0.5]
            .into_iter()
            .flat_map(|exponent| (0..c).map(move |i| (1.0 - (i as f64 / c as f64).powf(exponent * falling)) as f32));
        let mixing = Values::Curve { points: rows.collect(), noise: 0.02 };
        out.add(name("time_mix_lerp_fused"), DType::F32, &[5, 1, 1, c], mixing);
        let down = 0.1 * (n_mix as f64).powf(-0.5);
        out.normal(name("time_mix_w1"), DType::F32, &[5 * n_mix, c], 0.0, unit);
        out.normal(name("time_mix_w2"), DType::F32, &[5, c, n_mix], 0.0, down);
        out.normal(name("time_mix_first"), DType::F32, &[c / HEAD_SIZE, HEAD_SIZE], 0.3, 0.3);
        out.curve(name("time_mix_decay"), c, 0.2, |x| -6.0 + 5.0 * x.powf(0.7 + 1.3 * (1.0 - falling)));
        out.normal(name("time_mix_decay_w1"), DType::F32, &[n_decay, c], 0.0, unit);
        out.normal(name("time_mix_decay_w2"), DType::F32, &[c, n_decay], 0.0, 0.3 * (n_decay as f64).powf(-0.5));
        for (kind, gain) in [("key", 0.6), ("value", 1.0), ("receptance", 0.8), ("gate", 1.0), ("output", 0.4)] {
            out.normal(name(&format!("time_mix_{kind}")), matrix, &[c, c], 0.0, gain * unit);
        }

        let (key_mean, key_std) = key_spread(shape, layer, sparsity);
        for which in ["k", "r"] {
            out.curve(name(&format!("channel_mix_lerp_{which}")), c, 0.02, |x| 1.0 - x.powf(falling.powi(4)));
        }
        out.normal(name("channel_mix_key"), matrix, &[f, c], key_mean, key_std);
        out.normal(name("channel_mix_receptance"), matrix, &[c, c], 0.0, unit);
        out.normal(name("channel_mix_value"), matrix, &[c, f], 0.0, 0.4 * (6.0 * c as f64).powf(-0.5));
    }
    out.norm("output_norm", c, 1.0, 0.0);
    out.normal("output.weight".to_owned(), file_type.head_dtype(), &[N_VOCAB, c], 0.0, 2.0 * unit);
    out.tensors
}

/// The tensors of an RWKV-4 or RWKV-5.2 model, under BlinkDL's names. All are F16.
pub(crate) fn tensors_v4_v5(shape: Shape, sparsity: Option<f64>) -> Vec<TensorRecipe> {
    let (c, f, half) = (shape.n_embd, shape.n_ffn(), DType::F16);
    let unit = (c as f64).powf(-0.5);
    let is_v5 = shape.version == Version::V5;
    let key_bias = if sparsity.is_some() { SPARSE_BIAS } else { 0.0 };

    let mut out = Recipes { tensors: Vec::new() };
    out.normal("emb.weight".to_owned(), half, &[N_VOCAB, c], 0.0, 0.5);
    out.norm("blocks.0.ln0", c, 1.0, 0.0);
    for layer in 0..shape.n_layer {
        let name = |suffix: &str| format!("blocks.{layer}.{suffix}");
        let falling = falling(shape, layer);
        out.norm(&name("ln1"), c, 1.0, 0.0);
        out.norm(&name("ln2"), c, 1.0, key_bias);
        // How much of the current token is taken: the other way around than later versions have it.
        let mixes: &[_] = if is_v5 { &["k", "v", "r", "g"] } else { &["k", "v", "r"] };
        for which in mixes {
            out.curve(name(&format!("att.time_mix_{which}")), c, 0.02, |x| x.powf(falling));
        }
        let decay = |x: f64| -6.0 + 5.0 * x.powf(0.7 + 1.3 * (1.0 - falling));
        out.curve(name("att.time_decay"), c, 0.2, decay);
        let first = if is_v5 { "att.time_faaaa" } else { "att.time_first" };
        out.normal(name(first), half, &[c], 0.3, 0.3);
        let matrices = [("key", 0.6), ("value", 1.0), ("receptance", 0.8), ("output", 0.4), ("gate", 1.0)];
        for (kind, gain) in matrices.into_iter().filter(|(kind, _)| is_v5 || *kind != "gate") {
            out.normal(name(&format!("att.{kind}.weight")), half, &[c, c], 0.0, gain * unit);
        }
        if is_v5 {
            out.norm(&name("att.ln_x"), c, ((1 + layer) as f64 / shape.n_layer as f64).powf(0.7), 0.0);
        }
        for which in ["k", "r"] {
            out.curve(name(&format!("ffn.time_mix_{which}")), c, 0.02, |x| x.powf(falling.powi(4)));
        }
        let (key_mean, key_std) = key_spread(shape, layer, sparsity);
        out.normal(name("ffn.key.weight"), half, &[f, c], key_mean, key_std);
        out.normal(name("ffn.receptance.weight"), half, &[c, c], 0.0, unit);
        out.normal(name("ffn.value.weight"), half, &[c, f], 0.0, 0.4 * (6.0 * c as f64).powf(-0.5));
    }
    out.norm("ln_out", c, 1.0, 0.0);
    out.normal("head.weight".to_owned(), half, &[N_VOCAB, c], 0.0, 2.0 * unit);
    out.tensors
}
