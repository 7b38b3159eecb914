//! QRWKV-6: RWKV-6's time mixing in a Qwen2 model, as llama.cpp's architecture `rwkv6qwen2` runs it.
//!
//! ```text
//! time mixing, x after RMS:  x_w, x_k, x_v, x_r, x_g as in RWKV-6
//!   r = Wr x_r + b_r,  k = Wk x_k + b_k,  v = Wv x_v + b_v;  heads of k and v are repeated
//!   w as in RWKV-6,  k ← k ∘ (1 − w),  g = σ(Wg x_g)
//!   S ← S diag(w) + v kᵀ,  y = N^−½ S r   per head
//!   out = Wo (y ∘ g)
//! ```

use crate::builder::PlanBuilder;
use crate::config::Config;
use crate::error::ModelError;
use crate::frame::{Block, WKV};
use crate::hybrid::{self, rms_norm};
use crate::plan::{Activation, Plan, ValueId};
use crate::v6;
use crate::weights::Weight;
use anser_format::ModelFile;
use std::sync::Arc;

/// Writes down the model in `file`.
///
/// # Errors
/// A missing tensor or a wrong shape, by name.
pub fn plan(file: &Arc<ModelFile>, config: &Config) -> Result<Plan, ModelError> {
    hybrid::plan(file, config, "rwkv6qwen2", time_mixing)
}

/// x + att(RMS(x; ln1)), `[T, C]`.
fn time_mixing(block: &Block, p: &mut PlanBuilder, x: ValueId) -> Result<ValueId, ModelError> {
    let Config { n_embd: c, head_size: n, .. } = *block.config;
    let name = |part: &str| block.name(&format!("att.{part}"));

    let xx = rms_norm(block, p, "ln1", x)?;
    let [x_w, x_k, x_v, x_r, x_g] = v6::mixed(block, p, xx)?;

    let r = project(block, p, "receptance", "r", x_r, c)?;
    // Fewer heads than r has, each of which serves several of r's.
    let key = block.name("att.key.weight");
    let [n_kv, _] = block.source.matrix_shape(&key)?;
    if !n_kv.is_multiple_of(n) || !c.is_multiple_of(n_kv) {
        return Err(block.source.refused_shape(&key, &format!("[a multiple of {n} that divides {c}, {c}]")));
    }
    let k = project(block, p, "key", "k", x_k, n_kv)?;
    let v = project(block, p, "value", "v", x_v, n_kv)?;
    let [k, v] = [("k_repeated", k), ("v_repeated", v)].map(|(which, x)| match n_kv == c {
        true => x,
        false => p.repeat_heads(&name(which), x, c, n),
    });
    let gate = block.matrix("att.gate.weight", [c, c])?;
    let g = p.matmul_with(&name("g"), gate, x_g, None, Activation::Sigmoid, None);
    let w = v6::decay(block, p, x_w)?;
    let k = p.gate(&name("k_decayed"), w, k, -1.0, Some(k)); // k ∘ (1 − w)

    // RWKV-7's recurrence, which reads the new S, with nothing to remove.
    let nothing = p.gate(&name("nothing"), k, k, 0.0, None);
    let y = p.wkv7(&name("wkv"), [r, w, k, v, nothing, nothing], block.state(WKV), n);
    let y = p.gate(&name("y"), g, y, 1.0 / (n as f32).sqrt(), None);
    let output = block.matrix("att.output.weight", [c, c])?;
    Ok(p.matmul_with(&name("x"), output, y, None, Activation::Identity, Some(x)))
}

/// The projection `att.{weight}` of x, `[T, n_rows]`, with its bias where the file has one.
fn project(
    block: &Block,
    p: &mut PlanBuilder,
    weight: &str,
    name: &str,
    x: ValueId,
    n_rows: usize,
) -> Result<ValueId, ModelError> {
    let matrix = block.matrix(&format!("att.{weight}.weight"), [n_rows, block.config.n_embd])?;
    let bias = format!("att.{weight}.bias");
    let bias: Option<Weight> = match block.has(&bias) {
        true => Some(block.source.vector(&block.name(&bias), n_rows)?),
        false => None,
    };
    Ok(p.matmul_with(&block.name(&format!("att.{name}")), matrix, x, bias, Activation::Identity, None))
}
