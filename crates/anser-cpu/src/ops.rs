//! Every operation as a plain loop over f32 rows: the definition that all kernels, here and elsewhere, are held to.
//!
//! Slices are row-major with the shapes of [`anser_model::Op`]. The loops over tokens and heads are the callers' where
//! they may run in parallel; a function here computes one row, or one head of one sequence.

use anser_format::quant::dequantize;
use anser_model::{Activation, Weight};

/// Applies `activation` to one element.
pub fn activate(activation: Activation, z: f32) -> f32 {
    match activation {
        Activation::Identity => z,
        Activation::Tanh => z.tanh(),
        Activation::Sigmoid => sigmoid(z),
        Activation::ReluSquared => z.max(0.0) * z.max(0.0),
        Activation::Decay => (-0.606_531 * sigmoid(z)).exp(),
        Activation::Silu => z * sigmoid(z),
        Activation::Decay6 => (-z.exp()).exp(),
    }
}

/// σ(z) = 1 / (1 + e^−z)
pub fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

/// One row of [`Op::Embed`](anser_model::Op::Embed): `out` `[C]` = row `id` of `table`.
pub fn embed(table: &Weight, id: u32, out: &mut [f32]) {
    dequantize(table.dtype(), table.row(id as usize), out);
}

/// One row of [`Op::LayerNorm`](anser_model::Op::LayerNorm); x, weight, bias, out `[C]`.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let (mean, scale) = mean_and_scale(x, eps);
    for (((o, &x), &w), &b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        *o = (x - mean) * scale * w + b;
    }
}

/// One row of [`Op::RmsNorm`](anser_model::Op::RmsNorm); x, weight, out `[C]`. The sum is in double precision.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / x.len() as f64;
    let scale = (1.0 / (squares + f64::from(eps)).sqrt()) as f32;
    for ((o, &x), &w) in out.iter_mut().zip(x).zip(weight) {
        *o = x * scale * w;
    }
}

/// Mean, and 1/√(variance + eps) with the biased variance, in two passes and double precision.
fn mean_and_scale(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    (mean as f32, (1.0 / (variance + f64::from(eps)).sqrt()) as f32)
}

/// One row of one result of [`Op::TokenShift`](anser_model::Op::TokenShift); x, x_prev, mix, out `[C]`.
pub fn token_shift(x: &[f32], x_prev: &[f32], mix: &[f32], out: &mut [f32]) {
    for (((o, &x), &prev), &m) in out.iter_mut().zip(x).zip(x_prev).zip(mix) {
        *o = x + (prev - x) * m;
    }
}

/// [`Op::MatMul`](anser_model::Op::MatMul) without bias, activation and residual: out `[T, n_rows]` = x `[T, n_cols]` ·
/// weightᵀ, each weight row dequantized to f32 first, each sum in double precision.
pub fn matmul(weight: &Weight, x: &[f32], out: &mut [f32]) {
    let (n_rows, n_cols) = (weight.n_rows(), weight.n_cols());
    let mut w = vec![0.0; n_cols];
    for row in 0..n_rows {
        dequantize(weight.dtype(), weight.row(row), &mut w);
        for (x, out) in x.chunks_exact(n_cols).zip(out.chunks_exact_mut(n_rows)) {
            out[row] = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>() as f32;
        }
    }
}

/// The operations fused to the end of a matrix product: z ← residual + activation(z + bias), one row.
pub fn epilogue(z: &mut [f32], bias: Option<&[f32]>, activation: Activation, residual: Option<&[f32]>) {
    if let Some(bias) = bias {
        z.iter_mut().zip(bias).for_each(|(z, &b)| *z += b);
    }
    if activation != Activation::Identity {
        z.iter_mut().for_each(|z| *z = activate(activation, *z));
    }
    if let Some(residual) = residual {
        z.iter_mut().zip(residual).for_each(|(z, &r)| *z += r);
    }
}

/// [`Op::ValueResidual`](anser_model::Op::ValueResidual), any number of elements.
pub fn value_residual(v: &[f32], v_first: &[f32], gate: &[f32], out: &mut [f32]) {
    for (((o, &v), &first), &g) in out.iter_mut().zip(v).zip(v_first).zip(gate) {
        *o = v + (first - v) * g;
    }
}

/// One row of [`Op::KeyControl`](anser_model::Op::KeyControl); k, a, k_k, k_a, kk, k_out `[C]`.
#[allow(clippy::too_many_arguments)] // the operation's own operands
pub fn key_control(
    k: &[f32],
    a: &[f32],
    k_k: &[f32],
    k_a: &[f32],
    head_size: usize,
    kk: &mut [f32],
    k_out: &mut [f32],
) {
    for (((kk, &k), &scale), (out, (&a, &k_a))) in
        kk.iter_mut().zip(k).zip(k_k).zip(k_out.iter_mut().zip(a.iter().zip(k_a)))
    {
        *kk = k * scale;
        *out = k * (1.0 + (a - 1.0) * k_a);
    }
    for head in kk.chunks_exact_mut(head_size) {
        let length = head.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        head.iter_mut().for_each(|x| *x /= length);
    }
}

/// One token's operands of [`wkv7`] for one head, `[N]` each.
#[derive(Debug, Clone, Copy)]
pub struct Wkv7Token<'a> {
    /// Receptance.
    pub r: &'a [f32],
    /// Decay.
    pub w: &'a [f32],
    /// Replacement key.
    pub k: &'a [f32],
    /// Value.
    pub v: &'a [f32],
    /// Removal key.
    pub kk: &'a [f32],
    /// In-context learning rate.
    pub a: &'a [f32],
}

/// One token of one head of [`Op::Wkv7`](anser_model::Op::Wkv7): `s` `[N, N]` (value row, key column), `out` `[N]`.
pub fn wkv7(token: Wkv7Token, s: &mut [f32], out: &mut [f32]) {
    let Wkv7Token { r, w, k, v, kk, a } = token;
    let n = out.len();
    for ((row, out), &v) in s.chunks_exact_mut(n).zip(out.iter_mut()).zip(v) {
        let removed: f32 = row.iter().zip(kk).map(|(&s, &kk)| s * kk).sum();
        let mut y = 0.0;
        for (i, s) in row.iter_mut().enumerate() {
            *s = *s * w[i] - removed * (kk[i] * a[i]) + v * k[i];
            y += *s * r[i];
        }
        *out = y;
    }
}

/// One row's operands of [`norm_bonus_gate`], `[C]` each.
#[derive(Debug, Clone, Copy)]
pub struct NormBonusGate<'a> {
    /// Output of the recurrence.
    pub y: &'a [f32],
    /// Receptance.
    pub r: &'a [f32],
    /// Replacement key.
    pub k: &'a [f32],
    /// Value.
    pub v: &'a [f32],
    /// Gate.
    pub g: &'a [f32],
    /// Bonus.
    pub r_k: &'a [f32],
    /// Scale of the norm.
    pub weight: &'a [f32],
    /// Offset of the norm.
    pub bias: &'a [f32],
}

/// One row of [`Op::NormBonusGate`](anser_model::Op::NormBonusGate); `out` `[C]`.
pub fn norm_bonus_gate(row: NormBonusGate, eps: f32, head_size: usize, out: &mut [f32]) {
    let NormBonusGate { y, r, k, v, g, r_k, weight, bias } = row;
    for start in (0..out.len()).step_by(head_size) {
        let head = start..start + head_size;
        let (mean, scale) = mean_and_scale(&y[head.clone()], eps);
        let bonus: f32 = head.clone().map(|i| r[i] * k[i] * r_k[i]).sum();
        for i in head {
            out[i] = ((y[i] - mean) * scale * weight[i] + bias[i] + bonus * v[i]) * g[i];
        }
    }
}

/// [`Op::Mix`](anser_model::Op::Mix), any number of elements.
pub fn mix(x: &[f32], x_prev: &[f32], mix: &[f32], out: &mut [f32]) {
    for (((o, &x), &prev), &m) in out.iter_mut().zip(x).zip(x_prev).zip(mix) {
        *o = x + (prev - x) * m;
    }
}

/// One token of [`Op::Wkv4`](anser_model::Op::Wkv4); k, v, w, u, the parts a, b, p of the state, out: any number of channels.
pub fn wkv4([k, v, w, u]: [&[f32]; 4], [a, b, p]: [&mut [f32]; 3], out: &mut [f32]) {
    for i in 0..out.len() {
        let (k, v) = (k[i], v[i]);
        let before = if b[i] == 0.0 { f32::NEG_INFINITY } else { p[i] };
        let q = before.max(u[i] + k);
        let (past, present) = ((before - q).exp(), (u[i] + k - q).exp());
        out[i] = (past * a[i] + present * v) / (past * b[i] + present);
        let q = (before + w[i]).max(k);
        let (past, present) = ((before + w[i] - q).exp(), (k - q).exp());
        a[i] = past * a[i] + present * v;
        b[i] = past * b[i] + present;
        p[i] = q;
    }
}

/// One token's operands of [`wkv6`] for one head, `[N]` each.
#[derive(Debug, Clone, Copy)]
pub struct Wkv6Token<'a> {
    /// Receptance.
    pub r: &'a [f32],
    /// Decay.
    pub w: &'a [f32],
    /// Key.
    pub k: &'a [f32],
    /// Value.
    pub v: &'a [f32],
    /// Bonus of the current token.
    pub u: &'a [f32],
}

/// One token of one head of [`Op::Wkv6`](anser_model::Op::Wkv6): `s` `[N, N]` (value row, key column), `out` `[N]`.
pub fn wkv6(token: Wkv6Token, s: &mut [f32], out: &mut [f32]) {
    let Wkv6Token { r, w, k, v, u } = token;
    let n = out.len();
    for ((row, out), &v) in s.chunks_exact_mut(n).zip(out.iter_mut()).zip(v) {
        let mut y = 0.0;
        for (i, s) in row.iter_mut().enumerate() {
            y += (*s + v * u[i] * k[i]) * r[i];
            *s = *s * w[i] + v * k[i];
        }
        *out = y;
    }
}

/// One row's operands of [`norm_gate`], `[C]` each.
#[derive(Debug, Clone, Copy)]
pub struct NormGate<'a> {
    /// Output of the recurrence.
    pub y: &'a [f32],
    /// Gate.
    pub g: Option<&'a [f32]>,
    /// Scale of the norm.
    pub weight: &'a [f32],
    /// Offset of the norm.
    pub bias: &'a [f32],
}

/// One row of [`Op::NormGate`](anser_model::Op::NormGate); `out` `[C]`.
pub fn norm_gate(row: NormGate, eps: f32, head_size: usize, out: &mut [f32]) {
    let NormGate { y, g, weight, bias } = row;
    for start in (0..out.len()).step_by(head_size) {
        let head = start..start + head_size;
        let (mean, scale) = mean_and_scale(&y[head.clone()], eps);
        for i in head {
            out[i] = ((y[i] - mean) * scale * weight[i] + bias[i]) * g.map_or(1.0, |g| g[i]);
        }
    }
}

/// One row's operands of [`bonus_gate`], `[C]` each.
#[derive(Debug, Clone, Copy)]
pub struct BonusGate<'a> {
    /// Output of the recurrence.
    pub y: &'a [f32],
    /// Receptance.
    pub r: &'a [f32],
    /// Replacement key.
    pub k: &'a [f32],
    /// Value.
    pub v: &'a [f32],
    /// Gate.
    pub g: Option<&'a [f32]>,
    /// Bonus.
    pub r_k: &'a [f32],
}

/// One row of [`Op::BonusGate`](anser_model::Op::BonusGate); `out` `[C]`.
pub fn bonus_gate(row: BonusGate, head_size: usize, out: &mut [f32]) {
    let BonusGate { y, r, k, v, g, r_k } = row;
    for start in (0..out.len()).step_by(head_size) {
        let head = start..start + head_size;
        let bonus: f32 = head.clone().map(|i| r[i] * k[i] * r_k[i]).sum();
        for i in head {
            out[i] = (y[i] + bonus * v[i]) * g.map_or(1.0, |g| g[i]);
        }
    }
}

/// One row of [`Op::RepeatHeads`](anser_model::Op::RepeatHeads): x has K heads, out has H, a multiple of K.
pub fn repeat_heads(x: &[f32], head_size: usize, out: &mut [f32]) {
    let n_repeats = out.len() / x.len();
    for (i, out) in out.chunks_exact_mut(head_size).enumerate() {
        out.copy_from_slice(&x[i / n_repeats * head_size..][..head_size]);
    }
}

/// [`Op::Gate`](anser_model::Op::Gate), any number of elements.
pub fn gate(gate: &[f32], x: &[f32], factor: f32, residual: Option<&[f32]>, out: &mut [f32]) {
    for ((o, &x), &g) in out.iter_mut().zip(x).zip(gate) {
        *o = factor * g * x;
    }
    if let Some(residual) = residual {
        out.iter_mut().zip(residual).for_each(|(o, &r)| *o += r);
    }
}

/// One row of [`Op::TokenMatrix`](anser_model::Op::TokenMatrix); x and out `[n]`, matrix `[n, n]`.
pub fn token_matrix(x: &[f32], matrix: &[f32], out: &mut [f32]) {
    let n = out.len();
    out.fill(0.0);
    for (&x, row) in x.iter().zip(matrix.chunks_exact(n)) {
        out.iter_mut().zip(row).for_each(|(o, &m)| *o += x * m);
    }
}
