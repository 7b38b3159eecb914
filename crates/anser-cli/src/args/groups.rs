//! Arguments that several commands share.

use super::numbers::{number, size, whole};
use crate::input::{self, TokenIds};
use crate::report::Failure;
use crate::term::{self, Progress};
use anser::environment;
use anser::{Device, Error, Grammar, LoadProgress, Lora, Model, OnLoad, Options, SamplerOptions, SamplerOrder};
use clap::Args;
use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Names the built-in model; a file of this name is `./demo`.
pub(super) const DEMO: &str = "demo";

const DEMO_REMARK: &str = "the built-in demo model answers: it is tiny and knows a few synthetic stories, chats and e-mails; \
    -m FILE or -m hf:OWNER/REPO takes a real one (anser help chat)";

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// A GGUF, safetensors or .pth file of an RWKV model, a folder of Hugging Face's, or demo: the built-in one. Of a model in several files name any part.
    /// Or the name hf:OWNER/REPO[:FILE][@REVISION] of a model on a Hugging Face hub, which is downloaded once
    #[arg(short, long, value_name = "PATH", default_value = DEMO)]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) opening: OpeningArgs,
}

/// How a model is opened.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct OpeningArgs {
    /// Ask no hub for a model hf:OWNER/REPO: take it from the cache, or fail [env: HF_HUB_OFFLINE=1]
    #[arg(long)]
    pub(crate) offline: bool,
    /// A vocabulary file like rwkv_vocab_v20230424.txt, or in JSON as web-rwkv reads it, instead of the model's own
    #[arg(long, value_name = "FILE")]
    pub(crate) vocab: Option<PathBuf>,
    /// An adapter (LoRA, PiSSA, Bone) for the model: FILE, or FILE:SCALE for a part of it, with :alpha=A where the file does not say its alpha
    /// (.pth and .st), and :init=FILE for PiSSA. Its low-rank pairs stay beside quantized weights and are merged into others; :merge merges
    /// them into all, :beside keeps all beside. May be given several times
    #[arg(long, value_name = "FILE[:SCALE]", value_parser = lora)]
    pub(crate) lora: Vec<Lora>,
    /// The device to run it on: auto, cpu, gpu, gpu:NUMBER or gpu:NAME [env: ANSER_DEVICE] [default: auto]
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    pub(crate) device: Option<Device>,
    /// GPU memory for weights, like 500M or 4G; the other weights stream from the file in every step [env: ANSER_GPU_MEMORY]
    /// [default: all of it]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = size)]
    pub(crate) gpu_memory: Option<u64>,
    /// The number of threads on the CPU; without it ANSER_THREADS, else OMP_NUM_THREADS, else one per core
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Read the model file into memory instead of mapping it: for a file on a network or that other programs write. It takes
    /// as much memory as the file has bytes [env: ANSER_READ_FILE=1]
    #[arg(long)]
    pub(crate) read_file: bool,
    /// Round no activations to 8 or 16 bits: slower, and as close to the model's formulas as floats are
    /// [env: ANSER_EXACT=1]
    #[arg(long)]
    pub(crate) exact: bool,
}

impl ModelArgs {
    /// Loads the model, with a progress bar if that takes long. A person at a terminal is told if it is the built-in one.
    pub(crate) fn load(&self) -> Result<Model, Failure> {
        if self.model.as_os_str() == DEMO {
            term::remark(DEMO_REMARK);
        }
        self.opening.load(&self.model)
    }

    /// Checks that a command may write to `out`, which must be neither the model nor the vocabulary.
    pub(crate) fn check_output(&self, out: &Path) -> Result<(), Failure> {
        let model = Some(&self.model).filter(|model| model.as_os_str() != DEMO).map(|model| ("the model", &**model));
        let vocab = self.opening.vocab.as_deref().map(|vocab| ("the vocabulary", vocab));
        Ok(anser::files::check_output(out, &model.into_iter().chain(vocab).collect::<Vec<_>>())?)
    }

    /// The library's options, see [`OpeningArgs::options`].
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        self.opening.options()
    }
}

impl OpeningArgs {
    /// Loads the model at `path`, with a progress bar if that takes long.
    pub(crate) fn load(&self, path: &Path) -> Result<Model, Failure> {
        load(path, &Options { on_load: Some(bar()), ..self.options()? })
    }

    /// [`OpeningArgs::load`] of a model beside the one that the adapters are for.
    pub(crate) fn load_plain(&self, path: &Path) -> Result<Model, Failure> {
        load(path, &Options { on_load: Some(bar()), lora: vec![], ..self.options()? })
    }

    /// The library's options: those of the arguments, else those of the environment.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let device = match &self.device {
            Some(device) => device.clone(),
            None => environment::device()?.unwrap_or_default(),
        };
        let gpu_memory = match self.gpu_memory {
            Some(n_bytes) => Some(n_bytes),
            None => environment::gpu_memory()?,
        };
        Ok(Options {
            device,
            n_threads: self.threads,
            vocabulary: self.vocab.clone(),
            lora: self.lora.clone(),
            exact: self.exact || environment::exact()?.unwrap_or_default(),
            in_memory: self.read_file || environment::read_file()?.unwrap_or_default(),
            gpu_memory,
            cache_folder: choose_native_strategy().ok().map(|strategy| strategy.cache_dir().join("anser")),
            ..Options::default()
        })
    }
}

/// A number of threads within the library's bound.
fn threads(text: &str) -> Result<usize, String> {
    whole(1, environment::max_threads() as u64)(text)
}

/// A progress bar, which disappears when all weights are loaded.
fn bar() -> OnLoad {
    let bar = Mutex::new(Some(Progress::new("loading, MiB")));
    OnLoad::new(move |LoadProgress { n_bytes, total_n_bytes, .. }| {
        let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
        match bar.as_mut() {
            Some(bar) if n_bytes < total_n_bytes => {
                bar.update((n_bytes >> 20) as usize, (total_n_bytes >> 20) as usize)
            }
            Some(_) | None => *bar = None,
        }
        ControlFlow::Continue(())
    })
}

/// Options for a model that is inspected and not run: no GPU is opened for it.
pub(crate) fn not_run() -> Options {
    Options { device: Device::Cpu, n_threads: Some(1), ..Options::default() }
}

/// Loads the model at `path`, or the built-in one.
pub(crate) fn load(path: &Path, options: &Options) -> Result<Model, Failure> {
    if path.as_os_str() == DEMO {
        return demo(options);
    }
    about_to_open(path);
    Ok(Model::load(path, options)?)
}

/// Notes the name of a model file that is about to be opened, for the message if it cannot be read later.
#[cfg_attr(not(target_os = "linux"), allow(unused_variables, reason = "other systems have no such message"))]
pub(crate) fn about_to_open(path: &Path) {
    #[cfg(target_os = "linux")]
    crate::bus_error::is_opened(path);
}

#[cfg(feature = "embedded-model")]
fn demo(options: &Options) -> Result<Model, Failure> {
    Ok(Model::embedded(options)?)
}

#[cfg(not(feature = "embedded-model"))]
fn demo(_options: &Options) -> Result<Model, Failure> {
    Err(Failure::Usage("this build has no built-in model; name a model file with --model".into()))
}

pub(super) fn device(name: &str) -> Result<Device, String> {
    name.parse().map_err(|error| match error {
        anser::Error::Option { reason, .. } => reason,
        other => other.to_string(),
    })
}

/// Parses an adapter and its factors.
pub(super) fn lora(text: &str) -> Result<Lora, String> {
    text.parse().map_err(|error| match error {
        anser::Error::Option { reason, .. } => reason,
        other => other.to_string(),
    })
}

#[derive(Debug, Args)]
#[group(id = "document", required = true, multiple = false)]
pub(crate) struct TokensArgs {
    /// The text to read; - reads standard input
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<OsString>,
    /// The token ids to read, separated by commas or spaces, or as a JSON array
    #[arg(long, value_name = "IDS", value_parser = super::token_ids)]
    tokens: Option<TokenIds>,
}

impl TokensArgs {
    /// The tokens to read; the list may be empty.
    pub(crate) fn resolve(&self, model: &Model) -> Result<Vec<u32>, Failure> {
        match (&self.tokens, &self.text) {
            (Some(TokenIds(tokens)), _) => Ok(tokens.clone()),
            (None, Some(text)) => Ok(model.encode(input::text(text)?)?),
            (None, None) => Ok(vec![]),
        }
    }
}

/// What the text must be.
#[derive(Debug, Args)]
#[command(next_help_heading = "Grammar")]
#[group(id = "grammar", multiple = false)]
pub(crate) struct GrammarArgs {
    /// Generate JSON that is valid by this JSON schema: a file, or the schema itself, which begins with {
    #[arg(long, value_name = "FILE|JSON")]
    json_schema: Option<OsString>,
    /// Generate a text that matches this regular expression from its beginning to its end
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    regex: Option<String>,
    /// Generate a text of the grammar in this file, in the notation of Lark
    #[arg(long, value_name = "FILE")]
    lark: Option<PathBuf>,
}

impl GrammarArgs {
    /// The grammar that was asked for, compiled for `model`.
    pub(crate) fn grammar(&self, model: &Model) -> Result<Option<Grammar>, Failure> {
        let (option, grammar) = if let Some(schema) = &self.json_schema {
            ("--json-schema", Grammar::json_schema(&file_or_json(schema)?))
        } else if let Some(regex) = &self.regex {
            ("--regex", Grammar::regex(regex))
        } else if let Some(path) = &self.lark {
            ("--lark", Grammar::lark(&grammar_file(path)?))
        } else {
            return Ok(None);
        };
        let prepared = grammar.and_then(|grammar| grammar.prepare(model).map(|()| grammar));
        prepared.map(Some).map_err(|error| match error {
            Error::Grammar { reason, .. } => Failure::Usage(format!("{option}: {reason}")),
            other => other.into(),
        })
    }
}

/// The text of a schema that is given as itself or by the name of its file.
fn file_or_json(argument: &OsString) -> Result<String, Failure> {
    match argument.to_str() {
        Some(text) if text.trim_start().starts_with('{') => Ok(text.to_owned()),
        Some(_) | None => grammar_file(Path::new(argument)),
    }
}

fn grammar_file(path: &Path) -> Result<String, Failure> {
    let bytes = anser::files::read_at_most(path, Grammar::MAX_N_BYTES as u64, "a grammar")?;
    String::from_utf8(bytes).map_err(|_| Failure::about(path.display(), "expected UTF-8"))
}

/// The options of sampling. Those that are not given have the model's recommended values.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct GenerationArgs {
    /// Flattens the distribution above 1 and sharpens it below; at 0 the most likely token is always taken, and penalties
    /// are off unless given [default: 1]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = number)]
    temperature: Option<f32>,
    /// Keep the most likely tokens that together reach this probability [default: 0.3]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = number)]
    top_p: Option<f32>,
    /// Keep this many of the most likely tokens; 0 keeps all [default: 0]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = whole::<usize>(0, u64::MAX))]
    top_k: Option<usize>,
    /// Keep the tokens at least this likely relative to the most likely one [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = number)]
    min_p: Option<f32>,
    /// Keep the tokens of about expected information that together reach this probability [default: 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = number)]
    typical_p: Option<f32>,
    /// Subtracted from the logits of tokens already generated [default: 0.5; 0 for texts of a grammar]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    presence_penalty: Option<f32>,
    /// Subtracted from the logits of tokens already generated, times how often [default: 0.5; 0 for texts of a grammar]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    frequency_penalty: Option<f32>,
    /// Multiplies the counts of these tokens after each token [default: 0.996]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    penalty_decay: Option<f32>,
    /// Divides the positive logits of tokens already generated and multiplies the others [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    repetition_penalty: Option<f32>,
    /// Added to the logit of one token; -inf forbids it; may be given several times
    #[arg(long, value_name = "ID=BIAS", value_parser = logit_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// The same seed and options give the same text; without it every run differs
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = whole::<u64>(0, u64::MAX))]
    seed: Option<u64>,
    /// Apply the temperature before the filters, as most engines do, instead of after them, as RWKV's own code does
    #[arg(long)]
    common_order: bool,
}

impl GenerationArgs {
    /// `recommended`, changed by the options that were given.
    pub(crate) fn sampler(&self, recommended: SamplerOptions) -> SamplerOptions {
        let base = if self.temperature == Some(0.0) { SamplerOptions::greedy() } else { recommended };
        SamplerOptions {
            order: if self.common_order { SamplerOrder::Common } else { base.order },
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            typical_p: self.typical_p.unwrap_or(base.typical_p),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            penalty_decay: self.penalty_decay.unwrap_or(base.penalty_decay),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            logit_bias: self.logit_bias.clone(),
            seed: self.seed,
        }
    }
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let (id, bias) = text.split_once('=').ok_or("expected ID=BIAS, for example 261=-2.5")?;
    let id = id.trim().parse().map_err(|_| format!("{id:?} is not a token id"))?;
    let bias = bias.trim().parse().map_err(|_| format!("{bias:?} is not a number"))?;
    Ok((id, bias))
}
