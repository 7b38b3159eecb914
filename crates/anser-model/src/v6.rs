//! RWKV-6 "Finch", as published in BlinkDL's `rwkv_v6_demo.py` and the paper "Eagle and Finch" (arXiv 2404.05892).
//!
//! ```text
//! time mixing, x after ln1, d = x_prev − x:
//!   m_i = W2_i tanh(W1_i (x + d∘μ_x)),  x_i = x + d∘(μ_i + m_i)   for i in w, k, v, r, g
//!   w = exp(−exp(w0 + D2 tanh(D1 x_w))),  g = silu(Wg x_g)
//!   y = (S + v (u∘k)ᵀ) r,  S ← S diag(w) + v kᵀ   per head
//!   out = Wo (GN(y; ln_x)∘g)
//! channel mixing, x after ln2:  out = σ(Wr x_r) ∘ Wv relu(Wk x_k)²
//! ```

use crate::builder::PlanBuilder;
use crate::config::Config;
use crate::error::ModelError;
use crate::frame::{self, ATT_SHIFT, Block, WKV};
use crate::plan::{Activation, Plan, ValueId};
use crate::state::StateLayout;
use anser_format::ModelFile;
use std::sync::Arc;

/// The state of one sequence: the last inputs of both token shifts, and S of every head.
pub fn state_layout(config: &Config) -> StateLayout {
    let Config { n_head: h, head_size: n, .. } = *config;
    frame::state_layout(config, vec![h, n, n])
}

/// Writes down the model in `file`.
///
/// # Errors
/// A missing tensor or a wrong shape, by name.
pub fn plan(file: &Arc<ModelFile>, config: &Config) -> Result<Plan, ModelError> {
    let Config { n_layer, n_embd: c, n_head: h, head_size: n, n_ffn: f, n_vocab: v, .. } = *config;
    let title = format!("rwkv6 L={n_layer} C={c} H={h} N={n} F={f} V={v}");
    frame::plan(file, config, title, state_layout(config), |block, p, x| {
        let x = time_mixing(block, p, x)?;
        let mix = block.vectors(["ffn.time_maa_k", "ffn.time_maa_r"])?;
        block.channel_mixing_with_receptance(p, x, mix, rescale(block))
    })
}

/// By how much llama.cpp's converter has divided the last matrices of both halves of the layer. Where it has, its own program
/// halves the residual stream after every few layers instead; multiplying by a power of two is exact.
fn rescale(block: &Block) -> f32 {
    let exponent = block.layer.checked_div(block.config.rescale_every).unwrap_or(0);
    (exponent as f32).exp2()
}

/// x + att(LN(x; ln1)), `[T, C]`.
fn time_mixing(block: &Block, p: &mut PlanBuilder, x: ValueId) -> Result<ValueId, ModelError> {
    use Activation::{Identity, Silu};
    let Config { n_embd: c, head_size: n, group_norm_eps, .. } = *block.config;
    let name = |part: &str| block.name(&format!("att.{part}"));

    let xx = block.layer_norm(p, "ln1", x)?;
    let [x_w, x_k, x_v, x_r, x_g] = mixed(block, p, xx)?;

    let r = p.matmul(&name("r"), block.matrix("att.receptance.weight", [c, c])?, x_r);
    let k = p.matmul(&name("k"), block.matrix("att.key.weight", [c, c])?, x_k);
    let v = p.matmul(&name("v"), block.matrix("att.value.weight", [c, c])?, x_v);
    let g = p.matmul_with(&name("g"), block.matrix("att.gate.weight", [c, c])?, x_g, None, Silu, None);
    let w = decay(block, p, x_w)?;

    let u = block.vector("att.time_faaaa")?;
    let y = p.wkv6(&name("wkv"), [r, w, k, v], u, block.state(WKV), n);
    let ln_x = block.norm("att.ln_x")?;
    let y = match rescale(block) {
        1.0 => p.norm_gate(&name("y"), y, Some(g), ln_x, group_norm_eps, n),
        factor => {
            let y = p.norm_gate(&name("y_normed"), y, None, ln_x, group_norm_eps, n);
            p.gate(&name("y"), g, y, factor, None)
        }
    };
    let output = block.matrix("att.output.weight", [c, c])?;
    Ok(p.matmul_with(&name("x"), output, y, None, Identity, Some(x)))
}

/// x_w, x_k, x_v, x_r, x_g of the normed x: its mixes with the row of the token before, `[T, C]` each.
pub(crate) fn mixed(block: &Block, p: &mut PlanBuilder, xx: ValueId) -> Result<[ValueId; 5], ModelError> {
    use Activation::{Identity, Tanh};
    let c = block.config.n_embd;
    let name = |part: &str| block.name(&format!("att.{part}"));
    let mix = block.vector("att.time_maa_x")?;
    let names = [name("x_x"), name("x_prev")];
    let [x_x, x_prev] = p.token_shift_and_prev(&name("shift"), xx, block.state(ATT_SHIFT), mix, names);

    // The mixes of this token, from five low-rank pairs that two tensors stack.
    let [n_down, _] = block.source.matrix_shape(&block.name("att.time_maa_w1"))?; // 5·R
    let down = block.matrix("att.time_maa_w1", [n_down, c])?;
    let rank = n_down / 5;
    let up: [_; 5] = block.source.matrices(&block.name("att.time_maa_w2"), [c, rank])?;
    let order = block.source.dialect().mix_order();
    let static_mix =
        block.vectors(["att.time_maa_w", "att.time_maa_k", "att.time_maa_v", "att.time_maa_r", "att.time_maa_g"])?;
    let mut mixed = |i: usize, which: &str| {
        let (at, static_mix) = (order[i], static_mix[i].clone());
        let (down, up) = (down.rows(at * rank..(at + 1) * rank), up[at].clone());
        let z = p.matmul_with(&name(&format!("z_{which}")), down, x_x, None, Tanh, None); // [T, R]
        let mix = p.matmul_with(&name(&format!("m_{which}")), up, z, Some(static_mix), Identity, None);
        p.mix(&name(&format!("x_{which}")), xx, x_prev, mix)
    };
    Ok([mixed(0, "w"), mixed(1, "k"), mixed(2, "v"), mixed(3, "r"), mixed(4, "g")])
}

/// The decay of every channel and token, `[T, C]`: exp(−exp(w0 + D2 tanh(D1 x_w))).
pub(crate) fn decay(block: &Block, p: &mut PlanBuilder, x_w: ValueId) -> Result<ValueId, ModelError> {
    let name = |part: &str| block.name(&format!("att.{part}"));
    let [d1, d2] = ["att.time_decay_w1", "att.time_decay_w2"].map(|part| block.name(part));
    let (d1, d2) = block.source.low_rank(&d1, &d2, [block.config.n_embd; 2])?;
    let z = p.matmul_with(&name("z_decay"), d1, x_w, None, Activation::Tanh, None); // [T, R]
    Ok(p.matmul_with(&name("w"), d2, z, Some(block.vector("att.time_decay")?), Activation::Decay6, None))
}
