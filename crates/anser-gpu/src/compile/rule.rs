//! What the compiler knows of a kernel: which operations it computes, when, and how it is run.
//!
//! There is one [`Rule`] for each kernel, in a file of `kernels/` that has the name of the kernel's WGSL file or folder.

use super::dispatch::Dispatch;
use super::graph::Graph;
use super::lowering::Lowering;
use super::target::Target;
use anser_model::{Node, Op, Plan, ValueId};

/// A kernel that computes one operation of a plan, or several together.
pub(crate) struct Rule {
    /// Name in errors: that of the kernel's file.
    pub(crate) name: &'static str,
    /// Which operations it computes.
    pub(crate) pattern: Pattern,
    /// Whether it can compute these operations in steps of a target, and is worth it there.
    pub(crate) fits: fn(&Graph, &[usize], &Target) -> bool,
    /// What it can write its results as.
    pub(crate) forms: Forms,
    /// The dispatches that compute a unit.
    ///
    /// # Errors
    /// If the kernel does not reach an operand of the unit: a fault of the rule, which must not match such operations.
    pub(crate) lower: fn(&Unit, &Lowering) -> Result<Vec<Dispatch>, Unlowered>,
}

/// How a rule finds the operations that it computes. Nodes are indices into [`Plan::nodes`], in the plan's order but where a
/// pattern says otherwise.
pub(crate) enum Pattern {
    /// Single operations: `kernels::plain` names the rule of each.
    Op,
    /// Operations that the host computes before the step: no dispatch is made for them.
    OnHost,
    /// Single operations. Those whose inputs are there at the same time, and that have the same group, become one unit.
    Independent {
        /// The group of a node in steps of a target.
        group: fn(&Graph, usize, &Target) -> Group,
    },
    /// The operations around one of them: all nodes, if the given one is in the place that the rule looks for.
    Around(fn(&Graph, usize) -> Option<Vec<usize>>),
    /// Two units that follow each other: all nodes, if the kernel computes both.
    Units(fn(&Graph, [&Unit; 2]) -> Option<Vec<usize>>),
}

/// Operations of equal groups may share a unit: kind of rows, and whether their kernel reads quantized weights only.
pub(crate) type Group = (anser_model::Rows, bool);

/// What a kernel can write its results as, besides f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forms {
    /// In 8 bits with scales (`wgsl/bytes.wgsl`).
    pub(crate) bytes: bool,
    /// In f16, for products that multiply f16.
    pub(crate) halves: bool,
    /// Whether it writes all of its results in f16, or none.
    pub(crate) all_alike: bool,
}

impl Forms {
    /// f32 only.
    pub(crate) const FLOATS: Forms = Forms { bytes: false, halves: false, all_alike: false };
    /// f32 or 8 bits.
    pub(crate) const BYTES: Forms = Forms { bytes: true, ..Forms::FLOATS };
    /// f32 or f16.
    pub(crate) const HALVES: Forms = Forms { halves: true, ..Forms::FLOATS };
    /// All of them.
    pub(crate) const ANY: Forms = Forms { bytes: true, halves: true, all_alike: false };
}

/// The kernels of a device: what [`super::fuse`] chooses from.
pub(crate) struct Rules {
    /// The kernel that computes an operation by itself.
    pub(crate) plain: fn(&Op) -> &'static Rule,
    /// Kernels that compute several operations together, the better ones first.
    pub(crate) fused: &'static [&'static Rule],
}

/// Operations that one kernel computes together.
#[derive(Clone)]
pub(crate) struct Unit {
    pub(crate) rule: &'static Rule,
    /// Indices into [`Plan::nodes`], in the order that the rule's pattern gives them.
    pub(crate) nodes: Vec<usize>,
    /// Values that it leaves in memory.
    pub(crate) outputs: Vec<ValueId>,
}

impl Unit {
    /// Its operations.
    pub(crate) fn each<'a>(&self, plan: &'a Plan) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().map(|&node| &plan.nodes[node])
    }

    /// Values that it takes from other units.
    pub(crate) fn inputs(&self, plan: &Plan) -> Vec<ValueId> {
        let own: Vec<ValueId> = self.each(plan).flat_map(|node| node.op.outputs()).collect();
        self.each(plan).flat_map(|node| node.op.inputs()).filter(|id| !own.contains(id)).collect()
    }

    /// Names of its operations, for profiles and errors.
    pub(crate) fn name(&self, plan: &Plan) -> String {
        let names: Vec<&str> = self.each(plan).map(|node| &node.name[..]).collect();
        names.join(" + ")
    }
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?}", self.rule.name, self.nodes)
    }
}

impl PartialEq for Unit {
    fn eq(&self, other: &Unit) -> bool {
        (self.rule.name, &self.nodes) == (other.rule.name, &other.nodes)
    }
}

/// Why a kernel cannot run a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unlowered(pub(crate) &'static str);
