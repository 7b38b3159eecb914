//! What hybrids with a transformer's parts have in common: the frame around the layers, and the feed-forward layer. Their time
//! mixing is that of an RWKV version, in a Qwen2 model whose attention it replaces.
//!
//! ```text
//! x = emb[t]
//! per layer:  x += att(RMS(x; ln1));  x += Wdown (silu(Wgate z) ∘ Wup z),  z = RMS(x; ffn.norm)
//! logits = head · RMS(x; ln_out)
//! ```

use crate::builder::PlanBuilder;
use crate::config::Config;
use crate::error::ModelError;
use crate::frame::Block;
use crate::plan::{Activation, Plan, ValueId};
use crate::source::Source;
use crate::state::{StateLayout, StatePart};
use anser_format::ModelFile;
use std::sync::Arc;

/// The state of one sequence: the last input of the only token shift, and S of every head.
pub(crate) fn state_layout(config: &Config) -> StateLayout {
    let Config { n_layer, n_embd: c, n_head: h, head_size: n, .. } = *config;
    let part = |name, shape| StatePart { name, shape };
    StateLayout { n_layer, parts: vec![part("att_shift", vec![c]), part("wkv", vec![h, n, n])] }
}

/// Writes down the model in `file`: `time_mixing` writes x + att(RMS(x; ln1)) of one layer.
///
/// # Errors
/// A missing tensor or a wrong shape, by name.
pub(crate) fn plan(
    file: &Arc<ModelFile>,
    config: &Config,
    name: &str,
    mut time_mixing: impl FnMut(&Block, &mut PlanBuilder, ValueId) -> Result<ValueId, ModelError>,
) -> Result<Plan, ModelError> {
    let Config { n_layer, n_embd: c, n_head: h, head_size: n, n_ffn: f, n_vocab: v, layer_norm_eps: eps, .. } = *config;
    let title = format!("{name} L={n_layer} C={c} H={h} N={n} F={f} V={v}");
    let mut p = PlanBuilder::new(title, state_layout(config), v);
    let source = Source::new(file);

    let x_0 = p.embed("emb", source.matrix("emb.weight", [v, c])?); // [T, C]
    let mut x = x_0;
    for layer in 0..n_layer {
        let block = Block { source: &source, config, layer, x_0 };
        x = time_mixing(&block, &mut p, x)?;
        x = feed_forward(&block, &mut p, x)?;
        p.mark_residual(x);
    }
    let x = p.select("out", x); // [O, C]
    let hidden = p.rms_norm("ln_out", x, source.vector("ln_out.weight", c)?, eps);
    let logits = p.matmul("head", source.matrix("head.weight", [v, c])?, hidden); // [O, V]
    Ok(p.finish(Some(hidden), Some(logits)))
}

/// RMS(x; name), `[T, C]`.
pub(crate) fn rms_norm(block: &Block, p: &mut PlanBuilder, name: &str, x: ValueId) -> Result<ValueId, ModelError> {
    let weight = block.vector(&format!("{name}.weight"))?;
    Ok(p.rms_norm(&block.name(name), x, weight, block.config.layer_norm_eps))
}

/// x + Wdown (silu(Wgate z) ∘ Wup z), `[T, C]`, with z = RMS(x; ffn.norm).
fn feed_forward(block: &Block, p: &mut PlanBuilder, x: ValueId) -> Result<ValueId, ModelError> {
    let Config { n_embd: c, n_ffn: f, .. } = *block.config;
    let name = |part: &str| block.name(&format!("ffn.{part}"));
    let z = rms_norm(block, p, "ffn.norm", x)?;
    let gate = p.matmul_with(&name("gate"), block.matrix("ffn.gate.weight", [f, c])?, z, None, Activation::Silu, None);
    let up = p.matmul(&name("up"), block.matrix("ffn.up.weight", [f, c])?, z); // [T, F]
    let gated = p.gate(&name("gated"), gate, up, 1.0, None);
    let down = block.matrix("ffn.down.weight", [c, f])?;
    Ok(p.matmul_with(&name("x"), down, gated, None, Activation::Identity, Some(x)))
}
