//! The kernels of sequences that draw their own tokens, see `wgsl/sample/`: they look up embeddings and draw from logits.

use crate::device::features::Features;
use crate::device::kernel::{Access, KernelSpec, wgsl};
use crate::quant::{self, DeviceLayout, kept};
use anser_model::{Op, Plan, ValueId, WeightId};
use std::ops::Range;

/// Largest vocabulary: sums of weights stay exact up to it.
pub(crate) const MAX_VOCAB: usize = 1 << 16;
/// Tokens of a chunk, and most chunks, see `wgsl/sample/numbers.wgsl`.
pub(crate) const CHUNK_LEN: usize = 1024;
/// Random numbers that the device has in stock for a sequence.
pub(crate) const N_SEEDS: usize = 1024;

/// The kernels of a vocabulary of `n_vocab`, in order.
pub(crate) fn kernels(n_vocab: usize, features: &Features, greedy: bool) -> Vec<KernelSpec> {
    use Access::{Read, ReadWrite};
    let n_chunks = n_vocab.div_ceil(CHUNK_LEN);
    let kernel =
        |label, module| KernelSpec::new(label, vec![wgsl!("sample/drawn.wgsl"), wgsl!("sample/numbers.wgsl"), module]);
    // The last one turns the step's tables for the next step.
    let last_kernel = |label, module| {
        let mut spec = kernel(label, module);
        spec.modules.splice(0..0, [wgsl!("step.wgsl"), wgsl!("sample/turn.wgsl")]);
        spec
    };
    let scan = kernel("scan", wgsl!("sample/scan.wgsl"))
        .constant("N_VOCAB", n_vocab as f64)
        .access(&[Read, Read, Read, Read, ReadWrite, ReadWrite, ReadWrite, ReadWrite]);
    if greedy {
        let argmax = last_kernel("argmax", wgsl!("sample/argmax.wgsl"))
            .constant("N_CHUNKS", n_chunks as f64)
            .access(&[Read, ReadWrite, ReadWrite, ReadWrite]);
        return vec![scan, argmax];
    }
    let weigh = kernel("weigh", wgsl!("sample/weigh.wgsl"))
        .constant("N_VOCAB", n_vocab as f64)
        .constant("N_CHUNKS", n_chunks as f64)
        .constant("N_SEEDS", N_SEEDS as f64)
        .access(&[Read, Read, Read, Read, Read, ReadWrite, ReadWrite]);
    let choose = last_kernel("choose", wgsl!("sample/choose.wgsl"))
        .constant("N_VOCAB", n_vocab as f64)
        .constant("N_SEEDS", N_SEEDS as f64)
        .constant("WORKGROUP", f64::from(features.max_workgroup_len.clamp(256, 1024)))
        .access(&[Read, Read, Read, ReadWrite, ReadWrite, ReadWrite, ReadWrite]);
    vec![scan, weigh, choose]
}

/// The kernels that generations of `plan` draw with, greedily or not, if its table is in one buffer.
pub(crate) fn all_kernels(plan: &anser_model::Plan, features: &Features) -> Vec<KernelSpec> {
    let n_vocab = plan.logits.map_or(0, |logits| plan.value(logits).n_cols);
    let drawing = [true, false].into_iter().flat_map(|greedy| kernels(n_vocab, features, greedy));
    drawing.filter(|_| (1..=MAX_VOCAB).contains(&n_vocab)).chain(embed_of(plan)).collect()
}

/// The plan's table and the value of its rows; `None` if the device cannot give the host's very numbers,
/// or if there is more than one table.
pub(crate) fn table_of(plan: &Plan) -> Option<(WeightId, ValueId)> {
    let mut tables = plan.nodes.iter().filter_map(|node| match &node.op {
        Op::Embed { table, out } => Some((*table, *out)),
        _ => None,
    });
    let first = tables.next().filter(|(table, _)| kept(plan.weight(*table).dtype()).is_exact);
    first.filter(|_| tables.next().is_none())
}

/// The kernel that looks rows of the table up, which lie in one buffer.
pub(crate) fn embed(layout: &DeviceLayout, n_cols: usize, rows: &Range<usize>) -> KernelSpec {
    let mut modules = vec![wgsl!("weight/words.wgsl")];
    modules.extend(layout.device_type().modules);
    modules.extend([wgsl!("sample/drawn.wgsl"), wgsl!("sample/embed.wgsl")]);
    KernelSpec::new("embed", modules)
        .constant("N_COLS", n_cols as f64)
        .constant("FIRST_ROW", rows.start as f64)
        .constant("N_ROWS", rows.len() as f64)
        .access(&[Access::Read, Access::Read, Access::ReadWrite])
}

/// The kernel for the plan's table in one buffer. One of F32 may turn out to hold numbers of F16: finding out takes reading it.
fn embed_of(plan: &Plan) -> Option<KernelSpec> {
    let table = plan.weight(table_of(plan)?.0);
    Some(embed(&quant::layout_of(table, false), table.n_cols(), &(0..table.n_rows())))
}
