//! The tensors of a model of RWKV-4 to RWKV-7: BlinkDL's names, in the order of his files, and what they hold.

use crate::error::ConvertError;
use anser_format::ModelFile;
use anser_model::{Config, Source, Version, Weight};
use std::sync::Arc;

/// A version whose tensors are listed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    V4,
    /// RWKV-5.0, which has no gate, or a later RWKV-5.
    V5 {
        has_gate: bool,
    },
    V6,
    V7,
}

impl Kind {
    /// The kind of the model in a file, or in words why it has none.
    pub(crate) fn of(source: &Source, config: &Config) -> Result<Kind, &'static str> {
        match config.version {
            Version::V4 => Ok(Kind::V4),
            Version::V5 => Ok(Kind::V5 { has_gate: source.has("blocks.0.att.gate.weight") }),
            Version::V6 => Ok(Kind::V6),
            Version::V7 => Ok(Kind::V7),
            Version::V7a => Err("RWKV-7a (DeepEmbed)"),
            Version::Rwkv6Qwen2 | Version::Arwkv7 => Err("a hybrid with Qwen2"),
            _ => Err("this version"),
        }
    }

    /// The version's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::V4 => "RWKV-4",
            Kind::V5 { has_gate: false } => "RWKV-5.0",
            Kind::V5 { has_gate: true } => "RWKV-5",
            Kind::V6 => "RWKV-6",
            Kind::V7 => "RWKV-7",
        }
    }
}

/// A tensor of a model, checked for its shape.
pub(crate) struct Part {
    /// BlinkDL's name, for example `blocks.3.att.w1`.
    pub(crate) name: String,
    /// BlinkDL's shape, but low-rank matrices are `[out, in]`, as other programs have them.
    pub(crate) shape: Vec<usize>,
    pub(crate) weight: Weight,
}

impl Part {
    /// The number of the layer and the name in it, for example 3 and `att.w1`; `None` outside of the layers.
    pub(crate) fn in_layer(&self) -> Option<(usize, &str)> {
        let (layer, part) = self.name.strip_prefix("blocks.")?.split_once('.')?;
        Some((layer.parse().ok()?, part))
    }

    /// Number of elements.
    pub(crate) fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Finds and checks the tensors of the model in `file`, which is of this kind. The value residual of RWKV-7's first layer,
/// which some files have and none uses, is left out.
pub(crate) fn parts(file: &Arc<ModelFile>, config: &Config, kind: Kind) -> Result<Vec<Part>, ConvertError> {
    let source = Source::new(file);
    let mut parts = Parts { source: &source, config, layer: 0, parts: vec![] };
    let Config { n_layer, n_embd: c, n_ffn: f, n_vocab, .. } = *config;
    parts.matrix("emb.weight".into(), [n_vocab, c])?;
    for layer in 0..n_layer {
        parts.layer = layer;
        if layer == 0 {
            parts.norm("blocks.0.ln0")?;
        }
        for norm in ["ln1", "ln2"] {
            parts.norm(&parts.name(norm))?;
        }
        match kind {
            Kind::V4 => parts.time_mixing_4()?,
            Kind::V5 { .. } => parts.time_mixing_5()?,
            Kind::V6 => parts.time_mixing_6()?,
            Kind::V7 => parts.time_mixing_7()?,
        }
        for (name, shape) in [("key", [f, c]), ("value", [c, f])] {
            parts.matrix(parts.name(&format!("ffn.{name}.weight")), shape)?;
        }
        let mixes: &[&str] = match kind {
            Kind::V4 | Kind::V5 { .. } => &["time_mix_k", "time_mix_r"],
            Kind::V6 => &["time_maa_k", "time_maa_r"],
            Kind::V7 => &["x_k"],
        };
        for mix in mixes {
            parts.mix(&format!("ffn.{mix}"))?;
        }
        match kind {
            Kind::V4 | Kind::V5 { .. } | Kind::V6 => parts.matrix(parts.name("ffn.receptance.weight"), [c, c])?,
            Kind::V7 => {}
        }
    }
    parts.norm("ln_out")?;
    parts.matrix("head.weight".into(), [n_vocab, c])?;
    Ok(parts.parts)
}

struct Parts<'a> {
    source: &'a Source<'a>,
    config: &'a Config,
    layer: usize,
    parts: Vec<Part>,
}

impl Parts<'_> {
    fn time_mixing_4(&mut self) -> Result<(), ConvertError> {
        for which in ["k", "v", "r"] {
            self.mix(&format!("att.time_mix_{which}"))?;
        }
        for which in ["time_decay", "time_first"] {
            self.vector(self.name(&format!("att.{which}")), &[self.config.n_embd])?;
        }
        self.squares(&["key", "value", "receptance", "output"])
    }

    fn time_mixing_5(&mut self) -> Result<(), ConvertError> {
        for which in ["k", "v", "r", "g"] {
            self.mix(&format!("att.time_mix_{which}"))?;
        }
        // RWKV-5.1 has one number a head, RWKV-5.2 one a channel.
        let Config { n_head: h, head_size: n, .. } = *self.config;
        for which in ["time_decay", "time_faaaa"] {
            let name = self.name(&format!("att.{which}"));
            let n_elements: usize = self.source.shape(&name)?.iter().product();
            let shape: &[usize] = if n_elements == h { &[h] } else { &[h, n] };
            self.vector(name, shape)?;
        }
        self.squares(&["key", "value", "receptance", "output", "gate"])?;
        self.norm(&self.name("att.ln_x"))
    }

    fn time_mixing_6(&mut self) -> Result<(), ConvertError> {
        let Config { n_embd: c, n_head: h, head_size: n, .. } = *self.config;
        for which in ["x", "w", "k", "v", "r", "g"] {
            self.mix(&format!("att.time_maa_{which}"))?;
        }
        let (down, up) = (self.name("att.time_maa_w1"), self.name("att.time_maa_w2"));
        let n_down = self.n_rows(&down)?;
        self.matrix(down, [n_down, c])?;
        let weight = self.source.stack(&up, [5, c, n_down / 5])?;
        self.parts.push(Part { name: up, shape: vec![5, c, n_down / 5], weight });
        self.mix("att.time_decay")?;
        self.low_rank("att.time_decay_w1", "att.time_decay_w2")?;
        self.vector(self.name("att.time_faaaa"), &[h, n])?;
        self.squares(&["key", "value", "receptance", "gate", "output"])?;
        self.norm(&self.name("att.ln_x"))
    }

    fn time_mixing_7(&mut self) -> Result<(), ConvertError> {
        let Config { n_head: h, head_size: n, .. } = *self.config;
        for which in ["r", "w", "k", "v", "a", "g"] {
            self.mix(&format!("att.x_{which}"))?;
        }
        for which in ["w", "a", "v", "g"] {
            if which == "v" && self.layer == 0 {
                continue;
            }
            if which != "g" {
                self.mix(&format!("att.{which}0"))?;
            }
            self.low_rank(&format!("att.{which}1"), &format!("att.{which}2"))?;
        }
        for which in ["k_k", "k_a"] {
            self.mix(&format!("att.{which}"))?;
        }
        self.vector(self.name("att.r_k"), &[h, n])?;
        self.squares(&["key", "value", "receptance", "output"])?;
        self.norm(&self.name("att.ln_x"))
    }

    /// `blocks.L.part`
    fn name(&self, part: &str) -> String {
        format!("blocks.{}.{part}", self.layer)
    }

    fn n_rows(&self, name: &str) -> Result<usize, ConvertError> {
        Ok(self.source.shape(name)?.first().copied().unwrap_or(0))
    }

    fn matrix(&mut self, name: String, shape: [usize; 2]) -> Result<(), ConvertError> {
        let weight = self.source.matrix(&name, shape)?;
        self.parts.push(Part { name, shape: shape.into(), weight });
        Ok(())
    }

    /// Matrices `[C, C]` of the time mixing.
    fn squares(&mut self, names: &[&str]) -> Result<(), ConvertError> {
        let c = self.config.n_embd;
        names.iter().try_for_each(|name| self.matrix(self.name(&format!("att.{name}.weight")), [c, c]))
    }

    /// A pair down `[R, C]` and up `[C, R]`.
    fn low_rank(&mut self, down: &str, up: &str) -> Result<(), ConvertError> {
        let (down, up, c) = (self.name(down), self.name(up), self.config.n_embd);
        let rank = self.n_rows(&down)?;
        self.matrix(down, [rank, c])?;
        self.matrix(up, [c, rank])
    }

    fn vector(&mut self, name: String, shape: &[usize]) -> Result<(), ConvertError> {
        let weight = self.source.vector(&name, shape.iter().product())?;
        self.parts.push(Part { name, shape: shape.into(), weight });
        Ok(())
    }

    /// A vector of the layer that BlinkDL stores as `[1, 1, C]`.
    fn mix(&mut self, part: &str) -> Result<(), ConvertError> {
        self.vector(self.name(part), &[1, 1, self.config.n_embd])
    }

    /// Weight and bias of a norm.
    fn norm(&mut self, name: &str) -> Result<(), ConvertError> {
        ["weight", "bias"].iter().try_for_each(|which| self.vector(format!("{name}.{which}"), &[self.config.n_embd]))
    }
}
