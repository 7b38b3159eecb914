//! The arguments of `anser compare`.

use super::OpeningArgs;
use super::numbers::whole;
use clap::Args;
use std::path::PathBuf;

/// Measure how far a quantized model is from the one that it was made from
///
/// Reads a text with both. Prints both perplexities, the Kullback-Leibler divergence of B's distributions from A's over the tokens, at how
/// many tokens both find the same token most likely, and how far each kind of weights of B is from A's. Both must have one vocabulary.
#[derive(Debug, Args)]
#[command(after_help = COMPARE_HELP)]
pub(crate) struct CompareArgs {
    /// The model to compare with, as for --model of other commands
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// The model that is compared with it
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,
    /// The text; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Read the text in pieces of this many tokens, each from a fresh state; without it, and without --chunks, as a whole
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>(2, 1 << 20))]
    pub(crate) chunk: Option<usize>,
    /// Read this many pieces at most, of 512 tokens unless --chunk says another number
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>(1, 1 << 24))]
    pub(crate) chunks: Option<usize>,
    /// Print one JSON object; see below
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw the weights' errors by layer as an SVG picture into this file
    #[arg(long, value_name = "OUT.svg")]
    pub(crate) plot: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) opening: OpeningArgs,
}

const COMPARE_HELP: &str = "\
Examples:
  anser compare model-f16.gguf model-q4_k_m.gguf --file held-out.txt
  anser compare model-f16.gguf model-q4_k_m.gguf --file held-out.txt --exact --plot errors.svg
  anser compare hf:OWNER/REPO small.gguf --file held-out.txt --chunks 8 --json

Without --exact products of quantized weights round activations to 8 bits, and the figures contain what that costs.

The JSON object of --json:
  a, b        of each model: model (its file), perplexity, mean_nll (nats per token)
  n_compared  tokens
  kl          mean, median, p99 (the value that 99 % of the tokens do not exceed), max; nats
  same_top    share of the tokens at which both find the same token most likely
  weights     for each weight of both: name, shape, type_a, type_b, relative_error: √(Σ (b − a)² / Σ a²), null where only A's numbers
              are all 0
  unmatched   names of weights that only one has, or that have other shapes
  elapsed_ms";
