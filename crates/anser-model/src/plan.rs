//! The vocabulary of operations and the list of them that is a model.
//!
//! A [`Plan`] is straight-line code: [`Node`]s in execution order over [`Value`]s that are each written once. T, the
//! number of tokens, is a parameter of running it, so that one plan serves decoding, prompts and batches. [`Op`] is a
//! closed enum in RWKV's own words; executors match it exhaustively.

use crate::state::{StateLayout, StateRef};
use crate::weights::Weight;
use std::fmt;

/// Index of a value in [`Plan::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

impl ValueId {
    /// Position in [`Plan::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// Index of a weight in [`Plan::weights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub(crate) u32);

impl WeightId {
    /// Position in [`Plan::weights`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How many rows a value has when a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rows {
    /// One row per token of the step: T.
    Tokens,
    /// One row per wanted output: O.
    Outputs,
}

/// A matrix of activations, f32, row-major: `[T, n_cols]` or `[O, n_cols]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Name for dumps and hooks, e.g. `blocks.3.att.r`.
    pub name: String,
    /// Kind of rows.
    pub rows: Rows,
    /// Width of a row.
    pub n_cols: usize,
}

/// A function applied to each element of a matrix product, after the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// z
    Identity,
    /// tanh z
    Tanh,
    /// σ(z) = 1 / (1 + e^−z)
    Sigmoid,
    /// max(z, 0)²
    ReluSquared,
    /// exp(−0.606531·σ(z)), the decay of RWKV-7; 0.606531 ≈ e^−½
    Decay,
    /// z·σ(z)
    Silu,
    /// exp(−e^z), the decay of RWKV-6
    Decay6,
}

impl Activation {
    /// Every activation, for tables and tests.
    pub const ALL: [Activation; 7] = [
        Activation::Identity,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::ReluSquared,
        Activation::Decay,
        Activation::Silu,
        Activation::Decay6,
    ];

    /// Name in dumps.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Identity => "identity",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::ReluSquared => "relu²",
            Activation::Decay => "decay",
            Activation::Silu => "silu",
            Activation::Decay6 => "decay6",
        }
    }
}

/// The decay of RWKV-5 and RWKV-6, per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Every token has its own, `[T, C]`.
    OfToken(ValueId),
    /// One for all tokens, `[C]`.
    Fixed(WeightId),
}

/// One operation. Matrices `weight` are `[out features, in features]`; vectors apply to every row.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// out `[T, C]` = rows of `table` `[V, C]` at the step's token ids.
    Embed {
        /// Embedding table.
        table: WeightId,
        /// Result.
        out: ValueId,
    },
    /// out `[·, C]` = (x − mean) / √(var + eps) ∘ weight + bias, per row, with the biased variance.
    LayerNorm {
        /// Input, same shape as `out`.
        x: ValueId,
        /// Scale `[C]`.
        weight: WeightId,
        /// Offset `[C]`.
        bias: WeightId,
        /// Added to the variance.
        eps: f32,
        /// Result.
        out: ValueId,
    },
    /// out `[·, C]` = x / √(mean of x² + eps) ∘ weight, per row.
    RmsNorm {
        /// Input, same shape as `out`.
        x: ValueId,
        /// Scale `[C]`.
        weight: WeightId,
        /// Added to the mean of squares.
        eps: f32,
        /// Result.
        out: ValueId,
    },
    /// outᵢ `[T, C]` = x + (x_prev − x) ∘ mixᵢ, where x_prev is the row of the sequence's previous token: the state for
    /// its first token of the step. Afterwards the state is the row of its last token. x_prev itself may be a result, too.
    TokenShift {
        /// Input `[T, C]`.
        x: ValueId,
        /// Last row of the sequence so far, `[C]`.
        state: StateRef,
        /// Mix vectors `[C]`.
        mix: Vec<WeightId>,
        /// One result per mix vector.
        out: Vec<ValueId>,
        /// x_prev, if another operation reads it.
        prev: Option<ValueId>,
    },
    /// out `[T, C]` = x + (x_prev − x) ∘ mix, with a mix of every token's own.
    Mix {
        /// Input.
        x: ValueId,
        /// The same of the token before.
        x_prev: ValueId,
        /// How much of it to take.
        mix: ValueId,
        /// Result.
        out: ValueId,
    },
    /// out `[·, n_rows]` = residual + activation(x · weightᵀ + bias).
    MatMul {
        /// Matrix `[n_rows, n_cols]`.
        weight: WeightId,
        /// Input `[·, n_cols]`.
        x: ValueId,
        /// Offset `[n_rows]`.
        bias: Option<WeightId>,
        /// Applied after the bias.
        activation: Activation,
        /// Added last, same shape as `out`.
        residual: Option<ValueId>,
        /// Result.
        out: ValueId,
    },
    /// out `[·, n]` = residual + activation(x): the end of a product of several parts, such as that of a matrix and of its low-rank pair.
    Activate {
        /// Input `[·, n]`.
        x: ValueId,
        /// Applied to each element.
        activation: Activation,
        /// Added last.
        residual: Option<ValueId>,
        /// Result.
        out: ValueId,
    },
    /// out `[T, C]` = v + (v_first − v) ∘ gate.
    ValueResidual {
        /// The layer's own value.
        v: ValueId,
        /// Layer 0's value.
        v_first: ValueId,
        /// How much of it to take.
        gate: ValueId,
        /// Result.
        out: ValueId,
    },
    /// kk = k ∘ k_k, normalised to length 1 per head (a length below 1e-12 counts as 1e-12);
    /// k_out = k ∘ (1 + (a − 1) ∘ k_a). All `[T, C]`.
    KeyControl {
        /// Key.
        k: ValueId,
        /// In-context learning rate.
        a: ValueId,
        /// Removal key scale `[C]`.
        k_k: WeightId,
        /// Replacement key scale `[C]`.
        k_a: WeightId,
        /// N.
        head_size: usize,
        /// Removal key κ̂.
        kk: ValueId,
        /// Replacement key.
        k_out: ValueId,
    },
    /// Per head and token, with the head's state S `[N, N]` (value row, key column):
    /// S ← S·diag(w) − (S·kk)(kk ∘ a)ᵀ + v kᵀ, then out = S·r. All values `[T, C]`.
    Wkv7 {
        /// Receptance.
        r: ValueId,
        /// Decay.
        w: ValueId,
        /// Replacement key.
        k: ValueId,
        /// Value.
        v: ValueId,
        /// Removal key.
        kk: ValueId,
        /// In-context learning rate.
        a: ValueId,
        /// S of every head, `[H, N, N]`.
        state: StateRef,
        /// N.
        head_size: usize,
        /// Result.
        out: ValueId,
    },
    /// out `[T, C]` = (norm(y) ∘ weight + bias + (Σ r ∘ k ∘ r_k)·v) ∘ g, where norm and the sum are per head.
    NormBonusGate {
        /// Output of the recurrence.
        y: ValueId,
        /// Receptance.
        r: ValueId,
        /// Replacement key.
        k: ValueId,
        /// Value.
        v: ValueId,
        /// Gate.
        g: ValueId,
        /// Bonus `[C]`.
        r_k: WeightId,
        /// Scale of the norm `[C]`.
        weight: WeightId,
        /// Offset of the norm `[C]`.
        bias: WeightId,
        /// Added to the variance.
        eps: f32,
        /// N.
        head_size: usize,
        /// Result.
        out: ValueId,
    },
    /// Per channel and token, with the channel's state a, b, p, which is `[3, C]`, and b = 0 before the first token:
    /// q = max(p, u + k), out = (e^(p−q)·a + e^(u+k−q)·v) / (e^(p−q)·b + e^(u+k−q)), then
    /// q = max(p + w, k), a ← e^(p+w−q)·a + e^(k−q)·v, b ← e^(p+w−q)·b + e^(k−q), p ← q. Where b = 0, p counts as −∞.
    /// All values `[T, C]`.
    Wkv4 {
        /// Key.
        k: ValueId,
        /// Value.
        v: ValueId,
        /// Logarithm of the decay, negative, `[C]`.
        w: WeightId,
        /// Bonus of the current token `[C]`.
        u: WeightId,
        /// a, b, p `[3, C]`.
        state: StateRef,
        /// Result.
        out: ValueId,
    },
    /// Per head and token, with the head's state S `[N, N]` (value row, key column):
    /// out = (S + v (u ∘ k)ᵀ)·r, then S ← S·diag(w) + v kᵀ. All values `[T, C]`.
    Wkv6 {
        /// Receptance.
        r: ValueId,
        /// Decay.
        w: Decay,
        /// Key.
        k: ValueId,
        /// Value.
        v: ValueId,
        /// Bonus of the current token `[C]`.
        u: WeightId,
        /// S of every head, `[H, N, N]`.
        state: StateRef,
        /// N.
        head_size: usize,
        /// Result.
        out: ValueId,
    },
    /// out `[T, C]` = (norm(y) ∘ weight + bias) ∘ g, where norm is per head, without g if there is none.
    NormGate {
        /// Output of the recurrence.
        y: ValueId,
        /// Gate.
        g: Option<ValueId>,
        /// Scale of the norm `[C]`.
        weight: WeightId,
        /// Offset of the norm `[C]`.
        bias: WeightId,
        /// Added to the variance.
        eps: f32,
        /// N.
        head_size: usize,
        /// Result.
        out: ValueId,
    },
    /// out `[T, C]` = (y + (Σ r ∘ k ∘ r_k)·v) ∘ g, where the sum is per head, without g if there is none.
    BonusGate {
        /// Output of the recurrence.
        y: ValueId,
        /// Receptance.
        r: ValueId,
        /// Replacement key.
        k: ValueId,
        /// Value.
        v: ValueId,
        /// Gate.
        g: Option<ValueId>,
        /// Bonus `[C]`.
        r_k: WeightId,
        /// N.
        head_size: usize,
        /// Result.
        out: ValueId,
    },
    /// out `[T, H·N]`: every head of x `[T, K·N]` H/K times, next to each other: head h is head h·K/H of x.
    RepeatHeads {
        /// Input, of K heads.
        x: ValueId,
        /// N.
        head_size: usize,
        /// Result, of H heads, a multiple of K.
        out: ValueId,
    },
    /// out `[T, n]` = residual + factor · gate ∘ x.
    Gate {
        /// Gate.
        gate: ValueId,
        /// Input.
        x: ValueId,
        /// Multiplied with both.
        factor: f32,
        /// Added last.
        residual: Option<ValueId>,
        /// Result.
        out: ValueId,
    },
    /// out `[T, n]` = x `[T, n]` times the token's own matrix `[n, n]`, from the right: outⱼ = Σᵢ xᵢ·matrixᵢⱼ.
    TokenMatrix {
        /// Input.
        x: ValueId,
        /// The tokens' matrices, `[T, n·n]`, row after row.
        matrix: ValueId,
        /// Result.
        out: ValueId,
    },
    /// out `[O, C]` = the rows of x `[T, C]` that the step wants outputs for.
    Select {
        /// Input.
        x: ValueId,
        /// Result.
        out: ValueId,
    },
}

impl Op {
    /// Values that the operation reads.
    pub fn inputs(&self) -> Vec<ValueId> {
        match self {
            Op::Embed { .. } => vec![],
            Op::LayerNorm { x, .. }
            | Op::RmsNorm { x, .. }
            | Op::TokenShift { x, .. }
            | Op::RepeatHeads { x, .. }
            | Op::Select { x, .. } => vec![*x],
            Op::MatMul { x, residual, .. } | Op::Activate { x, residual, .. } => {
                std::iter::once(*x).chain(*residual).collect()
            }
            Op::ValueResidual { v, v_first, gate, .. } => vec![*v, *v_first, *gate],
            Op::KeyControl { k, a, .. } => vec![*k, *a],
            Op::Wkv7 { r, w, k, v, kk, a, .. } => vec![*r, *w, *k, *v, *kk, *a],
            Op::NormBonusGate { y, r, k, v, g, .. } => vec![*y, *r, *k, *v, *g],
            Op::Mix { x, x_prev, mix, .. } => vec![*x, *x_prev, *mix],
            Op::Wkv4 { k, v, .. } => vec![*k, *v],
            Op::Wkv6 { r, w: Decay::OfToken(w), k, v, .. } => vec![*r, *w, *k, *v],
            Op::Wkv6 { r, w: Decay::Fixed(_), k, v, .. } => vec![*r, *k, *v],
            Op::NormGate { y, g, .. } => std::iter::once(*y).chain(*g).collect(),
            Op::BonusGate { y, r, k, v, g, .. } => [*y, *r, *k, *v].into_iter().chain(*g).collect(),
            Op::Gate { gate, x, residual, .. } => [*gate, *x].into_iter().chain(*residual).collect(),
            Op::TokenMatrix { x, matrix, .. } => vec![*x, *matrix],
        }
    }

    /// Values that the operation writes.
    pub fn outputs(&self) -> Vec<ValueId> {
        match self {
            Op::Embed { out, .. }
            | Op::LayerNorm { out, .. }
            | Op::RmsNorm { out, .. }
            | Op::MatMul { out, .. }
            | Op::Activate { out, .. }
            | Op::ValueResidual { out, .. }
            | Op::Wkv7 { out, .. }
            | Op::NormBonusGate { out, .. }
            | Op::Mix { out, .. }
            | Op::Wkv4 { out, .. }
            | Op::Wkv6 { out, .. }
            | Op::NormGate { out, .. }
            | Op::BonusGate { out, .. }
            | Op::RepeatHeads { out, .. }
            | Op::Gate { out, .. }
            | Op::TokenMatrix { out, .. }
            | Op::Select { out, .. } => vec![*out],
            Op::TokenShift { out, prev, .. } => out.iter().copied().chain(*prev).collect(),
            Op::KeyControl { kk, k_out, .. } => vec![*kk, *k_out],
        }
    }

    /// Weights that the operation reads.
    pub fn weights(&self) -> Vec<WeightId> {
        match self {
            Op::Embed { table, .. } => vec![*table],
            Op::LayerNorm { weight, bias, .. } => vec![*weight, *bias],
            Op::RmsNorm { weight, .. } => vec![*weight],
            Op::TokenShift { mix, .. } => mix.clone(),
            Op::MatMul { weight, bias, .. } => std::iter::once(*weight).chain(*bias).collect(),
            Op::KeyControl { k_k, k_a, .. } => vec![*k_k, *k_a],
            Op::NormBonusGate { r_k, weight, bias, .. } => vec![*r_k, *weight, *bias],
            Op::Wkv4 { w, u, .. } | Op::Wkv6 { w: Decay::Fixed(w), u, .. } => vec![*w, *u],
            Op::Wkv6 { w: Decay::OfToken(_), u, .. } => vec![*u],
            Op::NormGate { weight, bias, .. } => vec![*weight, *bias],
            Op::BonusGate { r_k, .. } => vec![*r_k],
            Op::Activate { .. }
            | Op::ValueResidual { .. }
            | Op::Wkv7 { .. }
            | Op::Mix { .. }
            | Op::RepeatHeads { .. }
            | Op::Gate { .. }
            | Op::TokenMatrix { .. }
            | Op::Select { .. } => vec![],
        }
    }

    /// The part of the state that the operation reads and writes.
    pub fn state(&self) -> Option<StateRef> {
        match self {
            Op::TokenShift { state, .. } | Op::Wkv4 { state, .. } | Op::Wkv6 { state, .. } | Op::Wkv7 { state, .. } => {
                Some(*state)
            }
            Op::Embed { .. }
            | Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::MatMul { .. }
            | Op::Activate { .. }
            | Op::ValueResidual { .. }
            | Op::KeyControl { .. }
            | Op::NormBonusGate { .. }
            | Op::Mix { .. }
            | Op::NormGate { .. }
            | Op::BonusGate { .. }
            | Op::RepeatHeads { .. }
            | Op::Gate { .. }
            | Op::TokenMatrix { .. }
            | Op::Select { .. } => None,
        }
    }
}

/// An operation with its name, e.g. `blocks.3.att.wkv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name for dumps, profiles and errors.
    pub name: String,
    /// The operation.
    pub op: Op,
}

/// What a model computes, in execution order. Made by a version's module, e.g. [`crate::v7::plan`].
#[derive(Debug, Clone)]
pub struct Plan {
    /// One line about the model, e.g. `rwkv7 L=6 C=256 H=4 N=64 F=1024 V=65536`.
    pub title: String,
    /// Operations in execution order.
    pub nodes: Vec<Node>,
    /// Activations, each written by one operation (inputs: by none).
    pub values: Vec<Value>,
    /// Weights, in the order of first use.
    pub weights: Vec<Weight>,
    /// The recurrent state.
    pub state: StateLayout,
    /// V: token ids are below.
    pub n_vocab: usize,
    /// The residual stream after each layer, `[T, C]` each.
    pub residuals: Vec<ValueId>,
    /// After the final norm, `[O, C]`.
    pub hidden: Option<ValueId>,
    /// After the head, `[O, V]`.
    pub logits: Option<ValueId>,
}

impl Plan {
    /// A value.
    ///
    /// # Panics
    /// If `id` belongs to another plan and is out of range.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// A weight. Panics as [`Plan::value`] does.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.index()]
    }

    /// The value called `name`, e.g. `blocks.3.att.r`.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|v| v.name == name).map(|i| ValueId(i as u32))
    }

    /// Elements of a value in a step of `n_tokens` tokens and `n_outputs` outputs.
    pub fn value_len(&self, id: ValueId, n_tokens: usize, n_outputs: usize) -> usize {
        let value = self.value(id);
        value.n_cols
            * match value.rows {
                Rows::Tokens => n_tokens,
                Rows::Outputs => n_outputs,
            }
    }

    /// How many nodes, from the first, must run so that all states advance and `reads` are computed.
    pub fn n_nodes_for(&self, reads: &[ValueId]) -> usize {
        let needed = |node: &Node| node.op.state().is_some() || node.op.outputs().iter().any(|v| reads.contains(v));
        self.nodes.iter().rposition(needed).map_or(0, |last| last + 1)
    }

    /// Multiplications and additions of the matrix products that every token of a step takes part in: all but the head, which
    /// is for wanted outputs only.
    pub fn n_flops_per_token(&self) -> f64 {
        let of_tokens = |node: &&Node| node.op.outputs().iter().any(|&v| self.value(v).rows == Rows::Tokens);
        let products = self.nodes.iter().filter(of_tokens).flat_map(|node| match &node.op {
            Op::Embed { .. } => vec![],
            op => op.weights(),
        });
        let matrices = products.map(|id| self.weight(id)).filter(|weight| weight.n_rows() > 1);
        matrices.map(|matrix| 2.0 * matrix.n_rows() as f64 * matrix.n_cols() as f64).sum()
    }

    /// Bytes of all weights that a step of one token reads: every matrix once, one row of an embedding table.
    pub fn n_bytes_per_token(&self) -> usize {
        let read = |op: &Op| match op {
            Op::Embed { table, .. } => self.weight(*table).row_n_bytes(),
            op => op.weights().iter().map(|&w| self.weight(w).n_bytes()).sum(),
        };
        self.nodes.iter().map(|n| read(&n.op)).sum()
    }
}
