//! Tensor names in the files of different programs, beside BlinkDL's, which the rest of this crate uses. Shapes are checked
//! where a weight is used (for example in [`crate::v7`]), against the letters of the crate's glossary.
//!
//! Tables have BlinkDL's name without `blocks.N.` first. [`crate::dialect`] chooses among them.

/// Where another program has one of BlinkDL's tensors.
pub(crate) enum Place {
    /// In a tensor of its own.
    Tensor(&'static str),
    /// In row `.1` of a tensor that stacks several vectors.
    Row(&'static str, usize),
}

use Place::{Row, Tensor};

/// Tensors outside the layers in GGUF files.
pub(crate) const GGUF_MODEL: &[(&str, Place)] = &[
    ("emb.weight", Tensor("token_embd.weight")),
    ("blocks.0.ln0.weight", Tensor("token_embd_norm.weight")),
    ("blocks.0.ln0.bias", Tensor("token_embd_norm.bias")),
    ("ln_out.weight", Tensor("output_norm.weight")),
    ("ln_out.bias", Tensor("output_norm.bias")),
    ("head.weight", Tensor("output.weight")),
];

/// Tensors of one layer in GGUF files, after `blk.N.`: those of RWKV-7, then those that only RWKV-6 has, then those that only
/// hybrids with Qwen2 have, which BlinkDL has no names for.
pub(crate) const GGUF_BLOCK: &[(&str, Place)] = &[
    ("ln1.weight", Tensor("attn_norm.weight")),
    ("ln1.bias", Tensor("attn_norm.bias")),
    ("ln2.weight", Tensor("attn_norm_2.weight")),
    ("ln2.bias", Tensor("attn_norm_2.bias")),
    ("att.x_r", Row("time_mix_lerp_fused.weight", 0)),
    ("att.x_w", Row("time_mix_lerp_fused.weight", 1)),
    ("att.x_k", Row("time_mix_lerp_fused.weight", 2)),
    ("att.x_v", Row("time_mix_lerp_fused.weight", 3)),
    ("att.x_a", Row("time_mix_lerp_fused.weight", 4)),
    ("att.x_g", Row("time_mix_lerp_fused.weight", 5)),
    ("att.w0", Tensor("time_mix_w0.weight")),
    ("att.w1", Tensor("time_mix_w1.weight")),
    ("att.w2", Tensor("time_mix_w2.weight")),
    ("att.a0", Tensor("time_mix_a0.weight")),
    ("att.a1", Tensor("time_mix_a1.weight")),
    ("att.a2", Tensor("time_mix_a2.weight")),
    ("att.v0", Tensor("time_mix_v0.weight")),
    ("att.v1", Tensor("time_mix_v1.weight")),
    ("att.v2", Tensor("time_mix_v2.weight")),
    ("att.g1", Tensor("time_mix_g1.weight")),
    ("att.g2", Tensor("time_mix_g2.weight")),
    ("att.k_k", Tensor("time_mix_k_k.weight")),
    ("att.k_a", Tensor("time_mix_k_a.weight")),
    ("att.r_k", Tensor("time_mix_r_k.weight")),
    ("att.receptance.weight", Tensor("time_mix_receptance.weight")),
    ("att.key.weight", Tensor("time_mix_key.weight")),
    ("att.value.weight", Tensor("time_mix_value.weight")),
    ("att.output.weight", Tensor("time_mix_output.weight")),
    ("att.ln_x.weight", Tensor("time_mix_ln.weight")),
    ("att.ln_x.bias", Tensor("time_mix_ln.bias")),
    ("ffn.x_k", Tensor("channel_mix_lerp_k.weight")),
    ("ffn.key.weight", Tensor("channel_mix_key.weight")),
    ("ffn.value.weight", Tensor("channel_mix_value.weight")),
    ("ffn.time_maa_k", Tensor("channel_mix_lerp_k.weight")),
    ("ffn.time_maa_r", Tensor("channel_mix_lerp_r.weight")),
    ("ffn.receptance.weight", Tensor("channel_mix_receptance.weight")),
    ("att.gate.weight", Tensor("time_mix_gate.weight")),
    ("att.time_maa_x", Tensor("time_mix_lerp_x.weight")),
    ("att.time_maa_w", Row("time_mix_lerp_fused.weight", 0)),
    ("att.time_maa_k", Row("time_mix_lerp_fused.weight", 1)),
    ("att.time_maa_v", Row("time_mix_lerp_fused.weight", 2)),
    ("att.time_maa_r", Row("time_mix_lerp_fused.weight", 3)),
    ("att.time_maa_g", Row("time_mix_lerp_fused.weight", 4)),
    ("att.time_maa_w1", Tensor("time_mix_w1.weight")),
    ("att.time_maa_w2", Tensor("time_mix_w2.weight")),
    ("att.time_decay", Tensor("time_mix_decay.weight")),
    ("att.time_decay_w1", Tensor("time_mix_decay_w1.weight")),
    ("att.time_decay_w2", Tensor("time_mix_decay_w2.weight")),
    ("att.time_faaaa", Tensor("time_mix_first.weight")),
    ("att.receptance.bias", Tensor("time_mix_receptance.bias")),
    ("att.key.bias", Tensor("time_mix_key.bias")),
    ("att.value.bias", Tensor("time_mix_value.bias")),
    ("ffn.norm.weight", Tensor("ffn_norm.weight")),
    ("ffn.gate.weight", Tensor("ffn_gate.weight")),
    ("ffn.up.weight", Tensor("ffn_up.weight")),
    ("ffn.down.weight", Tensor("ffn_down.weight")),
];

/// The five mixes of RWKV-6 in GGUF files that do not stack them.
pub(crate) const GGUF_LERPS: &[(&str, Place)] = &[
    ("att.time_maa_w", Tensor("time_mix_lerp_w.weight")),
    ("att.time_maa_k", Tensor("time_mix_lerp_k.weight")),
    ("att.time_maa_v", Tensor("time_mix_lerp_v.weight")),
    ("att.time_maa_r", Tensor("time_mix_lerp_r.weight")),
    ("att.time_maa_g", Tensor("time_mix_lerp_g.weight")),
];

/// Tensors of one layer of flash-linear-attention's RWKV-7, after `model.layers.N.`. The low-rank matrices are those of
/// linear layers, `[out, in]`.
pub(crate) const FLA_BLOCK: &[(&str, Place)] = &[
    ("ln0.weight", Tensor("pre_norm.weight")),
    ("ln0.bias", Tensor("pre_norm.bias")),
    ("ln1.weight", Tensor("attn_norm.weight")),
    ("ln1.bias", Tensor("attn_norm.bias")),
    ("ln2.weight", Tensor("ffn_norm.weight")),
    ("ln2.bias", Tensor("ffn_norm.bias")),
    ("att.x_r", Tensor("attn.x_r")),
    ("att.x_w", Tensor("attn.x_w")),
    ("att.x_k", Tensor("attn.x_k")),
    ("att.x_v", Tensor("attn.x_v")),
    ("att.x_a", Tensor("attn.x_a")),
    ("att.x_g", Tensor("attn.x_g")),
    ("att.w0", Tensor("attn.w_lora.lora.2.bias")),
    ("att.w1", Tensor("attn.w_lora.lora.0.weight")),
    ("att.w2", Tensor("attn.w_lora.lora.2.weight")),
    ("att.a0", Tensor("attn.a_lora.lora.2.bias")),
    ("att.a1", Tensor("attn.a_lora.lora.0.weight")),
    ("att.a2", Tensor("attn.a_lora.lora.2.weight")),
    ("att.v0", Tensor("attn.v_lora.lora.2.bias")),
    ("att.v1", Tensor("attn.v_lora.lora.0.weight")),
    ("att.v2", Tensor("attn.v_lora.lora.2.weight")),
    ("att.g1", Tensor("attn.g_lora.lora.0.weight")),
    ("att.g2", Tensor("attn.g_lora.lora.2.weight")),
    ("att.k_k", Tensor("attn.k_k")),
    ("att.k_a", Tensor("attn.k_a")),
    ("att.r_k", Tensor("attn.r_k")),
    ("att.receptance.weight", Tensor("attn.r_proj.weight")),
    ("att.key.weight", Tensor("attn.k_proj.weight")),
    ("att.value.weight", Tensor("attn.v_proj.weight")),
    ("att.output.weight", Tensor("attn.o_proj.weight")),
    ("att.ln_x.weight", Tensor("attn.g_norm.weight")),
    ("att.ln_x.bias", Tensor("attn.g_norm.bias")),
    ("ffn.x_k", Tensor("ffn.x_k")),
    ("ffn.key.weight", Tensor("ffn.key.weight")),
    ("ffn.value.weight", Tensor("ffn.value.weight")),
];

/// Tensors of a layer of flash-linear-attention's RWKV-6, after `model.layers.N.`
pub(crate) const FLA_V6_BLOCK: &[(&str, Place)] = &[
    ("ln0.weight", Tensor("pre_norm.weight")),
    ("ln0.bias", Tensor("pre_norm.bias")),
    ("ln1.weight", Tensor("attn_norm.weight")),
    ("ln1.bias", Tensor("attn_norm.bias")),
    ("ln2.weight", Tensor("ffn_norm.weight")),
    ("ln2.bias", Tensor("ffn_norm.bias")),
    ("att.time_maa_x", Tensor("attn.x_proj.0.mu")),
    ("att.time_maa_r", Row("attn.x_bias", 0)),
    ("att.time_maa_w", Row("attn.x_bias", 1)),
    ("att.time_maa_k", Row("attn.x_bias", 2)),
    ("att.time_maa_v", Row("attn.x_bias", 3)),
    ("att.time_maa_g", Row("attn.x_bias", 4)),
    ("att.time_maa_w1", Tensor("attn.x_proj.0.linear.weight")),
    ("att.time_maa_w2", Tensor("attn.x_proj.2.weight")),
    ("att.time_decay", Tensor("attn.w_proj.linear.lora.2.bias")),
    ("att.time_decay_w1", Tensor("attn.w_proj.linear.lora.0.weight")),
    ("att.time_decay_w2", Tensor("attn.w_proj.linear.lora.2.weight")),
    ("att.time_faaaa", Tensor("attn.bonus")),
    ("att.receptance.weight", Tensor("attn.r_proj.linear.weight")),
    ("att.key.weight", Tensor("attn.k_proj.linear.weight")),
    ("att.value.weight", Tensor("attn.v_proj.linear.weight")),
    ("att.gate.weight", Tensor("attn.g_proj.linear.weight")),
    ("att.output.weight", Tensor("attn.o_proj.weight")),
    ("att.ln_x.weight", Tensor("attn.g_norm.weight")),
    ("att.ln_x.bias", Tensor("attn.g_norm.bias")),
    ("ffn.time_maa_k", Tensor("ffn.key.mu")),
    ("ffn.time_maa_r", Tensor("ffn.receptance.mu")),
    ("ffn.key.weight", Tensor("ffn.key.linear.weight")),
    ("ffn.value.weight", Tensor("ffn.value.weight")),
    ("ffn.receptance.weight", Tensor("ffn.receptance.linear.weight")),
];

/// The six mixes in older files of flash-linear-attention, which stack them.
pub(crate) const FLA_STACKED: &[(&str, Place)] = &[
    ("att.x_r", Row("attn.x_x", 0)),
    ("att.x_w", Row("attn.x_x", 1)),
    ("att.x_k", Row("attn.x_x", 2)),
    ("att.x_v", Row("attn.x_x", 3)),
    ("att.x_a", Row("attn.x_x", 4)),
    ("att.x_g", Row("attn.x_x", 5)),
];

/// Vectors of RWKV-4 and RWKV-5 whose names Hugging Face's transformers write out, after `attention.` or `feed_forward.`.
pub(crate) const WRITTEN_OUT: &[(&str, &str)] = &[
    ("time_mix_k", "time_mix_key"),
    ("time_mix_v", "time_mix_value"),
    ("time_mix_r", "time_mix_receptance"),
    ("time_mix_g", "time_mix_gate"),
];

/// Low-rank matrices, which BlinkDL's files have as `[in, out]` (used from the right, x·W) where all others are
/// `[out, in]`. Told by name, since the shape of a square pair cannot tell.
pub(crate) const LOW_RANK: &[&str] = &[
    "att.w1",
    "att.w2",
    "att.a1",
    "att.a2",
    "att.v1",
    "att.v2",
    "att.g1",
    "att.g2",
    "att.time_maa_w1",
    "att.time_maa_w2",
    "att.time_decay_w1",
    "att.time_decay_w2",
    "ffn.s1",
    "ffn.s2",
];

/// The name that web-rwkv's converter gives to a tensor of a layer, after `blocks.N.`.
pub(crate) fn web_rwkv_part(part: &str) -> String {
    match part.split_once(".time_") {
        Some((side, "faaaa")) => format!("{side}.time_first"),
        Some((side, rest)) => match rest.strip_prefix("maa_") {
            Some(which) => format!("{side}.time_mix_{which}"),
            None => part.into(),
        },
        None => part.into(),
    }
}

/// The name that web-rwkv's converter gives to BlinkDL's tensor `name`.
pub fn web_rwkv_name(name: &str) -> String {
    match in_layer(name) {
        Some((layer, part)) => format!("blocks.{layer}.{}", web_rwkv_part(part)),
        None => name.into(),
    }
}

/// The name that llama.cpp's converter gives to BlinkDL's tensor `name`, and the row of it if it stacks several; `None` if GGUF files have no
/// such tensor.
pub fn gguf_name(name: &str) -> Option<(String, Option<usize>)> {
    if let Some(Tensor(name) | Row(name, _)) = find(GGUF_MODEL, name) {
        return Some(((*name).into(), None));
    }
    let (layer, part) = in_layer(name)?;
    match find(GGUF_BLOCK, part)? {
        Tensor(name) => Some((format!("blk.{layer}.{name}"), None)),
        Row(name, row) => Some((format!("blk.{layer}.{name}"), Some(*row))),
    }
}

/// The place of BlinkDL's tensor `name` in a table.
pub(crate) fn find(table: &'static [(&str, Place)], name: &str) -> Option<&'static Place> {
    table.iter().find(|(blink, _)| *blink == name).map(|(_, place)| place)
}

/// A name of BlinkDL's apart: the number of the layer as text, and what follows it; `None` outside the layers.
pub(crate) fn in_layer(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("blocks.")?.split_once('.')
}

/// What tensor names of models saved by Hugging Face's transformers begin with, up to the number of the layer. No other
/// layout has them.
const HUGGING_FACE_LAYERS: [&str; 4] = ["model.layers.", "model.blocks.", "rwkv7.blocks.", "rwkv.blocks."];

/// Whether a tensor of this name belongs to a model saved by Hugging Face's transformers.
pub(crate) fn is_hugging_face(name: &str) -> bool {
    HUGGING_FACE_LAYERS.iter().any(|prefix| name.starts_with(prefix))
}
