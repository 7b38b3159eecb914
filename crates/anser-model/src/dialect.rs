//! How a file spells BlinkDL's names and turns the low-rank matrices, told by the names in it.

use crate::names::{
    self, FLA_BLOCK, FLA_STACKED, FLA_V6_BLOCK, GGUF_BLOCK, GGUF_LERPS, GGUF_MODEL, LOW_RANK, Place, WRITTEN_OUT,
};
use anser_format::{FileKind, ModelFile};
use std::fmt;

/// A way to write an RWKV model down. Those of Hugging Face's transformers are all safetensors with a `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// BlinkDL's own, in `.pth` files and in safetensors made of them: low-rank matrices are `[in, out]`.
    Blink,
    /// web-rwkv's converter's: low-rank matrices are `[out, in]`, and some names differ.
    WebRwkv,
    /// llama.cpp's.
    Gguf,
    /// flash-linear-attention's RWKV-7, which rwkv7-hf writes, too.
    Fla,
    /// flash-linear-attention's RWKV-6.
    FlaV6,
    /// BlinkDL's names under a prefix, for transformers.
    Transformers {
        /// `rwkv7.` or `model.`
        prefix: &'static str,
        /// `emb.weight` or `embeddings.weight`
        embedding: &'static str,
        /// Whether low-rank matrices are those of linear layers: `att.w1.weight` `[out, in]` instead of `att.w1` `[in, out]`.
        is_linear: bool,
    },
    /// BlinkDL's names under a prefix, in models that embed or rank texts and have no head for tokens: EmbeddingRWKV's (`rwkv.`) and its
    /// reranker (`reranker.`).
    Prefixed {
        /// `rwkv.` or `reranker.`
        prefix: &'static str,
        /// `emb.weight` or `token.weight`
        embedding: &'static str,
    },
    /// RWKV-4 in transformers, and RWKV-5 and -6 with code of their own: `rwkv.blocks.N.attention.`.
    Attention,
}

/// The mixes of RWKV-6 whose low-rank pairs two tensors stack.
pub(crate) const N_MIXES: usize = 5;

/// Where a file has one of BlinkDL's tensors.
#[derive(Default)]
pub(crate) struct Spelled {
    pub(crate) name: String,
    /// The row to take of a tensor that stacks several vectors.
    pub(crate) row: Option<usize>,
    /// Whether the file has the last two dimensions the other way around than the engine.
    pub(crate) is_transposed: bool,
    /// The number of matrices that lie side by side in the file where the engine has a stack of them.
    pub(crate) n_side_by_side: Option<usize>,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dialect::Blink => f.write_str("BlinkDL"),
            Dialect::WebRwkv => f.write_str("web-rwkv"),
            Dialect::Gguf => f.write_str("llama.cpp"),
            Dialect::Fla | Dialect::FlaV6 => f.write_str("Hugging Face, flash-linear-attention"),
            Dialect::Transformers { prefix, embedding, .. } => write!(f, "Hugging Face, {prefix}{embedding}"),
            Dialect::Prefixed { prefix, .. } => write!(f, "BlinkDL, {prefix}"),
            Dialect::Attention => f.write_str("Hugging Face, rwkv.blocks"),
        }
    }
}

impl Dialect {
    /// The dialect of `file`; [`Dialect::Blink`] or [`Dialect::WebRwkv`] if it is none that is known.
    pub(crate) fn of(file: &ModelFile) -> Dialect {
        let has = |name: &str| file.info(name).is_some();
        match file.kind() {
            FileKind::Gguf { .. } => return Dialect::Gguf,
            FileKind::Torch(_) | FileKind::Safetensors => {}
        }
        if has("model.layers.0.attn.x_r") || has("model.layers.0.attn.x_x") {
            return Dialect::Fla;
        }
        if has("model.layers.0.attn.x_proj.0.mu") {
            return Dialect::FlaV6;
        }
        for prefix in ["rwkv7.", "model."] {
            if has(&format!("{prefix}blocks.0.att.x_r")) {
                let embedding = if has(&format!("{prefix}emb.weight")) { "emb.weight" } else { "embeddings.weight" };
                let is_linear = has(&format!("{prefix}blocks.0.att.w1.weight"));
                return Dialect::Transformers { prefix, embedding, is_linear };
            }
        }
        for prefix in ["rwkv.", "reranker."] {
            if has(&format!("{prefix}blocks.0.att.x_r")) {
                let has_emb = has(&format!("{prefix}emb.weight"));
                return Dialect::Prefixed { prefix, embedding: if has_emb { "emb.weight" } else { "token.weight" } };
            }
        }
        if has("rwkv.blocks.0.attention.key.weight") {
            return Dialect::Attention;
        }
        match file.kind() {
            FileKind::Safetensors if !is_blink(file) => Dialect::WebRwkv,
            FileKind::Safetensors | FileKind::Torch(_) | FileKind::Gguf { .. } => Dialect::Blink,
        }
    }

    /// Whether the model lies in a folder of Hugging Face's, whose `config.json` counts.
    pub(crate) fn is_hugging_face(self) -> bool {
        match self {
            Dialect::Blink | Dialect::WebRwkv | Dialect::Gguf | Dialect::Prefixed { .. } => false,
            Dialect::Fla | Dialect::FlaV6 | Dialect::Transformers { .. } | Dialect::Attention => true,
        }
    }

    /// Whether models of this dialect compute logits of tokens.
    pub(crate) fn has_head(self) -> bool {
        !matches!(self, Dialect::Prefixed { .. })
    }

    /// What tensor names begin with, up to the number of the layer.
    pub(crate) fn layer_prefix(self) -> String {
        match self {
            Dialect::Blink | Dialect::WebRwkv => "blocks.".into(),
            Dialect::Gguf => "blk.".into(),
            Dialect::Fla | Dialect::FlaV6 => "model.layers.".into(),
            Dialect::Transformers { prefix, .. } | Dialect::Prefixed { prefix, .. } => format!("{prefix}blocks."),
            Dialect::Attention => "rwkv.blocks.".into(),
        }
    }

    /// The places of w, k, v, r and g among the low-rank pairs of RWKV-6's mixes that a file of this dialect stacks.
    pub(crate) fn mix_order(self) -> [usize; N_MIXES] {
        match self {
            Dialect::FlaV6 => [1, 2, 3, 0, 4],
            Dialect::Blink
            | Dialect::WebRwkv
            | Dialect::Gguf
            | Dialect::Fla
            | Dialect::Transformers { .. }
            | Dialect::Prefixed { .. }
            | Dialect::Attention => [0, 1, 2, 3, 4],
        }
    }

    /// Where `file`, which is of this dialect, has BlinkDL's tensor `name`.
    pub(crate) fn spell(self, file: &ModelFile, name: &str) -> Spelled {
        let Some((layer, part)) = names::in_layer(name) else {
            let name = self.spell_outside(name);
            return Spelled { name, ..Spelled::default() };
        };
        // ln0 stands outside of the layers in GGUF files.
        if let (Dialect::Gguf, Some(Place::Tensor(name))) = (self, names::find(GGUF_MODEL, name)) {
            return Spelled { name: (*name).into(), ..Spelled::default() };
        }
        let prefix = format!("{}{layer}.", self.layer_prefix());
        let has = |place: Option<&'static Place>| match place {
            Some(Place::Tensor(name) | Place::Row(name, _)) => file.info(&format!("{prefix}{name}")).is_some(),
            None => false,
        };
        let spelled = |place: Option<&Place>| match place {
            Some(Place::Tensor(name)) => Spelled { name: format!("{prefix}{name}"), ..Spelled::default() },
            Some(Place::Row(name, row)) => {
                Spelled { name: format!("{prefix}{name}"), row: Some(*row), ..Spelled::default() }
            }
            None => Spelled { name: format!("{prefix}{part}"), ..Spelled::default() },
        };
        let named = |name: String, is_transposed| Spelled {
            name: format!("{prefix}{name}"),
            is_transposed,
            ..Spelled::default()
        };
        let is_low_rank = LOW_RANK.contains(&part);
        match self {
            Dialect::Blink | Dialect::Prefixed { .. } => named(part.into(), is_low_rank),
            Dialect::WebRwkv => named(names::web_rwkv_part(part), false),
            Dialect::Gguf => {
                let apart = names::find(GGUF_LERPS, part);
                spelled(if has(apart) { apart } else { names::find(GGUF_BLOCK, part) })
            }
            Dialect::FlaV6 => {
                let n_side_by_side = (part == "att.time_maa_w2").then_some(N_MIXES);
                Spelled { n_side_by_side, ..spelled(names::find(FLA_V6_BLOCK, part)) }
            }
            Dialect::Fla => {
                let stacked = names::find(FLA_STACKED, part);
                spelled(if has(stacked) { stacked } else { names::find(FLA_BLOCK, part) })
            }
            Dialect::Transformers { is_linear: true, .. } if is_low_rank => named(format!("{part}.weight"), false),
            Dialect::Transformers { .. } => named(part.into(), is_low_rank),
            Dialect::Attention => {
                let name = match part.split_once('.') {
                    Some(("ln0", rest)) => format!("pre_ln.{rest}"),
                    Some((side @ ("att" | "ffn"), rest)) => {
                        let side = if side == "att" { "attention" } else { "feed_forward" };
                        let written = WRITTEN_OUT.iter().find(|(short, _)| *short == rest);
                        format!("{side}.{}", written.map_or(rest, |(_, long)| long))
                    }
                    _ => part.into(),
                };
                named(name, is_low_rank)
            }
        }
    }

    /// The same for a name outside of the layers.
    fn spell_outside(self, name: &str) -> String {
        match self {
            Dialect::Blink | Dialect::WebRwkv => name.into(),
            Dialect::Gguf => match names::find(GGUF_MODEL, name) {
                Some(Place::Tensor(name) | Place::Row(name, _)) => (*name).into(),
                None => name.into(),
            },
            Dialect::Fla | Dialect::FlaV6 => match name.split_once('.') {
                Some(("emb", rest)) => format!("model.embeddings.{rest}"),
                Some(("ln_out", rest)) => format!("model.norm.{rest}"),
                Some(("head", rest)) => format!("lm_head.{rest}"),
                _ => name.into(),
            },
            Dialect::Transformers { prefix, embedding, .. } => match name {
                "head.weight" => name.into(),
                "emb.weight" => format!("{prefix}{embedding}"),
                _ => format!("{prefix}{name}"),
            },
            Dialect::Prefixed { prefix, embedding } => match name {
                "emb.weight" => format!("{prefix}{embedding}"),
                _ => format!("{prefix}{name}"),
            },
            Dialect::Attention => match name {
                "head.weight" => name.into(),
                "emb.weight" => "rwkv.embeddings.weight".into(),
                _ => format!("rwkv.{name}"),
            },
        }
    }
}

/// Whether a safetensors file with plain names is BlinkDL's and not web-rwkv's: names that the converter changes, or a
/// low-rank matrix that reads the residual stream `[C, R]`. A file that tells neither is taken for a converted one.
fn is_blink(file: &ModelFile) -> bool {
    if file.info("blocks.0.att.time_maa_x").is_some() || file.info("blocks.0.att.time_faaaa").is_some() {
        return true;
    }
    let Some(&[_, n_embd]) = file.info("emb.weight").map(|info| info.shape) else { return false };
    let shape = |name: &&str| file.info(&format!("blocks.0.att.{name}")).map(|info| info.shape.to_vec());
    ["w1", "a1", "g1"]
        .iter()
        .filter_map(shape)
        .any(|shape| matches!(shape[..], [n, rank] if n == n_embd && rank != n_embd))
}
