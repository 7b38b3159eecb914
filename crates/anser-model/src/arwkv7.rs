//! ARWKV: RWKV-7's time mixing in a Qwen2 model, as llama.cpp's architecture `arwkv7` runs it. Some of these models have no
//! gate, some no norm after the recurrence.
//!
//! ```text
//! time mixing, x after RMS:  r, w, k, v, a, κ̂, g and S as in RWKV-7
//!   y = S r, or GN(S r; ln_x)
//!   out = Wo ((y + (Σ r ∘ k ∘ r_k) v) ∘ g)
//! ```

use crate::builder::PlanBuilder;
use crate::config::Config;
use crate::error::ModelError;
use crate::frame::{ATT_SHIFT, Block, WKV};
use crate::hybrid::{self, rms_norm};
use crate::plan::{Activation, Plan, ValueId};
use crate::v7::lora;
use anser_format::ModelFile;
use std::sync::Arc;

/// Writes down the model in `file`.
///
/// # Errors
/// A missing tensor or a wrong shape, by name.
pub fn plan(file: &Arc<ModelFile>, config: &Config) -> Result<Plan, ModelError> {
    let mut v_first = None;
    hybrid::plan(file, config, "arwkv7", |block, p, x| time_mixing(block, p, x, &mut v_first))
}

/// x + att(RMS(x; ln1)), `[T, C]`. Layer 0 sets `v_first`, the others mix it into their values.
fn time_mixing(
    block: &Block,
    p: &mut PlanBuilder,
    x: ValueId,
    v_first: &mut Option<ValueId>,
) -> Result<ValueId, ModelError> {
    use Activation::{Decay, Identity, Sigmoid, Tanh};
    let Config { n_embd: c, head_size: n, group_norm_eps, .. } = *block.config;
    let name = |part: &str| block.name(&format!("att.{part}"));

    let xx = rms_norm(block, p, "ln1", x)?;
    let mix = block.vectors(["att.x_r", "att.x_w", "att.x_k", "att.x_v", "att.x_a"])?;
    let names = ["x_r", "x_w", "x_k", "x_v", "x_a"].map(name);
    let (shift, state) = (name("shift"), block.state(ATT_SHIFT));
    let ([x_r, x_w, x_k, x_v, x_a], g) = if block.has("att.g1") {
        let ([r, w, k, v, a], x_g) = (mix, block.vector("att.x_g")?);
        let [name_r, name_w, name_k, name_v, name_a] = names;
        let names = [name_r, name_w, name_k, name_v, name_a, name("x_g")];
        let [x_r, x_w, x_k, x_v, x_a, x_g] = p.token_shift(&shift, xx, state, [r, w, k, v, a, x_g], names);
        ([x_r, x_w, x_k, x_v, x_a], Some(lora(block, p, "g", x_g, Sigmoid, None, Identity)?))
    } else {
        (p.token_shift(&shift, xx, state, mix, names), None)
    };

    let r = p.matmul(&name("r"), block.matrix("att.receptance.weight", [c, c])?, x_r);
    let k = p.matmul(&name("k"), block.matrix("att.key.weight", [c, c])?, x_k);
    let v = p.matmul(&name("v"), block.matrix("att.value.weight", [c, c])?, x_v);
    let w = lora(block, p, "w", x_w, Tanh, Some(block.vector("att.w0")?), Decay)?;
    let a = lora(block, p, "a", x_a, Identity, Some(block.vector("att.a0")?), Sigmoid)?;
    let v = match *v_first {
        None => *v_first.insert(v), // layer 0; files carry copies of a0, a1, a2 as v0, v1, v2 here
        Some(v_first) => {
            let gate = lora(block, p, "v", x_v, Identity, Some(block.vector("att.v0")?), Sigmoid)?;
            p.value_residual(&name("v_mixed"), v, v_first, gate)
        }
    };
    let scales = block.vectors(["att.k_k", "att.k_a"])?;
    let [kk, k] = p.key_control(&name("key"), [k, a], scales, n, [name("kk"), name("k_controlled")]);

    let y = p.wkv7(&name("wkv"), [r, w, k, v, kk, a], block.state(WKV), n);
    let r_k = block.vector("att.r_k")?;
    let ln_x = if block.has("att.ln_x.weight") { Some(block.norm("att.ln_x")?) } else { None };
    let y = match (ln_x, g) {
        (Some([weight, bias]), Some(g)) => {
            p.norm_bonus_gate(&name("y"), [y, r, k, v, g], [r_k, weight, bias], group_norm_eps, n)
        }
        (Some(ln_x), None) => {
            let y = p.norm_gate(&name("y_normed"), y, None, ln_x, group_norm_eps, n);
            p.bonus_gate(&name("y"), [y, r, k, v], None, r_k, n)
        }
        (None, g) => p.bonus_gate(&name("y"), [y, r, k, v], g, r_k, n),
    };
    let output = block.matrix("att.output.weight", [c, c])?;
    Ok(p.matmul_with(&name("x"), output, y, None, Identity, Some(x)))
}
