//! A layer norm and the token shift of its result. See `wgsl/norm_shift/norm_shift.wgsl`.

use super::mixes::N_PLACES;
use super::prelude::*;
use crate::compile::schedule::Region;

pub(crate) static NORM_SHIFT: Rule = Rule {
    name: "norm_shift",
    pattern: Pattern::Around(matches),
    fits,
    forms: Forms { all_alike: true, ..Forms::ANY },
    lower,
};

/// Numbers of mixes that there is a kernel for where every result has a buffer of its own; where all lie in one, there may be up
/// to [`MAX_MIXES`].
const N_MIXES: [usize; 2] = [1, 6];

/// Mixes of a kernel whose results lie in one buffer.
const MAX_MIXES: usize = N_PLACES;

/// `[norm, shift]`, around the shift. No product may read the norm or the row before: those are written as floats only.
fn matches(graph: &Graph, shift: usize) -> Option<Vec<usize>> {
    let Op::TokenShift { x, mix, prev, .. } = graph.op(shift) else { return None };
    let norm = graph.maker(*x)?;
    let is_norm = matches!(graph.op(norm), Op::LayerNorm { .. });
    let is_product = |&reader: &usize| matches!(graph.op(reader), Op::MatMul { .. });
    let are_floats = [Some(*x), *prev].into_iter().flatten().all(|id| !graph.readers(id).iter().any(is_product));
    ((1..=MAX_MIXES).contains(&mix.len()) && is_norm && are_floats).then(|| vec![norm, shift])
}

/// Whether only the mixes leave the unit, and neither the norm nor the row before.
fn keeps_nothing(graph: &Graph, shift: usize, x: ValueId, prev: Option<ValueId>) -> bool {
    prev.is_none() && graph.only(x, &[shift])
}

fn fits(graph: &Graph, nodes: &[usize], target: &Target) -> bool {
    let Op::TokenShift { x, mix, prev, .. } = graph.op(nodes[1]) else { return false };
    // Besides its results the kernel binds five buffers.
    let has_bindings = mix.len() + 5 <= target.features.max_bindings as usize;
    let has_kernel = target.has_few_rows
        || N_MIXES.contains(&mix.len()) && has_bindings && keeps_nothing(graph, nodes[1], *x, *prev);
    has_kernel && graph.plan.value(*x).n_cols <= max_norm_cols(&target.features)
}

/// Threads of a workgroup, and columns that it writes.
fn shape(n_cols: usize, n_tokens: RowClass, features: &Features) -> (u32, u32) {
    /// With as many tokens, one workgroup for each row keeps the device busy.
    const MIN_WHOLE_ROWS: u32 = 256;

    let workgroup = norm_workgroup(n_cols, features);
    match n_tokens.0 < MIN_WHOLE_ROWS {
        true => (workgroup, workgroup),
        false => (workgroup, n_cols as u32),
    }
}

fn lower(unit: &Unit, lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let [Op::LayerNorm { x, weight, bias, eps, .. }, Op::TokenShift { x: xx, state, mix, out, prev }] =
        [0, 1].map(|i| lowering.op(unit.nodes[i]))
    else {
        return Err(OTHER_OPERATIONS);
    };
    let (&[first, ..], &[.., last], &[first_out, ..]) = (&mix[..], &mix[..], &out[..]) else {
        return Err(Unlowered("a token shift has no mixes"));
    };
    let (target, n_cols) = (&lowering.target, lowering.n_cols(*x));
    let (workgroup, slice_len) = shape(n_cols, target.classes[0], &target.features);
    let mut modules = vec![wgsl!("step.wgsl"), reduce_module(&target.features)];
    let mut access = vec![Read, Read, Read, Read, ReadWrite];
    let vectors = [Vectors { first: *weight, last: *bias }, Vectors { first, last }];
    let mut bindings: Vec<Binding> = [Tokens, Value(*x)].into_iter().chain(vectors).chain([State(*state)]).collect();
    let (mut arguments, mut constants) = (vec![], vec![]);
    match lowering.region(first_out) {
        Some(Region::Own { .. }) => {
            modules.extend([wgsl!("bytes.wgsl"), wgsl!("bytes_out.wgsl"), wgsl!("halves.wgsl"), wgsl!("place.wgsl")]);
            modules.extend([wgsl!("mix_results.wgsl"), wgsl!("norm_shift/mixes_together.wgsl")]);
            access.push(ReadWrite);
            bindings.push(Binding::Region(first_out));
            let places = out.iter().map(|&id| lowering.place(id));
            arguments.push(Argument::array("MIXES", "Place", places, MAX_MIXES));
            let kept = [Some(*xx), *prev].map(|id| id.map_or([NOTHING; 4], |id| lowering.place(id)));
            arguments.push(Argument::array("KEPT", "Place", kept, kept.len()));
            constants.push(("N_MIXES", mix.len() as f64));
        }
        Some(Region::Shared { .. }) => {
            let in_halves = out.iter().all(|&id| lowering.schedule.is_in_halves(id));
            modules.push(match mix.len() {
                1 => wgsl!("norm_shift/mixes_1.wgsl"),
                _ => wgsl!("norm_shift/mixes_6.wgsl"),
            });
            add_out(&mut modules, in_halves);
            access.extend(out.iter().map(|_| ReadWrite));
            bindings.extend(out.iter().map(|&id| lowering.value(id)));
        }
        None => return Err(Unlowered("a result has no memory")),
    }
    modules.push(wgsl!("norm_shift/norm_shift.wgsl"));
    let mut kernel = KernelSpec::new("norm_shift", modules)
        .constant("WORKGROUP", f64::from(workgroup))
        .constant("N_COLS", n_cols as f64)
        .constant("SLICE_LEN", f64::from(slice_len))
        .constant("ONE_EACH", f64::from(target.one_token_each))
        .constant("EPS", f64::from(*eps))
        .constant("VECTOR_STRIDE", lowering.vector_stride(n_cols))
        .access(&access);
    kernel.arguments = arguments;
    kernel.constants.extend(constants);
    let n_slices = (n_cols as u32).div_ceil(slice_len);
    Ok(vec![kernel.dispatch(bindings, [lowering.rows(*x), Extent::Fixed(n_slices), Extent::Fixed(1)])])
}
