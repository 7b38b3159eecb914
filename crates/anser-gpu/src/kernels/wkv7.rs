//! The recurrence of RWKV-7: token by token, see `wgsl/wkv7/wkv7.wgsl`, or for many tokens in chunks, see `wgsl/wkv7/factors.wgsl`.

use super::prelude::*;
use super::recurrence::RecurrenceShape;
use anser_model::Rows;

pub(super) static WKV7: Rule = Rule { name: "wkv7", pattern: Pattern::Op, fits: always, forms: Forms::FLOATS, lower };

/// Operands of the recurrence.
struct Wkv7<'a> {
    /// r, w, k, v, kk, a `[T, C]`.
    inputs: [&'a ValueId; 6],
    state: &'a anser_model::StateRef,
    head_size: usize,
    out: &'a ValueId,
}

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let Op::Wkv7 { r, w, k, v, kk, a, state, head_size, out } = lowering.op(unit.nodes[0]) else {
        return Err(OTHER_OPERATIONS);
    };
    let op = Wkv7 { inputs: [r, w, k, v, kk, a], state, head_size: *head_size, out };
    Ok(match takes_chunks(&op, lowering) {
        true => by_chunks(&op, lowering),
        false => vec![by_tokens(&op, lowering)],
    })
}

/// Head size that kernels in chunks are written for.
const HEAD_SIZE: usize = 64;

/// Whether chunks are faster and their kernels apply: many tokens, of which some have the same sequence, and a decay that stays above
/// exp(−exp(−½)), so that a product of 16 of them can be divided by.
fn takes_chunks(op: &Wkv7, lowering: &Lowering) -> bool {
    /// With fewer tokens a step, their two kernels take as long as the other one.
    const MIN_TOKENS: u32 = 32;
    /// What `wgsl/wkv7/chunks.wgsl` has of workgroup memory.
    const N_BYTES: u32 = 29_696;

    let target = &lowering.target;
    let is_decay = |made: &Op| match made {
        Op::MatMul { activation, .. } | Op::Activate { activation, .. } => *activation == Activation::Decay,
        _ => false,
    };
    let maker = lowering.plan.nodes.iter().find(|node| node.op.outputs().contains(op.inputs[1]));
    op.head_size == HEAD_SIZE
        && target.class(Rows::Tokens).0 >= MIN_TOKENS
        && !target.one_token_each
        && target.features.max_workgroup_n_bytes >= N_BYTES
        && target.features.max_workgroup_len >= 128
        && maker.is_some_and(|node| is_decay(&node.op))
}

/// Two kernels: one for all chunks at the same time, one that takes the state through them.
fn by_chunks(op: &Wkv7, lowering: &Lowering) -> Vec<Dispatch> {
    /// Chunks of a sequence that are made at the same time.
    const GRID_CHUNKS: u32 = 16;
    /// Rows of S in a workgroup.
    const N_ROWS: usize = 16;
    /// Factors of a token, each of n_cols numbers.
    const N_PARTS: usize = 6;

    let n_cols = lowering.n_cols(*op.out);
    let n_heads = Extent::Fixed((n_cols / HEAD_SIZE) as u32);
    let row_n_bytes = 4 * N_PARTS * n_cols;
    let factors = Binding::Scratch { name: "factors of chunks", rows: Rows::Tokens, row_n_bytes, product: 0 };
    let [r, w, k, v, kk, a] = op.inputs.map(|id| Value(*id));
    let make = KernelSpec::new("wkv7_factors", vec![wgsl!("step.wgsl"), wgsl!("wkv7/factors.wgsl")])
        .constant("N_COLS", n_cols as f64)
        .constant("GRID_CHUNKS", f64::from(GRID_CHUNKS))
        .access(&[Read, ReadWrite, Read, Read, Read, Read, Read]);
    let apply_modules = vec![wgsl!("step.wgsl"), wgsl!("head/state_vec4.wgsl"), wgsl!("wkv7/chunks.wgsl")];
    let apply = KernelSpec::new("wkv7_chunks", apply_modules)
        .constant("N_COLS", n_cols as f64)
        .constant("HEAD_SIZE", HEAD_SIZE as f64)
        .access(&[ReadWrite, Read, ReadWrite, Read, Read]);
    let made = vec![Sequences, factors.clone(), r, w, k, kk, a];
    let applied = vec![State(*op.state), Sequences, Value(*op.out), factors, v];
    let parts = Extent::Fixed((HEAD_SIZE / N_ROWS) as u32);
    vec![
        make.dispatch(made, [n_heads, Extent::Fixed(GRID_CHUNKS), Extent::Sequences]),
        apply.dispatch(applied, [n_heads, parts, Extent::Sequences]),
    ]
}

/// One kernel, token by token.
fn by_tokens(op: &Wkv7, lowering: &Lowering) -> Dispatch {
    let head_size = op.head_size;
    let shape = RecurrenceShape::of_rows(head_size, &lowering.target.features);
    let [state_module, inputs_module] = match head_size.is_multiple_of(4) {
        true => [wgsl!("head/state_vec4.wgsl"), wgsl!("wkv7/inputs_vec4.wgsl")],
        false => [wgsl!("wkv7/state_scalar.wgsl"), wgsl!("wkv7/inputs_scalar.wgsl")],
    };
    let modules = shape.modules([state_module, inputs_module, wgsl!("wkv7/wkv7.wgsl")]);
    let kernel = shape
        .constants(KernelSpec::new("wkv7", modules))
        .constant("N_COLS", lowering.n_cols(*op.out) as f64)
        .constant("BLOCK_LEN", shape.block_len() as f64)
        .access(&[ReadWrite, Read, ReadWrite, Read, Read, Read, Read, Read, Read]);
    let bindings = [State(*op.state), Sequences, Value(*op.out)].into_iter();
    let n_heads = lowering.n_cols(*op.out) / head_size;
    let n_parts = head_size.div_ceil(shape.n_rows);
    let grid = [Extent::Fixed(n_heads as u32), Extent::Fixed(n_parts as u32), Extent::Sequences];
    kernel.dispatch(bindings.chain(op.inputs.map(|id| Value(*id))).collect(), grid)
}
