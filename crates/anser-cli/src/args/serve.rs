//! The arguments of `anser serve`.

use super::OpeningArgs;
use super::groups::DEMO;
use super::numbers::{size, whole};
use anser::{Lora, LoraForm};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Answer clients of the OpenAI API over HTTP
///
/// Chats, completions, embeddings, ranked documents and responses, streamed or whole, for many clients at once, and a page for people at /. It listens on
/// this machine alone unless --host says otherwise, and then needs keys. Ctrl-C or SIGTERM completes what runs and ends; a second one
/// ends at once.
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    /// The address to listen on; 0.0.0.0 or :: is every address of this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// The port to listen on; 0 takes a free one and says which
    #[arg(long, value_name = "PORT", allow_negative_numbers = true, default_value = "8080")]
    pub(crate) port: u16,
    /// Listen on a Unix socket of this name instead of a port; who may write to it may ask
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"])]
    pub(crate) socket: Option<PathBuf>,
    /// A file with a key on each line, of which requests need one; each key is a tenant of its own. Without it ANSER_API_KEY may hold
    /// one key
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Let everybody ask who reaches the address of --host, without a key
    #[arg(long, conflicts_with = "api_key_file")]
    pub(crate) no_key: bool,
    /// A further name of the model, besides that of its file; the first one is what answers carry. May be given several times. Where
    /// several models are served, NAME=MODEL says which one is meant by the name of its file, without the ending
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) alias: Vec<String>,
    /// Another name by which clients reach this server, such as that of a proxy; may be given several times. Requests under unknown names
    /// are refused
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) host_name: Vec<String>,
    /// An origin (scheme, host and port) whose web pages may ask; may be given several times
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub(crate) cors: Vec<String>,
    /// A state-tuned file, or a state that `anser state` wrote, from which requests begin that name it in their field state; where several
    /// models are served, NAME@MODEL=FILE says by the name of its file which one it is of. May be given several times
    #[arg(long, value_name = "NAME=FILE", value_parser = tuned)]
    pub(crate) tuned: Vec<TunedState>,
    /// The model with an adapter, too, under the name MODEL:NAME: FILE[:SCALE][:alpha=A] and so on as for --lora, whose adapters it has besides.
    /// Its low-rank pairs stay beside the weights, so that on the CPU all models share those; :merge merges them. Where several models are
    /// served, NAME@MODEL=FILE says by the name of its file which one is meant. May be given several times
    #[arg(long, value_name = "NAME=FILE", value_parser = adapter)]
    pub(crate) adapter: Vec<NamedAdapter>,
    /// A reranker for the model, an embedding model, which ranks documents (/v1/rerank); where several models are served, MODEL=FILE says by
    /// the name of its file which one it is for. May be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) reranker: Vec<PathBuf>,
    /// Let requests give a regular expression or a grammar in Lark's notation as the form of their answer, besides JSON schemas
    #[arg(long)]
    pub(crate) extra_grammars: bool,
    /// Answer programs alone: without the page for people at /
    #[arg(long)]
    pub(crate) no_page: bool,
    #[command(flatten)]
    pub(crate) limits: ServeLimits,
    /// Write a line to standard error for each request, without anything of its content
    #[arg(long)]
    pub(crate) log: bool,
    /// A GGUF, safetensors or .pth file of an RWKV model, a folder of Hugging Face's, the name hf:OWNER/REPO[:FILE][@REVISION] of a model
    /// on a hub, or demo: the built-in one. May be given several times: requests choose by name
    #[arg(short, long = "model", value_name = "PATH", default_value = DEMO, help_heading = "Model")]
    pub(crate) models: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) opening: OpeningArgs,
}

/// How much the server does at a time, and for how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct ServeLimits {
    /// The most texts that are generated at a time [default: as many as have states of 1 GiB, 16 to 64]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>(1, 1024))]
    pub(crate) max_rows: Option<usize>,
    /// The most requests that wait for a place [default: 4 for each row]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>(1, 1 << 20))]
    pub(crate) max_waiting: Option<usize>,
    /// The most texts of one request
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "8", value_parser = whole::<usize>(1, 64))]
    pub(crate) max_n: usize,
    /// The most tokens that a request may ask for
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "131072")]
    #[arg(value_parser = whole::<usize>(1, 1 << 32))]
    pub(crate) max_tokens: usize,
    /// The most tokens of a prompt
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "1000000")]
    #[arg(value_parser = whole::<usize>(1, 1 << 32))]
    pub(crate) max_prompt: usize,
    /// The longest time in the queue, in seconds; the client is told to come again then
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, default_value = "30", value_parser = seconds)]
    pub(crate) queue_timeout: Duration,
    /// The longest time for a request, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, default_value = "600", value_parser = seconds)]
    pub(crate) request_timeout: Duration,
    /// How long requests may go on after Ctrl-C or SIGTERM, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, default_value = "30", value_parser = seconds)]
    pub(crate) drain: Duration,
    /// The most connections at a time
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "1024")]
    #[arg(value_parser = whole::<usize>(1, 1 << 20))]
    pub(crate) max_connections: usize,
    /// Main memory for states of conversations, so that a turn reads its own tokens alone; 0 keeps none. Models have equal parts of it
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, default_value = "1G", value_parser = size)]
    pub(crate) cache: u64,
    /// A folder for states of conversations, which later processes find again
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// The most bytes of states in --cache-dir
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, default_value = "4G", value_parser = size)]
    #[arg(requires = "cache_dir")]
    pub(crate) cache_dir_size: u64,
    /// The most bytes of named states (/v1/states) that a key may keep
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, default_value = "1G", value_parser = size)]
    pub(crate) states: u64,
    /// The most answers of /v1/responses that are kept to go on from, of all keys; the oldest are forgotten
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value = "10000")]
    #[arg(value_parser = whole::<usize>(0, 1 << 24))]
    pub(crate) max_responses: usize,
}

const SERVE_HELP: &str = "\
Examples:
  anser serve -m model.gguf
  anser serve -m hf:OWNER/REPO --host 0.0.0.0 --api-key-file keys.txt --alias gpt-4o-mini
  anser serve -m model.gguf --tuned poet=poet-state.pth
  anser serve -m model.gguf --adapter poet=poet.pth:alpha=32 --adapter law=law.gguf
  anser serve -m chat-2.9b.gguf -m embed-0.1b.gguf --alias chat=chat-2.9b
  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}'

Routes: / (the page), /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/rerank, /v1/responses, /v1/models, /v1/states, /tokenize, /detokenize,
/apply-template, /health, /metrics, /props. docs/serve.md says what each takes and answers.";

/// A state under a name.
#[derive(Debug, Clone)]
pub(crate) struct TunedState {
    pub(crate) name: String,
    /// The name of its model's file without the ending; needed where several models are served.
    pub(crate) model: Option<String>,
    pub(crate) file: PathBuf,
}

/// An adapter under a name.
#[derive(Debug, Clone)]
pub(crate) struct NamedAdapter {
    pub(crate) name: String,
    /// The name of its model's file without the ending; needed where several models are served.
    pub(crate) model: Option<String>,
    /// The adapter, beside the weights unless the text says otherwise.
    pub(crate) lora: Lora,
}

/// Parses a state's name and file.
fn tuned(text: &str) -> Result<TunedState, String> {
    let (name, model, file) = named(text)?;
    Ok(TunedState { name, model, file: file.into() })
}

/// Parses an adapter's name and text form.
fn adapter(text: &str) -> Result<NamedAdapter, String> {
    let (name, model, lora) = named(text)?;
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_letter) {
        return Err(format!("the name {name:?}: expected letters, digits, -, _ and ."));
    }
    let lora: Lora = super::groups::lora(lora)?;
    let form = match lora.form {
        LoraForm::Fitting | LoraForm::Beside => LoraForm::Beside,
        LoraForm::Merged => LoraForm::Merged,
    };
    Ok(NamedAdapter { name, model, lora: Lora { form, ..lora } })
}

/// The parts of NAME=FILE or NAME@MODEL=FILE.
fn named(text: &str) -> Result<(String, Option<String>, &str), String> {
    let (name, file) = text.split_once('=').filter(|(_, file)| !file.is_empty()).ok_or("expected NAME=FILE")?;
    let (name, model) = match name.split_once('@') {
        Some((name, model)) => (name, Some(model.to_owned())),
        None => (name, None),
    };
    Ok((name.into(), model, file))
}

/// Parses a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    whole::<u64>(0, 1 << 32)(text).map(Duration::from_secs)
}

/// Parses the origin of a web page: scheme and host, with or without a port.
fn origin(text: &str) -> Result<String, String> {
    let host = ["https://", "http://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '*', ' ', '?', '#', '@']) => Ok(text.to_owned()),
        _ => Err("expected a whole origin, like https://app.example or http://localhost:3000, without a path".into()),
    }
}
