//! Arguments that several commands share.

use crate::input::{self, TokenIds};
use crate::report::Failure;
use crate::term::Progress;
use anser::{Device, LoadProgress, Model, OnLoad, Options, SamplerOptions, SamplerOrder};
use clap::Args;
use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Names the built-in model; a file of this name is `./demo`.
const DEMO: &str = "demo";

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// A GGUF or safetensors file of an RWKV-7 model, or demo: the built-in one
    #[arg(short, long, value_name = "PATH", default_value = DEMO)]
    pub(crate) model: PathBuf,
    /// A vocabulary file like rwkv_vocab_v20230424.txt, instead of the model's own
    #[arg(long, value_name = "FILE")]
    pub(crate) vocab: Option<PathBuf>,
    /// Where to run it: auto, cpu or gpu
    #[arg(long, value_name = "DEVICE", env = "ANSER_DEVICE", default_value = "auto", value_parser = device)]
    pub(crate) device: Device,
    /// GPU memory for weights, like 500M or 4G; the rest streams from the file in every step [default: all there is]
    #[arg(long, value_name = "SIZE", env = "ANSER_GPU_MEMORY", value_parser = size)]
    pub(crate) gpu_memory: Option<Size>,
    /// Threads on the CPU; without it ANSER_THREADS, else OMP_NUM_THREADS, else one per core
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Round no activations to 8 or 16 bits: slower, and as close to the model's formulas as floats are
    #[arg(long, env = "ANSER_EXACT")]
    pub(crate) exact: bool,
}

impl ModelArgs {
    /// Loads the model, with a bar if that takes long.
    pub(crate) fn load(&self) -> Result<Model, Failure> {
        load(&self.model, &Options { on_load: Some(bar()), ..self.options() })
    }

    /// What the arguments ask for.
    pub(crate) fn options(&self) -> Options {
        Options {
            device: self.device.clone(),
            n_threads: self.threads,
            vocabulary: self.vocab.clone(),
            exact: self.exact,
            gpu_memory: self.gpu_memory.and_then(|Size(n_bytes)| n_bytes),
            cache_folder: choose_native_strategy().ok().map(|strategy| strategy.cache_dir().join("anser")),
            ..Options::default()
        }
    }
}

/// A number of threads within the library's bound.
fn threads(text: &str) -> Result<usize, String> {
    match anser::environment::threads(Some(text.parse().unwrap_or(0))) {
        Ok(Some(n_threads)) => Ok(n_threads),
        Ok(None) | Err(_) => Err(format!("expected a number from 1 to {}", anser::environment::max_threads())),
    }
}

/// A bar, gone when everything is loaded.
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

/// A number of bytes; none, if an environment variable is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) Option<u64>);

/// A number with one of the letters K, M, G, which stand for powers of 1024.
fn size(text: &str) -> Result<Size, String> {
    let letters = [(['K', 'k'], 10), (['M', 'm'], 20), (['G', 'g'], 30)];
    let with_letter = letters.iter().find_map(|&(letters, shift)| Some((text.strip_suffix(letters)?, shift)));
    let (digits, shift) = with_letter.unwrap_or((text, 0));
    let n_bytes = digits.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(1u64 << shift));
    match (text.is_empty(), n_bytes) {
        (true, _) => Ok(Size(None)),
        (false, Some(n_bytes)) => Ok(Size(Some(n_bytes))),
        (false, None) => Err("expected a number of bytes, like 500M or 4G".into()),
    }
}

/// For a model that is looked at and not run: no device is set up for it.
pub(crate) fn not_run() -> Options {
    Options { device: Device::Cpu, n_threads: Some(1), ..Options::default() }
}

/// Loads the model at `path`, or the built-in one.
pub(crate) fn load(path: &Path, options: &Options) -> Result<Model, Failure> {
    if path.as_os_str() == DEMO { demo(options) } else { Ok(Model::load(path, options)?) }
}

#[cfg(feature = "embedded-model")]
fn demo(options: &Options) -> Result<Model, Failure> {
    Ok(Model::embedded(options)?)
}

#[cfg(not(feature = "embedded-model"))]
fn demo(_options: &Options) -> Result<Model, Failure> {
    Err(Failure::Usage("this build has no built-in model; name a model file with --model".into()))
}

/// An empty environment variable counts as none.
fn device(name: &str) -> Result<Device, anser::Error> {
    if name.is_empty() { Ok(Device::Auto) } else { name.parse() }
}

#[derive(Debug, Args)]
#[group(id = "document", required = true, multiple = false)]
pub(crate) struct TokensArgs {
    /// The text to read; - reads standard input
    #[arg(long, value_name = "TEXT")]
    text: Option<OsString>,
    /// The token ids to read, separated by commas or spaces, or as a JSON array
    #[arg(long, value_name = "IDS", value_parser = super::token_ids)]
    tokens: Option<TokenIds>,
}

impl TokensArgs {
    /// The tokens to read; may be none.
    pub(crate) fn resolve(&self, model: &Model) -> Result<Vec<u32>, Failure> {
        match (&self.tokens, &self.text) {
            (Some(TokenIds(tokens)), _) => Ok(tokens.clone()),
            (None, Some(text)) => Ok(model.encode(input::text(text)?)?),
            (None, None) => Ok(vec![]),
        }
    }
}

/// How tokens are drawn. What is not given follows the model's recommended settings.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct GenerationArgs {
    /// Flattens the distribution above 1 and sharpens it below; at 0 the most likely token is always taken, and penalties
    /// are off unless given [default: 1]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Keep the most likely tokens that together reach this probability [default: 0.3]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Keep this many of the most likely tokens; 0 keeps all [default: 0]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Keep the tokens at least this likely relative to the most likely one [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Keep the tokens of about expected information that together reach this probability [default: 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    typical_p: Option<f32>,
    /// Subtracted from the logits of tokens already generated [default: 0.5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Subtracted from the logits of tokens already generated, times how often [default: 0.5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// What is left of these counts after each token [default: 0.996]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    penalty_decay: Option<f32>,
    /// Divides the positive logits of tokens already generated and multiplies the others [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// Added to the logit of one token; -inf forbids it; may be given several times
    #[arg(long, value_name = "ID=BIAS", value_parser = logit_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// The same seed and options give the same text; without it every run differs
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Apply the temperature before the filters, as most engines do, instead of after them, as RWKV's own code does
    #[arg(long)]
    common_order: bool,
}

impl GenerationArgs {
    /// `recommended`, changed by what was given.
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

#[cfg(test)]
mod tests {
    use super::{Size, size};

    #[test]
    fn sizes_have_letters() {
        for (text, n_bytes) in [("17", 17), ("3K", 3 << 10), ("500M", 500 << 20), ("4g", 4 << 30), ("0", 0)] {
            assert_eq!(size(text), Ok(Size(Some(n_bytes))), "{text}");
        }
        assert_eq!(size(""), Ok(Size(None)));
        for text in ["M", "-1", "1.5G", "3T", "ten", "99999999999G", "\u{e9}M"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
