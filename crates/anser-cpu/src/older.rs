//! Runs the operations that only RWKV-4 to RWKV-6 and RWKV-7a have.

use crate::arch;
use crate::executor::{Mode, Run};
use crate::kernels::elementwise::NormGateRow;
use crate::kernels::wkv4::Wkv4;
use crate::kernels::wkv6::Wkv6;
use crate::ops;
use crate::tiles::{column_tiles, row_tiles};
use crate::walk::{Head, TASK_N_TOKENS, Walk};
use anser_model::{Decay, StateRef, ValueId, WeightId};

/// Channels of a task of RWKV-4's recurrence.
const TASK_N_CHANNELS: usize = 64;

impl Walk<'_> {
    pub(crate) fn mix(&mut self, inputs: [ValueId; 3], out: ValueId, run: &Run) {
        let mut o = self.values.take(out, run.step);
        let [x, x_prev, mix] = inputs.map(|id| self.values.get(id));
        let c = self.values.n_cols(out);
        self.threads.each(o.len(), row_tiles(&mut o, c, TASK_N_TOKENS), |(rows, out)| {
            let [x, x_prev, mix] = [x, x_prev, mix].map(|x| &x[rows.start * c..rows.end * c]);
            ops::mix(x, x_prev, mix, out);
        });
        self.values.put(out, o);
    }

    pub(crate) fn gate(
        &mut self,
        [gate, x]: [ValueId; 2],
        factor: f32,
        residual: Option<ValueId>,
        out: ValueId,
        run: &Run,
    ) {
        let mut o = self.values.take(out, run.step);
        let [gate, x] = [gate, x].map(|id| self.values.get(id));
        let residual = residual.map(|id| self.values.get(id));
        let c = self.values.n_cols(out);
        self.threads.each(o.len(), row_tiles(&mut o, c, TASK_N_TOKENS), |(rows, out)| {
            let at = rows.start * c..rows.end * c;
            ops::gate(&gate[at.clone()], &x[at.clone()], factor, residual.map(|r| &r[at]), out);
        });
        self.values.put(out, o);
    }

    pub(crate) fn token_matrix(&mut self, x: ValueId, matrix: ValueId, out: ValueId, run: &Run) {
        let mut o = self.values.take(out, run.step);
        let (x, matrix) = (self.values.get(x), self.values.get(matrix));
        let n = self.values.n_cols(out);
        self.threads.each(matrix.len(), row_tiles(&mut o, n, TASK_N_TOKENS), |(rows, out)| {
            for (t, out) in rows.zip(out.chunks_exact_mut(n)) {
                ops::token_matrix(&x[t * n..][..n], &matrix[t * n * n..][..n * n], out);
            }
        });
        self.values.put(out, o);
    }

    pub(crate) fn norm_gate(
        &mut self,
        y: ValueId,
        g: Option<ValueId>,
        weights: [WeightId; 2],
        (eps, head_size): (f32, usize),
        out: ValueId,
        run: &Run,
    ) {
        let mut o = self.values.take(out, run.step);
        let (y, g) = (self.values.get(y), g.map(|g| self.values.get(g)));
        let [weight, bias] = weights.map(|id| self.values.vector(id));
        let c = weight.len();
        let reference = self.threads.mode == Mode::Reference;
        self.threads.each(o.len(), row_tiles(&mut o, c, TASK_N_TOKENS), |(rows, out)| {
            for (t, out) in rows.zip(out.chunks_exact_mut(c)) {
                let row = ops::NormGate { y: &y[t * c..][..c], g: g.map(|g| &g[t * c..][..c]), weight, bias };
                if reference {
                    ops::norm_gate(row, eps, head_size, out);
                } else {
                    arch::run(NormGateRow { row, eps, head_size, out });
                }
            }
        });
        self.values.put(out, o);
    }

    /// Heads and sequences are independent.
    pub(crate) fn wkv6(
        &mut self,
        inputs: [ValueId; 3],
        (w, u): (Decay, WeightId),
        state: StateRef,
        n: usize,
        out: ValueId,
        run: &mut Run,
    ) {
        let mut o = self.values.take(out, run.step);
        let values = inputs.map(|id| self.values.get(id));
        let u = self.values.vector(u);
        let c = u.len();
        let w = match w {
            Decay::OfToken(w) => self.values.get(w),
            Decay::Fixed(w) => self.values.vector(w),
        };
        let n_elements = o.len() * n;
        let tasks = self.heads(&mut o, state, n, run);
        let reference = self.threads.mode == Mode::Reference;
        self.threads.each(n_elements, tasks, |heads| {
            for Head { first, tokens, s, mut out } in heads {
                if !reference {
                    arch::run(Wkv6 { values, w, u, n_cols: c, first, tokens, s, out: &mut out });
                    continue;
                }
                for (t, out) in tokens.zip(out) {
                    let [r, k, v] = values.map(|x| &x[t * c + first..][..n]);
                    let w = &w[if w.len() == c { first } else { t * c + first }..][..n];
                    ops::wkv6(ops::Wkv6Token { r, w, k, v, u: &u[first..][..n] }, s, out);
                }
            }
        });
        self.values.put(out, o);
    }

    /// Channels and sequences are independent.
    pub(crate) fn wkv4(
        &mut self,
        inputs: [ValueId; 2],
        vectors: [WeightId; 2],
        state: StateRef,
        out: ValueId,
        run: &mut Run,
    ) {
        let mut o = self.values.take(out, run.step);
        let values = inputs.map(|id| self.values.get(id));
        let [w, u] = vectors.map(|id| self.values.vector(id));
        let (c, range) = (w.len(), self.values.plan.state.range(state));
        let n_elements = o.len() * 4; // Exponentials of an element.
        let mut states: Vec<_> = run
            .states
            .iter_mut()
            .map(|state| {
                let (a, rest) = state[range.clone()].split_at_mut(c);
                let (b, p) = rest.split_at_mut(c);
                [a, b, p].map(|part| part.chunks_mut(TASK_N_CHANNELS))
            })
            .collect();
        let mut tasks = vec![];
        for (tile, mut pieces) in column_tiles(&mut o, c, TASK_N_CHANNELS).into_iter().enumerate() {
            for (tokens, [a, b, p]) in run.rows.iter().zip(&mut states) {
                let rest = pieces.split_off(tokens.len());
                let out = std::mem::replace(&mut pieces, rest);
                if let (Some(a), Some(b), Some(p)) = (a.next(), b.next(), p.next()) {
                    tasks.push((tile * TASK_N_CHANNELS, tokens.clone(), [a, b, p], out));
                }
            }
        }
        let reference = self.threads.mode == Mode::Reference;
        self.threads.each(n_elements, tasks, |(first, tokens, mut state, mut out)| {
            let n = state[0].len();
            let [w, u] = [w, u].map(|x| &x[first..first + n]);
            if !reference {
                return arch::run(Wkv4 { values, vectors: [w, u], n_cols: c, first, tokens, state, out: &mut out });
            }
            for (t, out) in tokens.zip(out) {
                let [k, v] = values.map(|x| &x[t * c + first..][..n]);
                ops::wkv4([k, v, w, u], state.each_mut().map(|part| &mut part[..]), out);
            }
        });
        self.values.put(out, o);
    }
}
