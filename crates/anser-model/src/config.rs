//! Sizes of a model: from the shapes of its tensors, checked against the file's metadata where it has any.

use crate::error::ModelError;
use crate::names;
use crate::weights::{Source, squeeze};
use anser_format::{FileKind, ModelFile};
use std::sync::Arc;

/// The RWKV version of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// RWKV-7 "Goose".
    V7,
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
    /// H, number of heads.
    pub n_head: usize,
    /// N, size of a head; C = H·N.
    pub head_size: usize,
    /// F, width of the feed-forward layer.
    pub n_ffn: usize,
    /// V, number of tokens.
    pub n_vocab: usize,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f32,
}

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
        let version = version(file)?;
        let n_layer = n_layer(file)?;
        let [n_vocab, n_embd] = source.matrix_shape("emb.weight")?;
        let [n_ffn, _] = source.matrix_shape("blocks.0.ffn.key.weight")?;
        let head_size = head_size(file, &source)?;
        let valid = HEAD_SIZES.contains(&head_size) && n_embd % head_size == 0;
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
        let layer_norm_eps = layer_norm_eps(file)?;
        let n_head = n_embd / head_size;
        Ok(Config { version, n_layer, n_embd, n_head, head_size, n_ffn, n_vocab, layer_norm_eps })
    }
}

/// `{arch}.{key}` of a GGUF file, as an unsigned number.
fn arch_u64(file: &ModelFile, key: &str) -> Result<Option<u64>, ModelError> {
    let key = format!("rwkv7.{key}");
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
            key: format!("rwkv7.{key}"),
            expected: format!("{expected}, as the tensors have it"),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}

fn version(file: &Arc<ModelFile>) -> Result<Version, ModelError> {
    let not_rwkv = |reason: String| ModelError::NotRwkv { file: file.name().into(), reason };
    let unsupported = |what: String| ModelError::Unsupported {
        file: file.name().into(),
        what,
        advice: "this version of Anser runs RWKV-7".into(),
    };
    if let FileKind::Gguf { .. } = file.kind() {
        let key = "general.architecture";
        let arch = file.metadata(key).ok_or_else(|| not_rwkv(format!("it has no {key}")))?;
        return match arch.as_str() {
            Some("rwkv7") => Ok(Version::V7),
            Some(arch @ ("rwkv6" | "rwkv6qwen2" | "arwkv7")) => Err(unsupported(format!("architecture {arch}"))),
            Some(arch) => Err(not_rwkv(format!("its architecture is {arch:?}"))),
            None => Err(not_rwkv(format!("{key} is {arch}, but a text in UTF-8 is needed"))),
        };
    }
    let has = |name: &str| file.info(&format!("blocks.0.{name}")).is_some();
    let marks = ["att.x_r", "att.w1", "att.a1", "att.g1", "att.r_k", "att.k_k"];
    if marks.iter().all(|m| has(m)) {
        Ok(Version::V7)
    } else if has("att.time_mix_x") || has("att.time_maa_x") {
        Err(unsupported("RWKV-6".into()))
    } else if has("att.time_decay") && has("att.ln_x.weight") {
        Err(unsupported("RWKV-5".into()))
    } else if has("att.time_decay") {
        Err(unsupported("RWKV-4".into()))
    } else if let Some(missing) = marks.iter().find(|m| !has(m)).filter(|_| marks.iter().any(|m| has(m))) {
        Err(ModelError::MissingTensor { file: file.name().into(), tensor: format!("blocks.0.{missing}") })
    } else if let Some(tensor) = file.tensors().find(|tensor| names::is_hugging_face(tensor.name)) {
        Err(ModelError::Unsupported {
            file: file.name().into(),
            what: format!("the layout of Hugging Face's transformers (tensor {})", abbreviate(tensor.name)),
            advice:
                "convert the model's folder to GGUF with llama.cpp's convert_hf_to_gguf.py, or the .pth file that it \
                     was made from with web-rwkv's converter"
                    .into(),
        })
    } else {
        Err(not_rwkv("it has no tensors of the names blocks.0.att.*".into()))
    }
}

/// Layers are numbered 0 to L-1 without a gap, and the metadata, if any, says the same.
fn n_layer(file: &ModelFile) -> Result<usize, ModelError> {
    let prefix = match file.kind() {
        FileKind::Gguf { .. } => "blk.",
        FileKind::Safetensors => "blocks.",
    };
    let mut present = std::collections::BTreeSet::new();
    for view in file.tensors() {
        let Some((number, _)) = view.name.strip_prefix(prefix).and_then(|rest| rest.split_once('.')) else { continue };
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

/// N from the metadata, else from `r_k` [H, N], else 64 as in every published model so far.
fn head_size(file: &ModelFile, source: &Source) -> Result<usize, ModelError> {
    if let Some(n) = arch_u64(file, "wkv.head_size")? {
        return Ok(usize::try_from(n).unwrap_or(usize::MAX));
    }
    let shape = source.shape("blocks.0.att.r_k")?;
    match squeeze(&shape)[..] {
        [_, n] => Ok(n),
        _ => Ok(64),
    }
}

fn layer_norm_eps(file: &ModelFile) -> Result<f32, ModelError> {
    let key = "rwkv7.attention.layer_norm_epsilon";
    let Some(value) = file.metadata(key) else { return Ok(1e-5) };
    let eps = value.as_f64().unwrap_or(f64::NAN) as f32;
    if eps > 0.0 && eps < 1.0 {
        return Ok(eps);
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
