//! The command line: its commands and options, and the help that explains them.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help of the command, with shapes in brackets")]

mod bench;
mod compare;
mod convert;
mod embed;
mod groups;
mod imatrix;
mod numbers;
#[cfg(feature = "serve")]
mod serve;
mod usage;

#[cfg(feature = "serve")]
pub(crate) use bench::BenchServeArgs;
pub(crate) use bench::{BenchArgs, BenchEngineArgs, BenchKernelsArgs, BenchWhat, ClientArgs};
pub(crate) use compare::CompareArgs;
pub(crate) use convert::{ConvertArgs, Layout, MixArgs, PathsArgs, QuantizeArgs, VocabArgs};
pub(crate) use embed::{EmbedArgs, Head, Pooling, RerankArgs};
pub(crate) use groups::{
    GenerationArgs, GrammarArgs, ModelArgs, OpeningArgs, TokensArgs, about_to_open, load, not_run,
};
pub(crate) use imatrix::{ImatrixArgs, ImatrixWhat, MatrixFormat, MergeArgs};
#[cfg(feature = "serve")]
pub(crate) use serve::{NamedAdapter, ServeArgs, TunedState};
pub(crate) use usage::parse;

use crate::input::TokenIds;
use anser::Device;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use numbers::{bound, max_tokens, whole};
use std::ffi::OsString;
use std::path::PathBuf;

/// Run RWKV language models: generate text, chat, embed, inspect, measure.
///
/// Results go to standard output, everything else to standard error. Without --model the built-in demo model is used: it
/// is small and trained on synthetic stories, chats and e-mails. Real models are GGUF, safetensors or .pth files of RWKV-4 to RWKV-7,
/// here or on a Hugging Face hub.
#[derive(Debug, Parser)]
#[command(name = "anser", version, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(subcommand_required = true, args_override_self = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  anser generate \"Once upon a time\"          with the built-in demo model
  anser generate -m rwkv7-g1-0.4b-q8_0.gguf -n 100 --temperature 0 \"The Eiffel tower\"
  anser chat -m rwkv7-g1-2.9b-q4_k_m.gguf     talk with a model; /help lists what else it can do
  anser chat -m hf:OWNER/REPO                 download a model from a Hugging Face hub, once, and talk with it
  anser serve -m model.gguf                   answer clients of the OpenAI API on http://127.0.0.1:8080/v1
  anser inspect model.gguf                    what is in a file
  anser quantize model.pth small.gguf --type Q4_K_M
  anser bench -m model.gguf                   how fast it runs here

Exit codes:
  0    done (also when the reader of a pipe closes it)
  1    failed: a file, a device, damaged numbers; one line on standard error says what to do
  2    the arguments cannot be followed
  3    anser bench --compare found figures that are worse by more than the noise
  130  interrupted by Ctrl-C; what was generated until then has been printed
  129  ended by SIGHUP, 143 by SIGTERM; a chat leaves its terminal as it was";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Generate(GenerateArgs),
    Chat(ChatArgs),
    #[cfg(feature = "serve")]
    Serve(ServeArgs),
    Tokenize(TokenizeArgs),
    Logits(LogitsArgs),
    Embed(EmbedArgs),
    Rerank(RerankArgs),
    State(StateArgs),
    Perplexity(PerplexityArgs),
    Compare(CompareArgs),
    Inspect(InspectArgs),
    Convert(ConvertArgs),
    Quantize(QuantizeArgs),
    Imatrix(ImatrixArgs),
    Bench(BenchArgs),
    Tune(TuneArgs),
    Devices(DevicesArgs),
    SelfTest(SelfTestArgs),
    DebugPlan(DebugPlanArgs),
    Completions(CompletionsArgs),
    #[command(hide = true)]
    Pages(PagesArgs),
}

impl Command {
    /// The models that the command opens, and whether they may be had from the cache of a hub alone.
    pub(crate) fn models(&mut self) -> (Vec<&mut PathBuf>, bool) {
        fn of(model: &mut ModelArgs) -> (Vec<&mut PathBuf>, bool) {
            (vec![&mut model.model], model.opening.offline)
        }
        match self {
            Command::Generate(args) => {
                let (mut models, offline) = of(&mut args.model);
                models.extend(&mut args.draft);
                (models, offline)
            }
            Command::Chat(args) => of(&mut args.model),
            #[cfg(feature = "serve")]
            Command::Serve(args) => (args.models.iter_mut().collect(), args.opening.offline),
            Command::Tokenize(args) => (args.model.iter_mut().collect(), args.offline),
            Command::Logits(args) => of(&mut args.model),
            Command::Embed(args) => of(&mut args.model),
            Command::Rerank(args) => {
                let (mut models, offline) = of(&mut args.model);
                models.push(&mut args.reranker);
                (models, offline)
            }
            Command::State(args) => of(&mut args.model),
            Command::Perplexity(args) => of(&mut args.model),
            Command::Compare(args) => (vec![&mut args.a, &mut args.b], args.opening.offline),
            Command::Inspect(args) => (vec![&mut args.model], args.offline),
            Command::Convert(ConvertArgs { paths, .. }) | Command::Quantize(QuantizeArgs { paths, .. }) => {
                (vec![&mut paths.input], paths.offline)
            }
            Command::Bench(args) => match &mut args.what {
                Some(BenchWhat::Engine(args)) => of(&mut args.model),
                #[cfg(feature = "serve")]
                Some(BenchWhat::Serve(args)) => of(&mut args.model),
                None if args.compare.is_empty() => of(&mut args.model),
                Some(BenchWhat::Kernels(_)) | None => (vec![], false),
            },
            Command::Imatrix(args) if args.what.is_none() => of(&mut args.model),
            Command::Imatrix(_) => (vec![], false),
            Command::Tune(args) => of(&mut args.model),
            Command::DebugPlan(args) => of(&mut args.model),
            Command::Devices(_) | Command::SelfTest(_) | Command::Completions(_) | Command::Pages(_) => (vec![], false),
        }
    }
}

/// Continue a text
///
/// Standard output gets the generated text and nothing else, piece by piece. The text ends after -n tokens, at a --stop text,
/// or where the model ends the document.
#[derive(Debug, Args)]
#[command(after_help = GENERATE_HELP)]
pub(crate) struct GenerateArgs {
    /// The most tokens to generate; -1 sets no limit
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, default_value = "256")]
    #[arg(value_parser = max_tokens)]
    pub(crate) max_tokens: usize,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// Print the prompt before the text
    #[arg(long)]
    pub(crate) echo: bool,
    /// Print one JSON object at the end instead of streaming text; see below
    #[arg(long)]
    pub(crate) json: bool,
    /// On the processor: propose tokens that followed the last ones earlier in the prompt or the text, and verify several in one step.
    /// The text is the same; one that repeats much of its prompt takes less time
    #[arg(long)]
    pub(crate) lookup: bool,
    /// On the processor: a smaller model with the same vocabulary, given like the model, that proposes tokens, of which several are verified
    /// in one step. The text is the same. It rests where texts would take longer with it
    #[arg(long, value_name = "MODEL")]
    pub(crate) draft: Option<PathBuf>,
    /// The number of tokens that the draft model proposes at a time; without it as many as save time by what is measured
    #[arg(long, value_name = "N", allow_negative_numbers = true, requires = "draft", value_parser = whole::<usize>(1, 32))]
    pub(crate) draft_tokens: Option<usize>,
    /// With --json or --prompts: print the log-probability of each token, and the K most likely tokens in its place
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = whole::<usize>(0, 1000))]
    pub(crate) logprobs: Option<usize>,
    /// Continue many texts side by side: a line of this file is a JSON object with a prompt, and gives a line of output; - reads
    /// standard input. See below
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "echo", "json"])]
    pub(crate) prompts: Option<PathBuf>,
    /// The most texts of --prompts that are generated at a time
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "32", requires = "prompts")]
    #[arg(value_parser = whole::<usize>(1, 1024))]
    pub(crate) jobs: usize,
    /// Continue from a state that `anser state`, or /save in a chat, wrote, or begin with a state-tuned file
    #[arg(long, value_name = "STATE")]
    pub(crate) from: Option<PathBuf>,
    /// The text to continue; - reads standard input. Without one the model begins a document, or continues from
    /// the state given with --from
    pub(crate) prompt: Option<OsString>,
    #[command(flatten)]
    pub(crate) grammar: GrammarArgs,
    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const GENERATE_HELP: &str = "\
Examples:
  anser generate \"Once upon a time\"
  anser generate -m model.gguf --temperature 0 --stop $'\\n\\n' \"Question: Why? Answer:\"
  anser generate -m model.gguf --seed 7 --json - < prompt.txt
  anser state -m model.gguf --text \"$(cat long.txt)\" --out long.safetensors
  anser generate -m model.gguf --from long.safetensors \"In short:\"
  anser generate -m model.gguf --json-schema person.json \"A person as JSON:\"
  anser generate -m model.gguf --regex '[0-9]{4}-[0-9]{2}-[0-9]{2}' \"Today is \"

The JSON object of --json:
  text           the generated text, after the prompt with --echo; U+FFFD for what is not UTF-8
  tokens         ids of the generated tokens
  n_prompt       tokens read before the first was generated
  n_generated    tokens generated
  finish_reason  \"stop\" (end of document, a --stop text, or a complete text of a
                 grammar), \"length\" or \"cancelled\" (Ctrl-C)
  timings        load_ms, prompt_ms, generate_ms; prompt_tps, generate_tps: tokens/s or null
  proposals      with --lookup or --draft: n_proposed, n_accepted: tokens that were proposed, and those of them that were drawn
  logprobs       with --logprobs: for each token its id, logprob (natural logarithm, of the model's own distribution), and top: the
                 K most likely tokens as [id, logprob]

A line of --prompts:
  {\"prompt\": \"Once upon a time\", \"max_tokens\": 40, \"seed\": 7}
  prompt is required; id (any text or number) comes back with the result; max_tokens, stop (texts), temperature, top_p, top_k, min_p,
  typical_p, presence_penalty, frequency_penalty, penalty_decay, repetition_penalty and seed replace the options of the command for
  this line, and so does one of json_schema (a schema), regex and lark (texts). Results have the order of the lines: index (the line's number, from 0), id, and either text, tokens, n_prompt,
  n_generated, finish_reason and logprobs as above, or error. A line that fails loses no other one; the command then ends with exit
  code 1.";

/// Talk with a model
///
/// The state carries the conversation, so that a turn takes the time of its own tokens only, however long the conversation is.
/// At a terminal lines can be edited and recalled; otherwise every line of standard input is a turn.
#[derive(Debug, Args)]
#[command(after_help = CHAT_HELP)]
pub(crate) struct ChatArgs {
    /// The most tokens of an answer; -1 sets no limit
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, default_value = "1024")]
    #[arg(value_parser = max_tokens)]
    pub(crate) max_tokens: usize,
    /// End an answer before this text; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// Instructions for the whole conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// Whether the model thinks before it answers; with fake the prompt shows it an empty thought
    #[arg(long, value_name = "MODE", default_value = "off")]
    pub(crate) think: Think,
    /// How turns are written: "User: ..." (g1), with marks (g1h, since RWKV-7 G1h), or in ChatML (chatml, the hybrids with Qwen2); auto goes
    /// by the vocabulary and the name of the model
    #[arg(long, value_name = "FORM", default_value = "auto")]
    pub(crate) chat_format: ChatFormat,
    /// Continue from a state that /save or `anser state` wrote, or begin with a state-tuned file
    #[arg(long, value_name = "STATE")]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// How turns are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChatFormat {
    Auto,
    G1,
    G1h,
    Chatml,
}

const CHAT_HELP: &str = "\
In the chat:
  /help              list these
  /system TEXT       start anew with these instructions; without TEXT: with none
  /think on|off|fake whether the model thinks before it answers
  /regen             answer the last message again
  /reset             forget the conversation
  /save FILE         save the model's state; /load FILE continues from it
  /exit              leave, as /quit and /bye do
  Ctrl-C             stops the answer; twice at the prompt, or Ctrl-D, leaves

Thoughts are shown on standard error, answers on standard output.

Examples:
  anser chat
  anser chat -m model.gguf --think on --system \"You are a patient teacher.\"
  printf 'Hello!\\nTell me a story about a fox.\\n' | anser chat --seed 1";

/// Whether the model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Think {
    On,
    Off,
    Fake,
}

/// Turn text into token ids, or back
///
/// Prints a JSON array of ids. Text is bytes: any bytes, UTF-8 or not, decode to themselves after encoding.
#[derive(Debug, Args)]
#[command(after_help = TOKENIZE_HELP)]
#[command(group(clap::ArgGroup::new("input").required(true).args(["text", "file"])))]
pub(crate) struct TokenizeArgs {
    /// Use the tokenizer of this model, named as elsewhere; without it the RWKV World vocabulary
    #[arg(short, long, value_name = "PATH", conflicts_with = "vocab")]
    pub(crate) model: Option<PathBuf>,
    /// Ask no hub for a model hf:OWNER/REPO: take it from the cache, or fail [env: HF_HUB_OFFLINE=1]
    #[arg(long)]
    pub(crate) offline: bool,
    /// Use a vocabulary file like rwkv_vocab_v20230424.txt, or one in JSON as web-rwkv reads it
    #[arg(long, value_name = "FILE")]
    pub(crate) vocab: Option<PathBuf>,
    /// Turn ids into their bytes; ids may be a JSON array or separated by commas or spaces
    #[arg(long)]
    pub(crate) decode: bool,
    /// Print one JSON object: n_tokens, n_bytes, ids, and text (null where the bytes are not UTF-8)
    #[arg(long)]
    pub(crate) json: bool,
    /// The text (or ids); - reads standard input
    pub(crate) text: Option<OsString>,
    /// Read the text (or ids) from this file; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

const TOKENIZE_HELP: &str = "\
Examples:
  anser tokenize \"Hello, world!\"           [33155,45,40213,34]
  anser tokenize --decode 33155,45,40213,34
  anser tokenize --file book.txt | anser tokenize --decode - | cmp - book.txt";

/// Print the logits of the token that follows
///
/// Prints one JSON object: {"n": tokens read, "top": [[id, logit], …]}, the largest logit first.
#[derive(Debug, Args)]
#[command(after_help = LOGITS_HELP)]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    pub(crate) tokens: TokensArgs,
    /// The number of the largest logits to print
    #[arg(long, value_name = "K", allow_negative_numbers = true, default_value = "10")]
    #[arg(value_parser = whole::<usize>(0, u64::MAX))]
    pub(crate) top: usize,
    /// Write all logits, [V] f32, to this .npy file
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const LOGITS_HELP: &str = "\
Examples:
  anser logits --text \"Once upon a\" --top 3
  anser logits -m model.gguf --tokens 1,2,3 --out logits.npy

No text, or no tokens, are read as the start of a document: token 0 in RWKV's vocabularies.";

/// Read a text and save the model's state after it
///
/// The safetensors file has the size of the model's state, however long the text is. `--from` of generate, chat and this command
/// continues from it. The same options accept the initial states that state tuning makes: safetensors files with tensors
/// blocks.N.att.time_state.
#[derive(Debug, Args)]
#[command(after_help = STATE_HELP)]
pub(crate) struct StateArgs {
    #[command(flatten)]
    pub(crate) tokens: TokensArgs,
    /// Continue from this state, or begin with a state-tuned file, instead of a fresh state
    #[arg(long, value_name = "STATE")]
    pub(crate) from: Option<PathBuf>,
    /// The file to save the state to
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const STATE_HELP: &str = "\
Examples:
  anser state --text - --out manual.safetensors < manual.txt
  anser state --from manual.safetensors --text \"Appendix\" --out both.safetensors
  anser generate --from both.safetensors \"In short:\"";

/// Measure how well a model predicts a text
///
/// Prints e to the mean of -ln p over all tokens but the first, where p is a token's probability after the tokens before it. The
/// text is read from a fresh state, without a token 0 in front.
#[derive(Debug, Args)]
#[command(after_help = PERPLEXITY_HELP)]
pub(crate) struct PerplexityArgs {
    /// The text; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print one JSON object: perplexity, mean_nll (nats per token), n_scored (tokens), elapsed_ms
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const PERPLEXITY_HELP: &str = "\
Examples:
  anser perplexity -m model.gguf --file held-out.txt
  head -c 20000 book.txt | anser perplexity --file - --json";

/// Show the contents of a model file
///
/// Reads the file's index only, so that it is quick for files of any size. Files that Anser cannot run are shown too, with the
/// reason.
#[derive(Debug, Args)]
#[command(after_help = INSPECT_HELP)]
pub(crate) struct InspectArgs {
    /// The model file, its name hf:OWNER/REPO on a hub, or demo
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Ask no hub for a model hf:OWNER/REPO: take it from the cache, or fail [env: HF_HUB_OFFLINE=1]
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print the operations of the model instead, one per line
    #[arg(long)]
    pub(crate) plan: bool,
    /// List every tensor
    #[arg(long)]
    pub(crate) tensors: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

const INSPECT_HELP: &str = "\
Examples:
  anser inspect demo
  anser inspect model.gguf --tensors
  anser inspect model.gguf --json | jq .n_parameters
  anser inspect model.gguf --plan";

/// Measure in which shapes a model's kernels are fastest on this GPU
///
/// Kernels that compute matrix products can run in several shapes: tiles, threads that share a row, workgroups that share a sum.
/// This measures all of them in steps of 1 to 2,048 tokens of the model, and keeps those with which a whole step is faster. Commands
/// that start afterwards use them. It takes some seconds. Results then differ by rounding from those before; from run to
/// run they are the same. ANSER_GPU_NO_TUNING=1 leaves out what was measured.
#[derive(Debug, Args)]
#[command(after_help = TUNE_HELP)]
pub(crate) struct TuneArgs {
    /// List the kernels of each step, too
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON object; see below
    #[arg(long, conflicts_with = "all")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const TUNE_HELP: &str = "\
Examples:
  anser tune -m model.gguf                measure once, then generate faster
  anser tune -m model.gguf --all          see what was chosen for every kernel

The JSON object of --json:
  device, n_cores  the GPU, and an estimate of its number of cores
  steps            for each number of tokens: n_tokens, usual_us, tuned_us (times of a whole step), kept, and kernels with
                   kernel, n_candidates, usual, usual_us, tuned, tuned_us";

/// List the devices that models can run on
///
/// The names in front are the values of --device. Without --device the model runs on the best hardware GPU if there is one,
/// else on the processor. Weights that do not fit in the GPU's memory stream from the file in every step. A software adapter is
/// used only if it is named.
#[derive(Debug, Args)]
#[command(after_help = DEVICES_HELP)]
pub(crate) struct DevicesArgs {
    /// Print a JSON array of the GPUs with all their limits
    #[arg(long)]
    pub(crate) json: bool,
}

const DEVICES_HELP: &str = "\
Examples:
  anser devices                           list the devices
  anser devices --json | jq '.[].name'
  anser generate --device gpu:1 \"Hello\"   on the second adapter

Environment:
  ANSER_DEVICE            the value of --device if the option is not given
  ANSER_GPU_MEMORY        the value of --gpu-memory if the option is not given
  ANSER_GPU_NO_F16=1      do without 16-bit floats in shaders; likewise ANSER_GPU_NO_SUBGROUPS, ANSER_GPU_NO_COOPMAT
  ANSER_GPU_NO_DRAWING=1  let the processor draw the tokens of a generation
  ANSER_GPU_NO_TUNING=1   run kernels in their usual shapes, whatever anser tune found, and measure nothing
  ANSER_EXACT=1           the same as --exact; likewise ANSER_READ_FILE=1 and --read-file

Switches take 1, true, yes, on, or 0, false, no, off; a variable that is empty counts as not set.";

/// Test whether models run right on this machine's devices
///
/// Runs the demo model on the processor and on every hardware GPU, and compares logits and tokens with those that another program, written
/// by others, computes for it. It takes seconds. The lines that it prints are what a report of wrong output should have.
#[derive(Debug, Args)]
#[command(after_help = SELF_TEST_HELP)]
pub(crate) struct SelfTestArgs {
    /// Test this device alone, as for other commands: cpu, gpu, gpu:1 or gpu:NAME
    #[arg(long, value_name = "DEVICE", value_parser = groups::device)]
    pub(crate) device: Option<Device>,
}

const SELF_TEST_HELP: &str = "\
Examples:
  anser self-test                 the processor and all hardware GPUs
  anser self-test --device gpu:0  the first adapter, if it is a software one, too

The exit code is 1 if a check failed.";

/// Compare a GPU's kernels with the plain loops of the processor
///
/// Reads a text in one step on both, and names the first operation whose results differ by more than --bound. This is for
/// reports of wrong output, and for people who write kernels.
#[derive(Debug, Args)]
#[command(after_help = DEBUG_PLAN_HELP)]
pub(crate) struct DebugPlanArgs {
    /// The largest normalised mean squared error that counts as equal
    #[arg(long, value_name = "NMSE", allow_negative_numbers = true, default_value = "1e-4", value_parser = bound)]
    pub(crate) bound: f64,
    /// Print every operation's error
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) tokens: TokensArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const DEBUG_PLAN_HELP: &str = "\
Examples:
  anser debug-plan --device gpu --text \"Once upon a time\"
  anser debug-plan -m model.gguf --device gpu:0 --tokens 1,2,3 --all";

/// Print a script that completes anser's arguments in a shell
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

const COMPLETIONS_HELP: &str = "\
Examples:
  anser completions bash > ~/.local/share/bash-completion/completions/anser
  anser completions zsh > ~/.zfunc/_anser        with fpath+=~/.zfunc in .zshrc
  anser completions fish > ~/.config/fish/completions/anser.fish";

/// Write the help of all commands as pages, for packages and the book
#[derive(Debug, Args)]
pub(crate) struct PagesArgs {
    /// The form of the pages
    pub(crate) form: PageForm,
    /// The folder to write them to
    pub(crate) folder: PathBuf,
}

/// The form of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PageForm {
    Man,
    Markdown,
}

/// Reads `--tokens`.
fn token_ids(text: &str) -> Result<TokenIds, String> {
    text.parse()
}
