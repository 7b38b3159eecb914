//! Checks and times every kernel of a GPU on its own. The check is against the plain loops or 64-bit arithmetic.

use crate::device::shared_device;
use crate::error::Error;
use anser_cpu::{Cpu, Mode};
use anser_format::DType;
use anser_gpu::{DeviceChoice, Gpu, GpuError, GpuOptions, KernelTime};
use anser_model::cases::{self, Case, nmse};
use anser_model::{Sequence, Step};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The error and the time of a kernel, or of the kernels of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelRow {
    /// Operation, types and sizes.
    pub name: String,
    /// The kernels.
    pub kernel: String,
    /// Normalised mean squared error of the results.
    pub nmse: f64,
    /// Time on the device; NaN if it has no clock.
    pub elapsed_us: f64,
    /// Bytes that have to be read and written at least once.
    pub n_bytes: f64,
    /// Multiplications and additions of a matrix product; 0 for other operations.
    pub n_flops: f64,
}

/// The rates that a device reaches at best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// Bytes read plus bytes written of a large copy on the device, in 10⁹ a second; NaN if it has no clock.
    pub copy_gb_per_s: f64,
    /// The best that any of the measured matrix products reached, in 10¹² multiplications and additions a second; NaN if it has
    /// no clock.
    pub gemm_tflop_per_s: f64,
}

impl Ceilings {
    fn of_copy(device: &anser_gpu::Device) -> Result<Ceilings, Error> {
        Ok(Ceilings { copy_gb_per_s: device.measure_copy()?, gemm_tflop_per_s: f64::NAN })
    }

    /// Raises the rate of products if `product` was faster.
    fn raise(&mut self, product: &KernelRow) {
        // The greater of a number and NaN is the number.
        self.gemm_tflop_per_s = self.gemm_tflop_per_s.max(product.n_flops / product.elapsed_us / 1e6);
    }
}

/// Matrices `[R, n_cols]` of the official 2.9B model.
const SHAPES: [[usize; 2]; 5] = [[2560, 2560], [10240, 2560], [2560, 10240], [N_VOCAB, 2560], [96, 2560]];
const N_VOCAB: usize = 65536;
const TYPES: [DType; 5] = [DType::F16, DType::Q8_0, DType::Q4_K, DType::Q5_K, DType::Q6_K];
const TOKENS: [usize; 4] = [1, 8, 64, 512];
/// The most tokens with which the head is multiplied.
const MAX_HEAD_TOKENS: usize = 8;

/// Measures the matrix products of the official 2.9B model, and every row of the case table. `all`: every shape that the
/// kernels of products can run in, instead of the one that they are run in. `each` is called with every row as soon as it is
/// measured, and may end the measurement.
///
/// # Errors
/// If there is no such device, its memory is full, or it is lost.
pub fn measure_kernels(
    choice: &DeviceChoice,
    all: bool,
    mut each: impl FnMut(KernelRow) -> ControlFlow<()>,
) -> Result<Ceilings, Error> {
    let device = shared_device(choice, None)?;
    let mut ceilings = Ceilings::of_copy(&device)?;
    for [n_rows, n_cols] in SHAPES {
        for dtype in TYPES {
            for n_tokens in TOKENS {
                if n_rows == N_VOCAB && n_tokens > MAX_HEAD_TOKENS {
                    continue;
                }
                for row in measure_product(&device, dtype, [n_rows, n_cols], n_tokens, all)? {
                    ceilings.raise(&row);
                    if each(row).is_break() {
                        return Ok(ceilings);
                    }
                }
            }
        }
    }
    for case in cases::all() {
        if each(measure_case(&case, &device)?).is_break() {
            break;
        }
    }
    Ok(ceilings)
}

/// Measures the rates that `device` reaches at best: of a large copy, and of the matrix products of long prompts.
///
/// # Errors
/// If its memory is full, or it is lost.
pub fn measure_ceilings(device: &Arc<anser_gpu::Device>) -> Result<Ceilings, Error> {
    /// The two largest matrices of a layer, in f16, so that the product does not dequantize weights.
    const LARGEST: [[usize; 2]; 2] = [[10240, 2560], [2560, 10240]];
    const LONG: [usize; 2] = [512, 2048];

    let mut ceilings = Ceilings::of_copy(device)?;
    for shape in LARGEST {
        for n_tokens in LONG {
            measure_product(device, DType::F16, shape, n_tokens, false)?.iter().for_each(|row| ceilings.raise(row));
        }
    }
    Ok(ceilings)
}

/// Measures a product `[T, n_cols]` · `[R, n_cols]`ᵀ, each time with weights that are in no cache. A row for each shape of its
/// kernel if `all` are wanted, else one.
fn measure_product(
    device: &Arc<anser_gpu::Device>,
    dtype: DType,
    [n_rows, n_cols]: [usize; 2],
    n_tokens: usize,
    all: bool,
) -> Result<Vec<KernelRow>, Error> {
    /// Bytes of all copies of the weights: more than any cache holds.
    const N_BYTES: usize = 384 << 20;
    const MAX_COPIES: usize = 256;

    let n_bytes = n_rows * dtype.row_n_bytes(n_cols).unwrap_or(1);
    let case = cases::products(dtype, [n_rows, n_cols], n_tokens, N_BYTES.div_ceil(n_bytes).min(MAX_COPIES));
    let mut gpu = Gpu::new(case.plan.clone(), device, GpuOptions { no_fusion: true, ..GpuOptions::default() })?;
    let one = cases::products(dtype, [n_rows, n_cols], n_tokens, 1);
    let mut cpu = Cpu::new(one.plan.clone(), anser_cpu::Options { mode: Mode::Exact, ..Default::default() })?;
    let expected = run_on_cpu(&one, &mut cpu)?;
    let (mut sequences, mut inputs) = (vec![], vec![]);
    let step = step_of(&case, &mut gpu, &mut sequences, &mut inputs)?;
    let n = if all { gpu.n_candidates(&step)? } else { 1 };
    let mut rows = vec![];
    for number in 0..n {
        gpu.set_trial(all.then_some(number));
        let error = nmse(&gpu.step(&step)?[0], &expected[0]);
        let profile = profile(&mut gpu, &step)?;
        let of_copies = profile.chunk_by(|a, b| a.node == b.node);
        let mut times: Vec<f64> =
            of_copies.map(|kernels| kernels.iter().map(|kernel| kernel.elapsed_us).sum()).collect();
        times.sort_by(f64::total_cmp);
        let kernel = profile.last().map(|last| format!("{} {}", last.label, last.shape));
        rows.push(KernelRow {
            name: case.name.clone(),
            kernel: kernel.unwrap_or_default(),
            nmse: error,
            elapsed_us: times.get(times.len() / 2).copied().unwrap_or(f64::NAN),
            n_bytes: (n_bytes + 4 * n_tokens * (n_cols + 2 * n_rows)) as f64,
            n_flops: 2.0 * (n_rows * n_cols) as f64 * n_tokens as f64,
        });
    }
    Ok(rows)
}

/// How long each kernel of a step takes; nothing if the device has no clock.
fn profile(gpu: &mut Gpu, step: &Step) -> Result<Vec<KernelTime>, GpuError> {
    if gpu.device().report().timestamps { gpu.profile(step) } else { Ok(vec![]) }
}

/// The case's step on a GPU, with its states in slots of their own.
fn step_of<'a>(
    case: &'a Case,
    gpu: &mut Gpu,
    sequences: &'a mut Vec<Sequence>,
    inputs: &'a mut Vec<(anser_model::ValueId, &'a [f32])>,
) -> Result<Step<'a>, GpuError> {
    for (state, &n_tokens) in case.states.iter().zip(&case.lengths) {
        let slot = gpu.create_state()?;
        gpu.write_state(slot, state)?;
        sequences.push(Sequence { slot, n_tokens });
    }
    inputs.extend(case.inputs.iter().map(|(id, data)| (*id, &data[..])));
    let Case { tokens, outputs, reads, .. } = case;
    Ok(Step { tokens, sequences, outputs, reads, inputs })
}

/// What the case's operation computes on the CPU.
fn run_on_cpu(case: &Case, cpu: &mut Cpu) -> Result<Vec<Vec<f32>>, Error> {
    let mut sequences = vec![];
    for (state, &n_tokens) in case.states.iter().zip(&case.lengths) {
        let slot = cpu.create_state();
        if let Some(to) = cpu.state_mut(slot) {
            to.copy_from_slice(state);
        }
        sequences.push(Sequence { slot, n_tokens });
    }
    let inputs: Vec<_> = case.inputs.iter().map(|(id, data)| (*id, &data[..])).collect();
    let Case { tokens, outputs, reads, .. } = case;
    Ok(cpu.step(&Step { tokens, sequences: &sequences, outputs, reads, inputs: &inputs })?)
}

fn measure_case(case: &Case, device: &Arc<anser_gpu::Device>) -> Result<KernelRow, Error> {
    /// The number of runs, of which the first compiles the kernels and does not count.
    const N_RUNS: usize = 6;

    let mut cpu = Cpu::new(case.plan.clone(), anser_cpu::Options { mode: Mode::Reference, ..Default::default() })?;
    let expected = run_on_cpu(case, &mut cpu)?;
    let mut gpu = Gpu::new(case.plan.clone(), device, GpuOptions::default())?;
    let (mut sequences, mut inputs) = (vec![], vec![]);
    let step = step_of(case, &mut gpu, &mut sequences, &mut inputs)?;
    let actual = gpu.step(&step)?;
    let errors = actual.iter().zip(&expected).map(|(a, e)| nmse(a, e));
    let (mut times, mut kernels, mut n_bytes) = (vec![], vec![], 0);
    for run in 0..N_RUNS {
        let profile = profile(&mut gpu, &step)?;
        if run > 0 {
            times.push(if profile.is_empty() { f64::NAN } else { profile.iter().map(|t| t.elapsed_us).sum() });
        }
        n_bytes = profile.iter().map(|t| t.n_bytes).sum();
        kernels = profile.iter().map(|t| t.label).collect();
    }
    times.sort_by(f64::total_cmp);
    Ok(KernelRow {
        name: case.name.clone(),
        kernel: kernels.join(" + "),
        nmse: errors.fold(0.0, f64::max),
        elapsed_us: times[times.len() / 2],
        n_bytes: n_bytes as f64,
        n_flops: 0.0,
    })
}
