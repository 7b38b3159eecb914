//! RWKV-7 "Goose", as published in BlinkDL's `rwkv_v7_demo_rnn.py` and the RWKV-7 paper (arXiv 2503.14456).
//!
//! ```text
//! x = LN(emb[t]; ln0)
//! per layer:  x += att(LN(x; ln1));  x += ffn(LN(x; ln2))
//! logits = head · LN(x; ln_out)
//! ```
//!
//! Every size comes from the file's shapes: low-rank widths may differ between matrices and layers.

use crate::builder::PlanBuilder;
use crate::config::Config;
use crate::error::ModelError;
use crate::plan::{Activation, Plan, ValueId};
use crate::source::Source;
use crate::state::{StateLayout, StatePart, StateRef};
use crate::weights::Weight;
use anser_format::ModelFile;
use std::sync::Arc;

const ATT_SHIFT: usize = 0;
const WKV: usize = 1;
const FFN_SHIFT: usize = 2;

/// The state of one sequence: the last inputs of both token shifts, and S of every head.
pub fn state_layout(config: &Config) -> StateLayout {
    let Config { n_layer, n_embd: c, n_head: h, head_size: n, .. } = *config;
    let part = |name, shape| StatePart { name, shape };
    let parts = vec![part("att_shift", vec![c]), part("wkv", vec![h, n, n]), part("ffn_shift", vec![c])];
    StateLayout { n_layer, parts }
}

/// Writes down the model in `file`.
///
/// # Errors
/// A missing tensor or a wrong shape, by name.
pub fn plan(file: &Arc<ModelFile>, config: &Config) -> Result<Plan, ModelError> {
    let Config { n_layer, n_embd: c, n_head: h, head_size: n, n_ffn: f, n_vocab: v, .. } = *config;
    let title = format!("rwkv7 L={n_layer} C={c} H={h} N={n} F={f} V={v}");
    let mut p = PlanBuilder::new(title, state_layout(config), v);
    let source = Source::new(file);

    let x = p.embed("emb", source.matrix("emb.weight", [v, c])?); // [T, C]
    // Some files have LN(emb; ln0) in the table.
    let mut x = match source.has("blocks.0.ln0.weight") || !source.dialect().is_hugging_face() {
        true => p.layer_norm("ln0", x, norm(&source, "blocks.0.ln0", c)?, config.layer_norm_eps),
        false => x,
    };
    let mut v_first = None;
    for layer in 0..n_layer {
        let block = Block { source: &source, config, layer };
        x = block.time_mixing(&mut p, x, &mut v_first)?;
        x = block.channel_mixing(&mut p, x)?;
        p.mark_residual(x);
    }
    let x = p.select("out", x); // [O, C]
    let hidden = p.layer_norm("ln_out", x, norm(&source, "ln_out", c)?, config.layer_norm_eps);
    let logits = p.matmul("head", source.matrix("head.weight", [v, c])?, hidden); // [O, V]
    Ok(p.finish(Some(hidden), Some(logits)))
}

/// Weight and bias of a norm.
fn norm(source: &Source, name: &str, len: usize) -> Result<[Weight; 2], ModelError> {
    Ok([source.vector(&format!("{name}.weight"), len)?, source.vector(&format!("{name}.bias"), len)?])
}

/// One layer.
struct Block<'a> {
    source: &'a Source<'a>,
    config: &'a Config,
    layer: usize,
}

impl Block<'_> {
    /// `blocks.L.part`
    fn name(&self, part: &str) -> String {
        format!("blocks.{}.{part}", self.layer)
    }

    fn state(&self, part: usize) -> StateRef {
        StateRef { part, layer: self.layer }
    }

    /// A vector of the residual stream's width, `[C]`.
    fn vector(&self, name: &str) -> Result<Weight, ModelError> {
        self.source.vector(&self.name(name), self.config.n_embd)
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Weight, ModelError> {
        self.source.matrix(&self.name(name), shape)
    }

    /// x + att(LN(x; ln1)), `[T, C]`. Layer 0 sets `v_first`, the others mix it into their values.
    fn time_mixing(
        &self,
        p: &mut PlanBuilder,
        x: ValueId,
        v_first: &mut Option<ValueId>,
    ) -> Result<ValueId, ModelError> {
        use Activation::{Decay, Identity, Sigmoid, Tanh};
        let Config { n_embd: c, head_size: n, layer_norm_eps, group_norm_eps, .. } = *self.config;
        let name = |part: &str| self.name(&format!("att.{part}"));

        let xx = p.layer_norm(&self.name("ln1"), x, norm(self.source, &self.name("ln1"), c)?, layer_norm_eps);
        let mixes = ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g"];
        let [m_r, m_w, m_k, m_v, m_a, m_g] = mixes.map(|m| self.vector(&format!("att.{m}")));
        let mix = [m_r?, m_w?, m_k?, m_v?, m_a?, m_g?];
        let [x_r, x_w, x_k, x_v, x_a, x_g] =
            p.token_shift(&name("shift"), xx, self.state(ATT_SHIFT), mix, mixes.map(name));

        let r = p.matmul(&name("r"), self.matrix("att.receptance.weight", [c, c])?, x_r);
        let k = p.matmul(&name("k"), self.matrix("att.key.weight", [c, c])?, x_k);
        let v = p.matmul(&name("v"), self.matrix("att.value.weight", [c, c])?, x_v);

        // decay exp(−0.606531·σ(w0 + W2 tanh(W1 x_w))), in-context learning rate σ(a0 + A2 A1 x_a), gate G2 σ(G1 x_g)
        let w = self.lora(p, "w", x_w, Tanh, Some(self.vector("att.w0")?), Decay)?;
        let a = self.lora(p, "a", x_a, Identity, Some(self.vector("att.a0")?), Sigmoid)?;
        let g = self.lora(p, "g", x_g, Sigmoid, None, Identity)?;

        let v = match *v_first {
            None => *v_first.insert(v), // layer 0; files may carry unused v0, v1, v2 here
            Some(v_first) => {
                let gate = self.lora(p, "v", x_v, Identity, Some(self.vector("att.v0")?), Sigmoid)?;
                p.value_residual(&name("v_mixed"), v, v_first, gate)
            }
        };
        let scales = [self.vector("att.k_k")?, self.vector("att.k_a")?];
        let [kk, k] = p.key_control(&name("key"), [k, a], scales, n, [name("kk"), name("k_controlled")]);

        let y = p.wkv7(&name("wkv"), [r, w, k, v, kk, a], self.state(WKV), n);
        let [ln_weight, ln_bias] = norm(self.source, &name("ln_x"), c)?;
        let weights = [self.vector("att.r_k")?, ln_weight, ln_bias];
        let y = p.norm_bonus_gate(&name("y"), [y, r, k, v, g], weights, group_norm_eps, n);

        let output = self.matrix("att.output.weight", [c, c])?;
        Ok(p.matmul_with(&name("x"), output, y, None, Identity, Some(x)))
    }

    /// x + ffn(LN(x; ln2)), `[T, C]`.
    fn channel_mixing(&self, p: &mut PlanBuilder, x: ValueId) -> Result<ValueId, ModelError> {
        let Config { n_embd: c, n_ffn: f, layer_norm_eps, .. } = *self.config;
        let name = |part: &str| self.name(&format!("ffn.{part}"));

        let xx = p.layer_norm(&self.name("ln2"), x, norm(self.source, &self.name("ln2"), c)?, layer_norm_eps);
        let mix = [self.vector("ffn.x_k")?];
        let [x_k] = p.token_shift(&name("shift"), xx, self.state(FFN_SHIFT), mix, [name("x_k")]);
        let key = self.matrix("ffn.key.weight", [f, c])?;
        let k = p.matmul_with(&name("k"), key, x_k, None, Activation::ReluSquared, None); // [T, F]
        let value = self.matrix("ffn.value.weight", [c, f])?;
        Ok(p.matmul_with(&name("x"), value, k, None, Activation::Identity, Some(x)))
    }

    /// A low-rank pair: outer(bias + up · inner(down · x)), `[T, C]`; `which` is the letter of its tensors.
    fn lora(
        &self,
        p: &mut PlanBuilder,
        which: &str,
        x: ValueId,
        inner: Activation,
        bias: Option<Weight>,
        outer: Activation,
    ) -> Result<ValueId, ModelError> {
        let part = |i: usize| self.name(&format!("att.{which}{i}"));
        let (down, up) = self.source.low_rank(&part(1), &part(2), [self.config.n_embd; 2])?;
        let z = p.matmul_with(&part(1), down, x, None, inner, None); // [T, R]
        let name = self.name(&format!("att.{which}{}", if which == "v" { "_gate" } else { "" }));
        Ok(p.matmul_with(&name, up, z, bias, outer, None))
    }
}
