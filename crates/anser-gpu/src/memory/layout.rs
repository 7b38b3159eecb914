//! Where weights lie on the device. The unit of residency is the *block*: everything that one layer reads, matrices and
//! vectors, lies in one buffer in the order of the plan.

use super::upload::{Part, PartForm};
use crate::device::parallel::for_each_parallel;
use crate::quant::{self, DeviceLayout, PIECE_LEN};
use anser_format::DType;
use anser_model::{Activation, Op, Plan, WeightId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// What the layout of matrices depends on besides their types; by index of their weight.
#[derive(Debug)]
pub(crate) struct MatrixKinds {
    /// F32 that hold nothing but numbers of F16.
    pub(crate) halves: BTreeSet<usize>,
    /// Those that lie in panels if there is such a layout for them.
    pub(crate) in_panels: BTreeSet<usize>,
}

impl MatrixKinds {
    /// Those of `plan`, for kernels that can read panels or cannot.
    pub(crate) fn of(plan: &Plan, reads_panels: bool) -> MatrixKinds {
        let in_panels = if reads_panels { meets_zeros(plan) } else { BTreeSet::new() };
        MatrixKinds { halves: halves(plan), in_panels }
    }
}

/// How a matrix lies on the device.
#[derive(Debug, Clone)]
pub(crate) struct MatrixLayout {
    pub(crate) layout: DeviceLayout,
    /// Row ranges that are bound by themselves, in order.
    pub(crate) splits: Vec<Range<usize>>,
    /// Where each of them lies.
    places: Vec<WeightPlace>,
}

/// Where a vector, a matrix or a row range of it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WeightPlace {
    /// Index of the block: that of a layer, or the last one, which is what follows the last layer. What precedes the
    /// first layer belongs to it.
    pub(crate) block: usize,
    /// Which of the block's buffers; 0 unless one would be too large for the device.
    pub(crate) buffer: usize,
    /// First byte in that buffer, a multiple of [`WeightLayout::alignment`].
    pub(crate) offset: u64,
    /// Its length.
    pub(crate) n_bytes: u64,
}

/// Where everything a plan reads will lie, before any of it is there.
#[derive(Debug)]
pub(crate) struct WeightLayout {
    /// Matrices by index of their weight.
    pub(crate) matrices: BTreeMap<usize, MatrixLayout>,
    /// Places of vectors, by index of their weight.
    vectors: BTreeMap<usize, WeightPlace>,
    /// Bytes of each block's buffers.
    pub(crate) blocks: Vec<Vec<u64>>,
    max_buffer_n_bytes: u64,
    /// What the first byte of every vector and matrix is a multiple of.
    alignment: u64,
}

impl WeightLayout {
    /// Lays out the weights of `plan` so that no buffer has more than `max_buffer_n_bytes`, unless a panel, 16 rows or an
    /// operation's vectors take more, and everything starts at multiples of `alignment`. Embedding tables stay on the
    /// host.
    pub(crate) fn new(plan: &Plan, kinds: &MatrixKinds, max_buffer_n_bytes: u64, alignment: u64) -> WeightLayout {
        let (matrices, vectors) = (BTreeMap::new(), BTreeMap::new());
        let mut layout = WeightLayout { matrices, vectors, blocks: vec![vec![]], max_buffer_n_bytes, alignment };
        for node in &plan.nodes {
            match &node.op {
                Op::Embed { .. } => {}
                Op::MatMul { weight, bias, .. } => {
                    layout.add_matrix(plan, *weight, kinds);
                    layout.add_vectors(plan, bias.as_slice());
                }
                op => layout.add_vectors(plan, &op.weights()),
            }
            if node.op.outputs().iter().any(|id| plan.residuals.contains(id)) {
                layout.blocks.push(vec![]);
            }
        }
        layout
    }

    /// Adds a matrix in as few row ranges as buffers allow.
    fn add_matrix(&mut self, plan: &Plan, id: WeightId, kinds: &MatrixKinds) {
        let weight = plan.weight(id);
        let by_rows = quant::layout_of(weight, kinds.halves.contains(&id.index()));
        let in_panels = by_rows.in_panels([weight.n_rows(), weight.n_cols()]);
        let layout = in_panels.filter(|_| kinds.in_panels.contains(&id.index())).unwrap_or(by_rows);
        // Whole panels and pieces of rows, since kernels write results in 8 bits piece by piece.
        let unit = layout.panel_len.max(PIECE_LEN);
        let rows = usize::try_from(self.max_buffer_n_bytes / layout.row_n_bytes as u64).unwrap_or(usize::MAX);
        let rows = (rows / unit * unit).max(unit);
        let starts = (0..weight.n_rows()).step_by(rows);
        let splits: Vec<Range<usize>> = starts.map(|start| start..(start + rows).min(weight.n_rows())).collect();
        let n_bytes = splits.iter().map(|rows| rows.len() as u64 * layout.row_n_bytes as u64);
        let places = n_bytes.map(|n_bytes| self.add(n_bytes)).collect();
        self.matrices.insert(id.index(), MatrixLayout { layout, splits, places });
    }

    /// Adds an operation's vectors one after another, each of which has the length of the first.
    fn add_vectors(&mut self, plan: &Plan, ids: &[WeightId]) {
        let Some(first) = ids.first() else { return };
        let n_bytes = 4 * plan.weight(*first).n_cols() as u64;
        let stride = n_bytes.next_multiple_of(self.alignment);
        let WeightPlace { block, buffer, offset, .. } = self.add(stride * (ids.len() as u64 - 1) + n_bytes);
        for (id, offset) in ids.iter().zip((offset..).step_by(stride as usize)) {
            self.vectors.insert(id.index(), WeightPlace { block, buffer, offset, n_bytes });
        }
    }

    /// MemoryLimits for `n_bytes` in the last block.
    fn add(&mut self, n_bytes: u64) -> WeightPlace {
        let block = self.blocks.len() - 1;
        let buffers = &mut self.blocks[block];
        let fits = |end: u64| end.next_multiple_of(self.alignment) + n_bytes <= self.max_buffer_n_bytes;
        if !buffers.last().is_some_and(|&end| fits(end)) {
            buffers.push(0);
        }
        let buffer = buffers.len() - 1;
        let offset = buffers[buffer].next_multiple_of(self.alignment);
        buffers[buffer] = offset + n_bytes;
        WeightPlace { block, buffer, offset, n_bytes }
    }

    /// Where row range `split` of a matrix lies, or, for 0, a vector.
    pub(crate) fn place(&self, id: WeightId, split: usize) -> Option<WeightPlace> {
        match self.matrices.get(&id.index()) {
            Some(matrix) => matrix.places.get(split).copied(),
            None => self.vectors.get(&id.index()).copied().filter(|_| split == 0),
        }
    }

    /// Where an operation's vectors from `first` to `last` lie.
    pub(crate) fn vectors(&self, first: WeightId, last: WeightId) -> Option<WeightPlace> {
        let (first, last) = (*self.vectors.get(&first.index())?, self.vectors.get(&last.index())?);
        let n_bytes = (last.offset + last.n_bytes).checked_sub(first.offset)?;
        ((first.block, first.buffer) == (last.block, last.buffer)).then_some(WeightPlace { n_bytes, ..first })
    }

    /// Whether everything that a layer reads lies in one buffer.
    pub(crate) fn has_whole_layers(&self) -> bool {
        let n_layers = self.blocks.len().saturating_sub(1).max(1);
        self.blocks.iter().take(n_layers).all(|buffers| buffers.len() <= 1)
    }

    /// Whether most bytes of matrices are quantized.
    pub(crate) fn is_mostly_quantized(&self) -> bool {
        let n_bytes = |m: &MatrixLayout| m.places.iter().map(|place| place.n_bytes).sum::<u64>();
        let (quantized, floats): (Vec<_>, Vec<_>) = self.matrices.values().partition(|m| m.layout.dtype.is_quantized());
        quantized.into_iter().map(n_bytes).sum::<u64>() > floats.into_iter().map(n_bytes).sum()
    }

    /// Elements from the start of a vector of `n_cols` to that of the operation's next one: an operation's vectors lie one
    /// after another.
    pub(crate) fn vector_stride(&self, n_cols: usize) -> u64 {
        (4 * n_cols as u64).next_multiple_of(self.alignment) / 4
    }

    /// Bytes on the device.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.blocks.iter().flatten().sum()
    }

    /// Bytes of each buffer, block after block.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        self.blocks.iter().flatten().copied().collect()
    }

    /// One thing for each buffer, by block.
    pub(crate) fn group<T>(&self, mut of_buffers: impl Iterator<Item = T>) -> Vec<Vec<T>> {
        self.blocks.iter().map(|block| of_buffers.by_ref().take(block.len()).collect()).collect()
    }

    /// Number of the buffer that `place` is in, counted block after block.
    pub(crate) fn number(&self, place: WeightPlace) -> usize {
        self.blocks[..place.block].iter().map(Vec::len).sum::<usize>() + place.buffer
    }

    /// What lies in each buffer, in the order of offsets.
    pub(crate) fn parts(&self, plan: &Plan) -> Vec<Vec<Part>> {
        let mut parts: Vec<Vec<Part>> = self.sizes().iter().map(|_| vec![]).collect();
        for (&weight, MatrixLayout { layout, splits, places }) in &self.matrices {
            for (&place, rows) in places.iter().zip(splits) {
                let (rows, form) = (rows.clone(), PartForm::Matrix(*layout));
                parts[self.number(place)].push(Part { weight, rows, form, offset: place.offset });
            }
        }
        for (&weight, &place) in &self.vectors {
            let n_rows = plan.weights[weight].n_rows();
            let part = Part { weight, rows: 0..n_rows, form: PartForm::Vector, offset: place.offset };
            parts[self.number(place)].push(part);
        }
        parts.iter_mut().for_each(|parts| parts.sort_by_key(|part| part.offset));
        parts
    }

    /// One line for each storage type that the device keeps as another one.
    pub(crate) fn notices(&self, plan: &Plan) -> Vec<String> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (&id, m) in &self.matrices {
            let (from, to): (DType, DType) = (plan.weights[id].dtype(), m.layout.dtype);
            // An F32 matrix that is stored as F16 holds nothing but F16 numbers.
            if from != to && from != DType::F32 {
                *counts.entry((from.name(), to.name())).or_default() += 1;
            }
        }
        let notice = |((from, to), n)| format!("{n} matrices of type {from} are kept as {to} on the GPU");
        counts.into_iter().map(notice).collect()
    }
}

/// The F32 matrices, by index of their weight, that hold nothing but numbers of F16. It takes reading them, which is done
/// here by all cores and ends at the first other number.
fn halves(plan: &Plan) -> BTreeSet<usize> {
    /// Little enough for the memory of a piece to be used again for the next one.
    const ROWS_N_BYTES: usize = 64 << 10;

    let matrices = plan.nodes.iter().filter_map(|node| match &node.op {
        Op::MatMul { weight, .. } if plan.weight(*weight).dtype() == DType::F32 => Some(weight.index()),
        _ => None,
    });
    let candidates: BTreeSet<usize> = matrices.collect();
    let pieces = candidates.iter().flat_map(|&id| {
        let weight = &plan.weights[id];
        let n_rows = (ROWS_N_BYTES / weight.row_n_bytes()).max(1);
        (0..weight.n_rows()).step_by(n_rows).map(move |start| (id, start..(start + n_rows).min(weight.n_rows())))
    });
    let others = Mutex::new(BTreeSet::new());
    let others = || others.lock().unwrap_or_else(PoisonError::into_inner);
    let look = |(id, rows): &(usize, Range<usize>)| {
        // What cannot be read now cannot be uploaded later: that is when it is told.
        let is_f16 = || plan.weights[*id].fetch_rows(rows.clone(), &mut vec![]).is_ok_and(quant::is_f16);
        if !others().contains(id) && !is_f16() {
            others().insert(*id);
        }
        Ok(())
    };
    // It returns no error.
    let _ = for_each_parallel(&pieces.collect::<Vec<_>>(), usize::MAX, look);
    candidates.difference(&others()).copied().collect()
}

/// The matrices of `plan`, by index of their weight, whose input is mostly zero: a squared ReLU makes it, and nothing
/// else reads it.
fn meets_zeros(plan: &Plan) -> BTreeSet<usize> {
    let n_uses = |uses: &dyn Fn(&Op) -> usize| plan.nodes.iter().map(|node| uses(&node.op)).sum::<usize>();
    let is_sparse = |op: &Op| match op {
        Op::MatMul { out, activation: Activation::ReluSquared, .. }
        | Op::Activate { out, activation: Activation::ReluSquared, residual: None, .. } => Some(*out),
        _ => None,
    };
    let sparse: Vec<_> = plan.nodes.iter().filter_map(|node| is_sparse(&node.op)).collect();
    let found = plan.nodes.iter().filter_map(|node| match &node.op {
        Op::MatMul { weight, x, .. } if sparse.contains(x) => {
            let n_readers = n_uses(&|op| op.inputs().iter().filter(|id| *id == x).count());
            let n_products = n_uses(&|op| op.weights().iter().filter(|id| *id == weight).count());
            (n_readers == 1 && n_products == 1).then_some(weight.index())
        }
        _ => None,
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anser_format::ModelFile;

    fn plan() -> Plan {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/tiny-v7c256-q4_0.gguf");
        anser_model::load(&ModelFile::open(path).unwrap()).unwrap().1
    }

    /// Every place with its name, by block, buffer and offset.
    fn places(plan: &Plan, layout: &WeightLayout) -> Vec<(WeightPlace, String)> {
        let matrices = layout.matrices.iter().flat_map(|(&id, m)| m.places.iter().map(move |&place| (place, id)));
        let vectors = layout.vectors.iter().map(|(&id, &place)| (place, id));
        let named = matrices.chain(vectors).map(|(place, id)| (place, plan.weights[id].name().to_string()));
        let mut places: Vec<_> = named.collect();
        places.sort_by_key(|(place, _)| (place.block, place.buffer, place.offset));
        places
    }

    #[test]
    fn a_block_is_a_layer() {
        let plan = plan();
        let layout = WeightLayout::new(&plan, &MatrixKinds::of(&plan, true), 1 << 30, 256);
        let n_layer = plan.residuals.len();
        assert_eq!(layout.blocks.len(), n_layer + 1);
        assert!(layout.blocks.iter().all(|buffers| buffers.len() == 1));
        for (place, name) in places(&plan, &layout) {
            let block = match name.strip_prefix("blocks.") {
                Some(rest) => rest.split('.').next().unwrap().parse().unwrap(),
                None => n_layer, // ln_out and head
            };
            assert_eq!(place.block, block, "{name}");
        }
        let [last] = layout.blocks[n_layer][..] else { panic!() };
        let head = plan.weights.iter().position(|w| w.name() == "head.weight").unwrap();
        let head = layout.matrices[&head].places[0];
        assert_eq!(head.offset + head.n_bytes, last, "the head ends the last block");
    }

    #[test]
    fn nothing_overlaps_and_all_of_it_can_be_bound() {
        let plan = plan();
        for (max_n_bytes, alignment) in [(1 << 30, 256), (1 << 30, 1024), (1 << 16, 256), (20_000, 256)] {
            let layout = WeightLayout::new(&plan, &MatrixKinds::of(&plan, true), max_n_bytes, alignment);
            let places = places(&plan, &layout);
            for ((a, a_name), (b, b_name)) in places.iter().zip(&places[1..]) {
                let ends = (a.block, a.buffer) != (b.block, b.buffer) || a.offset + a.n_bytes <= b.offset;
                assert!(ends, "{a_name} {a:?}, {b_name} {b:?}");
            }
            for (place, name) in &places {
                let size = layout.blocks[place.block][place.buffer];
                assert!(place.offset + place.n_bytes <= size && size <= max_n_bytes, "{name}: {place:?} of {size}");
                assert!(place.offset.is_multiple_of(alignment), "{name}: {place:?}");
            }
            for (&id, matrix) in &layout.matrices {
                let weight = &plan.weights[id];
                assert_eq!((matrix.splits[0].start, matrix.splits.last().unwrap().end), (0, weight.n_rows()));
                for (rows, place) in matrix.splits.iter().zip(&matrix.places) {
                    assert_eq!(place.n_bytes, (rows.len() * matrix.layout.row_n_bytes) as u64, "{}", weight.name());
                }
            }
        }
    }

    #[test]
    fn vectors_of_an_operation_are_evenly_spaced() {
        let plan = plan();
        for max_n_bytes in [1 << 30, 20_000] {
            let layout = WeightLayout::new(&plan, &MatrixKinds::of(&plan, true), max_n_bytes, 256);
            let vectors = |op: &Op| match op {
                Op::Embed { .. } | Op::MatMul { .. } => vec![],
                op => op.weights(),
            };
            for ids in plan.nodes.iter().map(|node| vectors(&node.op)).filter(|ids| !ids.is_empty()) {
                let n_cols = plan.weight(ids[0]).n_cols();
                let first = layout.place(ids[0], 0).unwrap();
                for (i, &id) in ids.iter().enumerate() {
                    let offset = first.offset + 4 * i as u64 * layout.vector_stride(n_cols);
                    assert_eq!(
                        layout.place(id, 0),
                        Some(WeightPlace { offset, ..first }),
                        "{}",
                        plan.weight(id).name()
                    );
                }
                let all = layout.vectors(ids[0], *ids.last().unwrap()).unwrap();
                let last = layout.place(*ids.last().unwrap(), 0).unwrap();
                assert_eq!(all.offset + all.n_bytes, last.offset + last.n_bytes);
            }
        }
    }

    #[test]
    fn zeros_are_met_by_what_follows_the_squared_relu() {
        for name in ["tiny-v7.st", "tiny-v7mini-f16.gguf", "tiny-v7c256-q4_0.gguf"] {
            let file = ModelFile::open(format!("{}/../../fixtures/tiny/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let (_, plan) = anser_model::load(&file).unwrap();
            let found: Vec<_> = meets_zeros(&plan).into_iter().map(|weight| plan.weights[weight].name()).collect();
            let expected: Vec<_> = (0..plan.state.n_layer).map(|l| format!("blocks.{l}.ffn.value.weight")).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
