//! `anser-synth`: writes a synthetic RWKV model as GGUF, as `.pth` or as a Hugging Face folder.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anser_synth::{FileType, Form, Shape, Synth};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Writes an RWKV model with random weights, an official shape and the World vocabulary: as .pth if the name ends so, as a Hugging
/// Face folder if it ends with a slash, else as GGUF. RWKV-4 and RWKV-5 have no GGUF form, and only RWKV-7 is written as a folder.
///
/// The file loads in every program that loads a real model of the shape, and is as fast; its texts make no sense.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Size: of RWKV-7 tiny, 0.1b, 0.4b, 1.5b, 2.9b, 7.2b or 13.3b; of RWKV-6 v6-tiny, v6-0.1b, v6-1.6b, v6-3b or v6-7b; of RWKV-5
    /// v5-tiny, v5-0.1b, v5-0.4b, v5-1.5b, v5-3b or v5-7b; of RWKV-4 v4-tiny, v4-169m, v4-430m, v4-1.5b, v4-3b, v4-7b or v4-14b.
    shape: Shape,
    /// File to write, or a folder.
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
    let is_folder = args.out.as_os_str().to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR]);
    let form = match args.out.extension() {
        _ if is_folder => Form::Folder,
        Some(ending) if ending == "pth" => Form::Pth,
        _ => Form::Gguf,
    };
    synth.check(form)?; // This comes before a file of that name is overwritten.
    let bar =
        ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left")?);

    let start = Instant::now();
    let in_file = |error| format!("{}: {error}", args.out.display());
    let path = if is_folder { args.out.join("model.safetensors") } else { args.out.clone() };
    if is_folder {
        std::fs::create_dir_all(&args.out).map_err(|error| in_file(error.to_string()))?;
        std::fs::write(args.out.join("config.json"), synth.config()).map_err(|error| in_file(error.to_string()))?;
    }
    let file = File::create(&path).map_err(|error| in_file(error.to_string()))?;
    let on_progress = |n_bytes, n_bytes_in_all| {
        bar.set_length(n_bytes_in_all);
        bar.set_position(n_bytes);
    };
    let written = match form {
        Form::Gguf => synth.write(&file, on_progress).map(drop),
        Form::Pth => synth.write_pth(&file, on_progress).map(drop),
        Form::Folder => synth.write_safetensors(&file, on_progress).map(drop),
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
