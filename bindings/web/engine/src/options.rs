//! Options as JSON. Names are those of the TypeScript package; unknown ones are errors.

use crate::error::refused;
use anser::chat::{ChatTemplate, Message, Opening, Role, ThinkLength, Thinking};
use anser::{EmbedOptions, GenerateOptions, Layer, Pooling, SamplerOptions, SamplerOrder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;

/// The options in `json`, which messages call `what`.
///
/// Errors: JSON that is not such options.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, JsValue> {
    serde_json::from_str(json).map_err(|e| refused(&format!("{what}: {}", without_place(&e.to_string()))))
}

/// The message without the line and column of the JSON text, which the caller has not written.
fn without_place(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |at| &message[..at])
}

/// How a model is loaded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Load {
    /// `auto`, `cpu`, `webgpu`, or `webgpu:NUMBER`, which takes a software adapter, too.
    pub(crate) device: String,
    #[serde(default)]
    pub(crate) exact: bool,
    /// The bytes of GPU memory for weights.
    pub(crate) gpu_memory: Option<u64>,
    /// Threads of the processor, of which all but one were lent.
    #[serde(default = "one_thread")]
    pub(crate) threads: usize,
}

fn one_thread() -> usize {
    1
}

impl Load {
    /// The engine's options, without what hears of progress.
    ///
    /// Errors: a device that there is none of.
    pub(crate) fn options(self) -> Result<anser::Options, anser::Error> {
        let Load { device, exact, gpu_memory, threads } = self;
        let device = match device.strip_prefix("webgpu") {
            Some(rest) => format!("gpu{rest}"),
            None => device,
        };
        Ok(anser::Options {
            device: device.parse()?,
            n_threads: Some(threads),
            exact,
            gpu_memory,
            ..Default::default()
        })
    }
}

/// The sampler's options. What is missing is as in `SamplerOptions::default`.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Sampling {
    preset: Option<Preset>,
    order: Option<Order>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    penalty_decay: Option<f32>,
    repetition_penalty: Option<f32>,
    logit_bias: Option<Vec<(u32, f32)>>,
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Preset {
    Default,
    Greedy,
    Plain,
    Thinking,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Rwkv,
    Common,
}

impl Sampling {
    fn options(self) -> SamplerOptions {
        let base = match self.preset.unwrap_or(Preset::Default) {
            Preset::Default => SamplerOptions::default(),
            Preset::Greedy => SamplerOptions::greedy(),
            Preset::Plain => SamplerOptions::plain(),
            Preset::Thinking => SamplerOptions::thinking(),
        };
        let order = self.order.map(|order| match order {
            Order::Rwkv => SamplerOrder::Rwkv,
            Order::Common => SamplerOrder::Common,
        });
        SamplerOptions {
            order: order.unwrap_or(base.order),
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            typical_p: self.typical_p.unwrap_or(base.typical_p),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            penalty_decay: self.penalty_decay.unwrap_or(base.penalty_decay),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            logit_bias: self.logit_bias.unwrap_or(base.logit_bias),
            seed: self.seed.or(base.seed),
        }
    }
}

/// The options of a generation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Generate {
    #[serde(default)]
    sampling: Sampling,
    max_tokens: Option<usize>,
    #[serde(default)]
    stop: Vec<String>,
    stop_tokens: Option<Vec<u32>>,
    /// The number of most likely tokens to report beside each token drawn.
    pub(crate) probabilities: Option<usize>,
    /// The text is an answer that is to be split into thought and content, after this opening.
    pub(crate) reply: Option<Reply>,
}

impl Generate {
    /// The engine's options. Stop texts of an answer are left to its parser, which returns them, too.
    pub(crate) fn options(self) -> (GenerateOptions, Vec<String>) {
        let options = GenerateOptions {
            sampler: self.sampling.options(),
            max_tokens: self.max_tokens.unwrap_or(usize::MAX),
            stop_tokens: self.stop_tokens,
            ..GenerateOptions::default()
        };
        match self.reply {
            Some(_) => (options, self.stop),
            None => (GenerateOptions { stop: self.stop, ..options }, vec![]),
        }
    }
}

/// How an answer begins.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Reply {
    pub(crate) template: Option<Template>,
    #[serde(default)]
    pub(crate) thinking: ThinkingMode,
}

/// The form of a conversation.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Template {
    G1,
    G1h,
    ChatMl,
}

impl From<Template> for ChatTemplate {
    fn from(template: Template) -> ChatTemplate {
        match template {
            Template::G1 => ChatTemplate::G1,
            Template::G1h => ChatTemplate::G1h,
            Template::ChatMl => ChatTemplate::ChatMl,
        }
    }
}

/// The name of a form, as [`Template`] reads it; none for forms that this crate does not know yet.
pub(crate) fn template_name(template: ChatTemplate) -> Option<&'static str> {
    match template {
        ChatTemplate::G1 => Some("g1"),
        ChatTemplate::G1h => Some("g1h"),
        ChatTemplate::ChatMl => Some("chatml"),
        // The enum may grow.
        _ => None,
    }
}

/// Whether a model thinks before it answers.
#[derive(Debug, Clone, Copy, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ThinkingMode {
    #[default]
    Off,
    On,
    Short,
    Long,
    Fake,
}

impl From<ThinkingMode> for Opening {
    fn from(mode: ThinkingMode) -> Opening {
        Opening::from(match mode {
            ThinkingMode::Off => Thinking::Off,
            ThinkingMode::On => Thinking::On(ThinkLength::Unhinted),
            ThinkingMode::Short => Thinking::On(ThinkLength::Short),
            ThinkingMode::Long => Thinking::On(ThinkLength::Long),
            ThinkingMode::Fake => Thinking::Fake,
        })
    }
}

/// A turn of a conversation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Turn {
    role: RoleName,
    content: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    System,
    User,
    Assistant,
    Tool,
}

impl From<Turn> for Message {
    fn from(turn: Turn) -> Message {
        let role = match turn.role {
            RoleName::System => Role::System,
            RoleName::User => Role::User,
            RoleName::Assistant => Role::Assistant,
            RoleName::Tool => Role::Tool,
        };
        Message::new(role, turn.content)
    }
}

/// The options of an embedding. What is missing is as the model was trained.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Embed {
    pooling: Option<PoolingName>,
    layer: Option<usize>,
    #[serde(default)]
    normalize: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PoolingName {
    Last,
    Mean,
}

impl Embed {
    /// The options for a model whose usual ones are `usual`.
    pub(crate) fn options(self, usual: EmbedOptions) -> EmbedOptions {
        let chosen = self.pooling.is_some() || self.layer.is_some();
        let mut options = if chosen { EmbedOptions::default() } else { usual };
        options.normalize = self.normalize;
        if let Some(pooling) = self.pooling {
            options.pooling = match pooling {
                PoolingName::Last => Pooling::Last,
                PoolingName::Mean => Pooling::Mean,
            };
        }
        if let Some(layer) = self.layer {
            options.layer = Layer::Residual(layer);
        }
        options
    }
}
