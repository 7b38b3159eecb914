//! Products for few tokens: one dispatch for as many of them as can share its bindings, see `wgsl/matmul/vec.wgsl`,
//! `wgsl/matmul/held.wgsl` and `wgsl/matmul/shift.wgsl`.

use super::held::{HeldShape, holds, n_shares};
use super::lanes::{VecRows, VecShape};
use super::shifted::Shift;
use super::spec::{Jobs, VecInput};
use super::{MatMul, epilogue_word, spec};
use crate::compile::dispatch::{Binding, Dispatch, Extent};
use crate::compile::lowering::{Lowering, NOTHING};
use crate::compile::rule::Unlowered;
use crate::compile::schedule::Region;
use crate::compile::target::{Precision, RowClass};
use crate::device::kernel::{Access, Argument, KernelSpec, wgsl};
use crate::memory::layout::WeightPlace;
use crate::quant::{DeviceType, PIECE_LEN};
use anser_model::Rows;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// `MAX_JOBS` of `wgsl/matmul/job_constants.wgsl` and `wgsl/matmul/job_table.wgsl`.
const MAX_JOBS: usize = 8;

/// Words of `Job` of `wgsl/matmul/jobs.wgsl`.
const JOB_LEN: usize = 18;

/// Words from one job to the next in a table, where their size is a multiple of 16 bytes.
const JOB_PITCH: usize = JOB_LEN.next_multiple_of(4);

/// `Job::kind` of quantized types in `wgsl/matmul/jobs.wgsl`.
const QUANTIZED: u32 = 0;

/// A row range of a product, and where its operands are.
#[derive(Debug, Clone)]
struct Job<'a> {
    op: &'a MatMul<'a>,
    split: usize,
    rows: Range<usize>,
    place: WeightPlace,
    input: Input,
}

/// Input of a job.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Input {
    /// Bound as x and as scales or state.
    pub(super) bindings: [Binding; 2],
    /// What tells buffers apart; `None` where the bindings do.
    pub(super) region: Option<Region>,
    pub(super) form: InputForm,
}

/// How an input lies in memory, or what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputForm {
    /// f32 numbers from this word on.
    Floats(u64),
    /// 8-bit numbers: first words of the bytes and of their scales.
    Bytes([u64; 2]),
    /// A mix of a norm's results, see `wgsl/matmul/shift.wgsl`: first vec4s of the mix, and of scale and offset of the norm.
    Shift([u64; 3]),
}

impl Job<'_> {
    fn device_type(&self) -> &'static DeviceType {
        self.op.layout.device_type()
    }

    fn kind(&self) -> u32 {
        self.device_type().float_kind.unwrap_or(QUANTIZED)
    }

    /// The storage type that the kernel must be made for; `None` if every kernel reads it.
    fn quantized(&self) -> Option<&'static DeviceType> {
        Some(self.device_type()).filter(|device_type| device_type.float_kind.is_none())
    }

    /// Whether one dispatch can compute both.
    fn goes_with(&self, other: &Job, lowering: &Lowering) -> bool {
        let residual = |job: &Job| job.op.residual.and_then(|id| lowering.region(id));
        let bias = |job: &Job| job.op.bias.and_then(|id| lowering.weights.place(id, 0)).map(|p| (p.block, p.buffer));
        let dtype = |job: &Job| job.quantized().map(|device_type| device_type.dtype);
        let agree = dtype(self).is_none() || dtype(other).is_none() || dtype(self) == dtype(other);
        let same_buffers = match (self.input.region, other.input.region) {
            (None, None) => self.input.bindings == other.input.bindings,
            (a, b) => a == b,
        };
        let (a, b) = (self.op, other.op);
        same_buffers
            && (self.place.block, self.place.buffer) == (other.place.block, other.place.buffer)
            && lowering.region(a.out) == lowering.region(b.out)
            && (residual(self).is_none() || residual(other).is_none() || residual(self) == residual(other))
            && (bias(self).is_none() || bias(other).is_none() || bias(self) == bias(other))
            && agree
            && (a.n_cols == b.n_cols || dtype(self).or(dtype(other)).is_none())
            && a.n_cols.is_multiple_of(4) == b.n_cols.is_multiple_of(4)
            && (a.rows, a.class) == (b.rows, b.class)
    }
}

/// The dispatches that compute `ops`, none of which needs another one's result.
///
/// # Errors
/// If an operand is not where the kernels reach it.
pub(super) fn lower(ops: &[MatMul], lowering: &Lowering) -> Result<Vec<Dispatch>, Unlowered> {
    let mut made: Vec<Dispatch> = vec![];
    let inputs = ops.iter().enumerate().map(|(number, op)| input(op, number, lowering, &mut made));
    let inputs = inputs.collect::<Result<_, _>>()?;
    made.extend(lower_with(ops, inputs, None, lowering)?);
    Ok(made)
}

/// The dispatches that compute `ops` on `inputs`, one for each of them.
///
/// # Errors
/// If an operand is not where the kernels reach it.
pub(super) fn lower_with(
    ops: &[MatMul],
    inputs: Vec<Input>,
    shift: Option<&Shift>,
    lowering: &Lowering,
) -> Result<Vec<Dispatch>, Unlowered> {
    let holds = |op: &MatMul| holds(op.class, &lowering.target.features, lowering.target.precision);
    let mut groups: Vec<Vec<Job>> = vec![];
    for (op, input) in ops.iter().zip(inputs) {
        for (split, rows) in op.splits.iter().enumerate() {
            let place = lowering.weights.place(op.weight, split).ok_or(Unlowered("a weight is not on the device"))?;
            let job = Job { op, split, rows: rows.clone(), place, input: input.clone() };
            // A kernel that holds inputs holds them in bytes or in floats.
            let is_apart = |other: &Job| other.kind().min(1) != job.kind().min(1) && holds(op);
            let goes_with = |other: &Job| job.goes_with(other, lowering) && !is_apart(other);
            let joins = |group: &&mut Vec<Job>| group.len() < MAX_JOBS && group.iter().all(goes_with);
            match groups.iter_mut().find(joins) {
                Some(group) => group.push(job),
                None => groups.push(vec![job]),
            }
        }
    }
    // Workgroups start in their order: those with the longest rows first, so that none of them runs alone at the end.
    groups.iter_mut().for_each(|jobs| jobs.sort_by_key(|job| std::cmp::Reverse(job.op.layout.row_n_bytes)));
    groups.iter().map(|jobs| dispatch(jobs, shift, lowering)).collect()
}

/// Where the `number`-th product finds its input; adds the dispatch that brings it into 8 bits if its maker does not write
/// it so.
fn input(op: &MatMul, number: usize, lowering: &Lowering, dispatches: &mut Vec<Dispatch>) -> Result<Input, Unlowered> {
    let cell = lowering.schedule.cell(op.x).ok_or(Unlowered("an operand is not in memory"))?;
    let both = |binding: Binding| [binding.clone(), binding];
    if lowering.target.precision != Precision::Int8 || op.layout.device_type().float_kind.is_some() {
        let form = InputForm::Floats(lowering.floats(op.x)? / 4);
        return Ok(Input { bindings: both(Binding::Region(op.x)), region: Some(cell.region), form });
    }
    if let Some(bytes) = cell.bytes {
        let form = InputForm::Bytes(bytes.map(|at| at / 4));
        return Ok(Input { bindings: both(Binding::Region(op.x)), region: Some(cell.region), form });
    }
    let n_pieces = op.n_cols.div_ceil(PIECE_LEN);
    let scratch = |name, piece_n_bytes| Binding::Scratch {
        name,
        rows: op.rows,
        row_n_bytes: n_pieces * piece_n_bytes,
        product: number,
    };
    let bindings = [scratch("quants", PIECE_LEN), scratch("scales", 8)];
    dispatches.push(quantize(op, n_pieces, bindings.clone()));
    Ok(Input { bindings, region: None, form: InputForm::Bytes([0, 0]) })
}

/// See `wgsl/quantize.wgsl`.
fn quantize(op: &MatMul, n_pieces: usize, [quants, scales]: [Binding; 2]) -> Dispatch {
    /// Threads, each with a piece.
    const WORKGROUP: u32 = 64;

    let kernel = KernelSpec::new("quantize", vec![wgsl!("bytes.wgsl"), wgsl!("quantize.wgsl")])
        .access(&[Access::Read, Access::ReadWrite, Access::ReadWrite])
        .constant("N_COLS", op.n_cols as f64)
        .constant("WORKGROUP", f64::from(WORKGROUP));
    let per_row = Extent::Fixed((n_pieces as u32).div_ceil(WORKGROUP));
    let grid = [per_row, Extent::Rows { rows: op.rows, per_workgroup: 1 }, Extent::Fixed(1)];
    kernel.dispatch(vec![Binding::Value(op.x), quants, scales], grid)
}

/// How a dispatch computes its jobs.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Inputs stay in registers.
    Held(HeldShape),
    /// Inputs are read along with the weights.
    Lanes(VecShape),
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Held(shape) => write!(f, "held: {shape}"),
            Shape::Lanes(shape) => shape.fmt(f),
        }
    }
}

/// What the choice of a shape depends on.
fn key(jobs: &[Job], makes_input: bool, writes_bytes: bool) -> String {
    let matrices: Vec<String> =
        jobs.iter().map(|job| format!("{} {}x{}", job.op.layout.dtype, job.rows.len(), job.op.n_cols)).collect();
    let products: Vec<String> = matrices
        .chunk_by(|a, b| a == b)
        .map(|alike| if alike.len() > 1 { format!("{}*{}", alike.len(), alike[0]) } else { alike[0].clone() })
        .collect();
    let [input, output] =
        [(makes_input, " of a shifted norm"), (writes_bytes, " to bytes")].map(|(on, text)| if on { text } else { "" });
    format!("products {}{input}{output}, T={}", products.join(" + "), jobs[0].op.class.0)
}

/// One dispatch for all jobs, of which there is at least one.
fn dispatch(jobs: &[Job], shift: Option<&Shift>, lowering: &Lowering) -> Result<Dispatch, Unlowered> {
    /// GRID_WIDTH of `wgsl/matmul/columns.wgsl`.
    const WIDTH: u32 = 1 << 15;

    let (features, precision) = (&lowering.target.features, lowering.target.precision);
    let [first, ..] = jobs else { return Err(Unlowered("it has no product")) };
    let quantized = jobs.iter().find_map(Job::quantized);
    let reads_bytes = match shift {
        Some(_) => quantized.is_some() && precision == Precision::Int8,
        None => jobs.iter().any(|job| matches!(job.input.form, InputForm::Bytes(_))),
    };
    let has_bytes = |job: &Job| lowering.schedule.cell(job.op.out).is_some_and(|cell| cell.bytes.is_some());
    let writes_bytes = jobs.iter().any(has_bytes);
    let class = first.op.class;
    let held: Vec<HeldShape> = match holds(class, features, precision) {
        true => {
            let n_shares: Vec<_> = jobs.iter().map(|job| n_shares(job.op.layout.dtype, job.op.n_cols)).collect();
            HeldShape::candidates(&n_shares, writes_bytes, features)
        }
        false => vec![],
    };
    let rows = VecRows {
        n_rows: jobs.iter().map(|job| job.rows.len()).sum(),
        n_units: jobs.iter().map(|job| job.op.n_units()).min().unwrap_or(1),
        whole_pieces: writes_bytes,
        makes_input: shift.is_some(),
        is_of_one_token: class == RowClass(1),
    };
    let lanes = VecShape::candidates(rows, features);
    let candidates: Vec<Shape> = held.into_iter().map(Shape::Held).chain(lanes.into_iter().map(Shape::Lanes)).collect();
    let (shape, choice) = lowering.choices.choose(|| key(jobs, shift.is_some(), writes_bytes), &candidates);
    let n_rows_each = match shape {
        Shape::Held(held) => held.n_rows,
        Shape::Lanes(shape) => shape.workgroup / shape.n_lanes,
    };
    let mut table = vec![];
    let mut n_workgroups = 0;
    for job in jobs {
        table.push(job_words(job, n_workgroups, lowering)?);
        n_workgroups += (job.rows.len() as u32).div_ceil(n_rows_each);
    }
    let same_cols = jobs.iter().all(|job| job.op.n_cols == first.op.n_cols);
    let mut constants = vec![
        ("N_COLS", if same_cols { first.op.n_cols as f64 } else { 0.0 }),
        ("OUTPUTS", f64::from(first.op.rows == Rows::Outputs)),
        ("COLUMNS", f64::from(class.0.max(1))),
        ("ROWS", f64::from(n_rows_each)),
        ("WRITES_BYTES", f64::from(writes_bytes)),
    ];
    let input = match (shift, first.op.n_cols.is_multiple_of(4)) {
        (Some(_), _) => VecInput::Shift,
        (None, true) => VecInput::Vec4s,
        (None, false) => VecInput::Scalars,
    };
    // Arguments are part of a pipeline's identity: there are few pipelines if all layers lie alike.
    let jobs_are = if lowering.weights.has_whole_layers() { Jobs::Constants } else { Jobs::Table };
    constants.push(("N_JOBS", jobs.len() as f64));
    if let Some(shift) = shift {
        constants.extend([("EPS", f64::from(shift.eps)), ("READS_BYTES", f64::from(reads_bytes))]);
    }
    let mut kernel = match shape {
        Shape::Held(held) => spec::held(quantized, input, jobs_are, held, constants),
        Shape::Lanes(shape) => {
            constants.push(("HAS_GATE", f64::from(first.op.gate.is_some())));
            constants.push(("AHEAD", f64::from(ahead(first.op.n_cols, shape.n_lanes))));
            let has_floats = jobs.iter().any(|job| job.quantized().is_none());
            spec::vec(quantized, [has_floats, reads_bytes], input, jobs_are, shape, constants)
        }
    };
    let weights = Binding::Block { weight: first.op.weight, split: first.split };
    // Absent operands still need a buffer to bind; it is not read.
    let bias = jobs.iter().find_map(|job| job.op.bias).map(|weight| Binding::Block { weight, split: 0 });
    let residual = jobs.iter().find_map(|job| job.op.residual).map(Binding::Region);
    let vectors = shift.map(|shift| Binding::Block { weight: shift.norm[0], split: 0 });
    let [x, scales] = first.input.bindings.clone();
    let mut bindings = vec![
        weights.clone(),
        x,
        scales,
        vectors.or(bias).unwrap_or_else(|| weights.clone()),
        shift.map(|_| Binding::Tokens).or(residual).unwrap_or(weights),
        Binding::Region(first.op.out),
        Binding::Step,
    ];
    match jobs_are {
        Jobs::Constants => kernel.arguments.push(Argument::array("JOBS", "Job", table, MAX_JOBS)),
        Jobs::Table => {
            let words = table.iter().flat_map(|job| job.iter().copied().chain([0; JOB_PITCH - JOB_LEN]));
            let mut words: Vec<u32> = words.collect();
            words.resize(MAX_JOBS * JOB_PITCH, 0);
            bindings.push(Binding::Constants(Arc::from(words)));
        }
    }
    let grid = [n_workgroups.min(WIDTH), n_workgroups.div_ceil(WIDTH), 1].map(Extent::Fixed);
    let n_weight_bytes = jobs.iter().map(|job| job.place.n_bytes).sum();
    Ok(Dispatch { n_weight_bytes, choice, ..kernel.dispatch(bindings, grid) })
}

/// `AHEAD` of `wgsl/matmul/vec_floats.wgsl` for rows of 16-bit numbers.
fn ahead(n_cols: usize, n_lanes: u32) -> u32 {
    /// The first of them that divides a thread's part of a row is best.
    const CANDIDATES: [u32; 3] = [5, 4, 3];

    let n_vec4s = (2 * n_cols.div_ceil(PIECE_LEN) as u32).div_ceil(n_lanes);
    CANDIDATES.into_iter().find(|&n| n_vec4s.is_multiple_of(n)).unwrap_or(4)
}

/// `Job` of `wgsl/matmul/jobs.wgsl`.
fn job_words(job: &Job, first_workgroup: u32, lowering: &Lowering) -> Result<[u32; JOB_LEN], Unlowered> {
    let op = job.op;
    let [x, scales, norm_scale, norm_offset] = match job.input.form {
        InputForm::Floats(floats) => [floats, 0, 0, 0],
        // Bytes are counted by vec4s, scales by pairs.
        InputForm::Bytes([bytes, scales]) => [bytes / 4, scales / 2, 0, 0],
        InputForm::Shift([mix, scale, offset]) => [mix, 0, scale, offset],
    }
    .map(|at| at as u32);
    let [out, out_bytes, out_scales, _] = lowering.place(op.out);
    let gate = match op.gate {
        Some(gate) if lowering.region(gate) == job.input.region => (lowering.floats(gate)? / 4) as u32,
        Some(_) => return Err(Unlowered("a gate lies in another buffer than the input")),
        None => NOTHING,
    };
    let residual = op.residual.map_or(Ok(0), |id| lowering.floats(id))? / 4;
    Ok([
        first_workgroup,
        job.rows.len() as u32,
        (job.place.offset / 16) as u32,
        job.kind(),
        x,
        scales,
        lowering.bias(op.bias)?,
        epilogue_word(op),
        op.n_rows as u32,
        job.rows.start as u32,
        out,
        out_bytes,
        out_scales,
        op.n_cols as u32,
        norm_scale,
        norm_offset,
        gate,
        residual as u32,
    ])
}
