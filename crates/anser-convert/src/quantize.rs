//! The types that llama-quantize gives to tensors, and importance matrices beside them.

use crate::error::ConvertError;
use crate::file_type::FileType;
use crate::header::QUANTIZATION_VERSION;
use crate::imatrix::ImportanceMatrix;
use crate::output::{Form, Output, OutputTensor};
use crate::pattern::TypeRule;
use anser_format::{DType, MetaValue};

/// What quantizing may be told.
#[derive(Clone, Copy)]
pub struct QuantizeOptions<'a> {
    /// The mix of types.
    pub file_type: FileType,
    /// How much the error of each column counts.
    pub matrix: Option<&'a ImportanceMatrix>,
    /// Tensors of other types; of several rules for one tensor the last one counts.
    pub rules: &'a [TypeRule],
    /// Whether tensors that are quantized already may be quantized anew.
    pub allow_requantize: bool,
}

/// Parts of the names of matrices that are never quantized, since they are small and errors in them cost much.
const KEPT: [&str; 15] = [
    "_norm.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
];

/// Metadata that describe how a file was quantized.
const MATRIX_KEYS: &str = "quantize.imatrix.";
const FILE_TYPE: &str = "general.file_type";
const VERSION: &str = "general.quantization_version";

impl Output {
    /// Gives the tensors of a GGUF file the types that llama-quantize gives them, and writes down in the metadata what was done.
    ///
    /// # Errors
    /// If the output is not GGUF, a rule cannot be followed, the matrix is another model's, or a tensor is quantized already.
    pub fn quantize(&mut self, options: &QuantizeOptions) -> Result<(), ConvertError> {
        let Form::Gguf(metadata) = &mut self.form else {
            let file = self.file.name().into();
            let advice = "it has floats only; quantize to a GGUF file".into();
            return Err(ConvertError::NoForm { file, what: "a quantized model".into(), layout: "safetensors", advice });
        };
        describe(metadata, options.file_type, options.matrix);
        if let Some(matrix) = options.matrix {
            set_importance(&mut self.tensors, matrix)?;
        }
        let n_downs = self.tensors.iter().filter(|tensor| is_down(tensor)).count();
        let mut down = 0;
        for tensor in &mut self.tensors {
            let place = (down, n_downs);
            down += usize::from(is_down(tensor));
            if let Some(dtype) = usual_type(tensor, options, place) {
                tensor.dtype = dtype;
            }
        }
        follow_rules(&mut self.tensors, options.rules)?;
        for tensor in &mut self.tensors {
            check(self.file.name(), tensor, options)?;
            if !tensor.dtype.is_quantized() {
                tensor.importance = None;
            }
        }
        Ok(())
    }
}

/// Replaces what the metadata say about types.
pub(crate) fn describe(
    metadata: &mut Vec<(String, MetaValue)>,
    file_type: FileType,
    matrix: Option<&ImportanceMatrix>,
) {
    metadata.retain(|(key, _)| key != FILE_TYPE && key != VERSION && !key.starts_with(MATRIX_KEYS));
    metadata.push((VERSION.into(), MetaValue::U32(QUANTIZATION_VERSION)));
    metadata.push((FILE_TYPE.into(), MetaValue::U32(file_type.id())));
    let Some(matrix) = matrix else { return };
    let text = |text: &str| MetaValue::Str(text.into());
    let n_entries = MetaValue::U32(u32::try_from(matrix.entries.len()).unwrap_or(u32::MAX));
    let entries = [
        Some(("file", text(&matrix.file))),
        matrix.datasets.first().map(|dataset| ("dataset", text(dataset))),
        Some(("entries_count", n_entries)),
        matrix.n_chunks.map(|n_chunks| ("chunks_count", MetaValue::U32(n_chunks))),
    ];
    metadata.extend(entries.into_iter().flatten().map(|(key, value)| (format!("{MATRIX_KEYS}{key}"), value)));
}

/// Gives tensors the importance of their columns. A matrix that has none of the model's tensors, or other widths, is another model's.
pub(crate) fn set_importance(tensors: &mut [OutputTensor], matrix: &ImportanceMatrix) -> Result<(), ConvertError> {
    let refuse = |problem: String| ConvertError::Matrix { file: matrix.file.clone(), problem };
    let mut is_used = false;
    for tensor in tensors {
        let Some(importance) = matrix.entries.get(&tensor.name).map(|entry| &entry.importance) else { continue };
        if importance.len() != tensor.n_cols() {
            return Err(refuse(format!(
                "entry {:?} has {} columns, the model's tensor {}; the importance matrix is another model's, make one with this model",
                tensor.name,
                importance.len(),
                tensor.n_cols()
            )));
        }
        is_used = true;
        tensor.importance = Some(importance.clone());
    }
    match is_used {
        true => Ok(()),
        false => Err(refuse("the model has none of its tensors; the importance matrix is another model's".into())),
    }
}

/// Whether it is the last matrix of a hybrid's feed-forward layer, whose errors cost most.
fn is_down(tensor: &OutputTensor) -> bool {
    tensor.name.contains("ffn_down.weight")
}

/// Whether llama-quantize touches the tensor.
pub(crate) fn is_quantizable(tensor: &OutputTensor) -> bool {
    let name = &tensor.name;
    tensor.n_dims() > 1
        && name.ends_with("weight")
        && !name.contains("time_mix_lerp_fused.weight")
        && !KEPT.iter().any(|kept| name.contains(kept))
}

/// The type that the file type gives to the tensor; `None` if it keeps its own. `place` is the number of the first `ffn_down` that is
/// not before this tensor, and how many there are.
fn usual_type(tensor: &OutputTensor, options: &QuantizeOptions, place: (usize, usize)) -> Option<DType> {
    if !is_quantizable(tensor) {
        return None;
    }
    let usual = options.file_type.dtype();
    let n_cols = tensor.n_cols();
    let wanted = if !usual.is_quantized() {
        usual
    } else if tensor.name == "output.weight" {
        match usual {
            DType::Q8_0 => DType::Q8_0,
            _ if !n_cols.is_multiple_of(DType::Q6_K.block_len()) => DType::Q8_0,
            _ => DType::Q6_K,
        }
    } else if is_down(tensor) {
        down_type(options, place)
    } else {
        usual
    };
    Some(fallback(wanted, n_cols))
}

/// The type of a hybrid's `ffn_down`: more bits in the layers where an error costs most.
fn down_type(options: &QuantizeOptions, (i, n): (usize, usize)) -> DType {
    let (is_first, has_matrix) = (i < n / 8, options.matrix.is_some());
    let has_more_bits = is_first || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    match options.file_type {
        FileType::Q2_K => DType::Q3_K,
        FileType::Q2_K_S if is_first => DType::Q4_K,
        FileType::Q3_K_M if i < n / 16 => DType::Q5_K,
        FileType::Q3_K_M => DType::Q4_K,
        FileType::Q3_K_L => DType::Q5_K,
        FileType::Q4_K_M | FileType::Q5_K_M if has_more_bits => DType::Q6_K,
        FileType::Q4_K_S if is_first => DType::Q5_K,
        FileType::IQ4_NL | FileType::IQ4_XS if is_first && !has_matrix => DType::Q5_K,
        FileType::Q4_0 if is_first && has_matrix => DType::Q4_1,
        FileType::Q5_0 if is_first && has_matrix => DType::Q5_1,
        file_type @ (FileType::F32
        | FileType::F16
        | FileType::BF16
        | FileType::Q4_0
        | FileType::Q4_1
        | FileType::Q5_0
        | FileType::Q5_1
        | FileType::Q8_0
        | FileType::Q2_K_S
        | FileType::Q3_K_S
        | FileType::Q4_K_S
        | FileType::Q4_K_M
        | FileType::Q5_K_S
        | FileType::Q5_K_M
        | FileType::Q6_K
        | FileType::IQ4_NL
        | FileType::IQ4_XS) => file_type.dtype(),
    }
}

/// A type for rows that are no whole blocks of the wanted one.
fn fallback(wanted: DType, n_cols: usize) -> DType {
    if n_cols.is_multiple_of(wanted.block_len()) {
        return wanted;
    }
    let smaller = match wanted {
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::IQ4_XS => DType::IQ4_NL,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        DType::F32
        | DType::F16
        | DType::BF16
        | DType::Q8_0
        | DType::Q4_0
        | DType::Q4_1
        | DType::Q5_0
        | DType::Q5_1
        | DType::IQ4_NL
        | DType::IQ2_XXS
        | DType::IQ2_XS
        | DType::IQ2_S
        | DType::IQ3_XXS
        | DType::IQ3_S
        | DType::IQ1_S
        | DType::IQ1_M => DType::F16,
    };
    if n_cols.is_multiple_of(smaller.block_len()) { smaller } else { DType::F16 }
}

fn follow_rules(tensors: &mut [OutputTensor], rules: &[TypeRule]) -> Result<(), ConvertError> {
    for rule in rules {
        let mut is_used = false;
        for tensor in tensors.iter_mut().filter(|tensor| rule.matches(&tensor.name)) {
            let n_cols = tensor.n_cols();
            if rule.pattern.contains('*') {
                // A pattern means the matrices among what it matches; small ones that llama-quantize leaves alone have to be named.
                if !is_quantizable(tensor) {
                    continue;
                }
            } else if tensor.n_dims() != 2 || tensor.name.contains("time_mix_first") {
                let shape = &tensor.shape;
                return Err(rule.refused(format!("the tensor is {shape:?} and no matrix; it stays {}", tensor.dtype)));
            }
            if !n_cols.is_multiple_of(rule.dtype.block_len()) {
                let (name, block_len) = (&tensor.name, rule.dtype.block_len());
                return Err(rule.refused(format!(
                    "the rows of {name} have {n_cols} elements, no multiple of {}'s block of {block_len}; choose a type with blocks of 32, or F16",
                    rule.dtype
                )));
            }
            tensor.dtype = rule.dtype;
            is_used = true;
        }
        if !is_used {
            return Err(rule.refused(
                "the model has no such matrix; anser inspect --tensors lists the names of a GGUF file".into(),
            ));
        }
    }
    Ok(())
}

/// Refuses what would lose more than the user expects.
fn check(file: &str, tensor: &OutputTensor, options: &QuantizeOptions) -> Result<(), ConvertError> {
    let (found, dtype) = (tensor.source_dtype(), tensor.dtype);
    if found.is_quantized() && found != dtype && !options.allow_requantize {
        return Err(ConvertError::Requantize { file: file.into(), tensor: tensor.name.clone(), found, dtype });
    }
    let is_edge = tensor.name == "output.weight" || tensor.name == "token_embd.weight";
    if options.file_type == FileType::Q2_K_S && dtype == DType::Q2_K && tensor.importance.is_none() && !is_edge {
        let (file, tensor) = (file.into(), tensor.name.clone());
        return Err(ConvertError::NeedsMatrix { file, tensor, dtype, file_type: options.file_type.name() });
    }
    Ok(())
}
