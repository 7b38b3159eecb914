//! Checks and times the kernels of matrix products: a row per storage type, shape, number of tokens and kernel.
//!
//! `matmul_bench [--device WISH] [--all] [--sparse] [--types Q4_K,F16] [--shapes 2560x2560] [--tokens 1,8]`
//!
//! Without `--all` it measures the kernels that plans would use. The time is that of one product in a chain of products
//! that wait for each other, each with weights that are in no cache; GB/s counts the weights only. `--sparse` makes nine of ten
//! inputs zero, and lays weights out for that.

use anser_format::DType;
use anser_gpu::matmul_bench::{Forms, Product, measure};
use anser_gpu::{Device, DeviceChoice};
use anser_model::Activation;
use std::error::Error;

/// Shapes `[R, n_cols]` of the official 2.9B model: time mix, feed-forward down and up, head, low-rank down and up.
const SHAPES: [[usize; 2]; 8] =
    [[2560, 2560], [10240, 2560], [2560, 10240], [65536, 2560], [96, 2560], [320, 2560], [2560, 96], [2560, 320]];
const TYPES: [DType; 7] = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_K, DType::Q5_K, DType::Q6_K];
const TOKENS: [usize; 9] = [1, 2, 4, 8, 16, 64, 128, 512, 2048];

/// More weights than this are left out: no model has such a matrix of this type.
const MAX_N_BYTES: usize = 400 << 20;

struct Arguments {
    device: DeviceChoice,
    forms: Forms,
    sparse: bool,
    types: Vec<DType>,
    shapes: Vec<[usize; 2]>,
    tokens: Vec<usize>,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut parsed = Arguments {
        device: DeviceChoice::Auto,
        forms: Forms::Chosen,
        sparse: false,
        types: TYPES.to_vec(),
        shapes: SHAPES.to_vec(),
        tokens: TOKENS.to_vec(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--all" {
            parsed.forms = Forms::All;
            continue;
        }
        if name == "--sparse" {
            parsed.sparse = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let items = || value.split(',');
        match name.as_str() {
            "--device" => parsed.device = value.parse()?,
            "--types" => {
                let find = |name| DType::ALL.into_iter().find(|d| d.name() == name).ok_or(format!("no type {name}"));
                parsed.types = items().map(find).collect::<Result<_, _>>()?;
            }
            "--shapes" => {
                let parse = |shape: &str| -> Result<[usize; 2], Box<dyn Error>> {
                    let (rows, cols) = shape.split_once('x').ok_or("a shape is ROWSxCOLUMNS")?;
                    Ok([rows.parse()?, cols.parse()?])
                };
                parsed.shapes = items().map(parse).collect::<Result<_, _>>()?;
            }
            "--tokens" => parsed.tokens = items().map(str::parse).collect::<Result<_, _>>()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(parsed)
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { device, forms, sparse, types, shapes, tokens } = arguments()?;
    let device = Device::open(&device)?;
    println!("{}; {}", device.reason(), device.report().driver);
    println!(
        "type  rows×columns   T    | kernel                                   |    NMSE  |       µs | with input |   GB/s | TFLOP/s"
    );
    for [n_rows, n_cols] in shapes {
        for &dtype in &types {
            if dtype.row_n_bytes(n_cols).is_none_or(|n| n * n_rows > MAX_N_BYTES) {
                continue;
            }
            for &n_tokens in &tokens {
                let activation = Activation::Identity;
                let product =
                    Product { dtype, n_rows, n_cols, n_tokens, bias: false, activation, residual: true, sparse };
                for m in measure(&device, product, forms)? {
                    let name = format!("{:<5} {:<14} {:<4}", dtype.name(), format!("{n_rows}x{n_cols}"), n_tokens);
                    let (gb_per_s, tflop_per_s) =
                        (m.n_bytes as f64 / m.elapsed_us / 1e3, m.n_flops / m.elapsed_us / 1e6);
                    let mark = if m.nmse < 1e-3 { "" } else { " WRONG" };
                    println!(
                        "{name} | {:<40} | {:8.1e} | {:8.2} | {:10.2} | {gb_per_s:6.0} | {tflop_per_s:7.2}{mark}",
                        m.form, m.nmse, m.elapsed_us, m.with_input_us
                    );
                }
            }
        }
    }
    Ok(())
}
