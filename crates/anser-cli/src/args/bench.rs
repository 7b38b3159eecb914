//! The arguments of `anser bench`.

use super::ModelArgs;
use super::numbers::{percent, whole};
#[cfg(feature = "serve")]
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Measure how fast a model runs here
///
/// Every run loads the model anew, checks that all logits are finite numbers, and measures what is listed below.
/// Prints medians, least and greatest values over the runs.
#[derive(Debug, Args)]
#[command(after_help = BENCH_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    /// The number of tokens of the prompt
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value = "512")]
    #[arg(value_parser = whole::<usize>(1, 1 << 20))]
    pub(crate) prompt: usize,
    /// The number of tokens to generate
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value = "128")]
    #[arg(value_parser = whole::<usize>(1, 1 << 20))]
    pub(crate) r#gen: usize,
    /// The number of runs
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "3")]
    #[arg(value_parser = whole::<usize>(1, 1000))]
    pub(crate) runs: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Instead time every kernel of the GPU on its own, in a step of one token and in one of --prompt tokens
    #[arg(long, conflicts_with = "json")]
    pub(crate) profile: bool,
    /// Measure nothing: compare two files that --json wrote, and end with exit code 3 if B is slower than A; see below
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    #[arg(conflicts_with_all = ["model", "OpeningArgs", "prompt", "gen", "runs", "json", "profile"])]
    pub(crate) compare: Vec<PathBuf>,
    /// The least noise of a figure, in percent, that --compare assumes; see below
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, default_value = "3", value_parser = percent)]
    #[arg(requires = "compare")]
    pub(crate) noise: f64,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(subcommand)]
    pub(crate) what: Option<BenchWhat>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchWhat {
    Kernels(BenchKernelsArgs),
    Engine(BenchEngineArgs),
    #[cfg(feature = "serve")]
    Serve(BenchServeArgs),
}

/// Clients that each send a request, wait for the whole text, and send the next one.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The numbers of clients, separated by commas
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,8,64", value_parser = whole::<usize>(1, 1024))]
    pub(crate) clients: Vec<usize>,
    /// The number of tokens of each prompt
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value = "256")]
    #[arg(value_parser = whole::<usize>(1, 1 << 20))]
    pub(crate) prompt: usize,
    /// The number of tokens to generate for each request
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value = "128")]
    #[arg(value_parser = whole::<usize>(1, 1 << 20))]
    pub(crate) r#gen: usize,
    /// The number of requests of each client in a run
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "2")]
    #[arg(value_parser = whole::<usize>(1, 1000))]
    pub(crate) requests: usize,
    /// The number of runs
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "3")]
    #[arg(value_parser = whole::<usize>(1, 1000))]
    pub(crate) runs: usize,
    /// Print one JSON object, which anser bench --compare reads
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measure how fast many clients are served at once
///
/// Each client sends a request, waits for the whole text, and sends the next one, so that as many texts are generated at a time as there
/// are clients; each has a prompt of its own. Prints medians, least and greatest values over the runs.
#[derive(Debug, Args)]
#[command(after_help = BENCH_ENGINE_HELP)]
pub(crate) struct BenchEngineArgs {
    #[command(flatten)]
    pub(crate) clients: ClientArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// Measure a server of the OpenAI API with many clients at once
///
/// Starts `anser serve` on a free port of this machine, or measures the server at --url, which may be any that speaks the OpenAI API.
/// Each client sends a completion over HTTP, waits for the end of its stream, and sends the next one; every prompt is one that the server has
/// not seen. Prints medians, least and greatest values over the runs.
#[cfg(feature = "serve")]
#[derive(Debug, Args)]
#[command(after_help = BENCH_SERVE_HELP)]
pub(crate) struct BenchServeArgs {
    #[command(flatten)]
    pub(crate) clients: ClientArgs,
    /// The number of turns of a chat, whose first and last one are measured, 64 tokens a message; 0 measures none
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "10", value_parser = whole::<usize>(0, 1000))]
    pub(crate) turns: usize,
    /// Measure the server at this address, like http://127.0.0.1:8080/v1, which has the model of --model; ANSER_API_KEY holds its key
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) url: Option<String>,
    /// The name of the model in requests [default: that of its file, without the ending]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[cfg(feature = "serve")]
const BENCH_SERVE_HELP: &str = "\
Measured in every run, for each number N of clients:
  clients_N_tps                tokens generated for all clients, per second
  clients_N_first_token_p50_ms from sending a request to its first text: half of the requests wait no longer; p99: 99 of 100
  clients_N_between_p50_ms     from one event with text to the next; p99 likewise
  turn_N_first_token_ms        of a chat of one client, from sending turn N to the first text of its answer

Examples:
  anser bench serve -m model.gguf --clients 1,8,64
  anser bench serve -m model.gguf --prompt 2000 --turns 0 --json > ours.json
  anser bench serve -m model.gguf --prompt 2000 --turns 0 --json --url http://127.0.0.1:9000/v1 > theirs.json
  anser bench --compare theirs.json ours.json";

const BENCH_ENGINE_HELP: &str = "\
Measured in every run, for each number N of clients:
  clients_N_tps                tokens generated for all clients, per second
  clients_N_first_token_p50_ms from sending a request to its first token: half of the requests wait no longer; p99: 99 of 100
  clients_N_between_p50_ms     from one token of a text to the next; p99 likewise
  batch_N_tps                  the same requests in one call of generate_batch, prompts included

Examples:
  anser bench engine -m model.gguf --clients 1,8,64
  anser bench engine --clients 8 --prompt 64 --gen 32 --runs 5 --json > after.json";

/// Check and time every kernel of a GPU on its own
///
/// Prints a row for each product of the official 2.9B model and for each case that the tests use: the error against the plain loops
/// or 64-bit arithmetic, the time, and the rates in bytes and operations a second.
#[derive(Debug, Args)]
pub(crate) struct BenchKernelsArgs {
    /// The GPU to measure: gpu, gpu:NUMBER or gpu:NAME
    #[arg(long, value_name = "DEVICE", default_value = "gpu")]
    pub(crate) device: anser::DeviceChoice,
    /// Measure every shape that the kernels of products can run in
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON object a row
    #[arg(long)]
    pub(crate) json: bool,
}

const BENCH_HELP: &str = "\
Measured once:
  open_device_ms  start the GPU's driver; models that are loaded while it is open do not wait for it
Measured in every run:
  load_ms         open the file, check it, allocate memory on the device, make a session
  resident_ms     from the same start until all weights are on the device
  first_token_ms  right after that: read 32 tokens and choose the first token
  prefill_tps     read the prompt from a fresh state for the second time, logits of its last token; tokens per second
  decode_tps      continue from it token by token, always the most likely one; tokens per second
  generate_tps    generate as `anser generate` does, always the most likely token; tokens per second
  sample_tps      the same with tokens drawn as by default
  embed_ms        embed 212 tokens, the last token's row; this and the next two are medians of three calls after a first one
  embed_batch_ms  embed six texts of 32 tokens in one call
  state_ms        copy the state of a session out
  batch_8_tps     read a token of each of 8 sequences in a step, logits of all; tokens per second in all
  batch_64_tps    the same with 64 sequences
  generate_8_tps  generate 8 texts side by side, always the most likely tokens; tokens per second in all
  generate_64_tps the same with 64 texts
Measured once, on Linux (elsewhere null):
  load_anon_mib   anonymous memory that the first load added; the mapped model file is not anonymous
  peak_anon_mib   most anonymous memory at any time of all runs, looked at every 10 ms
  peak_rss_mib    most resident memory of the process, the model file's pages in RAM included
On a GPU, after the prompt and the generations of the last run:
  gpu_weights_mib   weights on the device, the embedding table of generations included
  gpu_states_mib    states of sequences
  gpu_scratch_mib   all other memory on the device: values of a step, staging buffers
  gpu_reserved_mib  the memory that the allocator took from the driver for all of these; this and scratch are null if it does not
                    tell
On a hardware GPU with a clock, if no weights stream:
  copy_gb_per_s     bytes read plus bytes written of a large copy on the device, in 10^9 a second
  gemm_tflop_per_s  the best product of two matrices of halves, 10^12 multiplications and additions a second
  decode_of_copy    part of copy_gb_per_s that generate_tps reaches (decode_tps where that is unknown): every weight and
                    the state are read, the state is written
  prefill_of_gemm   part of gemm_tflop_per_s that prefill_tps reaches: two operations for each number of a matrix

--json also prints where the figures come from:
  version, commit  what the command was built from; +changes where the sources differed from the commit, unknown where the
                   build saw no repository
  date             when the measurement began, in UTC
  device           the device and why it was chosen; device_name, backend, driver: null where they are not known
  model            the file as it was named; model_n_bytes, title; dtype: storage types, the one with the most bytes first

--compare A B prints, for each figure, B's median over A's (for times A's over B's): above 1 B is the better one. In brackets
are B's worst run against A's best, and B's best run against A's worst. A figure is a loss if this ratio of the medians is less
than 1 by more than the figure's noise: the largest of --noise percent and, for each file, the difference between the greatest and
the least run in percent of the median. With less than 5 runs a loss may be chance. Figures that were measured once are shown and
not judged. A file may hold the JSON objects of several models, prompts and lengths. Both files must hold the same ones, with the
same figures, or the command fails with exit code 1 and lists what only one of them has.

Examples:
  anser bench -m model.gguf --prompt 512 --gen 128 --runs 5 --json > before.json
  anser bench --compare before.json after.json";
