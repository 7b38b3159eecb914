//! Sizes of a model: from the shapes of its tensors, checked against the file's metadata where it has any.

use crate::dialect::Dialect;
use crate::error::ModelError;
use crate::names;
use crate::source::Source;
use anser_format::{FileKind, ModelFile};
use std::sync::Arc;

/// The RWKV version of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// RWKV-4.
    V4,
    /// RWKV-5 "Eagle", also as 5.1 and 5.2.
    V5,
    /// RWKV-6 "Finch".
    V6,
    /// RWKV-7 "Goose".
    V7,
    /// RWKV-7a: RWKV-7 with token embeddings in its feed-forward layers.
    V7a,
    /// QRWKV-6: RWKV-6's time mixing in a Qwen2 model.
    Rwkv6Qwen2,
    /// ARWKV: RWKV-7's time mixing in a Qwen2 model.
    Arwkv7,
}

impl Version {
    /// Whether the model is a transformer whose attention is RWKV's time mixing.
    pub fn is_hybrid(self) -> bool {
        match self {
            Version::V4 | Version::V5 | Version::V6 | Version::V7 | Version::V7a => false,
            Version::Rwkv6Qwen2 | Version::Arwkv7 => true,
        }
    }
}

/// Sizes and constants that the plan of a model is built from.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// RWKV version.
    pub version: Version,
    /// L, number of layers.
    pub n_layer: usize,
    /// C, width of the residual stream.
    pub n_embd: usize,
    /// H, number of heads; 1 for RWKV-4, which has none.
    pub n_head: usize,
    /// N, size of a head; C = H·N.
    pub head_size: usize,
    /// F, width of the feed-forward layer.
    pub n_ffn: usize,
    /// V, number of tokens.
    pub n_vocab: usize,
    /// Epsilon of the layer norms, or of the RMS norms of a hybrid.
    pub layer_norm_eps: f32,
    /// Epsilon of the norm after the recurrence, which has a group per head.
    pub group_norm_eps: f32,
    /// After how many layers llama.cpp halves the residual stream, for which the file has smaller matrices; 0 for never.
    pub rescale_every: usize,
    /// Who wrote the file, in words: how it spells the tensors' names.
    pub dialect: String,
}

/// Epsilon of the layer norms, unless the file names another one.
const LAYER_NORM_EPS: f32 = 1e-5;
/// Epsilon of the norm after the recurrence: 64·1e-5 in every published model, whatever the head size.
const GROUP_NORM_EPS: f32 = 64e-5;

/// Layer counts beyond this are refused: the largest published model has 61.
const MAX_LAYERS: usize = 1024;
/// Head sizes that an executor's state registers and workgroups are made for.
const HEAD_SIZES: std::ops::RangeInclusive<usize> = 8..=256;

impl Config {
    /// Finds version and sizes of the model in `file`.
    ///
    /// # Errors
    /// A file of another architecture or RWKV version, sizes that contradict each other or the metadata.
    pub fn from_file(file: &Arc<ModelFile>) -> Result<Config, ModelError> {
        let source = Source::new(file);
        let dialect = source.dialect();
        refuse_converted(file)?;
        let version = version(file, &source)?;
        let n_layer = n_layer(file, dialect)?;
        let [n_vocab, n_embd] = source.matrix_shape("emb.weight")?;
        let key = if version.is_hybrid() { "blocks.0.ffn.gate.weight" } else { "blocks.0.ffn.key.weight" };
        let [n_ffn, _] = source.matrix_shape(key)?;
        let head_size = match version {
            Version::V4 => n_embd,
            Version::V5 | Version::V6 | Version::V7 | Version::V7a | Version::Rwkv6Qwen2 | Version::Arwkv7 => {
                head_size(file, &source, version, n_embd)?
            }
        };
        let valid = version == Version::V4 || HEAD_SIZES.contains(&head_size) && n_embd % head_size == 0;
        if !valid {
            return Err(ModelError::Metadata {
                file: file.name().into(),
                key: "head size".into(),
                expected: format!("{} to {}, a divisor of the width {n_embd}", HEAD_SIZES.start(), HEAD_SIZES.end()),
                found: head_size.to_string(),
            });
        }
        check_length(file, "embedding_length", n_embd)?;
        check_length(file, "feed_forward_length", n_ffn)?;
        let layer_norm_eps = match dialect {
            Dialect::Gguf if version.is_hybrid() => epsilon(file, &arch_key(file, "attention.layer_norm_rms_epsilon"))?,
            Dialect::Gguf => epsilon(file, &arch_key(file, "attention.layer_norm_epsilon"))?,
            Dialect::Fla | Dialect::FlaV6 => epsilon(file, "config.norm_eps")?,
            Dialect::Transformers { .. } | Dialect::Attention => epsilon(file, "config.layer_norm_epsilon")?,
            Dialect::Blink | Dialect::WebRwkv | Dialect::Prefixed { .. } => None,
        }
        .unwrap_or(LAYER_NORM_EPS);
        let group_norm_eps = match dialect {
            // As its own program computes it: equal to the others' for heads of 64.
            Dialect::Fla => head_size as f32 * layer_norm_eps,
            Dialect::FlaV6 => layer_norm_eps,
            Dialect::Transformers { .. } => epsilon(file, "config.group_norm_epsilon")?.unwrap_or(GROUP_NORM_EPS),
            Dialect::Blink | Dialect::WebRwkv | Dialect::Gguf | Dialect::Prefixed { .. } | Dialect::Attention => {
                GROUP_NORM_EPS
            }
        };
        let n_head = n_embd / head_size;
        let rescale_every = arch_u64(file, "rescale_every_n_layers")?;
        let rescale_every = rescale_every.map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let dialect = dialect.to_string();
        Ok(Config {
            version,
            n_layer,
            n_embd,
            n_head,
            head_size,
            n_ffn,
            n_vocab,
            layer_norm_eps,
            group_norm_eps,
            rescale_every,
            dialect,
        })
    }
}

/// Refuses what other programs made of a model, which has its names and other numbers.
fn refuse_converted(file: &ModelFile) -> Result<(), ModelError> {
    let marks = [
        ("_strategy", "a model that package rwkv has converted (convert_and_save)", "load the original .pth file"),
        (
            "config.quantization_config",
            "a folder of quantized weights",
            "get the model in BF16, F16 or F32, or as GGUF",
        ),
        ("rwkvq", "a model that rwkv-quant has quantized", "get the model in BF16, F16 or F32, or as GGUF"),
    ];
    match marks.iter().find(|(key, ..)| file.metadata(key).is_some()) {
        Some((_, what, advice)) => {
            Err(ModelError::Unsupported { file: file.name().into(), what: (*what).into(), advice: (*advice).into() })
        }
        None => Ok(()),
    }
}

/// `{arch}.{key}` of a GGUF file.
fn arch_key(file: &ModelFile, key: &str) -> String {
    let arch = file.metadata("general.architecture").and_then(|arch| arch.as_str()).unwrap_or_default();
    format!("{arch}.{key}")
}

/// The value of that key, as an unsigned number.
fn arch_u64(file: &ModelFile, key: &str) -> Result<Option<u64>, ModelError> {
    let key = arch_key(file, key);
    match file.metadata(&key) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| ModelError::Metadata {
            file: file.name().into(),
            key,
            expected: "an unsigned number".into(),
            found: value.to_string(),
        }),
    }
}

/// Where the metadata names a length, it must be the one of the tensors.
fn check_length(file: &ModelFile, key: &str, expected: usize) -> Result<(), ModelError> {
    match arch_u64(file, key)? {
        Some(found) if found != expected as u64 => Err(ModelError::Metadata {
            file: file.name().into(),
            key: arch_key(file, key),
            expected: format!("{expected}, as the tensors have it"),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}

fn version(file: &Arc<ModelFile>, source: &Source) -> Result<Version, ModelError> {
    let not_rwkv = |reason: String| ModelError::NotRwkv { file: file.name().into(), reason };
    let unsupported = |what: String| ModelError::Unsupported {
        file: file.name().into(),
        what,
        advice: "Anser runs RWKV-4, 5, 6, 7, 7a and the hybrids rwkv6qwen2 and arwkv7".into(),
    };
    if let FileKind::Gguf { .. } = file.kind() {
        let key = "general.architecture";
        let arch = file.metadata(key).ok_or_else(|| not_rwkv(format!("it has no {key}")))?;
        return match arch.as_str() {
            Some("rwkv6") => Ok(Version::V6),
            Some("rwkv7") => Ok(Version::V7),
            Some("rwkv6qwen2") => Ok(Version::Rwkv6Qwen2),
            Some("arwkv7") => Ok(Version::Arwkv7),
            Some(arch) => Err(not_rwkv(format!("its architecture is {arch:?}"))),
            None => Err(not_rwkv(format!("{key} is {arch}, but a text in UTF-8 is needed"))),
        };
    }
    let has = |name: &str| source.has(&format!("blocks.0.{name}"));
    let marks = ["att.x_r", "att.w1", "att.a1", "att.g1", "att.r_k", "att.k_k"];
    if marks.iter().all(|m| has(m)) {
        if file.tensors().any(|tensor| tensor.name.starts_with("blocks.0.qkv.")) {
            return Err(unsupported("RWKV-7b, which attends to all tokens before".into()));
        }
        Ok(if has("ffn.s_emb.weight") { Version::V7a } else { Version::V7 })
    } else if has("att.time_maa_x") {
        let keys = source.matrix_shape("blocks.0.att.key.weight")?;
        if source.dialect() == Dialect::FlaV6 && keys[0] != keys[1] {
            let what = format!("RWKV-6 with {} keys for a width of {} (expand_k)", keys[0], keys[1]);
            return Err(unsupported(what));
        }
        Ok(Version::V6)
    } else if has("att.time_decay") && has("att.ln_x.weight") {
        Ok(Version::V5)
    } else if has("att.time_decay") {
        Ok(Version::V4)
    } else if let Some(missing) = marks.iter().find(|m| !has(m)).filter(|_| marks.iter().any(|m| has(m))) {
        let tensor = source.spelled(&format!("blocks.0.{missing}"));
        Err(ModelError::MissingTensor { file: file.name().into(), tensor })
    } else if let Some(tensor) = file.tensors().find(|tensor| names::is_hugging_face(tensor.name)) {
        Err(ModelError::Unsupported {
            file: file.name().into(),
            what: format!("this layout of Hugging Face's transformers (tensor {})", abbreviate(tensor.name)),
            advice: "take the .pth file that the model was made from".into(),
        })
    } else {
        Err(not_rwkv("it has no tensors of the names blocks.0.att.*".into()))
    }
}

/// Layers are numbered 0 to L-1 without a gap, and the metadata, if any, says the same.
fn n_layer(file: &ModelFile, dialect: Dialect) -> Result<usize, ModelError> {
    let prefix = dialect.layer_prefix();
    let mut present = std::collections::BTreeSet::new();
    for view in file.tensors() {
        let Some((number, _)) = view.name.strip_prefix(&prefix).and_then(|rest| rest.split_once('.')) else { continue };
        let layer = number.parse::<usize>().ok().filter(|&n| n < MAX_LAYERS).ok_or_else(|| ModelError::Metadata {
            file: file.name().into(),
            key: format!("layer number of {}", abbreviate(view.name)),
            expected: format!("a number below {MAX_LAYERS}"),
            found: abbreviate(number),
        })?;
        present.insert(layer);
    }
    let found = present.len();
    let announced = arch_u64(file, "block_count")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)).unwrap_or(found);
    let contiguous = present.last().is_none_or(|&last| last + 1 == found);
    if found == 0 || announced != found || !contiguous {
        let layers: Vec<String> = present.iter().take(8).map(ToString::to_string).collect();
        return Err(ModelError::Metadata {
            file: file.name().into(),
            key: "number of layers".into(),
            expected: if contiguous { announced.to_string() } else { "layers numbered without a gap".into() },
            found: format!("{found} (tensors of layers {}{})", layers.join(", "), if found > 8 { ", …" } else { "" }),
        });
    }
    Ok(found)
}

/// N from the metadata, else from a tensor `[H, N]` or `[H]`, else 64 as in every published model so far.
fn head_size(file: &ModelFile, source: &Source, version: Version, n_embd: usize) -> Result<usize, ModelError> {
    if let Some(n) = arch_u64(file, "wkv.head_size")? {
        return Ok(usize::try_from(n).unwrap_or(usize::MAX));
    }
    let name = match version {
        Version::V4 | Version::V7 | Version::V7a => "blocks.0.att.r_k",
        Version::V5 => "blocks.0.att.time_decay",
        Version::V6 => "blocks.0.att.time_faaaa",
        Version::Rwkv6Qwen2 | Version::Arwkv7 => return Ok(64),
    };
    match source.shape(name)?[..] {
        [h, 1] | [h, 1, 1] | [h] if version == Version::V5 && h > 0 => Ok(n_embd / h),
        [_, n] | [_, n, 1] => Ok(n),
        _ => Ok(64),
    }
}

/// The epsilon of a norm that the metadata name.
fn epsilon(file: &ModelFile, key: &str) -> Result<Option<f32>, ModelError> {
    let Some(value) = file.metadata(key) else { return Ok(None) };
    let eps = value.as_f64().unwrap_or(f64::NAN) as f32;
    if eps > 0.0 && eps < 1.0 {
        return Ok(Some(eps));
    }
    Err(ModelError::Metadata {
        file: file.name().into(),
        key: key.into(),
        expected: "a number between 0 and 1, usually 1e-5".into(),
        found: eps.to_string(),
    })
}

/// Names come from the file and may be huge: an error message shows their beginning.
fn abbreviate(name: &str) -> String {
    match name.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}
