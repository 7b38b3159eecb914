//! Products outside of a plan: checked against 64-bit arithmetic and timed, one kernel at a time.
//!
//! For `examples/matmul_bench.rs`; programs that run models have no use for it.

pub(crate) mod problem;
pub(crate) mod rig;

pub use problem::Product;

use super::form::{Form, TiledShape, VecShape};
use super::gemm::GemmShape;
use super::held::HeldShape;
use super::sparse::SparseShape;
use crate::compile::target::Precision;
use crate::device::Device;
use crate::device::features::Features;
use crate::error::GpuError;
use anser_format::DType;
use problem::Problem;
use rig::{Prepared, Rig};

/// What a kernel showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Kernel and its shape, e.g. `int8 lanes=16 workgroup=128`.
    pub form: String,
    /// Σ (out − reference)² / Σ reference², over a sample of the rows.
    pub nmse: f64,
    /// Median time of a product in a chain of dependent ones, each with weights that no cache holds; NaN if the device
    /// has no clock.
    pub elapsed_us: f64,
    /// The same with its input brought into the kernel's number format each time.
    pub with_input_us: f64,
    /// Bytes of the weights.
    pub n_bytes: usize,
    /// Multiplications and additions.
    pub n_flops: f64,
}

/// Which kernels to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forms {
    /// Those that plans use.
    Chosen,
    /// All that the device can run, in several shapes.
    All,
}

/// Bytes of weights that a chain of products goes through: more than any cache holds.
const MIN_CHAIN_N_BYTES: usize = 384 << 20;

/// Rows that are compared with the reference.
const N_SAMPLES: usize = 48;

/// Measures the kernels for a product.
///
/// # Errors
/// If the device's memory is full, or it is lost.
pub fn measure(device: &Device, product: Product, forms: Forms) -> Result<Vec<Measurement>, GpuError> {
    let problem = Problem::new(product);
    let n_bytes = product.n_rows * problem.layout().row_n_bytes;
    let limit = device.report().max_buffer_n_bytes / (n_bytes as u64 + 256);
    let n_copies = MIN_CHAIN_N_BYTES.div_ceil(n_bytes).clamp(1, 256).min(limit.max(1) as usize);
    let rig = Rig::new(device, device.features(), &problem, n_copies as u32, product.n_rows)?;
    let step = product.n_rows.div_ceil(N_SAMPLES);
    let sample: Vec<usize> = (0..product.n_rows).step_by(step).collect();
    let reference: Vec<Vec<f64>> = sample.iter().map(|&row| problem.reference(row)).collect();
    let mut measurements = vec![];
    for form in candidates(device, &problem, forms) {
        let prepared = rig.prepare(form)?;
        let all: Vec<_> = prepared.iter().collect();
        let products: Vec<_> = prepared.iter().filter(|p| !p.prepares).collect();
        rig.run(&all, 1)?;
        let result = rig.result()?;
        let elapsed_us = median_us(&rig, &products)?;
        let with_input_us = if all.len() > products.len() { median_us(&rig, &all)? } else { elapsed_us };
        measurements.push(Measurement {
            form: describe(form),
            nmse: nmse(&result, &reference, &sample, product.n_rows),
            elapsed_us,
            with_input_us,
            n_bytes,
            n_flops: 2.0 * (product.n_rows * product.n_cols) as f64 * product.n_tokens as f64,
        });
    }
    Ok(measurements)
}

/// Median time of a round of `dispatches` per copy of the matrix, in µs.
fn median_us(rig: &Rig, dispatches: &[&Prepared]) -> Result<f64, GpuError> {
    let per_round = rig.run(dispatches, 1)?.unwrap_or(f64::NAN);
    // Chains of some milliseconds, five times.
    let n_rounds = (4000.0 / per_round).clamp(1.0, 100.0) as usize;
    let mut times = vec![];
    for _ in 0..5 {
        times.push(rig.run(dispatches, n_rounds)?.unwrap_or(f64::NAN) / (n_rounds as f64 * f64::from(rig.n_copies)));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Of the sampled rows of `result` `[T, R]`; infinite if anything is not finite.
pub(crate) fn nmse(result: &[f32], reference: &[Vec<f64>], sample: &[usize], n_rows: usize) -> f64 {
    let (mut error, mut scale) = (0.0, 0.0);
    for (&row, expected) in sample.iter().zip(reference) {
        for (t, &e) in expected.iter().enumerate() {
            let actual = f64::from(result[t * n_rows + row]);
            error += (actual - e).powi(2);
            scale += e.powi(2);
        }
    }
    if error.is_finite() { error / scale } else { f64::INFINITY }
}

fn candidates(device: &Device, problem: &Problem, forms: Forms) -> Vec<Form> {
    let (op, features, product) = (problem.op(&[]), device.features(), problem.product);
    let mut chosen: Vec<Form> = [Precision::Exact, Precision::Int8].map(|p| Form::choose(&op, &features, p)).to_vec();
    chosen.sort_by_key(|form| matches!(form, Form::VecInt8 { .. } | Form::Held { .. }));
    chosen.dedup();
    let is_new = |i: &usize| !chosen[..*i].contains(&chosen[*i]);
    chosen = (0..chosen.len()).filter(is_new).map(|i| chosen[i]).collect();
    if forms == Forms::Chosen {
        return chosen;
    }
    let mut all = chosen.clone();
    for form in chosen {
        match form {
            Form::VecF32 { shape } => all.extend(vec_shapes(shape, features).map(|shape| Form::VecF32 { shape })),
            Form::VecInt8 { shape } => all.extend(vec_shapes(shape, features).map(|shape| Form::VecInt8 { shape })),
            Form::Held { shape } => {
                let others = [8, 16, 32, 48, 64].map(|n_rows| HeldShape { n_rows, ..shape });
                let fitting = others.into_iter().filter(|shape| shape.fits(&features));
                all.extend(fitting.map(|shape| Form::Held { shape }));
            }
            Form::Sparse { .. } => {
                let shapes = [192, 256, 320, 384, 512, 640, 768, 1024].map(|workgroup| SparseShape { workgroup });
                let fitting = shapes.into_iter().filter(|shape| shape.fits(op.class.0, &features));
                all.extend(fitting.map(|shape| Form::Sparse { shape }));
            }
            Form::Tiled { .. } => {
                let others = [[16, 16], [16, 8], [8, 8], [16, 4], [32, 4], [16, 2]];
                let shapes = others.map(|[threads_m, threads_n]| TiledShape { threads_m, threads_n });
                all.extend(shapes.map(|shape| Form::Tiled { shape }));
            }
            Form::Gemm { .. } => all.extend(gemm_forms(product, features)),
        }
    }
    let mut distinct = vec![];
    for form in all {
        if !distinct.contains(&form) {
            distinct.push(form);
        }
    }
    distinct
}

/// Shapes beside the chosen one.
fn vec_shapes(shape: VecShape, features: Features) -> impl Iterator<Item = VecShape> {
    let max_lanes = if shape.in_subgroup { 2 * features.subgroup_size[0] } else { 64 };
    let lanes = [8, 16, 32, 64].into_iter().filter(move |&n| n <= max_lanes);
    lanes.flat_map(move |n_lanes| [128, 256].map(|workgroup| VecShape { workgroup, n_lanes, ..shape }))
}

/// The cooperative-matrix kernels for a product, in several shapes.
pub(crate) fn gemm_forms(product: Product, features: Features) -> Vec<Form> {
    let shapes = [
        ([4, 1], [1, 1], 64),
        ([4, 1], [1, 2], 64),
        ([2, 2], [2, 2], 64),
        ([2, 4], [2, 2], 64),
        ([2, 4], [4, 2], 64),
        ([2, 4], [4, 2], 32),
        ([2, 2], [4, 4], 32),
        ([2, 4], [4, 4], 32),
    ];
    let Some(subgroup_len) = features.matrix_subgroup_len() else { return vec![] };
    let shapes = shapes.into_iter().flat_map(|(subgroups, fragments, k_step)| {
        // Halves are not decoded from panels.
        let decodes =
            [true, false].into_iter().filter(|&decodes| !(decodes && product.sparse && product.dtype == DType::F16));
        decodes.map(move |decodes| GemmShape { subgroup_len, subgroups, fragments, k_step, n_splits: 1, decodes })
    });
    let is_wide_enough = |shape: &GemmShape| shape.tile()[1] < 2 * product.n_tokens.next_power_of_two() as u32;
    let shapes = shapes.filter(|shape| shape.fits(&features)).filter(is_wide_enough);
    let split = shapes.flat_map(|shape| [1, 2, 4, 8, 16].map(|n| shape.split(product.n_cols, n)));
    split.map(|shape| Form::Gemm { shape }).collect()
}

pub(crate) fn describe(form: Form) -> String {
    let lanes = |s: VecShape| {
        let via = if s.in_subgroup { "" } else { " no-subgroup" };
        format!("lanes={} workgroup={}{via}", s.n_lanes, s.workgroup)
    };
    match form {
        Form::VecF32 { shape } => format!("f32 {}", lanes(shape)),
        Form::VecInt8 { shape } => format!("int8 {}", lanes(shape)),
        Form::Held { shape: HeldShape { span, at_once, n_rows } } => format!("held {span}x{at_once}, {n_rows} rows"),
        Form::Sparse { shape } => format!("sparse workgroup={}", shape.workgroup),
        Form::Tiled { shape, .. } => format!("tiled {:?}", shape.tile()),
        Form::Gemm { shape } => {
            let GemmShape { subgroups: [m, n], fragments: [i, j], k_step, n_splits, decodes, .. } = shape;
            let decoded = if decodes { " decoding" } else { "" };
            format!("gemm {:?} = {m}x{n} of {i}x{j}, {k_step}, /{n_splits}{decoded}", shape.tile())
        }
    }
}
