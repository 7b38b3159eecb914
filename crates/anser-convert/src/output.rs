//! A file that is laid out and can be written.

use crate::error::ConvertError;
use crate::stream;
use anser_format::{DType, GgufWriter, MetaValue, ModelFile, SafetensorsHeader};
use anser_model::Weight;
use std::fmt;
use std::io::Write;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

/// A type of matrices that are not quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// 16 bits, numbers up to 65504.
    F16,
    /// The upper 16 bits of an F32.
    BF16,
    /// 32 bits.
    F32,
}

impl FloatType {
    /// Every type.
    pub const ALL: [FloatType; 3] = [FloatType::F16, FloatType::BF16, FloatType::F32];

    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            FloatType::F16 => DType::F16,
            FloatType::BF16 => DType::BF16,
            FloatType::F32 => DType::F32,
        }
    }

    /// The type that the matrices of a model have, F16 if they are quantized.
    pub(crate) fn of(dtype: DType) -> FloatType {
        FloatType::ALL.into_iter().find(|float| float.dtype() == dtype).unwrap_or(FloatType::F16)
    }
}

impl fmt::Display for FloatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dtype().fmt(f)
    }
}

impl FromStr for FloatType {
    type Err = String;

    fn from_str(name: &str) -> Result<FloatType, String> {
        let found = FloatType::ALL.into_iter().find(|float| float.to_string().eq_ignore_ascii_case(name));
        found.ok_or_else(|| "one of F16, BF16, F32 is needed".into())
    }
}

/// The format of an output.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// GGUF, with its metadata.
    Gguf(Vec<(String, MetaValue)>),
    /// safetensors.
    Safetensors,
}

/// A file that is laid out: all is known about it but the elements, which are read when it is written.
#[derive(Clone)]
pub struct Output {
    pub(crate) file: Arc<ModelFile>,
    pub(crate) form: Form,
    pub(crate) tensors: Vec<OutputTensor>,
}

/// A tensor of an [`Output`].
#[derive(Clone)]
pub struct OutputTensor {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Where the elements come from, one after another.
    pub(crate) pieces: Vec<Piece>,
    /// How much the error of each column counts.
    pub(crate) importance: Option<Arc<[f32]>>,
}

/// Elements of a tensor.
#[derive(Clone)]
pub(crate) enum Piece {
    /// Rows of a model's file, multiplied by a power of two.
    Stored { weight: Weight, factor: f32 },
    /// Numbers in memory: of a vector alone.
    Numbers(Arc<[f32]>),
}

impl Piece {
    pub(crate) fn of(weight: &Weight) -> Piece {
        Piece::Stored { weight: weight.clone(), factor: 1.0 }
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> [usize; 2] {
        match self {
            Piece::Stored { weight, .. } => [weight.n_rows(), weight.n_cols()],
            Piece::Numbers(numbers) => [1, numbers.len()],
        }
    }

    /// How the elements are stored.
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Piece::Stored { weight, .. } => weight.dtype(),
            Piece::Numbers(_) => DType::F32,
        }
    }
}

impl OutputTensor {
    /// The name in the output.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the elements will be stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Slowest dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type that most elements have in the source.
    pub fn source_dtype(&self) -> DType {
        self.pieces.first().map_or(self.dtype, Piece::dtype)
    }

    /// Elements of a row.
    pub(crate) fn n_cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The number of dimensions as ggml counts them: without slowest ones of length 1.
    pub(crate) fn n_dims(&self) -> usize {
        let n_ones = self.shape.iter().take_while(|&&n| n == 1).count();
        (self.shape.len() - n_ones).max(1)
    }

    /// Bytes of the elements in the output; `None` if rows are no whole blocks.
    pub fn n_bytes(&self) -> Option<u64> {
        let n_rows: usize = self.shape.iter().rev().skip(1).product();
        Some(self.dtype.row_n_bytes(self.n_cols())? as u64 * n_rows as u64)
    }
}

impl Output {
    /// The tensors in the order of the output.
    pub fn tensors(&self) -> &[OutputTensor] {
        &self.tensors
    }

    /// The format.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Bytes of the elements of all tensors.
    pub fn data_n_bytes(&self) -> u64 {
        self.tensors.iter().filter_map(OutputTensor::n_bytes).sum()
    }

    /// Writes the file to `out`, in writes of about a megabyte. `on_progress` is called with the bytes of elements that have been written and
    /// with all of them, and may end the work. The call uses all cores, and some megabytes for each.
    ///
    /// # Errors
    /// If an element cannot be stored in the type that it is to have, the model's file changes or cannot be read, `out` fails, or the caller
    /// ends the work.
    pub fn write<W: Write>(
        &self,
        out: W,
        on_progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<W, ConvertError> {
        // A system that does not tell has one core at least.
        let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        self.write_with_threads(out, n_threads, on_progress)
    }

    /// [`Output::write`] with this many threads. The bytes do not depend on it.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn write_with_threads<W: Write>(
        &self,
        mut out: W,
        n_threads: usize,
        on_progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<W, ConvertError> {
        let out = match &self.form {
            Form::Gguf(metadata) => {
                let mut writer = GgufWriter::new();
                for (key, value) in metadata {
                    writer.metadata(key, value.clone())?;
                }
                for tensor in &self.tensors {
                    writer.tensor(&tensor.name, tensor.dtype, &tensor.shape)?;
                }
                let mut data = writer.begin(out)?;
                stream::convert_all(&self.file, &self.tensors, n_threads, on_progress, |converted| {
                    for tensor in &self.tensors {
                        let mut failed = None;
                        let chunks = converted.of(tensor);
                        let chunks = chunks.map_while(|chunk| chunk.map_err(|error| failed = Some(error)).ok());
                        let written = data.write_tensor(&tensor.name, chunks);
                        // What ended the chunks early explains why data is missing.
                        failed.map_or(Ok(()), Err)?;
                        written?;
                    }
                    Ok::<(), ConvertError>(())
                })?;
                data.finish()?
            }
            Form::Safetensors => {
                let mut header = SafetensorsHeader::new();
                for tensor in &self.tensors {
                    header.tensor(&tensor.name, tensor.dtype, &tensor.shape)?;
                }
                out.write_all(&header.to_bytes())?;
                stream::convert_all(&self.file, &self.tensors, n_threads, on_progress, |converted| {
                    for tensor in &self.tensors {
                        for chunk in converted.of(tensor) {
                            out.write_all(&chunk?)?;
                        }
                    }
                    Ok::<(), ConvertError>(())
                })?;
                out.flush()?;
                out
            }
        };
        self.file.check_unchanged()?;
        Ok(out)
    }
}
