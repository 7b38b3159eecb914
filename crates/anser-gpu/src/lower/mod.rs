//! From operations to dispatches: which kernels run a unit of a schedule, on which bindings and grid.

mod fused;
mod older;
mod op;

use crate::kernels::{Binding, Dispatch, Extent, Features, KernelSpec, Module, RowClass, wgsl};
use crate::matmul::{self, MatMul, Sites};
use crate::run::StepKind;
use crate::schedule::{Schedule, Unit};
use crate::weights::WeightLayout;
use anser_model::{Plan, ValueId};

pub(crate) use fused::{Steps, fusion};

/// What lowering depends on besides the unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lowering<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) weights: &'a WeightLayout,
    pub(crate) schedule: &'a Schedule,
    pub(crate) features: Features,
    /// Of the steps.
    pub(crate) kind: StepKind,
}

/// One workgroup per so many elements of an elementwise kernel's row.
const ELEMENTS: u32 = 256;

/// What a kernel writes its results with: floats, or halves where only products read them.
fn add_out(modules: &mut Vec<&'static Module>, in_halves: bool) {
    if in_halves {
        modules.insert(0, wgsl!("enable/f16.wgsl"));
        modules.extend([wgsl!("halves.wgsl"), wgsl!("out/halves.wgsl")]);
    } else {
        modules.push(wgsl!("out/floats.wgsl"));
    }
}

impl Lowering<'_> {
    /// The dispatches of a unit, in order.
    pub(crate) fn unit(&self, unit: &Unit) -> Vec<Dispatch> {
        let op = |node: usize| &self.plan.nodes[node].op;
        match unit {
            Unit::Op(node) => self.op(op(*node)),
            Unit::NormShift { norm, shift } => self.norm_shift(op(*norm), op(*shift)),
            Unit::SelectNorm { select, norm } => self.select_norm(op(*select), op(*norm)),
            Unit::MatMuls(nodes) => {
                let products: Vec<_> = nodes.iter().filter_map(|&node| self.product(op(node))).collect();
                self.products(&products)
            }
            Unit::ShiftMatMuls { norm, shift, products } => {
                let products: Vec<_> = products.iter().filter_map(|&node| self.product(op(node))).collect();
                self.shift_products(op(*norm), op(*shift), &products)
            }
            Unit::Head { low_rank, residual, key, wkv, gate } => {
                let low_rank: Vec<_> = low_rank.iter().filter_map(|&node| self.product(op(node))).collect();
                self.head(&low_rank, residual.map(op), [*key, *wkv, *gate].map(op))
            }
        }
    }

    /// Products that do not need each other's results.
    fn products(&self, products: &[MatMul]) -> Vec<Dispatch> {
        let StepKind { precision, max_columns, .. } = self.kind;
        matmul::lower(products, &self.sites(), &self.features, precision, max_columns)
    }

    fn sites(&self) -> Sites<'_> {
        Sites { weights: self.weights, schedule: self.schedule }
    }

    fn n_cols(&self, id: ValueId) -> f64 {
        self.plan.value(id).n_cols as f64
    }

    /// A value as its only kernel-to-kernel form has it: floats, or halves that are all of its region.
    fn value(&self, id: ValueId) -> Binding {
        if self.schedule.is_in_halves(id) { Binding::Region(id) } else { Binding::Value(id) }
    }

    /// One workgroup per row.
    fn rows(&self, id: ValueId) -> Extent {
        Extent::Rows { rows: self.plan.value(id).rows, per_workgroup: 1 }
    }

    /// Workgroups of [`ELEMENTS`] over the columns, and one per row.
    fn elementwise(&self, id: ValueId) -> [Extent; 3] {
        let n = (self.plan.value(id).n_cols as u32).div_ceil(ELEMENTS);
        [Extent::Fixed(n), self.rows(id), Extent::Fixed(1)]
    }

    /// One workgroup per head and row.
    fn heads(&self, id: ValueId, head_size: usize) -> [Extent; 3] {
        [Extent::Fixed((self.plan.value(id).n_cols / head_size) as u32), self.rows(id), Extent::Fixed(1)]
    }

    /// A kernel that sums over its workgroup, which has a power of two of invocations, `len` if possible.
    fn reducing(&self, label: &'static str, module: &'static Module, len: usize) -> KernelSpec {
        let reduce = match self.features.subgroups {
            true => wgsl!("reduce/subgroup.wgsl"),
            false => wgsl!("reduce/workgroup.wgsl"),
        };
        let len = (len.next_power_of_two() as u32).clamp(32, 256).min(self.features.max_workgroup_len);
        KernelSpec::new(label, vec![reduce, module]).constant("WORKGROUP", len as f64)
    }
}

/// How the recurrence is spread over a workgroup, see `wgsl/wkv7/rows.wgsl`.
#[derive(Debug, Clone, Copy)]
struct RecurrenceShape {
    /// Rows of S.
    n_rows: usize,
    /// Invocations that share a row.
    n_lanes: usize,
    /// Whether the invocations of a row are surely in one subgroup.
    in_subgroup: bool,
    head_size: usize,
}

impl RecurrenceShape {
    /// Some rows of a head in a workgroup: they spread over more of the device's cores.
    fn of_rows(head_size: usize, features: &Features) -> RecurrenceShape {
        const WORKGROUP: usize = 64;
        let n_lanes = n_lanes(head_size);
        RecurrenceShape::new(head_size, WORKGROUP / n_lanes, n_lanes, features)
    }

    /// All rows of a head in a workgroup: by as many invocations as it can have, which wait for memory at the same time, or by
    /// few where the heads of many tokens do so.
    fn of_head(head_size: usize, n_tokens: RowClass, features: &Features) -> RecurrenceShape {
        /// With so many tokens.
        const MANY_TOKENS: u32 = 16;

        let n_rows = head_size.next_power_of_two();
        let fewest = n_lanes(head_size);
        let mut most = (features.max_workgroup_len as usize / n_rows).min(n_rows / 4);
        if features.subgroups {
            most = most.min(features.subgroup_size[0] as usize);
        }
        let n_lanes = if most > fewest && n_tokens.0 < MANY_TOKENS { 1 << most.ilog2() } else { fewest };
        RecurrenceShape::new(head_size, n_rows, n_lanes, features)
    }

    fn new(head_size: usize, n_rows: usize, n_lanes: usize, features: &Features) -> RecurrenceShape {
        let [smallest, largest] = features.subgroup_size.map(|size| size as usize);
        let are_full = (n_rows * n_lanes).is_multiple_of(largest.max(1));
        RecurrenceShape {
            n_rows,
            n_lanes,
            in_subgroup: features.subgroups && smallest >= n_lanes && are_full,
            head_size,
        }
    }

    fn workgroup(&self) -> usize {
        self.n_rows * self.n_lanes
    }

    /// Tokens to stage at once: each invocation fetches two vec4s of each of their operands, see `wgsl/wkv7/wkv7.wgsl`.
    fn block_len(&self) -> usize {
        const FETCHED: usize = 2;
        FETCHED * 4 * self.workgroup() / (self.n_lanes * LANE_LEN)
    }

    /// `kernel`, with what goes before it.
    fn modules<const K: usize>(&self, kernel: [&'static Module; K]) -> Vec<&'static Module> {
        let lanes = match self.in_subgroup {
            true => wgsl!("lanes/subgroup.wgsl"),
            false => wgsl!("lanes/workgroup.wgsl"),
        };
        [wgsl!("step.wgsl"), lanes].into_iter().chain(kernel).collect()
    }

    fn constants(&self, kernel: KernelSpec) -> KernelSpec {
        kernel
            .constant("WORKGROUP", self.workgroup() as f64)
            .constant("N_LANES", self.n_lanes as f64)
            .constant("HEAD_SIZE", self.head_size as f64)
    }
}

/// Elements of a row of S in one invocation's registers.
const LANE_LEN: usize = 16;

/// Invocations that share a row of S.
fn n_lanes(head_size: usize) -> usize {
    head_size.div_ceil(LANE_LEN).next_power_of_two()
}
