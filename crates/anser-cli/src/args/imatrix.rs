//! The arguments of `anser imatrix`.

use super::ModelArgs;
use super::numbers::whole;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Measure which columns of a model's matrices matter, for quantizing
///
/// Reads a text and sums, for every matrix, the squares of what each of its columns is multiplied with. `anser quantize --imatrix` and
/// llama-quantize then make the errors of columns with large inputs small. The text is read in pieces, each from a fresh state, on the
/// processor. It should be like what the model is for; some 50,000 tokens are plenty. Ctrl-C writes the matrix of the pieces read so far,
/// and --resume goes on from there.
#[derive(Debug, Args)]
#[command(after_help = IMATRIX_HELP, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ImatrixArgs {
    /// The text; - reads standard input
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) file: Option<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "OUT", required = true)]
    pub(crate) out: Option<PathBuf>,
    /// The number of tokens of a piece of text; the last one may be shorter
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "512")]
    #[arg(value_parser = whole::<u32>(1, 1 << 20))]
    pub(crate) chunk: u32,
    /// The most pieces to read; without it the whole text
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, 1 << 24))]
    pub(crate) chunks: Option<u32>,
    /// The form of the file: gguf, or dat, the older one
    #[arg(long, value_name = "FORMAT", default_value = "gguf")]
    pub(crate) format: MatrixFormat,
    /// If OUT is there, made of the first pieces of this text, go on with the next piece
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print one JSON object; see below
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(subcommand)]
    pub(crate) what: Option<ImatrixWhat>,
}

const IMATRIX_HELP: &str = "\
Examples:
  anser imatrix -m model-f16.gguf --file text.txt --out imatrix.gguf
  anser quantize model-f16.gguf model-q4_k_m.gguf --type Q4_K_M --imatrix imatrix.gguf
  anser imatrix merge stories.gguf chats.gguf --out both.gguf

The JSON object of --json:
  out         the file
  n_entries   matrices in it
  n_chunks    pieces of text in it, those of an earlier run included
  n_tokens    tokens that this run has read
  elapsed_ms  time for them";

#[derive(Debug, Subcommand)]
pub(crate) enum ImatrixWhat {
    Merge(MergeArgs),
}

/// Join importance matrices of several texts
///
/// Sums and counts of the files are added. They must be of one model and made with pieces of one length.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The files, in either form
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// The number of tokens of a piece of text, which .dat files do not say: needed to join them with GGUF files or to write GGUF
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, 1 << 20))]
    pub(crate) chunk: Option<u32>,
    /// The form of the file: gguf, or dat, the older one
    #[arg(long, value_name = "FORMAT", default_value = "gguf")]
    pub(crate) format: MatrixFormat,
    /// Print one JSON object: out, n_entries, n_chunks (null if a file does not say it)
    #[arg(long)]
    pub(crate) json: bool,
}

/// The form of an importance matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixFormat {
    /// GGUF, as llama-imatrix writes it
    Gguf,
    /// The older form
    Dat,
}
