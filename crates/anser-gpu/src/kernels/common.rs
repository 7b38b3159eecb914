//! What several kernels have in common.

use crate::compile::lowering::Lowering;
use crate::compile::rule::Unlowered;
use crate::device::features::Features;
use crate::device::kernel::{Argument, KernelSpec, Module, wgsl};
use anser_model::ValueId;

/// The error of a rule that was given operations which its pattern does not match.
pub(crate) const OTHER_OPERATIONS: Unlowered = Unlowered("its operations are not those that the kernel computes");

/// `fits` of kernels that every device runs in all steps.
pub(crate) fn always(_: &crate::compile::graph::Graph, _: &[usize], _: &crate::compile::target::Target) -> bool {
    true
}

/// The file that sums over a workgroup.
pub(crate) fn reduce_module(features: &Features) -> &'static Module {
    match features.subgroups {
        true => wgsl!("reduce/subgroup.wgsl"),
        false => wgsl!("reduce/workgroup.wgsl"),
    }
}

/// A kernel that sums over its workgroup, which has a power of two of threads: `len` of them if that is possible.
pub(crate) fn reducing(label: &'static str, module: &'static Module, len: usize, features: &Features) -> KernelSpec {
    let len = (len.next_power_of_two() as u32).clamp(32, 256).min(features.max_workgroup_len);
    KernelSpec::new(label, vec![reduce_module(features), module]).constant("WORKGROUP", f64::from(len))
}

/// Adds the files that a kernel writes its result with: f32, or f16 where only products read it.
pub(crate) fn add_out(modules: &mut Vec<&'static Module>, in_halves: bool) {
    if in_halves {
        modules.insert(0, wgsl!("enable/f16.wgsl"));
        modules.extend([wgsl!("halves.wgsl"), wgsl!("out/halves.wgsl")]);
    } else {
        modules.push(wgsl!("out/floats.wgsl"));
    }
}

/// The argument OUT: where a kernel's only result lies.
pub(crate) fn out_place(lowering: &Lowering, id: ValueId) -> Argument {
    Argument::one("OUT", "Place", &lowering.place(id))
}

/// Elements of a row that one thread of `wgsl/norm_shift/norm_shift.wgsl` or `wgsl/select_norm.wgsl` keeps.
const ELEMENTS_OF_A_THREAD: usize = 16;

/// Threads of these kernels that normalise a row of `n_cols`: a multiple of every subgroup size that hold the row together.
pub(crate) fn norm_workgroup(n_cols: usize, features: &Features) -> u32 {
    let wanted = n_cols.div_ceil(ELEMENTS_OF_A_THREAD).checked_next_power_of_two().unwrap_or(usize::MAX);
    (wanted.clamp(256, 1024) as u32).min(features.max_workgroup_len)
}

/// The longest row that these kernels normalise.
pub(crate) fn max_norm_cols(features: &Features) -> usize {
    ELEMENTS_OF_A_THREAD * norm_workgroup(usize::MAX, features) as usize
}
