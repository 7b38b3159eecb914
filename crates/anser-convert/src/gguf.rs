//! GGUF as llama.cpp's converter writes it: names, stacked vectors, orientation, types and metadata.

use crate::error::ConvertError;
use crate::file_type::FileType;
use crate::header::{Architecture, Header, Rwkv6Ranks, Rwkv7Ranks, size_label};
use crate::output::{FloatType, Form, Output, OutputTensor, Piece};
use crate::parts::{Kind, Part, parts};
use crate::vocabulary::Vocabulary;
use anser_format::{DType, FileKind, MetaValue, ModelFile};
use anser_model::{Config, ModelError, Source, Version, Weight, gguf_name};
use anser_tokenizer::Tokenizer;
use std::path::Path;
use std::sync::Arc;

/// The layout's name in messages.
const LAYOUT: &str = "GGUF";

/// After how many layers llama.cpp halves RWKV-6's residual stream, where a model's own settings do not say it: what published models
/// have. The model computes the same with any number.
const RESCALE_EVERY: usize = 6;

/// The epsilon of the norm after the recurrence that llama.cpp and web-rwkv compute with, whatever the model.
const GROUP_NORM_EPS: f32 = 64e-5;

/// What a conversion to GGUF may be told.
#[derive(Clone, Default)]
pub struct GgufOptions {
    /// The type of matrices; `None`: that of the source, F16 if it is quantized.
    pub float: Option<FloatType>,
    /// The tokens; `None`: those of the source if it is a GGUF file, else the World vocabulary, if the model has as many tokens.
    pub vocabulary: Option<Vocabulary>,
    /// After how many layers llama.cpp halves RWKV-6's residual stream, 0 for never; `None`: as in the source's metadata or settings, else 6.
    pub rescale_every: Option<usize>,
}

impl Output {
    /// Lays the model in `file` out as GGUF: RWKV-6 or RWKV-7 with names, shapes, types and metadata of llama.cpp's converter.
    ///
    /// # Errors
    /// If the file is no such model, GGUF has no form for it, or its tokens are not known.
    pub fn gguf(file: &Arc<ModelFile>, options: &GgufOptions) -> Result<Output, ConvertError> {
        let config = Config::from_file(file)?;
        let source = Source::new(file);
        let kind = Kind::of(&source, &config).map_err(|what| {
            let advice = match config.version {
                Version::Rwkv6Qwen2 | Version::Arwkv7 => {
                    "it is a GGUF file as it should be; anser quantize changes its types"
                }
                _ => "it runs from the file that it lies in",
            };
            no_form(file, what, LAYOUT, advice)
        })?;
        match kind {
            Kind::V6 | Kind::V7 => {}
            Kind::V4 | Kind::V5 { .. } => {
                let advice = "llama.cpp knows RWKV-6 and RWKV-7; it runs from the file that it lies in, or convert it with --to st";
                return Err(no_form(file, kind.name(), LAYOUT, advice));
            }
        }
        check_plain(file, &source, &config, LAYOUT, None)?;
        let rescale_every = match kind {
            Kind::V6 => options.rescale_every.unwrap_or_else(|| usual_rescale_every(file, &config)),
            Kind::V4 | Kind::V5 { .. } | Kind::V7 => 0,
        };
        let parts = parts(file, &config, kind)?;
        let head = parts.last().map_or(DType::F16, |head| head.weight.dtype());
        let float = options.float.unwrap_or_else(|| FloatType::of(head));
        let ranks = ranks(file, &parts, &config)?;
        let header = Header {
            architecture: match kind {
                Kind::V6 => Architecture::Rwkv6(Rwkv6Ranks {
                    rescale_every,
                    mix: ranks.of("att.time_maa_w1") / 5,
                    decay: ranks.of("att.time_decay_w1"),
                }),
                Kind::V4 | Kind::V5 { .. } | Kind::V7 => Architecture::Rwkv7(Rwkv7Ranks {
                    decay: ranks.of("att.w1"),
                    rate: ranks.of("att.a1"),
                    // A model of one layer has no value residual, and llama.cpp wants the rank of the tensors in its place.
                    value: if config.n_layer > 1 { ranks.of("att.v1") } else { ranks.of("att.a1") },
                    gate: ranks.of("att.g1"),
                }),
            },
            name: name_of(file),
            size_label: size_label(parts.iter().map(Part::n_elements).sum()),
            n_layer: config.n_layer,
            n_embd: config.n_embd,
            n_ffn: config.n_ffn,
            head_size: config.head_size,
            layer_norm_eps: config.layer_norm_eps,
            file_type: match float {
                FloatType::F16 => FileType::F16,
                FloatType::BF16 => FileType::BF16,
                FloatType::F32 => FileType::F32,
            }
            .id(),
        };
        let vocabulary = vocabulary(file, &config, options)?;
        // Without tokens nothing else tells llama.cpp how many there are.
        let n_vocab = match vocabulary {
            Vocabulary::World | Vocabulary::Other { .. } | Vocabulary::Copied(_) => None,
            Vocabulary::None => {
                let n_vocab = MetaValue::U32(u32::try_from(config.n_vocab).unwrap_or(u32::MAX));
                Some((format!("{}.vocab_size", header.architecture.name()), n_vocab))
            }
        };
        let metadata = header.entries().into_iter().chain(n_vocab).chain(vocabulary.entries()).collect();
        let tensors = tensors(parts, &config, rescale_every, float.dtype());
        Ok(Output { file: file.clone(), form: Form::Gguf(metadata), tensors })
    }

    /// A GGUF file as it is, tensor by tensor; metadata about parts and quantization, which belong to the file, are left out.
    ///
    /// # Errors
    /// If the file is not GGUF, or has a tensor of a type that cannot be read.
    pub fn same_gguf(file: &Arc<ModelFile>) -> Result<Output, ConvertError> {
        refuse_beside(file, LAYOUT)?;
        let mut tensors = vec![];
        for info in file.tensors() {
            let refuse = || ConvertError::Type {
                file: file.name().into(),
                tensor: info.name.into(),
                found: info.stored.name().into(),
            };
            let tensor = file.tensor(info.name).ok_or_else(refuse)?;
            let n_cols = info.shape.last().copied().unwrap_or(1);
            let n_rows = info.shape.iter().rev().skip(1).product();
            let dtype = tensor.dtype();
            let weight = Weight::from_tensor(info.name, tensor, n_rows, n_cols).ok_or_else(refuse)?;
            let (name, shape, pieces) = (info.name.to_owned(), info.shape.to_vec(), vec![Piece::of(&weight)]);
            tensors.push(OutputTensor { name, dtype, shape, pieces, importance: None });
        }
        // The writer decides about the alignment.
        let is_left_out = |key: &str| key.starts_with("split.") || key == "general.alignment";
        let metadata = file.metadata_entries().filter(|(key, _)| !is_left_out(key));
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        Ok(Output { file: file.clone(), form: Form::Gguf(metadata), tensors })
    }
}

fn no_form(file: &ModelFile, what: &str, layout: &'static str, advice: &str) -> ConvertError {
    ConvertError::NoForm { file: file.name().into(), what: what.into(), layout, advice: advice.into() }
}

/// Refuses a model with adapters' pairs beside its matrices, which are no tensors of the file.
fn refuse_beside(file: &ModelFile, layout: &'static str) -> Result<(), ConvertError> {
    match file.has_added() {
        true => Err(no_form(file, "an adapter beside its matrices", layout, "merge it into them (LoraForm::Merged)")),
        false => Ok(()),
    }
}

/// Refuses what makes a model compute something else in a layout than it does here: epsilons that the layout has no place for, a norm that is part of
/// the embedding, a tuned initial state.
pub(crate) fn check_plain(
    file: &ModelFile,
    source: &Source,
    config: &Config,
    layout: &'static str,
    layer_norm_eps: Option<f32>,
) -> Result<(), ConvertError> {
    refuse_beside(file, layout)?;
    let differs = |a: f32, b: f32| (a / b - 1.0).abs() > 1e-3;
    let own = "it runs from the file that it lies in";
    if !source.has("blocks.0.ln0.weight") {
        let what = "an embedding that the first norm (ln0) has been folded into";
        return Err(no_form(file, what, layout, "convert the .pth file that the folder was made from"));
    }
    if let Some(eps) = layer_norm_eps.filter(|&eps| differs(config.layer_norm_eps, eps)) {
        let what = format!("a layer norm of epsilon {}, where {eps} is computed with,", config.layer_norm_eps);
        return Err(no_form(file, &what, layout, own));
    }
    if config.version != Version::V4 && differs(config.group_norm_eps, GROUP_NORM_EPS) {
        let what =
            format!("a group norm of epsilon {}, where {GROUP_NORM_EPS} is computed with,", config.group_norm_eps);
        return Err(no_form(file, &what, layout, own));
    }
    if source.has("blocks.0.att.time_state") {
        return Err(no_form(file, "a tuned initial state (time_state)", layout, "take the model without its state"));
    }
    Ok(())
}

/// The inner widths of low-rank pairs, which GGUF has one of for all layers.
struct Ranks(Vec<(String, usize)>);

impl Ranks {
    /// The rows of a matrix in every layer, after `blocks.N.`; 0 if there is none.
    fn of(&self, part: &str) -> usize {
        self.0.iter().find(|(name, _)| name == part).map_or(0, |(_, rank)| *rank)
    }
}

/// Finds the ranks, which must be those of all layers.
fn ranks(file: &ModelFile, parts: &[Part], config: &Config) -> Result<Ranks, ConvertError> {
    let mut ranks = Ranks(vec![]);
    for part in parts {
        let (Some((_, name)), &[rank, n_cols]) = (part.in_layer(), &part.shape[..]) else { continue };
        if n_cols != config.n_embd || !name.ends_with('1') {
            continue;
        }
        match ranks.of(name) {
            0 => ranks.0.push((name.into(), rank)),
            expected if expected != rank => {
                return Err(ConvertError::Model(ModelError::Shape {
                    file: file.name().into(),
                    tensor: part.name.clone(),
                    expected: format!("[{expected}, {n_cols}], since a GGUF file has one rank for all layers"),
                    found: part.shape.clone(),
                }));
            }
            _ => {}
        }
    }
    Ok(ranks)
}

/// The name of a model for people: of a GGUF file what it says, else that of the file or folder without its ending.
fn name_of(file: &ModelFile) -> String {
    if let Some(name) = file.metadata("general.name").and_then(|name| name.as_str()) {
        return name.into();
    }
    let path = Path::new(file.name());
    // A file whose name says nothing is called as its folder.
    let usual = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("model."));
    let path = if usual { path.parent().unwrap_or(path) } else { path };
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "RWKV".into(), |name| name.to_string_lossy().into_owned())
}

fn vocabulary(file: &ModelFile, config: &Config, options: &GgufOptions) -> Result<Vocabulary, ConvertError> {
    let n_vocab = config.n_vocab;
    let n_world = Tokenizer::world().vocab_size();
    let given = options.vocabulary.clone().or_else(|| Vocabulary::of(file));
    match given {
        Some(Vocabulary::World) if n_world > n_vocab => {
            Err(ConvertError::VocabularyTooLarge { file: file.name().into(), n_vocab, found: n_world })
        }
        Some(Vocabulary::Other { tokenizer, .. }) => match tokenizer.vocab_size() {
            found if found > n_vocab => {
                Err(ConvertError::VocabularyTooLarge { file: file.name().into(), n_vocab, found })
            }
            _ => Ok(Vocabulary::Other { tokenizer, n_vocab }),
        },
        Some(vocabulary @ (Vocabulary::World | Vocabulary::Copied(_) | Vocabulary::None)) => Ok(vocabulary),
        None if n_vocab == n_world => Ok(Vocabulary::World),
        None => Err(ConvertError::NoVocabulary { file: file.name().into(), n_vocab, n_world }),
    }
}

/// By how much the numbers of a matrix are larger than those that the file has, since llama.cpp halves RWKV-6's residual stream after every
/// `rescale_every` layers and its converter divides what is added to it.
pub(crate) fn stored_smaller_by(part: &Part, rescale_every: usize) -> f32 {
    let exponent = match part.in_layer() {
        Some((layer, "att.output.weight" | "ffn.value.weight")) => layer.checked_div(rescale_every).unwrap_or(0),
        _ => 0,
    };
    (exponent as f32).exp2()
}

/// After how many layers the residual stream is to be halved if the caller does not say it.
fn usual_rescale_every(file: &ModelFile, config: &Config) -> usize {
    match file.kind() {
        FileKind::Gguf { .. } => config.rescale_every,
        FileKind::Safetensors | FileKind::Torch(_) => {
            let setting = file.metadata("config.rescale_every").and_then(|value| value.as_u64());
            setting.and_then(|n| usize::try_from(n).ok()).unwrap_or(RESCALE_EVERY)
        }
    }
}

/// The tensors under the names of llama.cpp's converter.
fn tensors(parts: Vec<Part>, config: &Config, rescale_every: usize, float: DType) -> Vec<OutputTensor> {
    let mut tensors: Vec<OutputTensor> = vec![];
    for part in parts {
        let Some((name, row)) = gguf_name(&part.name) else { continue };
        let factor = stored_smaller_by(&part, config.rescale_every) / stored_smaller_by(&part, rescale_every);
        let dtype = dtype(&part, float);
        let shape = shape(&part);
        let in_first_layer = part.in_layer().filter(|(layer, _)| *layer == 0).map(|(_, name)| name.to_owned());
        let piece = Piece::Stored { weight: part.weight, factor };
        if let Some(row) = row {
            // Rows that are stacked are parts one after another, in the order of the rows.
            match tensors.iter_mut().find(|tensor| tensor.name == name) {
                Some(stack) => stack.pieces.push(piece),
                None => tensors.push(OutputTensor {
                    name: name.clone(),
                    dtype,
                    shape,
                    pieces: vec![piece],
                    importance: None,
                }),
            }
            if let Some(stack) = tensors.iter_mut().find(|tensor| tensor.name == name) {
                stack.shape = vec![row + 1, 1, 1, config.n_embd];
            }
            continue;
        }
        let tensor = OutputTensor { name, dtype, shape, pieces: vec![piece], importance: None };
        // The first layer has no value residual, and llama.cpp wants tensors in its place: those of the in-context learning rate.
        let stand_in = match in_first_layer.as_deref() {
            Some("att.a0" | "att.a1" | "att.a2") => Some(tensor.name.replace("time_mix_a", "time_mix_v")),
            _ => None,
        };
        let stand_in = stand_in.map(|name| OutputTensor { name, ..tensor.clone() });
        tensors.push(tensor);
        tensors.extend(stand_in);
    }
    tensors
}

/// The shape in GGUF, slowest dimension first: vectors have one dimension, but for RWKV-6's `time_faaaa`.
fn shape(part: &Part) -> Vec<usize> {
    match part.in_layer() {
        Some((_, "att.r_k")) => vec![part.n_elements()],
        Some(_) | None if part.shape.starts_with(&[1, 1]) => vec![part.n_elements()],
        Some(_) | None => part.shape.clone(),
    }
}

/// The type in a file whose matrices are `float`: llama.cpp wants vectors, the decay's pair and RWKV-6's low-rank matrices in F32.
fn dtype(part: &Part, float: DType) -> DType {
    let is_kept = match part.in_layer() {
        Some((_, name)) => matches!(
            name,
            "att.w1"
                | "att.w2"
                | "att.time_maa_w1"
                | "att.time_maa_w2"
                | "att.time_decay_w1"
                | "att.time_decay_w2"
                | "att.time_faaaa"
        ),
        None => false,
    };
    if is_kept || shape(part).len() == 1 { DType::F32 } else { float }
}
