//! RWKV-5 "Eagle", as published in BlinkDL's `rwkv_v5_demo.py` and the paper "Eagle and Finch" (arXiv 2404.05892), in its three
//! forms.
//!
//! ```text
//! time mixing, x after ln1:
//!   x_i = x∘μ_i + x_prev∘(1 − μ_i)   for i in k, v, r, g
//!   w = exp(−exp(time_decay)),  g = silu(Wg x_g)
//!   y = (S + v (u∘k)ᵀ) r,  S ← S diag(w) + v kᵀ   per head
//!   out = Wo (GN(y; ln_x)∘g)
//! channel mixing, x after ln2:  out = σ(Wr x_r) ∘ Wv relu(Wk x_k)²
//! ```
//! | | w | u | g |
//! |---|---|---|---|
//! | 5.0 | one number a head | exp(time_first), one a head | none |
//! | 5.1 | one number a head | time_faaaa, one a head | as above |
//! | 5.2 | one a channel | time_faaaa, one a channel | as above |

use crate::builder::PlanBuilder;
use crate::config::Config;
use crate::error::ModelError;
use crate::frame::{self, ATT_SHIFT, Block, WKV};
use crate::plan::{Activation, Plan, ValueId};
use crate::state::StateLayout;
use crate::weights::Weight;
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
    let title = format!("rwkv5 L={n_layer} C={c} H={h} N={n} F={f} V={v}");
    frame::plan(file, config, title, state_layout(config), |block, p, x| {
        let x = time_mixing(block, p, x)?;
        let mix = block.inverted_mixes(["ffn.time_mix_k", "ffn.time_mix_r"])?;
        block.channel_mixing_with_receptance(p, x, mix, 1.0)
    })
}

/// x + att(LN(x; ln1)), `[T, C]`.
fn time_mixing(block: &Block, p: &mut PlanBuilder, x: ValueId) -> Result<ValueId, ModelError> {
    let Config { n_embd: c, head_size: n, group_norm_eps, .. } = *block.config;
    let name = |part: &str| block.name(&format!("att.{part}"));

    let xx = block.layer_norm(p, "ln1", x)?;
    let mixes = ["att.time_mix_k", "att.time_mix_v", "att.time_mix_r"];
    let (x_k, x_v, x_r, x_g);
    if block.has("att.gate.weight") {
        let [k, v, r] = block.inverted_mixes(mixes)?;
        let [g] = block.inverted_mixes(["att.time_mix_g"])?;
        let names = ["x_k", "x_v", "x_r", "x_g"].map(name);
        let gate;
        [x_k, x_v, x_r, gate] = p.token_shift(&name("shift"), xx, block.state(ATT_SHIFT), [k, v, r, g], names);
        x_g = Some(gate);
    } else {
        let mix = block.inverted_mixes(mixes)?;
        let names = ["x_k", "x_v", "x_r"].map(name);
        [x_k, x_v, x_r] = p.token_shift(&name("shift"), xx, block.state(ATT_SHIFT), mix, names);
        x_g = None;
    }
    let r = p.matmul(&name("r"), block.matrix("att.receptance.weight", [c, c])?, x_r);
    let k = p.matmul(&name("k"), block.matrix("att.key.weight", [c, c])?, x_k);
    let v = p.matmul(&name("v"), block.matrix("att.value.weight", [c, c])?, x_v);
    let g = match x_g {
        Some(x_g) => {
            let gate = block.matrix("att.gate.weight", [c, c])?;
            Some(p.matmul_with(&name("g"), gate, x_g, None, Activation::Silu, None))
        }
        None => None,
    };
    let w = per_channel(block, "att.time_decay", |decay| (-decay.exp()).exp())?;
    // In files of BlinkDL's, time_first is a logarithm, and time_faaaa is not.
    let u = match block.has("att.time_faaaa") && x_g.is_some() {
        true => per_channel(block, "att.time_faaaa", |u| u)?,
        false => per_channel(block, "att.time_first", f32::exp)?,
    };
    let y = p.wkv5(&name("wkv"), [r, k, v], [w, u], block.state(WKV), n);
    let y = p.norm_gate(&name("y"), y, g, block.norm("att.ln_x")?, group_norm_eps, n);
    let output = block.matrix("att.output.weight", [c, c])?;
    Ok(p.matmul_with(&name("x"), output, y, None, Activation::Identity, Some(x)))
}

/// A vector `[C]` of `compute` of a tensor that has one number a channel, or one a head, which counts for its channels.
fn per_channel(block: &Block, name: &str, compute: impl Fn(f32) -> f32) -> Result<Weight, ModelError> {
    let Config { n_embd: c, n_head: h, .. } = *block.config;
    let n: usize = block.source.shape(&block.name(name))?.iter().product();
    let len = match n {
        n if n == h => h,
        _ => c,
    };
    let vector = block.source.vector(&block.name(name), len)?;
    Ok(vector.computed(c, |numbers| (0..c).map(|i| compute(numbers[i * len / c])).collect()))
}
