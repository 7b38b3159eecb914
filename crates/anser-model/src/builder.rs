//! Writes down a [`Plan`]: one method per operation, values named on the way.

use crate::plan::{Activation, Decay, Node, Op, Plan, Rows, Value, ValueId, WeightId};
use crate::state::{StateLayout, StateRef};
use crate::weights::Weight;

/// Collects operations in execution order. Node and value names are the caller's; shapes follow from the inputs.
#[derive(Debug)]
pub struct PlanBuilder {
    plan: Plan,
}

impl PlanBuilder {
    /// An empty plan.
    pub fn new(title: String, state: StateLayout, n_vocab: usize) -> PlanBuilder {
        let plan = Plan {
            title,
            nodes: vec![],
            values: vec![],
            weights: vec![],
            state,
            n_vocab,
            residuals: vec![],
            hidden: None,
            logits: None,
        };
        PlanBuilder { plan }
    }

    /// A value that the caller of a step provides.
    pub fn input(&mut self, name: &str, rows: Rows, n_cols: usize) -> ValueId {
        self.value(name, rows, n_cols)
    }

    /// Marks the residual stream after a layer.
    pub fn mark_residual(&mut self, x: ValueId) {
        self.plan.residuals.push(x);
    }

    /// See [`Op::Embed`].
    pub fn embed(&mut self, name: &str, table: Weight) -> ValueId {
        let out = self.value(name, Rows::Tokens, table.n_cols());
        let table = self.weight(table);
        self.push(name, Op::Embed { table, out });
        out
    }

    /// See [`Op::LayerNorm`].
    pub fn layer_norm(&mut self, name: &str, x: ValueId, [weight, bias]: [Weight; 2], eps: f32) -> ValueId {
        let out = self.like(name, x);
        let [weight, bias] = [weight, bias].map(|w| self.weight(w));
        self.push(name, Op::LayerNorm { x, weight, bias, eps, out });
        out
    }

    /// See [`Op::RmsNorm`].
    pub fn rms_norm(&mut self, name: &str, x: ValueId, weight: Weight, eps: f32) -> ValueId {
        let out = self.like(name, x);
        let weight = self.weight(weight);
        self.push(name, Op::RmsNorm { x, weight, eps, out });
        out
    }

    /// See [`Op::TokenShift`]; the results are called `names`.
    pub fn token_shift<const K: usize>(
        &mut self,
        name: &str,
        x: ValueId,
        state: StateRef,
        mix: [Weight; K],
        names: [String; K],
    ) -> [ValueId; K] {
        let out = names.map(|n| self.like(&n, x));
        let mix = mix.map(|w| self.weight(w)).to_vec();
        self.push(name, Op::TokenShift { x, state, mix, out: out.to_vec(), prev: None });
        out
    }

    /// See [`Op::TokenShift`]: with one mix and x_prev. The results are called `names`.
    pub fn token_shift_and_prev(
        &mut self,
        name: &str,
        x: ValueId,
        state: StateRef,
        mix: Weight,
        names: [String; 2],
    ) -> [ValueId; 2] {
        let [out, prev] = names.map(|n| self.like(&n, x));
        let mix = vec![self.weight(mix)];
        self.push(name, Op::TokenShift { x, state, mix, out: vec![out], prev: Some(prev) });
        [out, prev]
    }

    /// See [`Op::Mix`].
    pub fn mix(&mut self, name: &str, x: ValueId, x_prev: ValueId, mix: ValueId) -> ValueId {
        let out = self.like(name, x);
        self.push(name, Op::Mix { x, x_prev, mix, out });
        out
    }

    /// See [`Op::Wkv4`]; values k, v and weights w, u.
    pub fn wkv4(&mut self, name: &str, [k, v]: [ValueId; 2], [w, u]: [Weight; 2], state: StateRef) -> ValueId {
        let out = self.like(name, k);
        let [w, u] = [w, u].map(|w| self.weight(w));
        self.push(name, Op::Wkv4 { k, v, w, u, state, out });
        out
    }

    /// See [`Op::Wkv6`] with a decay of every token's own; values r, w, k, v.
    pub fn wkv6(
        &mut self,
        name: &str,
        [r, w, k, v]: [ValueId; 4],
        u: Weight,
        state: StateRef,
        head_size: usize,
    ) -> ValueId {
        let out = self.like(name, r);
        let u = self.weight(u);
        self.push(name, Op::Wkv6 { r, w: Decay::OfToken(w), k, v, u, state, head_size, out });
        out
    }

    /// See [`Op::Wkv6`] with one decay for all tokens; values r, k, v and weights w, u.
    pub fn wkv5(
        &mut self,
        name: &str,
        [r, k, v]: [ValueId; 3],
        [w, u]: [Weight; 2],
        state: StateRef,
        head_size: usize,
    ) -> ValueId {
        let out = self.like(name, r);
        let [w, u] = [w, u].map(|w| self.weight(w));
        self.push(name, Op::Wkv6 { r, w: Decay::Fixed(w), k, v, u, state, head_size, out });
        out
    }

    /// See [`Op::NormGate`].
    pub fn norm_gate(
        &mut self,
        name: &str,
        y: ValueId,
        g: Option<ValueId>,
        [weight, bias]: [Weight; 2],
        eps: f32,
        head_size: usize,
    ) -> ValueId {
        let out = self.like(name, y);
        let [weight, bias] = [weight, bias].map(|w| self.weight(w));
        self.push(name, Op::NormGate { y, g, weight, bias, eps, head_size, out });
        out
    }

    /// See [`Op::BonusGate`]; values y, r, k, v.
    pub fn bonus_gate(
        &mut self,
        name: &str,
        [y, r, k, v]: [ValueId; 4],
        g: Option<ValueId>,
        r_k: Weight,
        head_size: usize,
    ) -> ValueId {
        let out = self.like(name, y);
        let r_k = self.weight(r_k);
        self.push(name, Op::BonusGate { y, r, k, v, g, r_k, head_size, out });
        out
    }

    /// See [`Op::RepeatHeads`]; the result has `n_cols`, a multiple of x's.
    pub fn repeat_heads(&mut self, name: &str, x: ValueId, n_cols: usize, head_size: usize) -> ValueId {
        let out = self.value(name, self.plan.value(x).rows, n_cols);
        self.push(name, Op::RepeatHeads { x, head_size, out });
        out
    }

    /// See [`Op::Gate`].
    pub fn gate(&mut self, name: &str, gate: ValueId, x: ValueId, factor: f32, residual: Option<ValueId>) -> ValueId {
        let out = self.like(name, x);
        self.push(name, Op::Gate { gate, x, factor, residual, out });
        out
    }

    /// See [`Op::TokenMatrix`].
    pub fn token_matrix(&mut self, name: &str, x: ValueId, matrix: ValueId) -> ValueId {
        let out = self.like(name, x);
        self.push(name, Op::TokenMatrix { x, matrix, out });
        out
    }

    /// See [`Op::MatMul`]: weight · x.
    pub fn matmul(&mut self, name: &str, weight: Weight, x: ValueId) -> ValueId {
        self.matmul_with(name, weight, x, None, Activation::Identity, None)
    }

    /// residual + activation(weight · x + bias). This is an [`Op::MatMul`]; for a weight W with a low-rank pair A, B beside it
    /// ([`Weight::pair`]) it is the products W·x + bias, A·x and B·(A·x), of which the last one adds the first, and [`Op::Activate`] where
    /// there is an activation.
    pub fn matmul_with(
        &mut self,
        name: &str,
        weight: Weight,
        x: ValueId,
        bias: Option<Weight>,
        activation: Activation,
        residual: Option<ValueId>,
    ) -> ValueId {
        let Some([down, up]) = weight.pair().cloned() else {
            return self.product(name, weight, x, bias, activation, residual);
        };
        let named = |part: &str| format!("{name}.{part}");
        let is_last = activation == Activation::Identity;
        let base = self.product(&named("base"), weight, x, bias, Activation::Identity, residual.filter(|_| is_last));
        let z = self.product(&named("lora_a"), down, x, None, Activation::Identity, None); // [·, R]
        if is_last {
            return self.product(name, up, z, None, Activation::Identity, Some(base));
        }
        let sum = self.product(&named("sum"), up, z, None, Activation::Identity, Some(base));
        self.activate(name, sum, activation, residual)
    }

    /// See [`Op::Activate`].
    pub fn activate(&mut self, name: &str, x: ValueId, activation: Activation, residual: Option<ValueId>) -> ValueId {
        let out = self.like(name, x);
        self.push(name, Op::Activate { x, activation, residual, out });
        out
    }

    fn product(
        &mut self,
        name: &str,
        weight: Weight,
        x: ValueId,
        bias: Option<Weight>,
        activation: Activation,
        residual: Option<ValueId>,
    ) -> ValueId {
        debug_assert_eq!(self.plan.value(x).n_cols, weight.n_cols(), "{name}");
        let out = self.value(name, self.plan.value(x).rows, weight.n_rows());
        let weight = self.weight(weight);
        let bias = bias.map(|b| self.weight(b));
        self.push(name, Op::MatMul { weight, x, bias, activation, residual, out });
        out
    }

    /// See [`Op::ValueResidual`].
    pub fn value_residual(&mut self, name: &str, v: ValueId, v_first: ValueId, gate: ValueId) -> ValueId {
        let out = self.like(name, v);
        self.push(name, Op::ValueResidual { v, v_first, gate, out });
        out
    }

    /// See [`Op::KeyControl`]; the results `[kk, k_out]` are called `names`.
    pub fn key_control(
        &mut self,
        name: &str,
        [k, a]: [ValueId; 2],
        [k_k, k_a]: [Weight; 2],
        head_size: usize,
        names: [String; 2],
    ) -> [ValueId; 2] {
        let [kk, k_out] = names.map(|n| self.like(&n, k));
        let [k_k, k_a] = [k_k, k_a].map(|w| self.weight(w));
        self.push(name, Op::KeyControl { k, a, k_k, k_a, head_size, kk, k_out });
        [kk, k_out]
    }

    /// See [`Op::Wkv7`]; the inputs are in the order of the recurrence: r, w, k, v, kk, a.
    pub fn wkv7(
        &mut self,
        name: &str,
        [r, w, k, v, kk, a]: [ValueId; 6],
        state: StateRef,
        head_size: usize,
    ) -> ValueId {
        let out = self.like(name, r);
        self.push(name, Op::Wkv7 { r, w, k, v, kk, a, state, head_size, out });
        out
    }

    /// See [`Op::NormBonusGate`]; values y, r, k, v, g and weights r_k, norm weight, norm bias.
    pub fn norm_bonus_gate(
        &mut self,
        name: &str,
        [y, r, k, v, g]: [ValueId; 5],
        [r_k, weight, bias]: [Weight; 3],
        eps: f32,
        head_size: usize,
    ) -> ValueId {
        let out = self.like(name, y);
        let [r_k, weight, bias] = [r_k, weight, bias].map(|w| self.weight(w));
        self.push(name, Op::NormBonusGate { y, r, k, v, g, r_k, weight, bias, eps, head_size, out });
        out
    }

    /// See [`Op::Select`].
    pub fn select(&mut self, name: &str, x: ValueId) -> ValueId {
        let out = self.value(name, Rows::Outputs, self.plan.value(x).n_cols);
        self.push(name, Op::Select { x, out });
        out
    }

    /// The finished plan; `hidden` and `logits` are what a model hands out.
    pub fn finish(mut self, hidden: Option<ValueId>, logits: Option<ValueId>) -> Plan {
        self.plan.hidden = hidden;
        self.plan.logits = logits;
        self.plan
    }

    fn value(&mut self, name: &str, rows: Rows, n_cols: usize) -> ValueId {
        self.plan.values.push(Value { name: name.into(), rows, n_cols });
        ValueId(self.plan.values.len() as u32 - 1)
    }

    fn like(&mut self, name: &str, x: ValueId) -> ValueId {
        let Value { rows, n_cols, .. } = *self.plan.value(x);
        self.value(name, rows, n_cols)
    }

    fn weight(&mut self, weight: Weight) -> WeightId {
        self.plan.weights.push(weight);
        WeightId(self.plan.weights.len() as u32 - 1)
    }

    fn push(&mut self, name: &str, op: Op) {
        self.plan.nodes.push(Node { name: name.into(), op });
    }
}
