//! `anser bench kernels`

use crate::args::BenchKernelsArgs;
use crate::output::Output;
use crate::report::Failure;
use anser::{KernelRow, measure_kernels};
use serde::Serialize;
use std::ops::ControlFlow;

/// The JSON object of a row.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    kernel: &'a str,
    nmse: f64,
    elapsed_us: f64,
    gb_per_s: f64,
    tflop_per_s: f64,
}

pub(super) fn run(args: &BenchKernelsArgs) -> Result<(), Failure> {
    let mut output = Output::new();
    if !args.json {
        output.write(format!(
            "{:<44} {:<40} {:>8} {:>9} {:>7} {:>7}\n",
            "operation", "kernel", "NMSE", "µs", "GB/s", "TFLOP/s"
        ))?;
    }
    let mut failed = Ok(());
    let ceilings = measure_kernels(&args.device, args.all, |row| {
        failed = if args.json { output.write_json(&wire(&row)) } else { output.write(line(&row)) };
        if failed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    failed?;
    if args.json {
        let anser::Ceilings { copy_gb_per_s, gemm_tflop_per_s } = ceilings;
        return output
            .write_json(&serde_json::json!({ "copy_gb_per_s": copy_gb_per_s, "gemm_tflop_per_s": gemm_tflop_per_s }));
    }
    output.write(format!(
        "a copy on the device moves {:.0} GB/s, reading and writing; the best product does {:.1} TFLOP/s\n",
        ceilings.copy_gb_per_s, ceilings.gemm_tflop_per_s
    ))
}

fn wire(row: &KernelRow) -> Row<'_> {
    let KernelRow { name, kernel, nmse, elapsed_us, n_bytes, n_flops } = row;
    let (gb_per_s, tflop_per_s) = (n_bytes / elapsed_us / 1e3, n_flops / elapsed_us / 1e6);
    Row { name, kernel, nmse: *nmse, elapsed_us: *elapsed_us, gb_per_s, tflop_per_s }
}

fn line(row: &KernelRow) -> String {
    let Row { name, kernel, nmse, elapsed_us, gb_per_s, tflop_per_s } = wire(row);
    format!("{name:<44} {kernel:<40} {nmse:>8.1e} {elapsed_us:>9.2} {gb_per_s:>7.0} {tflop_per_s:>7.2}\n")
}
