//! RWKV-7 "Goose", as published in BlinkDL's `rwkv_v7_demo_rnn.py` and the RWKV-7 paper (arXiv 2503.14456).
//!
//! ```text
//! x = LN(emb[t]; ln0)
//! per layer:  x += att(LN(x; ln1));  x += ffn(LN(x; ln2))
//! logits = head · LN(x; ln_out)
//! ```
//!
//! Every size comes from the file's shapes: low-rank widths may differ between matrices and layers.
//!
//! RWKV-7a adds to the feed-forward layer what the token itself is ("DeepEmbed"): a matrix M `[32, 32]` of the token's own
//! changes a low-rank projection of the layer's input, and the result gates the keys.
//!
//! ```text
//! M = s_emb[t] + s_emb_x · LN(emb[t]; ln0)
//! k ← k ∘ (s2 (s1 x · M) + s0)
//! ```

use crate::builder::PlanBuilder;
use crate::config::{Config, Version};
use crate::error::ModelError;
use crate::frame::{self, ATT_SHIFT, Block, FFN_SHIFT, WKV};
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
    let Config { version, n_layer, n_embd: c, n_head: h, head_size: n, n_ffn: f, n_vocab: v, .. } = *config;
    let name = if version == Version::V7a { "rwkv7a" } else { "rwkv7" };
    let title = format!("{name} L={n_layer} C={c} H={h} N={n} F={f} V={v}");
    let mut v_first = None;
    frame::plan(file, config, title, state_layout(config), |block, p, x| {
        let x = time_mixing(block, p, x, &mut v_first)?;
        channel_mixing(block, p, x)
    })
}

/// x + att(LN(x; ln1)), `[T, C]`. Layer 0 sets `v_first`, the others mix it into their values.
fn time_mixing(
    block: &Block,
    p: &mut PlanBuilder,
    x: ValueId,
    v_first: &mut Option<ValueId>,
) -> Result<ValueId, ModelError> {
    use Activation::{Decay, Identity, Sigmoid, Tanh};
    let Config { n_embd: c, head_size: n, group_norm_eps, .. } = *block.config;
    let name = |part: &str| block.name(&format!("att.{part}"));

    let xx = block.layer_norm(p, "ln1", x)?;
    let mix = block.vectors(["att.x_r", "att.x_w", "att.x_k", "att.x_v", "att.x_a", "att.x_g"])?;
    let names = ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g"].map(name);
    let [x_r, x_w, x_k, x_v, x_a, x_g] = p.token_shift(&name("shift"), xx, block.state(ATT_SHIFT), mix, names);

    let r = p.matmul(&name("r"), block.matrix("att.receptance.weight", [c, c])?, x_r);
    let k = p.matmul(&name("k"), block.matrix("att.key.weight", [c, c])?, x_k);
    let v = p.matmul(&name("v"), block.matrix("att.value.weight", [c, c])?, x_v);

    // decay exp(−0.606531·σ(w0 + W2 tanh(W1 x_w))), in-context learning rate σ(a0 + A2 A1 x_a), gate G2 σ(G1 x_g)
    let w = lora(block, p, "w", x_w, Tanh, Some(block.vector("att.w0")?), Decay)?;
    let a = lora(block, p, "a", x_a, Identity, Some(block.vector("att.a0")?), Sigmoid)?;
    let g = lora(block, p, "g", x_g, Sigmoid, None, Identity)?;

    let v = match *v_first {
        None => *v_first.insert(v), // layer 0; files may carry unused v0, v1, v2 here
        Some(v_first) => {
            let gate = lora(block, p, "v", x_v, Identity, Some(block.vector("att.v0")?), Sigmoid)?;
            p.value_residual(&name("v_mixed"), v, v_first, gate)
        }
    };
    let scales = block.vectors(["att.k_k", "att.k_a"])?;
    let [kk, k] = p.key_control(&name("key"), [k, a], scales, n, [name("kk"), name("k_controlled")]);

    let y = p.wkv7(&name("wkv"), [r, w, k, v, kk, a], block.state(WKV), n);
    let [ln_weight, ln_bias] = block.norm("att.ln_x")?;
    let weights = [block.vector("att.r_k")?, ln_weight, ln_bias];
    let y = p.norm_bonus_gate(&name("y"), [y, r, k, v, g], weights, group_norm_eps, n);

    let output = block.matrix("att.output.weight", [c, c])?;
    Ok(p.matmul_with(&name("x"), output, y, None, Identity, Some(x)))
}

/// x + ffn(LN(x; ln2)), `[T, C]`.
fn channel_mixing(block: &Block, p: &mut PlanBuilder, x: ValueId) -> Result<ValueId, ModelError> {
    let Config { version, n_embd: c, n_ffn: f, .. } = *block.config;
    let name = |part: &str| block.name(&format!("ffn.{part}"));

    let xx = block.layer_norm(p, "ln2", x)?;
    let mix = [block.vector("ffn.x_k")?];
    let [x_k] = p.token_shift(&name("shift"), xx, block.state(FFN_SHIFT), mix, [name("x_k")]);
    let key = block.matrix("ffn.key.weight", [f, c])?;
    let mut k = p.matmul_with(&name("k"), key, x_k, None, Activation::ReluSquared, None); // [T, F]
    if version == Version::V7a {
        let gate = deep_embed(block, p, xx)?;
        k = p.gate(&name("k_gated"), gate, k, 1.0, None);
    }
    let value = block.matrix("ffn.value.weight", [c, f])?;
    Ok(p.matmul_with(&name("x"), value, k, None, Activation::Identity, Some(x)))
}

/// The gate of RWKV-7a's keys, `[T, F]`: s2 (s1 x · M) + s0, where `x` is the layer's input before the token shift.
fn deep_embed(block: &Block, p: &mut PlanBuilder, x: ValueId) -> Result<ValueId, ModelError> {
    let Config { n_embd: c, n_ffn: f, n_vocab: v, .. } = *block.config;
    let name = |part: &str| block.name(&format!("ffn.{part}"));
    let [down, up] = ["ffn.s1", "ffn.s2"].map(|part| block.name(part));
    let (down, up) = block.source.low_rank(&down, &up, [f, c])?;
    let n = down.n_rows(); // 32

    let s_emb = p.embed(&name("s_emb"), block.matrix("ffn.s_emb.weight", [v, n * n])?); // [T, n·n]
    let s_emb_x = block.matrix("ffn.s_emb_x.weight", [n * n, c])?;
    let matrix = p.matmul_with(&name("s_matrix"), s_emb_x, block.x_0, None, Activation::Identity, Some(s_emb));
    let z = p.matmul(&name("s1"), down, x); // [T, n]
    let z = p.token_matrix(&name("s_z"), z, matrix);
    let bias = block.source.vector(&block.name("ffn.s0"), f)?;
    Ok(p.matmul_with(&name("s2"), up, z, Some(bias), Activation::Identity, None))
}

/// A low-rank pair: outer(bias + up · inner(down · x)), `[T, C]`; `which` is the letter of its tensors.
pub(crate) fn lora(
    block: &Block,
    p: &mut PlanBuilder,
    which: &str,
    x: ValueId,
    inner: Activation,
    bias: Option<Weight>,
    outer: Activation,
) -> Result<ValueId, ModelError> {
    let part = |i: usize| block.name(&format!("att.{which}{i}"));
    let (down, up) = block.source.low_rank(&part(1), &part(2), [block.config.n_embd; 2])?;
    let z = p.matmul_with(&part(1), down, x, None, inner, None); // [T, R]
    let name = block.name(&format!("att.{which}{}", if which == "v" { "_gate" } else { "" }));
    Ok(p.matmul_with(&name, up, z, bias, outer, None))
}
