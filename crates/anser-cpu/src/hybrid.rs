//! Runs the operations that only hybrids with a transformer's parts have.

use crate::executor::Run;
use crate::ops;
use crate::tiles::row_tiles;
use crate::walk::{TASK_N_TOKENS, Walk};
use anser_model::{ValueId, WeightId};

impl Walk<'_> {
    pub(crate) fn rms_norm(&mut self, x: ValueId, weight: WeightId, eps: f32, out: ValueId, run: &Run) {
        let mut o = self.values.take(out, run.step);
        let (x, weight) = (self.values.get(x), self.values.vector(weight));
        let c = weight.len();
        self.threads.each(x.len(), row_tiles(&mut o, c, TASK_N_TOKENS), |(rows, out)| {
            for (t, out) in rows.zip(out.chunks_exact_mut(c)) {
                ops::rms_norm(&x[t * c..][..c], weight, eps, out);
            }
        });
        self.values.put(out, o);
    }

    pub(crate) fn bonus_gate(
        &mut self,
        inputs: [ValueId; 4],
        g: Option<ValueId>,
        r_k: WeightId,
        head_size: usize,
        out: ValueId,
        run: &Run,
    ) {
        let mut o = self.values.take(out, run.step);
        let inputs = inputs.map(|id| self.values.get(id));
        let g = g.map(|g| self.values.get(g));
        let r_k = self.values.vector(r_k);
        let c = r_k.len();
        self.threads.each(o.len(), row_tiles(&mut o, c, TASK_N_TOKENS), |(rows, out)| {
            for (t, out) in rows.zip(out.chunks_exact_mut(c)) {
                let [y, r, k, v] = inputs.map(|x| &x[t * c..][..c]);
                ops::bonus_gate(ops::BonusGate { y, r, k, v, g: g.map(|g| &g[t * c..][..c]), r_k }, head_size, out);
            }
        });
        self.values.put(out, o);
    }

    pub(crate) fn repeat_heads(&mut self, x: ValueId, head_size: usize, out: ValueId, run: &Run) {
        let mut o = self.values.take(out, run.step);
        let (n_cols_in, n_cols) = (self.values.n_cols(x), self.values.n_cols(out));
        let x = self.values.get(x);
        for (x, out) in x.chunks_exact(n_cols_in).zip(o.chunks_exact_mut(n_cols)) {
            ops::repeat_heads(x, head_size, out);
        }
        self.values.put(out, o);
    }
}
