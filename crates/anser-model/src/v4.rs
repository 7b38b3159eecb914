//! RWKV-4, as published in BlinkDL's `RWKV_in_150_lines.py` and the RWKV paper (arXiv 2305.13048).
//!
//! ```text
//! time mixing, x after ln1:
//!   x_i = x∘μ_i + x_prev∘(1 − μ_i)   for i in k, v, r
//!   r = σ(Wr x_r),  k = Wk x_k,  v = Wv x_v
//!   wkv: for every channel the mean of all v so far, weighted with e^k, which decays by e^w a token; e^(u+k) for the current one
//!   w = −exp(time_decay),  u = time_first
//!   out = Wo (r∘wkv)
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

/// The state of one sequence: the last inputs of both token shifts; a, b and p of every channel (see
/// [`Op::Wkv4`](crate::Op::Wkv4)).
pub fn state_layout(config: &Config) -> StateLayout {
    frame::state_layout(config, vec![3, config.n_embd])
}

/// Writes down the model in `file`.
///
/// # Errors
/// A missing tensor or a wrong shape, by name.
pub fn plan(file: &Arc<ModelFile>, config: &Config) -> Result<Plan, ModelError> {
    let Config { n_layer, n_embd: c, n_ffn: f, n_vocab: v, .. } = *config;
    let title = format!("rwkv4 L={n_layer} C={c} F={f} V={v}");
    frame::plan(file, config, title, state_layout(config), |block, p, x| {
        let x = time_mixing(block, p, x)?;
        let mix = block.inverted_mixes(["ffn.time_mix_k", "ffn.time_mix_r"])?;
        block.channel_mixing_with_receptance(p, x, mix, 1.0)
    })
}

/// x + att(LN(x; ln1)), `[T, C]`.
fn time_mixing(block: &Block, p: &mut PlanBuilder, x: ValueId) -> Result<ValueId, ModelError> {
    let c = block.config.n_embd;
    let name = |part: &str| block.name(&format!("att.{part}"));

    let xx = block.layer_norm(p, "ln1", x)?;
    let mix = block.inverted_mixes(["att.time_mix_k", "att.time_mix_v", "att.time_mix_r"])?;
    let names = ["x_k", "x_v", "x_r"].map(name);
    let [x_k, x_v, x_r] = p.token_shift(&name("shift"), xx, block.state(ATT_SHIFT), mix, names);

    let receptance = block.matrix("att.receptance.weight", [c, c])?;
    let r = p.matmul_with(&name("r"), receptance, x_r, None, Activation::Sigmoid, None);
    let k = p.matmul(&name("k"), block.matrix("att.key.weight", [c, c])?, x_k);
    let v = p.matmul(&name("v"), block.matrix("att.value.weight", [c, c])?, x_v);
    let w = block.vector("att.time_decay")?.computed(c, |decay| decay.into_iter().map(|x| -x.exp()).collect());
    let u = block.vector("att.time_first")?;
    let wkv = p.wkv4(&name("wkv"), [k, v], [w, u], block.state(WKV));
    let y = p.gate(&name("y"), r, wkv, 1.0, None);
    let output = block.matrix("att.output.weight", [c, c])?;
    Ok(p.matmul_with(&name("x"), output, y, None, Activation::Identity, Some(x)))
}
