//! What all RWKV versions have in common: the frame around the layers, a layer's names, and the channel mixing of
//! RWKV-4 to RWKV-6.
//!
//! ```text
//! x = LN(emb[t]; ln0)
//! per layer:  x += att(LN(x; ln1));  x += ffn(LN(x; ln2))
//! logits = head · LN(x; ln_out)
//! ```

use crate::builder::PlanBuilder;
use crate::config::Config;
use crate::error::ModelError;
use crate::plan::{Activation, Plan, ValueId};
use crate::source::Source;
use crate::state::{StateLayout, StatePart, StateRef};
use crate::weights::Weight;
use anser_format::ModelFile;
use std::sync::Arc;

/// Parts of every version's state, in the order of their layouts.
pub(crate) const ATT_SHIFT: usize = 0;
pub(crate) const WKV: usize = 1;
pub(crate) const FFN_SHIFT: usize = 2;

/// The state of one sequence: the last inputs of both token shifts, and between them what the recurrence keeps.
pub(crate) fn state_layout(config: &Config, wkv: Vec<usize>) -> StateLayout {
    let Config { n_layer, n_embd: c, .. } = *config;
    let part = |name, shape| StatePart { name, shape };
    StateLayout { n_layer, parts: vec![part("att_shift", vec![c]), part("wkv", wkv), part("ffn_shift", vec![c])] }
}

/// Writes down the model in `file`: `layer` writes the operations of one layer, from its input to its output.
///
/// # Errors
/// A missing tensor or a wrong shape, by name.
pub(crate) fn plan(
    file: &Arc<ModelFile>,
    config: &Config,
    title: String,
    state: StateLayout,
    mut layer: impl FnMut(&Block, &mut PlanBuilder, ValueId) -> Result<ValueId, ModelError>,
) -> Result<Plan, ModelError> {
    let Config { n_layer, n_embd: c, n_vocab: v, layer_norm_eps: eps, .. } = *config;
    let mut p = PlanBuilder::new(title, state, v);
    let source = Source::new(file);

    let x = p.embed("emb", source.matrix("emb.weight", [v, c])?); // [T, C]
    // Some folders of Hugging Face's have LN(emb; ln0) in the table.
    let is_folded = source.dialect().is_hugging_face() && !source.has("blocks.0.ln0.weight");
    let x_0 = if is_folded { x } else { p.layer_norm("ln0", x, norm(&source, "blocks.0.ln0", c)?, eps) };
    let mut x = x_0;
    for number in 0..n_layer {
        let block = Block { source: &source, config, layer: number, x_0 };
        x = layer(&block, &mut p, x)?;
        p.mark_residual(x);
    }
    let x = p.select("out", x); // [O, C]
    let hidden = p.layer_norm("ln_out", x, norm(&source, "ln_out", c)?, eps);
    if !source.dialect().has_head() {
        return Ok(p.finish(Some(hidden), None));
    }
    let logits = p.matmul("head", source.matrix("head.weight", [v, c])?, hidden); // [O, V]
    Ok(p.finish(Some(hidden), Some(logits)))
}

/// Weight and bias of a norm.
fn norm(source: &Source, name: &str, len: usize) -> Result<[Weight; 2], ModelError> {
    Ok([source.vector(&format!("{name}.weight"), len)?, source.vector(&format!("{name}.bias"), len)?])
}

/// One layer: its weights and parts of the state by their names within it.
pub(crate) struct Block<'a> {
    pub(crate) source: &'a Source<'a>,
    pub(crate) config: &'a Config,
    pub(crate) layer: usize,
    /// The first layer's input, `[T, C]`.
    pub(crate) x_0: ValueId,
}

impl Block<'_> {
    /// `blocks.L.part`
    pub(crate) fn name(&self, part: &str) -> String {
        format!("blocks.{}.{part}", self.layer)
    }

    pub(crate) fn state(&self, part: usize) -> StateRef {
        StateRef { part, layer: self.layer }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.source.has(&self.name(name))
    }

    /// A vector of the residual stream's width, `[C]`.
    pub(crate) fn vector(&self, name: &str) -> Result<Weight, ModelError> {
        self.source.vector(&self.name(name), self.config.n_embd)
    }

    pub(crate) fn vectors<const K: usize>(&self, names: [&str; K]) -> Result<[Weight; K], ModelError> {
        let vectors = names.iter().map(|name| self.vector(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(std::array::from_fn(|i| vectors[i].clone()))
    }

    /// 1 − the vectors called `names`. RWKV-4 and -5 mix x∘μ + x_prev∘(1−μ), where later versions mix
    /// x + (x_prev − x)∘μ.
    pub(crate) fn inverted_mixes<const K: usize>(&self, names: [&str; K]) -> Result<[Weight; K], ModelError> {
        let invert = |mix: Weight| mix.computed(mix.n_cols(), |mix| mix.into_iter().map(|m| 1.0 - m).collect());
        Ok(self.vectors(names)?.map(invert))
    }

    pub(crate) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Weight, ModelError> {
        self.source.matrix(&self.name(name), shape)
    }

    /// Weight and bias of the norm called `name`, `[C]`.
    pub(crate) fn norm(&self, name: &str) -> Result<[Weight; 2], ModelError> {
        norm(self.source, &self.name(name), self.config.n_embd)
    }

    /// LN(x; name).
    pub(crate) fn layer_norm(&self, p: &mut PlanBuilder, name: &str, x: ValueId) -> Result<ValueId, ModelError> {
        Ok(p.layer_norm(&self.name(name), x, self.norm(name)?, self.config.layer_norm_eps))
    }

    /// x + ffn(LN(x; ln2)), `[T, C]`, of RWKV-4 to RWKV-6: σ(Wr x_r) ∘ (Wv relu(Wk x_k)²), with the mixes of x_k and x_r.
    /// `factor` multiplies it.
    pub(crate) fn channel_mixing_with_receptance(
        &self,
        p: &mut PlanBuilder,
        x: ValueId,
        mix: [Weight; 2],
        factor: f32,
    ) -> Result<ValueId, ModelError> {
        let Config { n_embd: c, n_ffn: f, .. } = *self.config;
        let name = |part: &str| self.name(&format!("ffn.{part}"));
        let xx = self.layer_norm(p, "ln2", x)?;
        let [x_k, x_r] = p.token_shift(&name("shift"), xx, self.state(FFN_SHIFT), mix, [name("x_k"), name("x_r")]);
        let receptance = self.matrix("ffn.receptance.weight", [c, c])?;
        let r = p.matmul_with(&name("r"), receptance, x_r, None, Activation::Sigmoid, None);
        let key = self.matrix("ffn.key.weight", [f, c])?;
        let k = p.matmul_with(&name("k"), key, x_k, None, Activation::ReluSquared, None); // [T, F]
        let v = p.matmul(&name("v"), self.matrix("ffn.value.weight", [c, f])?, k);
        Ok(p.gate(&name("x"), r, v, factor, Some(x)))
    }
}
