//! Runs the operations of one step, wave after wave.

use crate::arch::{self, pool::Pool};
use crate::executor::{Mode, Profile, Run};
use crate::kernels::dot_f32::MAX_TOKENS;
use crate::kernels::elementwise::{Finish, KeyControl, LayerNorm, NormBonusGateRow, TokenShift};
use crate::kernels::panel::PackF32;
use crate::kernels::quantized::Quantized;
use crate::kernels::wkv7::Wkv7;
use crate::matmul::{Epilogue, Input, Product, TASKS_PER_THREAD, multiply};
use crate::ops;
use crate::tiles::{column_tiles, row_tiles};
use crate::values::Values;
use anser_model::{Activation, Op, StateRef, ValueId, WeightId};
use std::ops::Range;
use std::time::Instant;

/// The elements from which an operation between products is worth several threads.
const MIN_PARALLEL_ELEMENTS: usize = 1 << 14;
/// The tokens of a task between products. It is a multiple of every kernel's largest group of tokens, which tasks that pack
/// activations need.
pub(crate) const TASK_N_TOKENS: usize = 16;

/// The threads and the mode in which they compute.
pub(crate) struct Threads<'a> {
    pub(crate) mode: Mode,
    pub(crate) pool: &'a mut Pool,
}

impl Threads<'_> {
    /// The number of tasks into which a long list is divided.
    pub(crate) fn n_tasks(&self) -> usize {
        self.pool.n_threads() * TASKS_PER_THREAD
    }

    /// Calls `f` with every item, on all threads if `n_elements` is at least [`MIN_PARALLEL_ELEMENTS`].
    pub(crate) fn each<T: Send>(&mut self, n_elements: usize, items: Vec<T>, f: impl Fn(T) + Sync) {
        if n_elements < MIN_PARALLEL_ELEMENTS {
            items.into_iter().for_each(f);
        } else {
            self.pool.for_each(items, f);
        }
    }
}

/// The activations of a wave in the forms that its products read. The memory is kept between waves.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    quantized: Vec<Quantized>,
    panels: Vec<Vec<f32>>,
}

/// The fields of the executor that operations use.
pub(crate) struct Walk<'a> {
    pub(crate) values: Values<'a>,
    pub(crate) threads: Threads<'a>,
    pub(crate) inputs: &'a mut Inputs,
    pub(crate) profile: Option<&'a mut Profile>,
}

/// The operands of an `Op::MatMul`.
#[derive(Clone, Copy)]
struct MatMul {
    weight: WeightId,
    x: ValueId,
    bias: Option<WeightId>,
    activation: Activation,
    residual: Option<ValueId>,
    out: ValueId,
}

/// A head of a sequence, in `Op::Wkv6` and `Op::Wkv7`.
pub(crate) struct Head<'a> {
    /// The first column of the head.
    pub(crate) first: usize,
    /// The sequence's tokens.
    pub(crate) tokens: Range<usize>,
    /// State `[N, N]`.
    pub(crate) s: &'a mut [f32],
    /// For each token, the head's elements `[N]` of its output row.
    pub(crate) out: Vec<&'a mut [f32]>,
}

impl Walk<'_> {
    /// Runs nodes that do not depend on each other.
    pub(crate) fn run_wave(&mut self, nodes: &[usize], run: &mut Run) {
        let plan = self.values.plan;
        let mut matmuls = vec![];
        let mut first_matmul = "";
        for node in nodes.iter().map(|&i| &plan.nodes[i]) {
            match node.op {
                Op::MatMul { weight, x, bias, activation, residual, out } => {
                    first_matmul = if matmuls.is_empty() { &node.name } else { first_matmul };
                    matmuls.push(MatMul { weight, x, bias, activation, residual, out });
                }
                ref op => {
                    let start = self.start();
                    self.run(op, run);
                    self.stop(start, &node.name);
                }
            }
        }
        if matmuls.is_empty() {
            return;
        }
        let start = self.start();
        match self.threads.mode {
            Mode::Reference => matmuls.iter().for_each(|m| self.plain_matmul(m, run)),
            Mode::Fast | Mode::Exact => self.matmuls(&matmuls, run),
        }
        self.stop(start, first_matmul);
    }

    fn start(&self) -> Option<Instant> {
        self.profile.is_some().then(Instant::now)
    }

    /// Adds the time since `start` to the profile of the operation called `name`, over all layers.
    fn stop(&mut self, start: Option<Instant>, name: &str) {
        if let (Some(profile), Some(start)) = (&mut self.profile, start) {
            let without_layer = name.strip_prefix("blocks.").and_then(|n| n.split_once('.')).map_or(name, |(_, n)| n);
            *profile.entry(without_layer.into()).or_default() += start.elapsed();
        }
    }

    fn plain_matmul(&mut self, m: &MatMul, run: &Run) {
        let mut o = self.values.take(m.out, run.step);
        let weight = self.values.weight(m.weight);
        ops::matmul(weight, self.values.get(m.x), &mut o);
        let (bias, residual) = (m.bias.map(|b| self.values.vector(b)), m.residual.map(|r| self.values.get(r)));
        let n = weight.n_rows();
        for (t, row) in o.chunks_exact_mut(n).enumerate() {
            ops::epilogue(row, bias, m.activation, residual.map(|r| &r[t * n..][..n]));
        }
        self.values.put(m.out, o);
    }

    /// Computes the products of one wave: each of their inputs is quantized or packed once, then all products run together.
    fn matmuls(&mut self, matmuls: &[MatMul], run: &Run) {
        let mut outs: Vec<Vec<f32>> = matmuls.iter().map(|m| self.values.take(m.out, run.step)).collect();
        let values = &self.values;
        let rounded = |m: &MatMul| self.threads.mode == Mode::Fast && values.weight(m.weight).dtype().is_quantized();
        // An exact product of quantized weights converts every row for every token, so a panel pays from fewer tokens on.
        let few_rows = |m: &MatMul| {
            let n = values.get(m.x).len() / values.n_cols(m.x);
            n == 1 || n <= MAX_TOKENS && !values.weight(m.weight).dtype().is_quantized()
        };
        let quantized = distinct(matmuls.iter().filter(|m| rounded(m)));
        let packed = distinct(matmuls.iter().filter(|m| !rounded(m) && !few_rows(m)));
        prepare(values, self.threads.pool, self.inputs, &quantized, &packed);

        let inputs = &*self.inputs;
        let index = |ids: &[ValueId], m: &MatMul| ids.iter().position(|&x| x == m.x);
        let mut products = vec![];
        for (m, out) in matmuls.iter().zip(&mut outs) {
            let x = match (index(&quantized, m).filter(|_| rounded(m)), index(&packed, m).filter(|_| !few_rows(m))) {
                (Some(i), _) => Input::Quantized(&inputs.quantized[i]),
                (None, Some(i)) => Input::Panel(&inputs.panels[i]),
                (None, None) => Input::Rows(values.get(m.x)),
            };
            let bias = m.bias.map(|b| values.vector(b));
            let residual = m.residual.map(|r| values.get(r));
            let epilogue = Epilogue { bias, activation: m.activation, residual };
            products.push(Product { weight: values.weight(m.weight), x, epilogue, out });
        }
        multiply(self.threads.pool, products);
        for (m, out) in matmuls.iter().zip(outs) {
            self.values.put(m.out, out);
        }
    }

    /// Runs one operation that is not a matrix product.
    fn run(&mut self, op: &Op, run: &mut Run) {
        match op {
            Op::Embed { table, out } => {
                let mut o = self.values.take(*out, run.step);
                let table = self.values.weight(*table);
                for (o, &id) in o.chunks_exact_mut(table.n_cols()).zip(run.step.tokens) {
                    ops::embed(table, id, o);
                }
                self.values.put(*out, o);
            }
            Op::LayerNorm { x, weight, bias, eps, out } => self.layer_norm(*x, [*weight, *bias], *eps, *out, run),
            Op::RmsNorm { x, weight, eps, out } => self.rms_norm(*x, *weight, *eps, *out, run),
            Op::TokenShift { x, state, mix, out, prev } => self.token_shift(*x, *state, mix, out, *prev, run),
            Op::Mix { x, x_prev, mix, out } => self.mix([*x, *x_prev, *mix], *out, run),
            Op::Wkv4 { k, v, w, u, state, out } => self.wkv4([*k, *v], [*w, *u], *state, *out, run),
            Op::Wkv6 { r, w, k, v, u, state, head_size, out } => {
                self.wkv6([*r, *k, *v], (*w, *u), *state, *head_size, *out, run);
            }
            Op::NormGate { y, g, weight, bias, eps, head_size, out } => {
                self.norm_gate(*y, *g, [*weight, *bias], (*eps, *head_size), *out, run);
            }
            Op::BonusGate { y, r, k, v, g, r_k, head_size, out } => {
                self.bonus_gate([*y, *r, *k, *v], *g, *r_k, *head_size, *out, run);
            }
            Op::RepeatHeads { x, head_size, out } => self.repeat_heads(*x, *head_size, *out, run),
            Op::Gate { gate, x, factor, residual, out } => self.gate([*gate, *x], *factor, *residual, *out, run),
            Op::TokenMatrix { x, matrix, out } => self.token_matrix(*x, *matrix, *out, run),
            Op::MatMul { weight, x, bias, activation, residual, out } => {
                let (activation, bias, residual) = (*activation, *bias, *residual);
                self.plain_matmul(&MatMul { weight: *weight, x: *x, bias, activation, residual, out: *out }, run);
            }
            Op::Activate { x, activation, residual, out } => self.activate(*x, *activation, *residual, *out, run),
            Op::ValueResidual { v, v_first, gate, out } => self.value_residual([*v, *v_first, *gate], *out, run),
            Op::KeyControl { k, a, k_k, k_a, head_size, kk, k_out } => {
                self.key_control([*k, *a], [*k_k, *k_a], *head_size, [*kk, *k_out], run);
            }
            Op::Wkv7 { r, w, k, v, kk, a, state, head_size, out } => {
                self.wkv7([*r, *w, *k, *v, *kk, *a], *state, *head_size, *out, run);
            }
            Op::NormBonusGate { y, r, k, v, g, r_k, weight, bias, eps, head_size, out } => {
                self.norm_bonus_gate([*y, *r, *k, *v, *g], [*r_k, *weight, *bias], *eps, *head_size, *out, run);
            }
            Op::Select { x, out } => {
                let mut o = self.values.take(*out, run.step);
                let (x, c) = (self.values.get(*x), self.values.n_cols(*x));
                for (o, &row) in o.chunks_exact_mut(c).zip(run.step.outputs) {
                    o.copy_from_slice(&x[row as usize * c..][..c]);
                }
                self.values.put(*out, o);
            }
        }
    }

    fn layer_norm(&mut self, x: ValueId, weights: [WeightId; 2], eps: f32, out: ValueId, run: &Run) {
        let mut o = self.values.take(out, run.step);
        let x = self.values.get(x);
        let [weight, bias] = weights.map(|w| self.values.vector(w));
        let c = weight.len();
        if self.threads.mode == Mode::Reference {
            for (x, out) in x.chunks_exact(c).zip(o.chunks_exact_mut(c)) {
                ops::layer_norm(x, weight, bias, eps, out);
            }
        } else {
            self.threads.each(x.len(), row_tiles(&mut o, c, TASK_N_TOKENS), |(rows, out)| {
                let x = &x[rows.start * c..rows.end * c];
                arch::run(LayerNorm { x, weight, bias, eps, out });
            });
        }
        self.values.put(out, o);
    }

    fn token_shift(
        &mut self,
        x: ValueId,
        state: StateRef,
        mix: &[WeightId],
        out: &[ValueId],
        prev: Option<ValueId>,
        run: &mut Run,
    ) {
        let range = self.values.plan.state.range(state);
        let c = range.len();
        let mut outs: Vec<Vec<f32>> = out.iter().map(|&id| self.values.take(id, run.step)).collect();
        let mut prev = prev.map(|id| (id, self.values.take(id, run.step)));
        let x = self.values.get(x);
        let reference = self.threads.mode == Mode::Reference;
        let tiles = outs.iter_mut().zip(mix).flat_map(|(out, &mix)| {
            let mix = self.values.vector(mix);
            row_tiles(out, c, TASK_N_TOKENS).into_iter().map(move |(rows, out)| (mix, rows, out))
        });
        let n_elements = x.len() * mix.len();
        let (first, states) = (first_rows(&run.rows, x.len() / c), &run.states);
        self.threads.each(n_elements, tiles.collect(), |(mix, rows, out): (&[f32], Range<usize>, &mut [f32])| {
            for (t, out) in rows.zip(out.chunks_exact_mut(c)) {
                let x_prev = match first[t] {
                    Some(sequence) => &states[sequence][range.clone()],
                    None => &x[(t - 1) * c..][..c],
                };
                let x = &x[t * c..][..c];
                if reference {
                    ops::token_shift(x, x_prev, mix, out);
                } else {
                    arch::run(TokenShift { x, x_prev, mix, out });
                }
            }
        });
        if let Some((_, prev)) = &mut prev {
            prev[c..].copy_from_slice(&x[..x.len() - c]);
            for (rows, state) in run.rows.iter().zip(&run.states) {
                prev[rows.start * c..][..c].copy_from_slice(&state[range.clone()]);
            }
        }
        for (rows, state) in run.rows.iter().zip(&mut run.states) {
            state[range.clone()].copy_from_slice(&x[(rows.end - 1) * c..][..c]);
        }
        for (id, out) in out.iter().copied().zip(outs).chain(prev) {
            self.values.put(id, out);
        }
    }

    fn activate(&mut self, x: ValueId, activation: Activation, residual: Option<ValueId>, out: ValueId, run: &Run) {
        let mut o = self.values.take(out, run.step);
        let (x, residual) = (self.values.get(x), residual.map(|id| self.values.get(id)));
        let c = self.values.n_cols(out);
        let reference = self.threads.mode == Mode::Reference;
        self.threads.each(o.len(), row_tiles(&mut o, c, TASK_N_TOKENS), |(rows, out)| {
            let at = rows.start * c..rows.end * c;
            out.copy_from_slice(&x[at.clone()]);
            let residual = residual.map(|r| &r[at]);
            match reference {
                true => ops::epilogue(out, None, activation, residual),
                false => arch::run(Finish { z: out, bias: None, activation, residual }),
            }
        });
        self.values.put(out, o);
    }

    fn value_residual(&mut self, inputs: [ValueId; 3], out: ValueId, run: &Run) {
        let mut o = self.values.take(out, run.step);
        let [v, v_first, gate] = inputs.map(|id| self.values.get(id));
        let c = self.values.n_cols(out);
        self.threads.each(o.len(), row_tiles(&mut o, c, TASK_N_TOKENS), |(rows, out)| {
            let [v, v_first, gate] = [v, v_first, gate].map(|x| &x[rows.start * c..rows.end * c]);
            ops::value_residual(v, v_first, gate, out);
        });
        self.values.put(out, o);
    }

    fn key_control(&mut self, inputs: [ValueId; 2], scales: [WeightId; 2], n: usize, out: [ValueId; 2], run: &Run) {
        let [mut kk, mut k_out] = out.map(|id| self.values.take(id, run.step));
        let [k, a] = inputs.map(|id| self.values.get(id));
        let [k_k, k_a] = scales.map(|id| self.values.vector(id));
        let c = k_k.len();
        let reference = self.threads.mode == Mode::Reference;
        let tiles = row_tiles(&mut kk, c, TASK_N_TOKENS).into_iter().zip(row_tiles(&mut k_out, c, TASK_N_TOKENS));
        self.threads.each(k.len(), tiles.collect(), |((rows, kk), (_, k_out))| {
            let [k, a] = [k, a].map(|x| &x[rows.start * c..rows.end * c]);
            if reference {
                let rows = k.chunks_exact(c).zip(a.chunks_exact(c));
                for ((k, a), (kk, k_out)) in rows.zip(kk.chunks_exact_mut(c).zip(k_out.chunks_exact_mut(c))) {
                    ops::key_control(k, a, k_k, k_a, n, kk, k_out);
                }
            } else {
                arch::run(KeyControl { k, a, k_k, k_a, head_size: n, kk, k_out });
            }
        });
        self.values.put(out[0], kk);
        self.values.put(out[1], k_out);
    }

    /// Heads and sequences are independent.
    fn wkv7(&mut self, inputs: [ValueId; 6], state: StateRef, n: usize, out: ValueId, run: &mut Run) {
        let mut o = self.values.take(out, run.step);
        let values = inputs.map(|id| self.values.get(id));
        let c = self.values.n_cols(out);
        let n_elements = o.len() * n;
        let tasks = self.heads(&mut o, state, n, run);
        let reference = self.threads.mode == Mode::Reference;
        self.threads.each(n_elements, tasks, |heads| {
            for Head { first, tokens, s, mut out } in heads {
                if reference {
                    for (t, out) in tokens.zip(out) {
                        let [r, w, k, v, kk, a] = values.map(|x| &x[t * c + first..][..n]);
                        ops::wkv7(ops::Wkv7Token { r, w, k, v, kk, a }, s, out);
                    }
                } else {
                    arch::run(Wkv7 { values, n_cols: c, first, tokens, s, out: &mut out });
                }
            }
        });
        self.values.put(out, o);
    }

    /// Tasks of a recurrence that writes `out` `[T, C]`: each has some heads of a sequence, whose states follow each other in
    /// memory.
    pub(crate) fn heads<'b>(
        &self,
        out: &'b mut [f32],
        state: StateRef,
        n: usize,
        run: &'b mut Run,
    ) -> Vec<Vec<Head<'b>>> {
        let layout = &self.values.plan.state;
        let (c, range) = (layout.parts[state.part].layer_len() / n, layout.range(state));
        // Per sequence and head: the head, its state, and a piece per token.
        let mut heads: Vec<Vec<Head>> = run.rows.iter().map(|_| Vec::with_capacity(c / n)).collect();
        let states = run.states.iter_mut().map(|s| &mut s[range.clone()]).map(|s| s.chunks_exact_mut(n * n));
        let mut states: Vec<_> = states.collect();
        for (head, mut pieces) in column_tiles(out, c, n).into_iter().enumerate() {
            for ((rows, states), heads) in run.rows.iter().zip(&mut states).zip(&mut heads) {
                let rest = pieces.split_off(rows.len());
                let out = std::mem::replace(&mut pieces, rest);
                heads.extend(states.next().map(|s| Head { first: head * n, tokens: rows.clone(), s, out }));
            }
        }
        let mut heads = heads.into_iter().flatten();
        let n_heads = (run.rows.len() * c / n / self.threads.n_tasks()).max(1);
        let mut tasks = vec![];
        loop {
            let task: Vec<Head> = heads.by_ref().take(n_heads).collect();
            if task.is_empty() {
                return tasks;
            }
            tasks.push(task);
        }
    }

    fn norm_bonus_gate(
        &mut self,
        inputs: [ValueId; 5],
        weights: [WeightId; 3],
        eps: f32,
        head_size: usize,
        out: ValueId,
        run: &Run,
    ) {
        let mut o = self.values.take(out, run.step);
        let inputs = inputs.map(|id| self.values.get(id));
        let [r_k, weight, bias] = weights.map(|id| self.values.vector(id));
        let c = r_k.len();
        let reference = self.threads.mode == Mode::Reference;
        self.threads.each(o.len(), row_tiles(&mut o, c, TASK_N_TOKENS), |(rows, out)| {
            for (t, out) in rows.zip(out.chunks_exact_mut(c)) {
                let [y, r, k, v, g] = inputs.map(|x| &x[t * c..][..c]);
                let row = ops::NormBonusGate { y, r, k, v, g, r_k, weight, bias };
                if reference {
                    ops::norm_bonus_gate(row, eps, head_size, out);
                } else {
                    arch::run(NormBonusGateRow { row, eps, head_size, out });
                }
            }
        });
        self.values.put(out, o);
    }
}

/// The inputs of `matmuls` without repetitions.
fn distinct<'a>(matmuls: impl Iterator<Item = &'a MatMul>) -> Vec<ValueId> {
    let mut ids = vec![];
    for m in matmuls {
        if !ids.contains(&m.x) {
            ids.push(m.x);
        }
    }
    ids
}

/// Quantizes the values `quantized` and packs the values `packed` into `inputs`.
fn prepare(values: &Values, pool: &mut Pool, inputs: &mut Inputs, quantized: &[ValueId], packed: &[ValueId]) {
    inputs.quantized.resize_with(quantized.len().max(inputs.quantized.len()), Quantized::default);
    inputs.panels.resize_with(packed.len().max(inputs.panels.len()), Vec::new);
    let (mut to_quantize, mut to_pack) = (vec![], vec![]);
    for (&id, quantized) in quantized.iter().zip(&mut inputs.quantized) {
        to_quantize.extend(quantized.fill(values.get(id), values.n_cols(id), TASK_N_TOKENS));
    }
    for (&id, panel) in packed.iter().zip(&mut inputs.panels) {
        let (x, n_cols) = (values.get(id), values.n_cols(id));
        panel.resize(x.len(), 0.0);
        let tasks = x.chunks(TASK_N_TOKENS * n_cols).zip(panel.chunks_mut(TASK_N_TOKENS * n_cols));
        to_pack.extend(tasks.map(|(x, panel)| PackF32 { x, n_cols, panel }));
    }
    let several_groups = |n_tasks: usize, n_values: usize| n_tasks > n_values;
    if several_groups(to_quantize.len(), quantized.len()) {
        pool.for_each(to_quantize, arch::run);
    } else {
        to_quantize.into_iter().for_each(arch::run);
    }
    if several_groups(to_pack.len(), packed.len()) {
        pool.for_each(to_pack, arch::run);
    } else {
        to_pack.into_iter().for_each(arch::run);
    }
}

/// For each row of tokens, the sequence whose first token it is, if it is one.
fn first_rows(rows: &[Range<usize>], n_tokens: usize) -> Vec<Option<usize>> {
    let mut first = vec![None; n_tokens];
    for (sequence, rows) in rows.iter().enumerate() {
        first[rows.start] = Some(sequence);
    }
    first
}
