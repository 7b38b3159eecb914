//! A plan as text, one line per operation: `anser inspect --plan`, and the snapshot that shows a changed architecture.

use crate::plan::{Decay, Op, Plan, Rows, ValueId, WeightId};
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        write!(f, "state:")?;
        for part in &self.state.parts {
            let mut shape = vec![self.state.n_layer];
            shape.extend(&part.shape);
            write!(f, " {} {shape:?}", part.name)?;
        }
        writeln!(f)?;
        for node in &self.nodes {
            let outs: Vec<String> = node.op.outputs().iter().map(|&v| self.shaped(v)).collect();
            writeln!(f, "{:<24} {} = {}", node.name, outs.join(", "), self.call(&node.op))?;
        }
        let named = |v: Option<ValueId>| v.map_or("none".into(), |v| v.to_string());
        writeln!(f, "hidden {}, logits {}", named(self.hidden), named(self.logits))
    }
}

impl Plan {
    /// `%7 [T, 256]`
    fn shaped(&self, id: ValueId) -> String {
        let value = self.value(id);
        let rows = match value.rows {
            Rows::Tokens => 'T',
            Rows::Outputs => 'O',
        };
        format!("{id} [{rows}, {}]", value.n_cols)
    }

    /// `blocks.0.att.key.weight Q4_K [256, 256]`; a vector shows its length alone.
    fn described(&self, id: WeightId) -> String {
        let w = self.weight(id);
        match w.n_rows() {
            1 => format!("{} {} [{}]", w.name(), w.dtype().name(), w.n_cols()),
            n => format!("{} {} [{n}, {}]", w.name(), w.dtype().name(), w.n_cols()),
        }
    }

    fn call(&self, op: &Op) -> String {
        let weights = |ids: &[WeightId]| ids.iter().map(|&w| self.described(w)).collect::<Vec<_>>().join(", ");
        let state = |at: crate::state::StateRef| format!("{}[{}]", self.state.parts[at.part].name, at.layer);
        match op {
            Op::Embed { table, .. } => format!("embed({})", self.described(*table)),
            Op::LayerNorm { x, weight, bias, eps, .. } => {
                format!("layer_norm({x}, {}, eps={eps:e})", weights(&[*weight, *bias]))
            }
            Op::RmsNorm { x, weight, eps, .. } => format!("rms_norm({x}, {}, eps={eps:e})", self.described(*weight)),
            Op::TokenShift { x, state: at, mix, .. } => format!("token_shift({x}, {}, {})", state(*at), weights(mix)),
            Op::Mix { x, x_prev, mix, .. } => format!("mix({x}, {x_prev}, {mix})"),
            Op::Wkv4 { k, v, w, u, state: at, .. } => {
                format!("wkv4(k={k}, v={v}, {}, {})", weights(&[*w, *u]), state(*at))
            }
            Op::Wkv6 { r, w, k, v, u, state: at, head_size, .. } => {
                let w = match w {
                    Decay::OfToken(w) => w.to_string(),
                    Decay::Fixed(w) => self.described(*w),
                };
                format!("wkv6(r={r}, w={w}, k={k}, v={v}, {}, {}, N={head_size})", self.described(*u), state(*at))
            }
            Op::NormGate { y, g, weight, bias, eps, head_size, .. } => {
                let g = g.map_or(String::new(), |g| format!("g={g}, "));
                format!("norm_gate({y}, {g}{}, eps={eps:e}, N={head_size})", weights(&[*weight, *bias]))
            }
            Op::BonusGate { y, r, k, v, g, r_k, head_size, .. } => {
                let g = g.map_or(String::new(), |g| format!("g={g}, "));
                format!("bonus_gate({y}, r={r}, k={k}, v={v}, {g}{}, N={head_size})", self.described(*r_k))
            }
            Op::RepeatHeads { x, head_size, .. } => format!("repeat_heads({x}, N={head_size})"),
            Op::Gate { gate, x, factor, residual, .. } => {
                let residual = residual.map_or(String::new(), |r| format!("{r} + "));
                let factor = if *factor == 1.0 { String::new() } else { format!("{factor} * ") };
                format!("{residual}{factor}gate({gate}, {x})")
            }
            Op::TokenMatrix { x, matrix, .. } => format!("token_matrix({x}, {matrix})"),
            Op::MatMul { weight, x, bias, activation, residual, .. } => {
                let bias = bias.map_or(String::new(), |b| format!(" + {}", self.described(b)));
                let residual = residual.map_or(String::new(), |r| format!("{r} + "));
                format!("{residual}{}(matmul({x}, {}){bias})", activation.name(), self.described(*weight))
            }
            Op::Activate { x, activation, residual, .. } => {
                let residual = residual.map_or(String::new(), |r| format!("{r} + "));
                format!("{residual}{}({x})", activation.name())
            }
            Op::ValueResidual { v, v_first, gate, .. } => format!("value_residual({v}, {v_first}, {gate})"),
            Op::KeyControl { k, a, k_k, k_a, head_size, .. } => {
                format!("key_control({k}, {a}, {}, N={head_size})", weights(&[*k_k, *k_a]))
            }
            Op::Wkv7 { r, w, k, v, kk, a, state: at, head_size, .. } => {
                format!("wkv7(r={r}, w={w}, k={k}, v={v}, kk={kk}, a={a}, {}, N={head_size})", state(*at))
            }
            Op::NormBonusGate { y, r, k, v, g, r_k, weight, bias, eps, head_size, .. } => format!(
                "norm_bonus_gate({y}, r={r}, k={k}, v={v}, g={g}, {}, eps={eps:e}, N={head_size})",
                weights(&[*r_k, *weight, *bias])
            ),
            Op::Select { x, .. } => format!("select({x})"),
        }
    }
}
