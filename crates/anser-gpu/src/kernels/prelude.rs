//! What every file of a kernel names.

pub(crate) use super::common::{
    OTHER_OPERATIONS, add_out, always, max_norm_cols, norm_workgroup, out_place, reduce_module, reducing,
};
pub(crate) use crate::compile::dispatch::Binding::{
    self, Outputs, Region, Sequences, State, Tokens, Value, Vector, Vectors,
};
pub(crate) use crate::compile::dispatch::{Dispatch, Extent};
pub(crate) use crate::compile::graph::Graph;
pub(crate) use crate::compile::lowering::{Lowering, NOTHING};
pub(crate) use crate::compile::rule::{Forms, Pattern, Rule, Unit, Unlowered};
pub(crate) use crate::compile::target::{RowClass, Target};
pub(crate) use crate::device::features::Features;
pub(crate) use crate::device::kernel::Access::{Read, ReadWrite};
pub(crate) use crate::device::kernel::{Argument, KernelSpec, wgsl};
pub(crate) use anser_model::{Activation, Op, ValueId};
