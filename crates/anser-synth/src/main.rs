//! `anser-synth`: writes a synthetic RWKV-7 model as GGUF or as `.pth`.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anser_synth::{FileType, Shape, Synth};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Writes an RWKV-7 model with random weights, an official shape and the World vocabulary as GGUF, or as .pth if the file's name
/// ends so.
///
/// The file loads in every program that loads a real model of the shape, and is as fast; its texts make no sense.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Size: tiny, 0.1b, 0.4b, 1.5b, 2.9b, 7.2b or 13.3b.
    shape: Shape,
    /// File to write.
    out: PathBuf,
    /// Element types: f16, q8_0, q4_k_m, q5_k_m or q6_k.
    #[arg(long = "type", default_value = "f16")]
    file_type: FileType,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Fraction of zeros among feed-forward activations, 0.05 to 0.99 (default: that of random weights, about 0.5).
    #[arg(long)]
    sparsity: Option<f64>,
    /// Number of layers, if it is to differ from the shape's.
    #[arg(long)]
    layers: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anser-synth: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut shape = args.shape;
    shape.n_layer = args.layers.unwrap_or(shape.n_layer);
    let synth = Synth { shape, file_type: args.file_type, seed: args.seed, sparsity: args.sparsity };
    synth.check()?; // This comes before a file of that name is overwritten.
    let bar =
        ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left")?);

    let start = Instant::now();
    let in_file = |error| format!("{}: {error}", args.out.display());
    let file = File::create(&args.out).map_err(|error| in_file(error.to_string()))?;
    let on_progress = |n_bytes, n_bytes_in_all| {
        bar.set_length(n_bytes_in_all);
        bar.set_position(n_bytes);
    };
    let written = match args.out.extension().is_some_and(|ending| ending == "pth") {
        true => synth.write_pth(&file, on_progress).map(drop),
        false => synth.write(&file, on_progress).map(drop),
    };
    bar.finish_and_clear();
    written.map_err(|error| in_file(error.to_string()))?;

    let n_weights: usize = synth.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    println!(
        "{}: {:.1} M weights, {} bytes, {:.1} s",
        args.out.display(),
        n_weights as f64 / 1e6,
        file.metadata()?.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
