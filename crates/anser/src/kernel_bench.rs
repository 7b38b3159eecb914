//! Checks and times every kernel of a GPU on its own. The check is against the plain loops or 64-bit arithmetic.

use crate::device::shared_device;
use crate::error::Error;
use anser_cpu::{Cpu, Mode};
use anser_format::DType;
use anser_gpu::matmul_bench::{Forms, Measurement, Product, measure};
use anser_gpu::{DeviceChoice, Gpu, GpuOptions};
use anser_model::cases::{self, Case, nmse};
use anser_model::{Activation, Sequence, Step};
use std::ops::ControlFlow;

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
    fn raise(&mut self, product: &Measurement) {
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

/// Measures the matrix products of the official 2.9B model in the forms that plans use, and every row of the case table.
/// `each` is called with every row as soon as it is measured, and may end the measurement.
///
/// # Errors
/// If there is no such device, its memory is full, or it is lost.
pub fn measure_kernels(
    choice: &DeviceChoice,
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
                for m in measure(&device, product(dtype, [n_rows, n_cols], n_tokens), Forms::Chosen)? {
                    ceilings.raise(&m);
                    let row = KernelRow {
                        name: format!("matmul {} {n_rows}x{n_cols} T={n_tokens}", dtype.name()),
                        kernel: m.form,
                        nmse: m.nmse,
                        elapsed_us: m.elapsed_us,
                        n_bytes: (m.n_bytes + 4 * n_tokens * (n_cols + 2 * n_rows)) as f64,
                        n_flops: m.n_flops,
                    };
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
pub fn measure_ceilings(device: &anser_gpu::Device) -> Result<Ceilings, Error> {
    /// The two largest matrices of a layer, in f16, so that the product does not dequantize weights.
    const LARGEST: [[usize; 2]; 2] = [[10240, 2560], [2560, 10240]];
    const LONG: [usize; 2] = [512, 2048];

    let mut ceilings = Ceilings::of_copy(device)?;
    for shape in LARGEST {
        for n_tokens in LONG {
            let measured = measure(device, product(DType::F16, shape, n_tokens), Forms::Chosen)?;
            measured.iter().for_each(|m| ceilings.raise(m));
        }
    }
    Ok(ceilings)
}

fn product(dtype: DType, [n_rows, n_cols]: [usize; 2], n_tokens: usize) -> Product {
    let activation = Activation::Identity;
    Product { dtype, n_rows, n_cols, n_tokens, bias: false, activation, residual: true, sparse: false }
}

fn measure_case(case: &Case, device: &std::sync::Arc<anser_gpu::Device>) -> Result<KernelRow, Error> {
    /// The number of runs, of which the first compiles the kernels and does not count.
    const N_RUNS: usize = 6;

    let mut cpu = Cpu::new(case.plan.clone(), anser_cpu::Options { mode: Mode::Reference, ..Default::default() })?;
    let mut gpu = Gpu::new(case.plan.clone(), device, GpuOptions::default())?;
    let (mut on_cpu, mut on_gpu) = (vec![], vec![]);
    for (state, &n_tokens) in case.states.iter().zip(&case.lengths) {
        let slot = cpu.create_state();
        if let Some(to) = cpu.state_mut(slot) {
            to.copy_from_slice(state);
        }
        on_cpu.push(Sequence { slot, n_tokens });
        let slot = gpu.create_state()?;
        gpu.write_state(slot, state)?;
        on_gpu.push(Sequence { slot, n_tokens });
    }
    let inputs: Vec<_> = case.inputs.iter().map(|(id, data)| (*id, &data[..])).collect();
    let Case { tokens, outputs, reads, .. } = case;
    let step = Step { tokens, sequences: &on_cpu, outputs, reads, inputs: &inputs };
    let expected = cpu.step(&step)?;
    let step = Step { sequences: &on_gpu, ..step };
    let actual = gpu.step(&step)?;
    let errors = actual.iter().zip(&expected).map(|(a, e)| nmse(a, e));
    let (mut times, mut kernels, mut n_bytes) = (vec![], vec![], 0);
    for run in 0..N_RUNS {
        let profile = match device.report().timestamps {
            true => gpu.profile(&step)?,
            false => vec![],
        };
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
