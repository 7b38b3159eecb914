//! BlinkDL's tensor names and those of GGUF files, side by side. Shapes are checked where a weight is used
//! ([`crate::v7`]), against the letters of the crate's glossary.

/// How a GGUF file spells a tensor.
pub(crate) enum Gguf {
    /// A tensor of its own.
    Tensor(&'static str),
    /// Row `.1` of a tensor that stacks several vectors.
    Row(&'static str, usize),
}

use Gguf::{Row, Tensor};

/// Tensors outside the layers, RWKV-7.
pub(crate) const V7_MODEL: &[(&str, Gguf)] = &[
    ("emb.weight", Tensor("token_embd.weight")),
    ("blocks.0.ln0.weight", Tensor("token_embd_norm.weight")),
    ("blocks.0.ln0.bias", Tensor("token_embd_norm.bias")),
    ("ln_out.weight", Tensor("output_norm.weight")),
    ("ln_out.bias", Tensor("output_norm.bias")),
    ("head.weight", Tensor("output.weight")),
];

/// Tensors of one layer, RWKV-7: after `blocks.N.` and after `blk.N.`.
pub(crate) const V7_BLOCK: &[(&str, Gguf)] = &[
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
];

/// The name of BlinkDL's tensor `blink` in a GGUF file, and the row to take where the file stacks several.
/// `None` for a name that is in neither table.
pub(crate) fn gguf_name(blink: &str) -> Option<(String, Option<usize>)> {
    let find = |table: &'static [(&str, Gguf)], name: &str| table.iter().find(|(b, _)| *b == name).map(|(_, g)| g);
    let spell = |prefix: &str, g: &Gguf| match g {
        Tensor(n) => (format!("{prefix}{n}"), None),
        Row(n, i) => (format!("{prefix}{n}"), Some(*i)),
    };
    if let Some(g) = find(V7_MODEL, blink) {
        return Some(spell("", g));
    }
    let (layer, rest) = blink.strip_prefix("blocks.")?.split_once('.')?;
    find(V7_BLOCK, rest).map(|g| spell(&format!("blk.{layer}."), g))
}

/// What tensor names of models saved by Hugging Face's transformers begin with, up to the number of the layer. No other
/// layout has them.
const HUGGING_FACE_LAYERS: [&str; 4] = ["model.layers.", "model.blocks.", "rwkv7.blocks.", "rwkv.blocks."];

/// Whether a tensor of this name belongs to a model saved by Hugging Face's transformers.
pub(crate) fn is_hugging_face(name: &str) -> bool {
    HUGGING_FACE_LAYERS.iter().any(|prefix| name.starts_with(prefix))
}
