//! In which order a plan's operations run on the device, which of them together, and where their values lie.

use anser_model::{Node, Plan, Rows, Step, ValueId};
use std::collections::{BTreeMap, HashMap};

/// Operations that are lowered together. Numbers are indices into [`Plan::nodes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unit {
    /// One operation by itself.
    Op(usize),
    /// A layer norm and the token shift of its result.
    NormShift {
        /// The norm.
        norm: usize,
        /// The shift.
        shift: usize,
    },
    /// Matrix products that do not need each other's results.
    MatMuls(Vec<usize>),
    /// All that happens to a head between its projections and the output projection, for sequences of one token.
    Head {
        /// The mix with the first layer's values, except in that layer.
        residual: Option<usize>,
        /// The key control.
        key: usize,
        /// The recurrence.
        wkv: usize,
        /// Norm, bonus and gate.
        gate: usize,
    },
}

impl Unit {
    /// Every operation by itself, in the plan's order.
    pub(crate) fn plain(plan: &Plan) -> Vec<Unit> {
        (0..plan.nodes.len()).map(Unit::Op).collect()
    }

    /// Its operations, in the plan's order.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        match self {
            Unit::Op(node) => vec![*node],
            Unit::NormShift { norm, shift } => vec![*norm, *shift],
            Unit::MatMuls(nodes) => nodes.clone(),
            Unit::Head { residual, key, wkv, gate } => residual.iter().copied().chain([*key, *wkv, *gate]).collect(),
        }
    }

    fn each<'a>(&self, plan: &'a Plan) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.nodes().into_iter().map(|node| &plan.nodes[node])
    }

    /// Values that it takes from other units.
    pub(crate) fn inputs(&self, plan: &Plan) -> Vec<ValueId> {
        let own: Vec<ValueId> = self.each(plan).flat_map(|node| node.op.outputs()).collect();
        self.each(plan).flat_map(|node| node.op.inputs()).filter(|id| !own.contains(id)).collect()
    }

    /// Values that it leaves in memory: the results of its last operation, or of all if these are independent.
    pub(crate) fn outputs(&self, plan: &Plan) -> Vec<ValueId> {
        let nodes = match self {
            Unit::Op(node) => vec![*node],
            Unit::NormShift { shift, .. } => vec![*shift],
            Unit::MatMuls(nodes) => nodes.clone(),
            Unit::Head { gate, .. } => vec![*gate],
        };
        nodes.into_iter().flat_map(|node| plan.nodes[node].op.outputs()).collect()
    }

    /// Names of its operations, for profiles.
    pub(crate) fn name(&self, plan: &Plan) -> String {
        let names: Vec<&str> = self.each(plan).map(|node| &node.name[..]).collect();
        names.join(" + ")
    }
}

/// The `index`-th of the buffers for values of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    pub(crate) rows: Rows,
    pub(crate) n_cols: usize,
    /// Rows of the buffer; `None` means as many as the largest step so far had.
    pub(crate) n_rows: Option<u32>,
    pub(crate) index: usize,
}

/// Which values may have the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sharing {
    /// None, in steps of up to so many tokens and outputs: then nobody has to wait until memory is free again, and small
    /// steps need little of it.
    Nothing([u32; 2]),
    /// Those of different layers that are not needed at the same time. Within a layer memory is not used twice: see
    /// [`Schedule::segments`].
    Layers,
}

/// A plan's units in execution order, and the memory of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) units: Vec<Unit>,
    /// Where values share memory, the units that begin a layer, after the first one. Each segment becomes a pass of its
    /// own: wgpu makes memory ready for what a pass first uses it for at once, and puts a barrier before each later change
    /// of use.
    pub(crate) segments: Vec<usize>,
    /// Per value; `None` if it never is in memory.
    cells: Vec<Option<Cell>>,
}

impl Schedule {
    /// Gives the values of `units` memory: those that are needed at the same time, and those of one layer, lie apart.
    pub(crate) fn new(plan: &Plan, units: Vec<Unit>, sharing: Sharing) -> Schedule {
        let mut last_use = vec![0; plan.values.len()];
        let mut is_made = vec![false; plan.values.len()];
        for (i, unit) in units.iter().enumerate() {
            for id in unit.inputs(plan).into_iter().chain(unit.outputs(plan)) {
                last_use[id.index()] = i;
            }
            unit.each(plan).flat_map(|node| node.op.outputs()).for_each(|id| is_made[id.index()] = true);
        }
        let mut memory = Memory { cells: vec![None; plan.values.len()], free: vec![], n_made: vec![], sharing };
        for (value, _) in plan.values.iter().enumerate().filter(|&(value, _)| !is_made[value]) {
            memory.take(plan, value); // an input of the plan: there from the start
        }
        let mut segments = vec![];
        let mut ended: Vec<ValueId> = vec![];
        for (i, unit) in units.iter().enumerate() {
            let outputs = unit.outputs(plan);
            outputs.iter().for_each(|id| memory.take(plan, id.index()));
            ended.extend(unit.inputs(plan).iter().chain(&outputs).filter(|id| last_use[id.index()] == i));
            let ends_layer = outputs.iter().any(|id| plan.residuals.contains(id));
            if sharing == Sharing::Layers && ends_layer {
                ended.sort_unstable();
                ended.dedup();
                memory.free.extend(ended.drain(..).filter_map(|id| memory.cells[id.index()]));
                segments.push(i + 1);
            }
        }
        Schedule { units, segments, cells: memory.cells }
    }

    /// Where a value lies; `None` if it never is in memory.
    pub(crate) fn cell(&self, id: ValueId) -> Option<Cell> {
        self.cells.get(id.index()).copied().flatten()
    }

    /// All memory.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Cell> {
        self.cells.iter().copied().flatten()
    }

    /// How many units, from the first, must run so that all states advance and `reads` are computed.
    fn n_units_for(&self, plan: &Plan, reads: &[ValueId]) -> usize {
        let needed = |unit: &Unit| {
            unit.each(plan)
                .any(|node| node.op.state().is_some() || node.op.outputs().iter().any(|id| reads.contains(id)))
        };
        self.units.iter().rposition(needed).map_or(0, |last| last + 1)
    }
}

/// Gives out memory, that of values of the same shape again once they are not needed any more.
struct Memory {
    cells: Vec<Option<Cell>>,
    free: Vec<Cell>,
    /// Cells made so far, by shape.
    n_made: Vec<((Rows, usize), usize)>,
    sharing: Sharing,
}

impl Memory {
    fn take(&mut self, plan: &Plan, value: usize) {
        let anser_model::Value { rows, n_cols, .. } = plan.values[value];
        let cell = match self.free.iter().position(|cell| (cell.rows, cell.n_cols) == (rows, n_cols)) {
            Some(i) => self.free.swap_remove(i),
            None => {
                let at = self.n_made.iter().position(|&(shape, _)| shape == (rows, n_cols));
                let at = at.unwrap_or_else(|| {
                    self.n_made.push(((rows, n_cols), 0));
                    self.n_made.len() - 1
                });
                self.n_made[at].1 += 1;
                let n_rows = match (self.sharing, rows) {
                    (Sharing::Layers, _) => None,
                    (Sharing::Nothing([n_tokens, _]), Rows::Tokens) => Some(n_tokens),
                    (Sharing::Nothing([_, n_outputs]), Rows::Outputs) => Some(n_outputs),
                };
                Cell { rows, n_cols, n_rows, index: self.n_made[at].1 - 1 }
            }
        };
        self.cells[value] = Some(cell);
    }
}

/// Where a pass ends, and what is read there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    /// After so many units.
    pub(crate) n_units: usize,
    /// Indices into `Step::reads`.
    pub(crate) reads: Vec<usize>,
}

/// When the values that a step reads are copied, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reads {
    /// In execution order; the last one ends the step.
    pub(crate) stops: Vec<Stop>,
    /// Byte range in the staging buffer, one per read.
    pub(crate) ranges: Vec<std::ops::Range<u64>>,
    pub(crate) n_bytes: u64,
}

impl Reads {
    /// Values whose memory stays theirs to the end of the step are copied there, so that it stays one pass; others right
    /// after the unit that makes them.
    pub(crate) fn new(plan: &Plan, schedule: &Schedule, step: &Step) -> Reads {
        let n_units = schedule.n_units_for(plan, step.reads);
        let mut maker = vec![None; plan.values.len()];
        let mut last_made = HashMap::new();
        for (i, unit) in schedule.units[..n_units].iter().enumerate() {
            for id in unit.outputs(plan) {
                maker[id.index()] = Some(i);
                last_made.insert(schedule.cell(id), id);
            }
        }
        let mut reads = Reads { stops: vec![], ranges: vec![], n_bytes: 0 };
        let mut stops: BTreeMap<usize, Vec<usize>> = BTreeMap::from([(n_units, vec![])]);
        stops.extend(schedule.segments.iter().filter(|&&end| end < n_units).map(|&end| (end, vec![])));
        for (i, &id) in step.reads.iter().enumerate() {
            let Some(made) = maker[id.index()] else {
                reads.ranges.push(0..0);
                continue;
            };
            let stays = last_made.get(&schedule.cell(id)) == Some(&id);
            stops.entry(if stays { n_units } else { made + 1 }).or_default().push(i);
            let n_bytes = 4 * plan.value_len(id, step.tokens.len(), step.outputs.len()) as u64;
            reads.ranges.push(reads.n_bytes..reads.n_bytes + n_bytes);
            reads.n_bytes += n_bytes;
        }
        reads.stops = stops.into_iter().map(|(n_units, reads)| Stop { n_units, reads }).collect();
        reads
    }
}
