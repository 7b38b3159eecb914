//! Plans of one operation, or of two that executors treat together, with seeded inputs: the table that tests and times every
//! executor's kernels.
//!
//! A case is checked by running it on two executors and comparing what the operation wrote, and the states after it,
//! with [`nmse`] against the case's bound. The plain loops of `anser-cpu` are the oracle.

mod builder;

use crate::plan::{Activation, Plan, ValueId};
use crate::state::{StateLayout, StatePart, StateRef};
use anser_format::DType;
use builder::{CaseBuilder, N_LAYER};
use std::sync::Arc;

/// A plan of one or two operations and everything needed to run it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Operation, types and sizes, e.g. `matmul Q4_K 96x512 T=8 relu²`.
    pub name: String,
    /// The plan: inputs and operations.
    pub plan: Arc<Plan>,
    /// `[T]` token ids.
    pub tokens: Vec<u32>,
    /// Tokens of each sequence; their sum is T.
    pub lengths: Vec<usize>,
    /// `[O]` rows for `Op::Select`.
    pub outputs: Vec<u32>,
    /// Contents of the plan's inputs.
    pub inputs: Vec<(ValueId, Vec<f32>)>,
    /// Each sequence's state before the step.
    pub states: Vec<Vec<f32>>,
    /// What the operation writes.
    pub reads: Vec<ValueId>,
    /// Largest [`nmse`] that f32 arithmetic in any order may show: rounding is 2⁻²⁴ per operation, so the squared
    /// relative error stays near 1e-13 for sums of some thousand terms; cancellation costs up to two digits.
    pub bound: f64,
}

/// Normalised mean squared error: Σ (actual − expected)² / Σ expected²; the plain Σ if everything expected is zero.
/// Infinite if the lengths differ or anything is not finite.
pub fn nmse(actual: &[f32], expected: &[f32]) -> f64 {
    if actual.len() != expected.len() || actual.iter().chain(expected).any(|x| !x.is_finite()) {
        return f64::INFINITY;
    }
    let error: f64 = actual.iter().zip(expected).map(|(&a, &e)| (f64::from(a) - f64::from(e)).powi(2)).sum();
    let scale: f64 = expected.iter().map(|&e| f64::from(e).powi(2)).sum();
    if scale > 0.0 { error / scale } else { error }
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = vec![];
    for dtype in [DType::F32, DType::F16, DType::Q8_0, DType::Q4_K] {
        cases.push(embed(dtype));
    }
    for (t, c) in [(1, 256), (5, 192), (70, 1024), (3, 2560)] {
        cases.push(layer_norm(t, c));
    }
    for (t, c) in [(1, 256), (5, 192), (70, 1024)] {
        cases.push(rms_norm(t, c));
    }
    for (lengths, c, n_mix) in [(vec![1], 256, 6), (vec![1, 4, 3], 192, 6), (vec![40, 1, 1], 64, 1)] {
        cases.push(token_shift(&lengths, c, n_mix));
    }
    cases.extend(matmuls());
    for t in [1, 2, 3, 5, 8, 9, 17, 64] {
        cases.push(feed_forward(DType::F16, 64, 512, t));
    }
    // More inputs that are not zero than a kernel's list holds.
    cases.push(feed_forward(DType::F16, 16, 4096, 8));
    for t in [1, 9] {
        cases.push(value_residual(t, 192));
    }
    for (t, h, n) in [(1, 4, 64), (5, 3, 64), (2, 4, 32), (3, 2, 128)] {
        cases.push(key_control(t, h, n));
        cases.push(norm_bonus_gate(t, h, n));
    }
    for (lengths, h, n) in
        [(vec![1], 4, 64), (vec![9, 1, 40], 3, 64), (vec![2, 17], 4, 32), (vec![5], 2, 128), (vec![1; 9], 2, 64)]
    {
        cases.push(wkv7(&lengths, h, n));
    }
    for (lengths, c) in [(vec![1], 256), (vec![2, 1, 5], 192), (vec![40, 1], 64)] {
        cases.push(token_shift_and_prev(&lengths, c));
        cases.push(wkv4(&lengths, c));
    }
    for (lengths, h, n) in
        [(vec![1], 4, 64), (vec![9, 1, 40], 3, 64), (vec![2, 17], 4, 32), (vec![5], 2, 128), (vec![1; 9], 2, 64)]
    {
        cases.push(wkv6(&lengths, h, n, true));
        cases.push(wkv6(&lengths, h, n, false));
    }
    for lengths in [vec![1], vec![1; 3], vec![2, 1]] {
        cases.push(time_mixing6(&lengths, DType::F16));
        cases.push(time_mixing6(&lengths, DType::Q8_0));
        cases.push(channel_mixing6(&lengths, DType::Q8_0));
    }
    for (t, h, n) in [(1, 4, 64), (5, 3, 64), (2, 4, 32), (3, 2, 128)] {
        cases.push(norm_gate(t, h, n, true));
        cases.push(norm_gate(t, h, n, false));
        cases.push(bonus_gate(t, h, n, true));
        cases.push(bonus_gate(t, h, n, false));
        cases.push(repeat_heads(t, h, 1, n));
    }
    for t in [1, 9] {
        cases.push(repeat_heads(t, 6, 2, 64));
    }
    for t in [1, 9] {
        cases.push(mix(t, 192));
        cases.push(gate(t, 192, true));
        cases.push(gate(t, 320, false));
        cases.push(token_matrix(t, 32));
    }
    for activation in Activation::ALL {
        cases.push(activate(1, 192, activation, false));
        cases.push(activate(9, 320, activation, true));
    }
    for t in [1, 3, 9, 64] {
        cases.push(low_rank(DType::Q4_K, [96, 512], 16, t, Activation::Identity));
        cases.push(low_rank(DType::Q8_0, [64, 96], 5, t, Activation::ReluSquared));
        cases.push(low_rank(DType::F16, [72, 64], 1, t, Activation::Sigmoid));
    }
    cases.push(select(7, 192, &[6]));
    cases.push(select(7, 192, &[0, 2, 3, 6]));
    cases
}

/// Every storage type at every kind of token count, shapes that fill no tile, and every epilogue.
fn matmuls() -> Vec<Case> {
    let plain = Epilogue { bias: false, activation: Activation::Identity, residual: false };
    let mut cases = vec![];
    for dtype in DType::ALL {
        for t in [1, 2, 3, 5, 8, 17, 64] {
            cases.push(matmul(dtype, [96, 512], t, plain));
        }
    }
    // More workgroups than one dimension of a grid can have.
    cases.push(matmul(DType::F16, [70_000, 16], 1, plain));
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (shape, t) in [([40, 192], 1), ([192, 24], 5), ([7, 8], 2), ([192, 24], 33), ([320, 200], 9)] {
            cases.push(matmul(dtype, shape, t, plain));
        }
    }
    for dtype in [DType::Q8_0, DType::Q4_K, DType::Q6_K] {
        cases.push(matmul(dtype, [1030, 256], 1, plain));
        cases.push(matmul(dtype, [70, 2560], 65, plain));
    }
    // Rows of blocks that fill no stretch of 256 columns, or more than one and no second.
    for dtype in [DType::Q8_0, DType::Q5_1] {
        for n_cols in [96, 288] {
            cases.push(matmul(dtype, [40, n_cols], 3, plain));
        }
    }
    for activation in Activation::ALL {
        for (t, residual) in [(1, false), (1, true), (20, true)] {
            cases.push(matmul(DType::F16, [72, 64], t, Epilogue { bias: true, activation, residual }));
        }
    }
    cases.push(matmul(
        DType::Q4_K,
        [64, 256],
        2,
        Epilogue { bias: false, activation: Activation::ReluSquared, residual: true },
    ));
    cases
}

/// Products of one input `[T, n_cols]` with `n_copies` copies of a random matrix `[R, n_cols]`, each with a residual: for
/// measurements with weights that no cache holds.
pub fn products(dtype: DType, shape: [usize; 2], t: usize, n_copies: usize) -> Case {
    let [rows, cols] = shape;
    let mut b = CaseBuilder::new(format!("matmul {dtype} {rows}x{cols} T={t}"), &[t]);
    let x = b.input("x", cols, -1.0..1.0);
    let residual = b.input("residual", rows, -2.0..2.0);
    let weight = b.matrix("weight", dtype, shape);
    let product = |i: usize| {
        b.plan.matmul_with(&format!("out.{i}"), weight.clone(), x, None, Activation::Identity, Some(residual))
    };
    let outs: Vec<ValueId> = (0..n_copies).map(product).collect();
    b.finish(&outs)
}

/// What a matmul case does after the product.
#[derive(Debug, Clone, Copy)]
struct Epilogue {
    bias: bool,
    activation: Activation,
    residual: bool,
}

fn embed(dtype: DType) -> Case {
    let mut b = CaseBuilder::new(format!("embed {dtype} 300x256 T=5"), &[5]);
    let table = b.matrix("table", dtype, [300, 256]);
    let out = b.plan.embed("out", table);
    b.tokens = vec![0, 299, 7, 7, 128];
    b.finish(&[out])
}

fn layer_norm(t: usize, c: usize) -> Case {
    let mut b = CaseBuilder::new(format!("layer_norm T={t} C={c}"), &[t]);
    let x = b.input("x", c, -3.0..5.0);
    let weights = [b.vector("weight", c, 0.5..1.5), b.vector("bias", c, -1.0..1.0)];
    let out = b.plan.layer_norm("out", x, weights, 1e-5);
    b.finish(&[out])
}

fn rms_norm(t: usize, c: usize) -> Case {
    let mut b = CaseBuilder::new(format!("rms_norm T={t} C={c}"), &[t]);
    let x = b.input("x", c, -3.0..5.0);
    let weight = b.vector("weight", c, 0.5..1.5);
    let out = b.plan.rms_norm("out", x, weight, 1e-6);
    b.finish(&[out])
}

fn token_shift(lengths: &[usize], c: usize, n_mix: usize) -> Case {
    let part = StatePart { name: "att_shift", shape: vec![c] };
    let mut b = CaseBuilder::with_state(format!("token_shift {n_mix} mixes B×T={lengths:?} C={c}"), lengths, part);
    let x = b.input("x", c, -2.0..2.0);
    let state = StateRef { part: 0, layer: 1 };
    let out = match n_mix {
        1 => {
            let mix = [b.vector("m0", c, 0.0..1.0)];
            b.plan.token_shift("shift", x, state, mix, ["o0".into()]).to_vec()
        }
        _ => {
            let mix = [0, 1, 2, 3, 4, 5].map(|i| b.vector(&format!("m{i}"), c, 0.0..1.0));
            b.plan.token_shift("shift", x, state, mix, [0, 1, 2, 3, 4, 5].map(|i| format!("o{i}"))).to_vec()
        }
    };
    b.finish(&out)
}

fn matmul(dtype: DType, shape: [usize; 2], t: usize, epilogue: Epilogue) -> Case {
    let [rows, cols] = shape;
    let Epilogue { bias, activation, residual } = epilogue;
    let marks = [(bias, " bias"), (residual, " residual")].map(|(on, mark)| if on { mark } else { "" }).concat();
    let name = format!("matmul {dtype} {rows}x{cols} T={t} {}{marks}", activation.name());
    let mut b = CaseBuilder::new(name, &[t]);
    let x = b.input("x", cols, -1.0..1.0);
    let weight = b.matrix("weight", dtype, shape);
    let bias = bias.then(|| b.vector("bias", rows, -1.0..1.0));
    let residual = residual.then(|| b.input("residual", rows, -2.0..2.0));
    let out = b.plan.matmul_with("out", weight, x, bias, activation, residual);
    b.finish(&[out])
}

/// Two products, of which the second one meets zeros: half of its inputs, where a trained model has nine of ten.
fn feed_forward(dtype: DType, c: usize, f: usize, t: usize) -> Case {
    let mut b = CaseBuilder::new(format!("feed_forward {dtype} C={c} F={f} T={t}"), &[t]);
    let x = b.input("x", c, -1.0..1.0);
    let [key, value] = [("key", [f, c]), ("value", [c, f])].map(|(name, shape)| b.matrix(name, dtype, shape));
    let k = b.plan.matmul_with("k", key, x, None, Activation::ReluSquared, None);
    let out = b.plan.matmul_with("out", value, k, None, Activation::Identity, Some(x));
    b.finish(&[k, out])
}

fn value_residual(t: usize, c: usize) -> Case {
    let mut b = CaseBuilder::new(format!("value_residual T={t} C={c}"), &[t]);
    let [v, first] = ["v", "v_first"].map(|n| b.input(n, c, -2.0..2.0));
    let gate = b.input("gate", c, 0.0..1.0);
    let out = b.plan.value_residual("out", v, first, gate);
    b.finish(&[out])
}

fn key_control(t: usize, h: usize, n: usize) -> Case {
    let c = h * n;
    let mut b = CaseBuilder::new(format!("key_control T={t} H={h} N={n}"), &[t]);
    let (k, a) = (b.input("k", c, -2.0..2.0), b.input("a", c, 0.0..1.0));
    let weights = [b.vector("k_k", c, 0.5..1.0), b.vector("k_a", c, 0.8..1.2)];
    let out = b.plan.key_control("key", [k, a], weights, n, ["kk".into(), "k_out".into()]);
    b.finish(&out)
}

fn wkv7(lengths: &[usize], h: usize, n: usize) -> Case {
    let c = h * n;
    let part = StatePart { name: "wkv", shape: vec![h, n, n] };
    let mut b = CaseBuilder::with_state(format!("wkv7 B×T={lengths:?} H={h} N={n}"), lengths, part);
    let r = b.input("r", c, -1.0..1.0);
    let w = b.input("w", c, 0.55..1.0);
    let [k, v] = ["k", "v"].map(|name| b.input(name, c, -1.0..1.0));
    let kk = b.input("kk", c, -1.0..1.0);
    b.normalise_heads(kk, n);
    let a = b.input("a", c, 0.0..1.0);
    let out = b.plan.wkv7("wkv", [r, w, k, v, kk, a], StateRef { part: 0, layer: 1 }, n);
    b.finish(&[out])
}

fn norm_bonus_gate(t: usize, h: usize, n: usize) -> Case {
    let c = h * n;
    let mut b = CaseBuilder::new(format!("norm_bonus_gate T={t} H={h} N={n}"), &[t]);
    let values = ["y", "r", "k", "v", "g"].map(|name| b.input(name, c, -2.0..2.0));
    let weights = [b.vector("r_k", c, -0.5..0.5), b.vector("weight", c, 0.5..1.5), b.vector("bias", c, -0.5..0.5)];
    let out = b.plan.norm_bonus_gate("out", values, weights, 64e-5, n);
    b.finish(&[out])
}

fn token_shift_and_prev(lengths: &[usize], c: usize) -> Case {
    let part = StatePart { name: "att_shift", shape: vec![c] };
    let mut b = CaseBuilder::with_state(format!("token_shift with x_prev B×T={lengths:?} C={c}"), lengths, part);
    let x = b.input("x", c, -2.0..2.0);
    let mix = b.vector("m", c, 0.0..1.0);
    let state = StateRef { part: 0, layer: 1 };
    let out = b.plan.token_shift_and_prev("shift", x, state, mix, ["out".into(), "prev".into()]);
    b.finish(&out)
}

fn mix(t: usize, c: usize) -> Case {
    let mut b = CaseBuilder::new(format!("mix T={t} C={c}"), &[t]);
    let [x, prev] = ["x", "x_prev"].map(|n| b.input(n, c, -2.0..2.0));
    let mix = b.input("mix", c, -0.5..1.5);
    let out = b.plan.mix("out", x, prev, mix);
    b.finish(&[out])
}

fn gate(t: usize, c: usize, has_residual: bool) -> Case {
    let mark = if has_residual { " residual" } else { "" };
    let mut b = CaseBuilder::new(format!("gate T={t} C={c}{mark}"), &[t]);
    let [gate, x] = ["gate", "x"].map(|n| b.input(n, c, -2.0..2.0));
    let residual = has_residual.then(|| b.input("residual", c, -2.0..2.0));
    let out = b.plan.gate("out", gate, x, if has_residual { 4.0 } else { 1.0 }, residual);
    b.finish(&[out])
}

fn activate(t: usize, c: usize, activation: Activation, has_residual: bool) -> Case {
    let mark = if has_residual { " residual" } else { "" };
    let mut b = CaseBuilder::new(format!("activate {} T={t} C={c}{mark}", activation.name()), &[t]);
    let x = b.input("x", c, -2.0..2.0);
    let residual = has_residual.then(|| b.input("residual", c, -2.0..2.0));
    let out = b.plan.activate("out", x, activation, residual);
    b.finish(&[out])
}

/// Two products of one input and matrices that have adapters' pairs of inner width `rank` beside them: the last products of both have
/// residuals, which may lie in one buffer.
fn low_rank(dtype: DType, [rows, cols]: [usize; 2], rank: usize, t: usize, activation: Activation) -> Case {
    let name = format!("matmul {dtype} {rows}x{cols} T={t} {} and a pair R={rank}", activation.name());
    let mut b = CaseBuilder::new(name, &[t]);
    let x = b.input("x", cols, -1.0..1.0);
    let residual = b.input("residual", rows, -2.0..2.0);
    let outs = ["a", "b"].map(|name| {
        let pair = [b.matrix("down", DType::F16, [rank, cols]), b.matrix("up", DType::F16, [rows, rank])];
        #[allow(clippy::expect_used, reason = "the table's own shapes are valid")]
        let weight = b.matrix("weight", dtype, [rows, cols]).with_pair(pair).expect("shapes that fit");
        b.plan.matmul_with(name, weight, x, None, activation, Some(residual))
    });
    b.finish(&outs)
}

fn token_matrix(t: usize, n: usize) -> Case {
    let mut b = CaseBuilder::new(format!("token_matrix T={t} n={n}"), &[t]);
    let x = b.input("x", n, -1.0..1.0);
    let matrix = b.input("matrix", n * n, -1.0..1.0);
    let out = b.plan.token_matrix("out", x, matrix);
    b.finish(&[out])
}

fn wkv4(lengths: &[usize], c: usize) -> Case {
    let part = StatePart { name: "wkv", shape: vec![3, c] };
    let mut b = CaseBuilder::with_state(format!("wkv4 B×T={lengths:?} C={c}"), lengths, part);
    let values = ["k", "v"].map(|name| b.input(name, c, -2.0..2.0));
    let weights = [b.vector("w", c, -3.0..-0.01), b.vector("u", c, -1.0..1.0)];
    let out = b.plan.wkv4("wkv", values, weights, StateRef { part: 0, layer: 1 });
    let mut case = b.finish(&[out]);
    // b is a sum of weights, of which the largest is 1; the first sequence is fresh.
    for (i, state) in case.states.iter_mut().enumerate() {
        for parts in state.chunks_exact_mut(3 * c) {
            parts[c..2 * c].iter_mut().for_each(|b| *b = 1.5 + *b / 2.0);
            if i == 0 {
                parts.fill(0.0);
            }
        }
    }
    case
}

fn wkv6(lengths: &[usize], h: usize, n: usize, has_decay_of_token: bool) -> Case {
    let c = h * n;
    let part = StatePart { name: "wkv", shape: vec![h, n, n] };
    let name = if has_decay_of_token { "wkv6" } else { "wkv5" };
    let mut b = CaseBuilder::with_state(format!("{name} B×T={lengths:?} H={h} N={n}"), lengths, part);
    let [r, k, v] = ["r", "k", "v"].map(|name| b.input(name, c, -1.0..1.0));
    let state = StateRef { part: 0, layer: 1 };
    let out = if has_decay_of_token {
        let w = b.input("w", c, 0.3..1.0);
        let u = b.vector("u", c, -1.0..1.0);
        b.plan.wkv6("wkv", [r, w, k, v], u, state, n)
    } else {
        let weights = [b.vector("w", c, 0.3..1.0), b.vector("u", c, -1.0..1.0)];
        b.plan.wkv5("wkv", [r, k, v], weights, state, n)
    };
    b.finish(&[out])
}

/// What RWKV-6 does between its residual stream and the output projection, with projections of type `dtype`.
fn time_mixing6(lengths: &[usize], dtype: DType) -> Case {
    let (h, n) = (4, 64);
    let (c, rank, decay_rank) = (h * n, 32, 64);
    let parts = vec![StatePart { name: "att_shift", shape: vec![c] }, StatePart { name: "wkv", shape: vec![h, n, n] }];
    let [shift_state, wkv_state] = [0, 1].map(|part| StateRef { part, layer: 1 });
    let name = format!("time_mixing6 {dtype} B×T={lengths:?}");
    let mut b = CaseBuilder::with_layout(name, lengths, StateLayout { n_layer: N_LAYER, parts });
    let x = b.input("x", c, -2.0..2.0);
    let ln = [b.vector("weight", c, 0.5..1.5), b.vector("bias", c, -0.5..0.5)];
    let xx = b.plan.layer_norm("xx", x, ln, 1e-5);
    let shift_mix = b.vector("maa_x", c, 0.0..1.0);
    let [x_x, x_prev] =
        b.plan.token_shift_and_prev("shift", xx, shift_state, shift_mix, ["x_x".into(), "x_prev".into()]);
    let down = b.matrix("w1", DType::F16, [5 * rank, c]);
    let mut mixed = |i: usize| {
        let z = b.plan.matmul_with("z", down.rows(i * rank..(i + 1) * rank), x_x, None, Activation::Tanh, None);
        let up = b.matrix(&format!("w2_{i}"), DType::F16, [c, rank]);
        let static_mix = b.vector(&format!("maa_{i}"), c, 0.0..1.0);
        let mix = b.plan.matmul_with("m", up, z, Some(static_mix), Activation::Identity, None);
        b.plan.mix("mixed", xx, x_prev, mix)
    };
    let [x_w, x_k, x_v, x_r, x_g] = [0, 1, 2, 3, 4].map(&mut mixed);
    let mut projected = |name: &str, x, activation| {
        let weight = b.matrix(name, dtype, [c, c]);
        b.plan.matmul_with(name, weight, x, None, activation, None)
    };
    let [r, k, v] = [("r", x_r), ("k", x_k), ("v", x_v)].map(|(name, x)| projected(name, x, Activation::Identity));
    let g = projected("g", x_g, Activation::Silu);
    let [d1, d2] = [("d1", [decay_rank, c]), ("d2", [c, decay_rank])].map(|(n, shape)| b.matrix(n, DType::F16, shape));
    let z = b.plan.matmul_with("z_decay", d1, x_w, None, Activation::Tanh, None);
    let w0 = b.vector("w0", c, -3.0..0.5);
    let w = b.plan.matmul_with("w", d2, z, Some(w0), Activation::Decay6, None);
    let u = b.vector("u", c, -1.0..1.0);
    let y = b.plan.wkv6("wkv", [r, w, k, v], u, wkv_state, n);
    let ln_x = [b.vector("ln_x.weight", c, 0.5..1.5), b.vector("ln_x.bias", c, -0.5..0.5)];
    let out = b.plan.norm_gate("y", y, Some(g), ln_x, 64e-5, n);
    b.finish(&[out])
}

/// What RWKV-6 does between the second norm and the next layer, with matrices of type `dtype`.
fn channel_mixing6(lengths: &[usize], dtype: DType) -> Case {
    let (c, f) = (256, 512);
    let part = StatePart { name: "ffn_shift", shape: vec![c] };
    let mut b = CaseBuilder::with_state(format!("channel_mixing6 {dtype} B×T={lengths:?}"), lengths, part);
    let [x, xx] = ["x", "xx"].map(|name| b.input(name, c, -2.0..2.0));
    let mixes = ["maa_k", "maa_r"].map(|name| b.vector(name, c, 0.0..1.0));
    let state = StateRef { part: 0, layer: 1 };
    let [x_k, x_r] = b.plan.token_shift("shift", xx, state, mixes, ["x_k".into(), "x_r".into()]);
    let [key, value, receptance] =
        [("k", [f, c]), ("v", [c, f]), ("r", [c, c])].map(|(name, shape)| b.matrix(name, dtype, shape));
    let r = b.plan.matmul_with("r", receptance, x_r, None, Activation::Sigmoid, None);
    let k = b.plan.matmul_with("k", key, x_k, None, Activation::ReluSquared, None);
    let v = b.plan.matmul("v", value, k);
    let out = b.plan.gate("out", r, v, 1.0, Some(x));
    b.finish(&[out])
}

fn norm_gate(t: usize, h: usize, n: usize, has_gate: bool) -> Case {
    let c = h * n;
    let mark = if has_gate { "" } else { " without a gate" };
    let mut b = CaseBuilder::new(format!("norm_gate T={t} H={h} N={n}{mark}"), &[t]);
    let y = b.input("y", c, -2.0..2.0);
    let g = has_gate.then(|| b.input("g", c, -2.0..2.0));
    let weights = [b.vector("weight", c, 0.5..1.5), b.vector("bias", c, -0.5..0.5)];
    let out = b.plan.norm_gate("out", y, g, weights, 64e-5, n);
    b.finish(&[out])
}

fn bonus_gate(t: usize, h: usize, n: usize, has_gate: bool) -> Case {
    let c = h * n;
    let mark = if has_gate { "" } else { " without a gate" };
    let mut b = CaseBuilder::new(format!("bonus_gate T={t} H={h} N={n}{mark}"), &[t]);
    let values = ["y", "r", "k", "v"].map(|name| b.input(name, c, -2.0..2.0));
    let g = has_gate.then(|| b.input("g", c, -2.0..2.0));
    let r_k = b.vector("r_k", c, -0.5..0.5);
    let out = b.plan.bonus_gate("out", values, g, r_k, n);
    b.finish(&[out])
}

fn repeat_heads(t: usize, h: usize, n_heads_in: usize, n: usize) -> Case {
    let mut b = CaseBuilder::new(format!("repeat_heads {n_heads_in} to {h} T={t} N={n}"), &[t]);
    let x = b.input("x", n_heads_in * n, -2.0..2.0);
    let out = b.plan.repeat_heads("out", x, h * n, n);
    b.finish(&[out])
}

fn select(t: usize, c: usize, rows: &[u32]) -> Case {
    let mut b = CaseBuilder::new(format!("select {rows:?} of T={t} C={c}"), &[t]);
    let x = b.input("x", c, -2.0..2.0);
    let out = b.plan.select("out", x);
    b.outputs = rows.to_vec();
    b.finish(&[out])
}
