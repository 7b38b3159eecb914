//! The arguments of `anser convert` and `anser quantize`.

use super::numbers::{file_size, positive, whole};
use anser::Lora;
use anser_convert::{FileType, FloatType, TypeRule};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Write a model in another program's layout
///
/// Reads every kind of file that Anser runs: .pth, folders of Hugging Face's, web-rwkv's .st, safetensors, GGUF. Writes GGUF as llama.cpp's converter
/// does (RWKV-6, RWKV-7), or .st as web-rwkv's (RWKV-4 to RWKV-7). The file appears when it is complete; a
/// conversion that fails or is interrupted leaves nothing. It takes some megabytes of memory for each core.
#[derive(Debug, Args)]
#[command(after_help = CONVERT_HELP)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    pub(crate) paths: PathsArgs,
    /// The layout; without it the one that OUT ends in: .gguf, or .st or .safetensors
    #[arg(long, value_name = "LAYOUT")]
    pub(crate) to: Option<Layout>,
    /// The type of the matrices in a GGUF file: f16, bf16 or f32; without it that of IN, f16 if IN is quantized. A .st file has f16 alone
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) float: Option<FloatType>,
    /// Merge an adapter (LoRA, PiSSA, Bone) into the weights that are written, which lie in memory until then; FILE as for anser generate. May be
    /// given several times
    #[arg(long, value_name = "FILE[:SCALE]", value_parser = super::groups::lora)]
    pub(crate) lora: Vec<Lora>,
    #[command(flatten)]
    pub(crate) vocab: VocabArgs,
}

const CONVERT_HELP: &str = "\
Examples:
  anser convert rwkv7-g1-2.9b.pth rwkv7-g1-2.9b.gguf
  anser convert RWKV7-G1k-2.9B/ model.gguf --type bf16      a folder of Hugging Face's
  anser convert model.pth model.st                          for web-rwkv and Ai00
  anser convert model.pth tuned.gguf --lora lora.pth:alpha=32

docs/convert.md has what becomes of each tensor.";

/// Make a model smaller, as llama-quantize does
///
/// Reads what convert reads and writes GGUF. Matrices get the type that llama-quantize gives them; vectors and the small low-rank matrices keep
/// theirs. All cores work, and it takes some megabytes of memory for each. The file appears when it is complete.
#[derive(Debug, Args)]
#[command(after_help = QUANTIZE_HELP)]
pub(crate) struct QuantizeArgs {
    #[command(flatten)]
    pub(crate) paths: PathsArgs,
    /// The mix of types: Q4_K_M, Q4_K_S, Q5_K_M, Q5_K_S, Q6_K, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q3_K_S, Q3_K_M, Q3_K_L, Q2_K, Q2_K_S, IQ4_NL, IQ4_XS, or
    /// F16, BF16, F32
    #[arg(long = "type", value_name = "TYPE", required_unless_present_any = ["size", "target_kl"])]
    pub(crate) file_type: Option<FileType>,
    #[command(flatten)]
    pub(crate) mix: MixArgs,
    /// An importance matrix of anser imatrix or llama-imatrix, GGUF or .dat: the errors of columns whose input is large count more
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
    /// Another type for the matrices whose name in GGUF the pattern matches; * stands for any text, of several the last one counts
    #[arg(long = "tensor", value_name = "PATTERN=TYPE")]
    pub(crate) rules: Vec<TypeRule>,
    /// Quantize tensors that are quantized already: what they have lost is lost, and more is lost
    #[arg(long)]
    pub(crate) allow_requantize: bool,
    #[command(flatten)]
    pub(crate) vocab: VocabArgs,
}

/// A mix of types of its own.
#[derive(Debug, Args)]
#[command(next_help_heading = "A mix of its own")]
pub(crate) struct MixArgs {
    /// Instead of --type: choose a type for each matrix such that the file has at most this many bytes (letters K, M, G stand for powers of
    /// 1024: 1.9G) and the model's distributions change least
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = file_size, conflicts_with = "file_type")]
    pub(crate) size: Option<u64>,
    /// Instead of --type: the smallest file whose distributions differ from the model's by at most this Kullback-Leibler divergence on the
    /// calibration text, in nats, like 0.005
    #[arg(long, value_name = "NATS", allow_negative_numbers = true, value_parser = positive, requires = "calibrate")]
    #[arg(conflicts_with_all = ["file_type", "size"])]
    pub(crate) target_kl: Option<f64>,
    /// Measure on this text what the errors of each matrix do to the model's distributions: the model is run once for each matrix or group
    /// of matrices. Without it errors count as they did with the demo model, relative to what the matrices multiply
    #[arg(long, value_name = "FILE", conflicts_with = "file_type")]
    pub(crate) calibrate: Option<PathBuf>,
    /// The number of tokens of the calibration text that are read each time, in pieces of 256 from all parts of it; each takes 262 kB of memory
    /// with RWKV's own vocabulary
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "1024", requires = "calibrate")]
    #[arg(value_parser = whole::<usize>(16, 1 << 20))]
    pub(crate) calibrate_tokens: usize,
    /// The number of threads that run the model for --calibrate; without it ANSER_THREADS, else OMP_NUM_THREADS, else one per core
    #[arg(long, value_name = "N", allow_negative_numbers = true, requires = "calibrate")]
    #[arg(value_parser = whole::<usize>(1, 1 << 12))]
    pub(crate) threads: Option<usize>,
    /// Print what was chosen and measured as one JSON object; see below
    #[arg(long, conflicts_with = "file_type")]
    pub(crate) json: bool,
}

const QUANTIZE_HELP: &str = "\
Examples:
  anser quantize model-f16.gguf model-q4_k_m.gguf --type Q4_K_M
  anser quantize model.pth model-q6_k.gguf --type Q6_K --imatrix imatrix.gguf
  anser quantize model.pth model.gguf --type Q4_K_M --tensor 'output.weight=Q8_0' --tensor 'blk.0.*=Q6_K'
  anser quantize model-f16.gguf model-1.9g.gguf --size 1.9G --imatrix imatrix.gguf --calibrate text.txt
  anser quantize model-f16.gguf model-good.gguf --target-kl 0.002 --calibrate text.txt

The JSON object of --json:
  n_bytes       of the file
  expected_kl   the sum of what the matrices' errors cost by the measurements, nats; null without --calibrate
  measured_kl   of the whole mix on the calibration text, nats; null without --calibrate
  types         for each matrix: name, type, relative_error (√(Σ w (q − x)² / Σ w x²) for importances w), and cost: what its error costs

docs/convert.md has the types, their sizes and the rules.";

/// What is read and what is written.
#[derive(Debug, Args)]
pub(crate) struct PathsArgs {
    /// The model: a file, a folder, its name hf:OWNER/REPO on a hub, or demo
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Ask no hub for a model hf:OWNER/REPO: take it from the cache, or fail [env: HF_HUB_OFFLINE=1]
    #[arg(long)]
    pub(crate) offline: bool,
}

/// The tokens of a GGUF file.
#[derive(Debug, Args)]
pub(crate) struct VocabArgs {
    /// The vocabulary of a model that carries none and does not have the World one: a file like rwkv_vocab_v20230424.txt, or none to leave the tokens
    /// out
    #[arg(long, value_name = "FILE")]
    pub(crate) vocab: Option<PathBuf>,
}

/// A layout that models are converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// GGUF as llama.cpp's converter writes it
    Gguf,
    /// safetensors as web-rwkv's converter writes it
    St,
}
