//! In which order a plan's operations run on the device, which of them together, and where their values lie.

use super::rule::{Rules, Unit};
use super::target::{Precision, Target};
use crate::quant::{PIECE_LEN, is_quantized};
use anser_model::{Op, Plan, Rows, Step, ValueId};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;

/// A buffer for results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Region {
    /// The `index`-th for one value of this shape, with as many rows as the largest step so far had.
    Shared {
        /// Kind of rows.
        rows: Rows,
        /// Width of a row.
        n_cols: usize,
        /// Whether it holds halves instead of floats.
        in_halves: bool,
        index: usize,
    },
    /// The `index`-th of this size, for all results of one unit.
    Own { n_bytes: u64, index: usize },
}

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    pub(crate) region: Region,
    /// First byte of its floats `[rows, n_cols]`; `None` if no kernel and no caller reads them.
    pub(crate) floats: Option<u64>,
    /// How many bytes these take, where others follow.
    pub(crate) floats_n_bytes: Option<NonZeroU64>,
    /// The value in 8 bits (`wgsl/bytes.wgsl`), bytes `[rows, n_cols]` and scales `[rows, n_cols / 16, 2]`: first byte of each;
    /// `None` if no kernel reads them.
    pub(crate) bytes: Option<[u64; 2]>,
}

/// Where regions put values: a multiple of what every device can bind.
const ALIGNMENT: u64 = 256;

/// Which values may have the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sharing {
    /// No values share memory, in steps of up to `n_rows` tokens and outputs: so no kernel waits until another one has read the
    /// memory that it writes, and small steps need little memory. The results of a unit lie in one buffer.
    Nothing {
        /// Most tokens and outputs.
        n_rows: [u32; 2],
        /// Whether products of quantized weights read activations in 8 bits.
        in_bytes: bool,
    },
    /// Those of different layers that are not needed at the same time. Within a layer memory is not used twice: see
    /// [`Schedule::segments`].
    Layers {
        /// Whether products multiply halves: values that only products read are then kept in halves.
        in_halves: bool,
    },
}

/// A plan's units in execution order, and the memory of its values.
#[derive(Debug, Clone, PartialEq)]
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
    /// The units of `plan` for steps of `target`, with memory for their values.
    pub(crate) fn for_target(plan: &Plan, target: &Target, rules: &Rules) -> Schedule {
        // Where every operation is computed by itself, all values are there to be looked at.
        let in_bytes = target.precision == Precision::Int8 && target.fuses;
        let sharing = match target.has_few_rows {
            true => Sharing::Nothing { n_rows: target.classes.map(|class| class.0), in_bytes },
            false => Sharing::Layers { in_halves: target.keeps_halves },
        };
        Schedule::new(plan, super::fuse::units(plan, target, rules), sharing)
    }

    /// Gives the values of `units` memory: those that are needed at the same time, and those of one layer, lie apart.
    pub(crate) fn new(plan: &Plan, units: Vec<Unit>, sharing: Sharing) -> Schedule {
        match sharing {
            Sharing::Nothing { n_rows, in_bytes } => {
                let cells = apart(plan, &units, n_rows, in_bytes);
                Schedule { units, segments: vec![], cells }
            }
            Sharing::Layers { in_halves } => Schedule::shared(plan, units, in_halves),
        }
    }

    fn shared(plan: &Plan, units: Vec<Unit>, in_halves: bool) -> Schedule {
        let mut last_use = vec![0; plan.values.len()];
        for (i, unit) in units.iter().enumerate() {
            for id in unit.inputs(plan).into_iter().chain(unit.outputs.iter().copied()) {
                last_use[id.index()] = i;
            }
        }
        let n = plan.values.len();
        let in_halves = if in_halves { only_for_products(plan, &units) } else { vec![false; n] };
        let mut memory = Memory { cells: vec![None; n], free: vec![], n_made: vec![], in_halves };
        inputs(plan, &units).into_iter().for_each(|value| memory.take(plan, value));
        let mut segments = vec![];
        let mut ended: Vec<ValueId> = vec![];
        for (i, unit) in units.iter().enumerate() {
            let outputs = &unit.outputs;
            outputs.iter().for_each(|id| memory.take(plan, id.index()));
            ended.extend(unit.inputs(plan).iter().chain(outputs).filter(|id| last_use[id.index()] == i));
            if outputs.iter().any(|id| plan.residuals.contains(id)) {
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

    /// Whether only products read a value, in halves.
    pub(crate) fn is_in_halves(&self, id: ValueId) -> bool {
        self.cell(id).is_some_and(|cell| matches!(cell.region, Region::Shared { in_halves: true, .. }))
    }

    /// All memory.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Region> {
        self.cells.iter().flatten().map(|cell| cell.region)
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

/// Values that the caller of a step provides: there from the start.
fn inputs(plan: &Plan, units: &[Unit]) -> Vec<usize> {
    let mut is_made = vec![false; plan.values.len()];
    for id in units.iter().flat_map(|unit| unit.each(plan)).flat_map(|node| node.op.outputs()) {
        is_made[id.index()] = true;
    }
    (0..plan.values.len()).filter(|&value| !is_made[value]).collect()
}

/// A region for the results of each unit.
fn apart(plan: &Plan, units: &[Unit], n_rows: [u32; 2], in_bytes: bool) -> Vec<Option<Cell>> {
    let forms = Forms::new(plan, units, in_bytes);
    let mut cells = vec![None; plan.values.len()];
    let mut n_made: Vec<(u64, usize)> = vec![];
    let inputs = inputs(plan, units).into_iter().map(|value| vec![value]);
    let results = units.iter().map(|unit| unit.outputs.iter().map(|id| id.index()).collect());
    for values in inputs.chain(results) {
        let mut n_bytes = 0;
        let mut room = |len: u64| {
            let start = n_bytes;
            n_bytes = (start + len).next_multiple_of(ALIGNMENT);
            start
        };
        let mut placed = vec![];
        for value in values {
            let anser_model::Value { rows, n_cols, .. } = plan.values[value];
            let n_rows = match rows {
                Rows::Tokens => n_rows[0],
                Rows::Outputs => n_rows[1],
            };
            let len = u64::from(n_rows) * n_cols as u64;
            let floats = forms.floats[value].then(|| room(4 * len));
            let bytes = forms.bytes[value].then(|| [room(len), room(len / 2)]);
            placed.push((value, floats, NonZeroU64::new(4 * len), bytes));
        }
        let at = n_made.iter().position(|&(size, _)| size == n_bytes).unwrap_or_else(|| {
            n_made.push((n_bytes, 0));
            n_made.len() - 1
        });
        let region = Region::Own { n_bytes, index: n_made[at].1 };
        n_made[at].1 += 1;
        for (value, floats, floats_n_bytes, bytes) in placed {
            cells[value] = Some(Cell { region, floats, floats_n_bytes, bytes });
        }
    }
    cells
}

/// In which form each value is needed.
struct Forms {
    floats: Vec<bool>,
    bytes: Vec<bool>,
}

impl Forms {
    fn new(plan: &Plan, units: &[Unit], in_bytes: bool) -> Forms {
        let n = plan.values.len();
        let (mut can_be_bytes, mut is_read) = (vec![false; n], vec![false; n]);
        let mut forms = Forms { floats: vec![false; n], bytes: vec![false; n] };
        for id in
            units.iter().filter(|unit| in_bytes && unit.rule.forms.bytes).flat_map(|unit| unit.outputs.iter().copied())
        {
            can_be_bytes[id.index()] = plan.value(id).n_cols.is_multiple_of(PIECE_LEN);
        }
        for node in &plan.nodes {
            let in_bytes = |id: ValueId| match &node.op {
                Op::MatMul { weight, x, .. } => {
                    *x == id && is_quantized(plan.weight(*weight)) && can_be_bytes[id.index()]
                }
                _ => false,
            };
            for id in node.op.inputs() {
                is_read[id.index()] = true;
                let form = if in_bytes(id) { &mut forms.bytes } else { &mut forms.floats };
                form[id.index()] = true;
            }
        }
        // What a caller may want.
        plan.hidden.iter().for_each(|id| forms.floats[id.index()] = true);
        (0..n).filter(|&value| !is_read[value]).for_each(|value| forms.floats[value] = true);
        forms
    }
}

/// Per value, whether nothing but products reads it, and the kernel that makes it can write halves.
fn only_for_products(plan: &Plan, units: &[Unit]) -> Vec<bool> {
    let mut found = vec![false; plan.values.len()];
    for id in units.iter().filter(|unit| unit.rule.forms.halves).flat_map(|unit| unit.outputs.iter().copied()) {
        let value = plan.value(id);
        found[id.index()] = value.rows == Rows::Tokens && value.n_cols.is_multiple_of(PIECE_LEN);
    }
    let mut is_read = vec![false; plan.values.len()];
    for op in plan.nodes.iter().map(|node| &node.op) {
        for id in op.inputs() {
            is_read[id.index()] = true;
            found[id.index()] &= matches!(op, Op::MatMul { x, residual, .. } if *x == id && *residual != Some(id));
        }
    }
    found.iter_mut().zip(is_read).for_each(|(found, is_read)| *found &= is_read);
    for unit in units.iter().filter(|unit| unit.rule.forms.all_alike) {
        let all = unit.outputs.iter().all(|id| found[id.index()]);
        unit.outputs.iter().for_each(|id| found[id.index()] = all);
    }
    found
}

/// Gives out memory, that of values of the same shape again once they are not needed any more.
struct Memory {
    cells: Vec<Option<Cell>>,
    free: Vec<Cell>,
    /// Cells made so far, by shape.
    n_made: Vec<((Rows, usize, bool), usize)>,
    /// Per value.
    in_halves: Vec<bool>,
}

impl Memory {
    fn take(&mut self, plan: &Plan, value: usize) {
        let anser_model::Value { rows, n_cols, .. } = plan.values[value];
        let shape = (rows, n_cols, self.in_halves[value]);
        let is_alike = |cell: &Cell| match cell.region {
            Region::Shared { rows, n_cols, in_halves, .. } => (rows, n_cols, in_halves) == shape,
            Region::Own { .. } => false,
        };
        let cell = match self.free.iter().position(is_alike) {
            Some(i) => self.free.swap_remove(i),
            None => {
                let at = self.n_made.iter().position(|&(made, _)| made == shape);
                let at = at.unwrap_or_else(|| {
                    self.n_made.push((shape, 0));
                    self.n_made.len() - 1
                });
                self.n_made[at].1 += 1;
                let region = Region::Shared { rows, n_cols, in_halves: shape.2, index: self.n_made[at].1 - 1 };
                Cell { region, floats: (!shape.2).then_some(0), floats_n_bytes: None, bytes: None }
            }
        };
        self.cells[value] = Some(cell);
    }
}

/// Where a pass ends, and what is read there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Units that have run by then.
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
            for id in unit.outputs.iter().copied() {
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
