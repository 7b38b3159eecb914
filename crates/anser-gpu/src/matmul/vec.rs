//! Products for few tokens: one dispatch for as many of them as can share its bindings, see `wgsl/matmul/vec.wgsl`,
//! `wgsl/matmul/held.wgsl` and `wgsl/matmul/shift.wgsl`.

use super::form::{Form, Precision, VecShape};
use super::held::{HeldShape, holds, n_shares};
use super::layout::PIECE_LEN;
use super::spec::{Jobs, VecInput};
use super::{MatMul, epilogue_word, spec};
use crate::kernels::{Access, Binding, Dispatch, Extent, Features, KernelSpec, wgsl};
use crate::schedule::{Region, Schedule};
use crate::weights::{Place, WeightLayout};
use anser_format::DType;
use anser_model::{Rows, StateRef, ValueId, WeightId};
use std::ops::Range;
use std::sync::Arc;

/// Where everything lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sites<'a> {
    pub(crate) weights: &'a WeightLayout,
    pub(crate) schedule: &'a Schedule,
}

impl Sites<'_> {
    fn region(&self, id: ValueId) -> Option<Region> {
        self.schedule.cell(id).map(|cell| cell.region)
    }

    /// Byte offset of a value's floats in its region.
    pub(crate) fn floats(&self, id: ValueId) -> Option<u64> {
        self.schedule.cell(id)?.floats
    }

    /// The words of `Place` of `wgsl/place.wgsl`.
    pub(crate) fn place(&self, id: ValueId) -> [u32; 4] {
        let cell = self.schedule.cell(id);
        let floats = cell.and_then(|cell| cell.floats).map_or(NOTHING, |at| (at / 4) as u32);
        let [bytes, scales] = cell.and_then(|cell| cell.bytes).map_or([NOTHING; 2], |at| at.map(|at| (at / 4) as u32));
        // Halves are all of their region.
        let halves = if self.schedule.is_in_halves(id) { 0 } else { NOTHING };
        [floats, bytes, scales, halves]
    }

    /// Byte offset of a vector, a matrix or its row range in its buffer.
    pub(crate) fn offset(&self, weight: WeightId, split: usize) -> Option<u64> {
        self.weights.place(weight, split).map(|place| place.offset)
    }
}

/// `NOTHING` of `wgsl/place.wgsl`.
pub(crate) const NOTHING: u32 = u32::MAX;

/// `MAX_JOBS` of `wgsl/matmul/job_table.wgsl`.
const MAX_JOBS: usize = 8;

/// Words of `Job` of `wgsl/matmul/jobs.wgsl`.
const JOB_LEN: usize = 16;

/// The words of each job in `wgsl/matmul/job_constants.wgsl`.
const JOB_CONSTANTS: [[&str; JOB_LEN]; MAX_JOBS] = {
    macro_rules! words {
        ($($job:literal)*) => {
            [$([
                concat!("JOB_", $job, "_FIRST_WORKGROUP"),
                concat!("JOB_", $job, "_N_ROWS"),
                concat!("JOB_", $job, "_WEIGHTS"),
                concat!("JOB_", $job, "_KIND"),
                concat!("JOB_", $job, "_X"),
                concat!("JOB_", $job, "_SCALES"),
                concat!("JOB_", $job, "_BIAS"),
                concat!("JOB_", $job, "_EPILOGUE"),
                concat!("JOB_", $job, "_N_TOTAL"),
                concat!("JOB_", $job, "_FIRST_ROW"),
                concat!("JOB_", $job, "_OUT"),
                concat!("JOB_", $job, "_OUT_BYTES"),
                concat!("JOB_", $job, "_OUT_SCALES"),
                concat!("JOB_", $job, "_N_COLS"),
                concat!("JOB_", $job, "_NORM_SCALE"),
                concat!("JOB_", $job, "_NORM_OFFSET"),
            ],)*]
        };
    }
    words!(0 1 2 3 4 5 6 7)
};

/// The number of a float type in `wgsl/matmul/jobs.wgsl` and `wgsl/wkv7/head_low_rank.wgsl`; `None` for another type.
pub(crate) fn float_kind(dtype: DType) -> Option<u32> {
    match dtype {
        DType::F16 => Some(1),
        DType::BF16 => Some(2),
        DType::F32 => Some(3),
        _ => None,
    }
}

/// The number of any other type there.
const QUANTIZED: u32 = 0;

/// A row range of a product, and where its operands are.
#[derive(Debug, Clone)]
struct Job<'a> {
    op: &'a MatMul<'a>,
    split: usize,
    rows: Range<usize>,
    place: Place,
    input: Input,
}

/// Input of a job.
#[derive(Debug, Clone, PartialEq)]
struct Input {
    /// Bound as x and as scales or state.
    bindings: [Binding; 2],
    /// What tells buffers apart; `None` where the bindings do.
    region: Option<Region>,
    form: InputForm,
}

/// How an input lies in memory, or what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputForm {
    /// From this word on.
    Floats(u64),
    /// First words of bytes and of their scales.
    Bytes([u64; 2]),
    /// A mix of a norm's results, see `wgsl/matmul/shift.wgsl`: first vec4s of the mix, and of scale and offset of the norm.
    Shift([u64; 3]),
}

/// A token shift of a layer norm, for one token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift<'a> {
    /// `[1, C]`
    pub(crate) x: ValueId,
    /// The norm's result of the token before.
    pub(crate) state: StateRef,
    /// Scale and offset, `[C]` each.
    pub(crate) norm: [WeightId; 2],
    /// Of the norm.
    pub(crate) eps: f32,
    /// `[C]` each.
    pub(crate) mixes: &'a [WeightId],
    /// The result of each of them.
    pub(crate) outs: &'a [ValueId],
}

/// Largest rows whose norm and shift products can make for themselves; 0 if there are none.
pub(crate) fn max_shifted_cols(features: &Features) -> usize {
    /// Columns of an invocation: with more of them products would wait longer for their input than a kernel that makes it.
    const COLUMNS: usize = 4;
    /// Workgroup memory for results that become bytes.
    const RESULTS: usize = 512;
    /// Bytes of a column in workgroup memory: a float, and half a byte of scales.
    const HALF_BYTES: usize = 9;

    let shape = VecShape::shifted(1, 1, false, features);
    let workgroup = shape.workgroup as usize;
    // Two floats for every four threads, and two for each subgroup of a row.
    let sums = 2 * workgroup + 8 * workgroup / features.subgroup_size[0].max(4) as usize;
    let room = (features.max_workgroup_n_bytes as usize).saturating_sub(RESULTS + sums);
    if shape.in_subgroup { (COLUMNS * workgroup).min(2 * room / HALF_BYTES) } else { 0 }
}

impl Job<'_> {
    fn kind(&self) -> u32 {
        float_kind(self.op.layout.dtype).unwrap_or(QUANTIZED)
    }

    /// The storage type that the kernel must be made for; `None` if every kernel reads it.
    fn quantized(&self) -> Option<DType> {
        (self.kind() == QUANTIZED).then_some(self.op.layout.dtype)
    }

    /// Whether one dispatch can compute both.
    fn goes_with(&self, other: &Job, sites: &Sites) -> bool {
        let residual = |job: &Job| job.op.residual.and_then(|id| sites.region(id));
        let bias = |job: &Job| job.op.bias.and_then(|id| sites.weights.place(id, 0)).map(|p| (p.block, p.buffer));
        let agree = |a: Option<DType>, b: Option<DType>| a.is_none() || b.is_none() || a == b;
        let same_buffers = match (self.input.region, other.input.region) {
            (None, None) => self.input.bindings == other.input.bindings,
            (a, b) => a == b,
        };
        let (a, b) = (self.op, other.op);
        same_buffers
            && (self.place.block, self.place.buffer) == (other.place.block, other.place.buffer)
            && sites.region(a.out) == sites.region(b.out)
            && (residual(self).is_none() || residual(other).is_none() || residual(self) == residual(other))
            && (bias(self).is_none() || bias(other).is_none() || bias(self) == bias(other))
            && agree(self.quantized(), other.quantized())
            && (a.n_cols == b.n_cols || self.quantized().or(other.quantized()).is_none())
            && a.n_cols.is_multiple_of(4) == b.n_cols.is_multiple_of(4)
            && (a.rows, a.class) == (b.rows, b.class)
    }
}

/// The dispatches that compute `ops`, none of which needs another one's result; in `form` instead of the best one.
pub(crate) fn lower(
    ops: &[MatMul],
    sites: &Sites,
    features: &Features,
    precision: Precision,
    form: Option<Form>,
) -> Vec<Dispatch> {
    let in_bytes = precision == Precision::Int8;
    let mut made: Vec<Dispatch> = vec![];
    let inputs = ops.iter().enumerate().map(|(number, op)| input(op, number, sites, in_bytes, &mut made)).collect();
    made.extend(lower_with(ops, inputs, None, sites, features, precision, form));
    made
}

/// The dispatches that compute `ops`, whose inputs are results of `shift`, none of which needs another one's result.
pub(crate) fn lower_shifted(
    ops: &[MatMul],
    shift: &Shift,
    sites: &Sites,
    features: &Features,
    precision: Precision,
) -> Vec<Dispatch> {
    let vec4 = |id: WeightId| Some(sites.offset(id, 0)? / 16);
    let input = |op: &MatMul| {
        let mix = shift.mixes[shift.outs.iter().position(|&out| out == op.x)?];
        let [scale, offset] = shift.norm;
        let form = InputForm::Shift([vec4(mix)?, vec4(scale)?, vec4(offset)?]);
        Some(Input { bindings: [Binding::Value(shift.x), Binding::State(shift.state)], region: None, form })
    };
    lower_with(ops, ops.iter().map(input).collect(), Some(shift), sites, features, precision, None)
}

fn lower_with(
    ops: &[MatMul],
    inputs: Vec<Option<Input>>,
    shift: Option<&Shift>,
    sites: &Sites,
    features: &Features,
    precision: Precision,
    form: Option<Form>,
) -> Vec<Dispatch> {
    let mut groups: Vec<Vec<Job>> = vec![];
    for (op, input) in ops.iter().zip(inputs) {
        let Some(input) = input else { continue };
        for (split, rows) in op.splits.iter().enumerate() {
            let Some(place) = sites.weights.place(op.weight, split) else { continue };
            let job = Job { op, split, rows: rows.clone(), place, input: input.clone() };
            // A kernel that holds inputs holds them in bytes or in floats.
            let is_apart =
                |other: &Job| other.kind().min(1) != job.kind().min(1) && holds(op.class, features, precision);
            let goes_with = |other: &Job| job.goes_with(other, sites) && !is_apart(other);
            let joins = |group: &&mut Vec<Job>| group.len() < MAX_JOBS && group.iter().all(goes_with);
            match groups.iter_mut().find(joins) {
                Some(group) => group.push(job),
                None => groups.push(vec![job]),
            }
        }
    }
    // Workgroups start in their order: those with the longest rows first, so that nobody waits for them at the end.
    groups.iter_mut().for_each(|jobs| jobs.sort_by_key(|job| std::cmp::Reverse(job.op.layout.row_n_bytes)));
    groups.iter().filter_map(|jobs| dispatch(jobs, shift, sites, features, precision, form)).collect()
}

/// Where the `number`-th product finds its input; adds the dispatch that brings it into 8 bits if its maker does not write
/// it so.
fn input(op: &MatMul, number: usize, sites: &Sites, in_bytes: bool, dispatches: &mut Vec<Dispatch>) -> Option<Input> {
    let cell = sites.schedule.cell(op.x)?;
    let both = |binding: Binding| [binding.clone(), binding];
    if !in_bytes || !op.layout.dtype.is_quantized() {
        let form = InputForm::Floats(cell.floats? / 4);
        return Some(Input { bindings: both(Binding::Region(op.x)), region: Some(cell.region), form });
    }
    if let Some(bytes) = cell.bytes {
        let form = InputForm::Bytes(bytes.map(|at| at / 4));
        return Some(Input { bindings: both(Binding::Region(op.x)), region: Some(cell.region), form });
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
    Some(Input { bindings, region: None, form: InputForm::Bytes([0, 0]) })
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

/// One dispatch for all jobs.
fn dispatch(
    jobs: &[Job],
    shift: Option<&Shift>,
    sites: &Sites,
    features: &Features,
    precision: Precision,
    form: Option<Form>,
) -> Option<Dispatch> {
    /// GRID_WIDTH of `wgsl/matmul/columns.wgsl`.
    const WIDTH: u32 = 1 << 15;

    let first = jobs.first()?;
    let quantized = jobs.iter().find_map(Job::quantized);
    let reads_bytes = match shift {
        Some(_) => quantized.is_some() && precision == Precision::Int8,
        None => jobs.iter().any(|job| matches!(job.input.form, InputForm::Bytes(_))),
    };
    let writes_bytes = jobs.iter().any(|job| sites.schedule.cell(job.op.out).is_some_and(|cell| cell.bytes.is_some()));
    let n_units = jobs.iter().map(|job| job.op.n_cols.div_ceil(super::form::unit_len(job.op.layout.dtype)));
    let n_units = n_units.min().unwrap_or(1);
    let n_rows = jobs.iter().map(|job| job.rows.len()).sum();
    let class = first.op.class;
    let held = match form {
        Some(Form::Held { shape }) => Some(shape),
        Some(_) => None,
        None => {
            let n_shares: Vec<_> = jobs.iter().map(|job| n_shares(job.op.layout.dtype, job.op.n_cols)).collect();
            HeldShape::choose(&n_shares, writes_bytes, features).filter(|_| holds(class, features, precision))
        }
    };
    let shape = match form {
        Some(Form::VecF32 { shape } | Form::VecInt8 { shape }) => shape,
        _ if shift.is_some() => VecShape::shifted(n_rows, n_units, writes_bytes, features),
        _ => VecShape::choose(n_rows, n_units, writes_bytes, features),
    };
    let n_rows_each = held.map_or(shape.workgroup / shape.n_lanes, |held| held.n_rows);
    let mut words = vec![];
    let mut n_workgroups = 0;
    for job in jobs {
        words.extend(job_words(job, n_workgroups, sites));
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
    // What is in constants makes kernels: few if all layers lie alike.
    let jobs_are = if sites.weights.has_whole_layers() { Jobs::Constants } else { Jobs::Table };
    constants.push(("N_JOBS", jobs.len() as f64));
    if jobs_are == Jobs::Constants {
        constants.extend(JOB_CONSTANTS.into_iter().flatten().zip(words.iter().map(|&word| f64::from(word))));
    }
    if held.is_none() {
        constants.push(("AHEAD", f64::from(ahead(first.op.n_cols, shape.n_lanes))));
    }
    if let Some(shift) = shift {
        constants.extend([("EPS", f64::from(shift.eps)), ("READS_BYTES", f64::from(reads_bytes))]);
    }
    let kernel = match held {
        Some(held) => spec::held(quantized, input, jobs_are, held, constants),
        None => {
            let has_floats = jobs.iter().any(|job| job.quantized().is_none());
            spec::vec(quantized, [has_floats, reads_bytes], input, jobs_are, shape, constants)
        }
    };
    let weights = Binding::Block { weight: first.op.weight, split: first.split };
    // Absent operands still need a buffer to bind; it is not read.
    let bias = jobs.iter().find_map(|job| job.op.bias).map(|weight| Binding::Block { weight, split: 0 });
    let residual = jobs.iter().find_map(|job| job.op.residual).map(Binding::Value);
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
    if jobs_are == Jobs::Table {
        words.resize(MAX_JOBS * JOB_LEN, 0);
        bindings.push(Binding::Constants(Arc::from(words)));
    }
    let grid = [n_workgroups.min(WIDTH), n_workgroups.div_ceil(WIDTH), 1].map(Extent::Fixed);
    let n_weight_bytes = jobs.iter().map(|job| job.place.n_bytes).sum();
    Some(Dispatch { n_weight_bytes, ..kernel.dispatch(bindings, grid) })
}

/// `AHEAD` of `wgsl/matmul/vec_floats.wgsl` for rows of 16-bit numbers.
fn ahead(n_cols: usize, n_lanes: u32) -> u32 {
    /// The first of them that divides a thread's part of a row is best.
    const CANDIDATES: [u32; 3] = [5, 4, 3];

    let n_vec4s = (2 * n_cols.div_ceil(PIECE_LEN) as u32).div_ceil(n_lanes);
    CANDIDATES.into_iter().find(|&n| n_vec4s.is_multiple_of(n)).unwrap_or(4)
}

/// `Job` of `wgsl/matmul/jobs.wgsl`.
fn job_words(job: &Job, first_workgroup: u32, sites: &Sites) -> [u32; JOB_LEN] {
    let op = job.op;
    let [x, scales, norm_scale, norm_offset] = match job.input.form {
        InputForm::Floats(floats) => [floats, 0, 0, 0],
        // Bytes are counted by vec4s, scales by pairs.
        InputForm::Bytes([bytes, scales]) => [bytes / 4, scales / 2, 0, 0],
        InputForm::Shift([mix, scale, offset]) => [mix, 0, scale, offset],
    }
    .map(|at| at as u32);
    let bias = op.bias.and_then(|id| sites.offset(id, 0)).map_or(NOTHING, |at| (at / 4) as u32);
    let [out, out_bytes, out_scales, _] = sites.place(op.out);
    [
        first_workgroup,
        job.rows.len() as u32,
        (job.place.offset / 16) as u32,
        job.kind(),
        x,
        scales,
        bias,
        epilogue_word(op),
        op.n_rows as u32,
        job.rows.start as u32,
        out,
        out_bytes,
        out_scales,
        op.n_cols as u32,
        norm_scale,
        norm_offset,
    ]
}
