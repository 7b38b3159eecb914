//! Matrices in other types, tried before anything is written: their errors, and the matrices themselves for a run of the model.

use crate::error::ConvertError;
use crate::file_type::FileType;
use crate::imatrix::ImportanceMatrix;
use crate::output::{Form, Output, OutputTensor, Piece};
use crate::quantize::{describe, is_quantizable, set_importance};
use crate::stream;
use anser_format::quant::{dequantize, quantize_row};
use anser_format::{DType, GgufWriter, ModelFile};
use anser_model::Weight;
use std::num::NonZero;
use std::ops::ControlFlow;

/// The types that a mix is made of, by size, for rows of whole blocks of 256 and of 32.
const OF_256: [DType; 7] =
    [DType::Q2_K, DType::Q3_K, DType::IQ4_XS, DType::Q4_K, DType::Q5_K, DType::Q6_K, DType::Q8_0];
const OF_32: [DType; 4] = [DType::IQ4_NL, DType::Q5_0, DType::Q5_1, DType::Q8_0];
/// The most elements of a matrix whose errors are measured: rows of larger ones are taken at even distances.
const MAX_SAMPLE_LEN: usize = 1 << 17;
/// Alignment of tensors in GGUF, in bytes.
const ALIGNMENT: u64 = 32;

/// The errors of a matrix in each type of a mix.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorErrors {
    /// The name in GGUF.
    pub name: String,
    /// For each type, the smallest first: bytes in the file, padding included, and Σ w (q − x)² / Σ w x², where w is the importance of the
    /// column, or 1.
    pub of_types: Vec<(DType, u64, f64)>,
}

impl Output {
    /// Gives each matrix the importance of its columns.
    ///
    /// # Errors
    /// If the importance matrix is another model's.
    pub fn set_importance(&mut self, matrix: &ImportanceMatrix) -> Result<(), ConvertError> {
        set_importance(&mut self.tensors, matrix)
    }

    /// The matrices that are quantized, in the order of the file.
    pub fn quantizable(&self) -> impl Iterator<Item = &OutputTensor> {
        self.tensors.iter().filter(|tensor| is_quantizable(tensor) && tensor.stored().is_some())
    }

    /// Bytes of the whole file: metadata, names, padding and elements.
    ///
    /// # Errors
    /// If a name or a value of the metadata has no form in GGUF.
    pub fn file_n_bytes(&self) -> Result<u64, ConvertError> {
        let Form::Gguf(metadata) = &self.form else { return Ok(self.data_n_bytes()) };
        let mut writer = GgufWriter::new();
        for (key, value) in metadata {
            writer.metadata(key, value.clone())?;
        }
        for tensor in &self.tensors {
            writer.tensor(&tensor.name, tensor.dtype, &tensor.shape)?;
        }
        let mut n_bytes = Count(0);
        // What has been written when the header ends; that no data follows is of no interest.
        drop(writer.begin(&mut n_bytes)?);
        let data = self.tensors.iter().filter_map(OutputTensor::n_bytes).map(|n| n.next_multiple_of(ALIGNMENT));
        Ok(n_bytes.0.next_multiple_of(ALIGNMENT) + data.sum::<u64>())
    }

    /// Quantizes the matrices to every type of a mix, or a sample of the rows of large ones, and measures the errors, on all cores. The source's
    /// own type, if it is a float, is the last one of each, without an error. `on_progress(done, total)`, in matrices, may end the call.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn quantization_errors(
        &self,
        mut on_progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<TensorErrors>, ConvertError> {
        let tensors: Vec<&OutputTensor> = self.quantizable().collect();
        let mut all = vec![];
        for (done, tensor) in tensors.iter().enumerate() {
            if on_progress(done, tensors.len()).is_break() {
                return Err(ConvertError::Cancelled);
            }
            if let Some(weight) = tensor.stored() {
                all.push(self.errors_of(tensor, weight)?);
            }
        }
        Ok(all)
    }

    fn errors_of(&self, tensor: &OutputTensor, weight: &Weight) -> Result<TensorErrors, ConvertError> {
        let (n_rows, n_cols) = (weight.n_rows(), weight.n_cols());
        let types: &[DType] = match n_cols {
            n if n.is_multiple_of(256) => &OF_256,
            n if n.is_multiple_of(32) => &OF_32,
            _ => &[],
        };
        let n_sampled = (MAX_SAMPLE_LEN / n_cols.max(1)).clamp(1, n_rows.max(1)).min(n_rows);
        let rows: Vec<usize> = (0..n_sampled).map(|i| i * n_rows / n_sampled).collect();
        let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let n_at_once = rows.len().div_ceil(n_threads).max(1);
        // Σ w x², then Σ w (q − x)² for each type; added in the order of the rows.
        let sums: Result<Vec<Vec<f64>>, ConvertError> = std::thread::scope(|scope| {
            let of_rows = |rows: &[usize]| {
                let mut sums = vec![0.0; types.len() + 1];
                rows.iter().try_for_each(|&row| self.add_errors(tensor, weight, row, types, &mut sums))?;
                Ok(sums)
            };
            let threads: Vec<_> = rows.chunks(n_at_once).map(|rows| scope.spawn(move || of_rows(rows))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let mut total = vec![0.0; types.len() + 1];
        for sums in sums? {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        let (squares, errors) = (total[0], &total[1..]);
        let n_bytes = |dtype: DType| {
            let n_bytes = OutputTensor { dtype, ..tensor.clone() }.n_bytes().unwrap_or(u64::MAX);
            n_bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX)
        };
        let relative = |error: f64| if squares > 0.0 { error / squares } else { 0.0 };
        let mut of_types: Vec<(DType, u64, f64)> =
            types.iter().zip(errors).map(|(&dtype, &error)| (dtype, n_bytes(dtype), relative(error))).collect();
        if !weight.dtype().is_quantized() || of_types.is_empty() {
            of_types.push((weight.dtype(), n_bytes(weight.dtype()), 0.0));
        }
        Ok(TensorErrors { name: tensor.name.clone(), of_types })
    }

    /// Adds Σ w x² of a row, and Σ w (q − x)² for each type.
    fn add_errors(
        &self,
        tensor: &OutputTensor,
        weight: &Weight,
        row: usize,
        types: &[DType],
        sums: &mut [f64],
    ) -> Result<(), ConvertError> {
        let mut scratch = vec![];
        let stored = weight.fetch_rows(row..row + 1, &mut scratch)?;
        let mut numbers = vec![0.0; weight.n_cols()];
        dequantize(weight.dtype(), stored, &mut numbers);
        let importance = tensor.importance.as_deref();
        let weighted = |other: &[f32]| -> f64 {
            let squares = numbers.iter().zip(other).map(|(&x, &q)| (f64::from(x) - f64::from(q)).powi(2));
            match importance {
                None => squares.sum(),
                Some(importance) => squares.zip(importance).map(|(square, &w)| square * f64::from(w)).sum(),
            }
        };
        sums[0] += weighted(&vec![0.0; numbers.len()]);
        let mut back = vec![0.0; numbers.len()];
        for (sum, &dtype) in sums[1..].iter_mut().zip(types) {
            let bytes = quantize_row(dtype, &numbers, importance).map_err(|source| ConvertError::Quantize {
                file: self.file.name().into(),
                tensor: tensor.name.clone(),
                source,
            })?;
            dequantize(dtype, &bytes, &mut back);
            *sum += weighted(&back);
        }
        Ok(())
    }

    /// A matrix in another type, in memory, under the name that the model's own weight has.
    ///
    /// # Errors
    /// If there is no such matrix; as [`Output::write`].
    pub fn quantized_weight(&self, name: &str, dtype: DType) -> Result<Weight, ConvertError> {
        let refuse = |problem: &str| ConvertError::Rule { rule: format!("{name}={dtype}"), problem: problem.into() };
        let tensor = self.quantizable().find(|tensor| tensor.name == name);
        let tensor = tensor.ok_or_else(|| refuse("the model has no such matrix"))?;
        let weight = tensor.stored().ok_or_else(|| refuse("the matrix does not lie in one piece"))?;
        // Without the power of two that the layout may divide by: the model's own matrix has none.
        let pieces = vec![Piece::of(weight)];
        let tensor = OutputTensor { dtype, pieces, shape: vec![weight.n_rows(), weight.n_cols()], ..tensor.clone() };
        let mut writer = GgufWriter::new();
        writer.tensor(&tensor.name, dtype, &tensor.shape)?;
        let mut data = writer.begin(vec![])?;
        let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let tensors = [tensor];
        let go_on = |_, _| ControlFlow::Continue(());
        stream::convert_all(&self.file, &tensors, n_threads, go_on, |converted| {
            let chunks: Result<Vec<Vec<u8>>, ConvertError> = converted.of(&tensors[0]).collect();
            Ok::<(), ConvertError>(data.write_tensor(&tensors[0].name, chunks?)?)
        })?;
        let file = ModelFile::from_bytes(self.file.name(), data.finish()?)?;
        let stored = file.tensor(name).ok_or_else(|| refuse("the type cannot be computed with"))?;
        let named = weight.name();
        Weight::from_tensor(named, stored, weight.n_rows(), weight.n_cols())
            .ok_or_else(|| refuse("the rows are no whole blocks of it"))
    }

    /// Gives matrices the types of a mix, and writes down in the metadata what was done: the file type is that of the type that most elements
    /// have.
    ///
    /// # Errors
    /// If the output is not GGUF, or has no such matrix.
    pub fn assign(&mut self, types: &[(String, DType)], matrix: Option<&ImportanceMatrix>) -> Result<(), ConvertError> {
        let Form::Gguf(metadata) = &mut self.form else {
            let (file, advice) = (self.file.name().into(), "it has floats only; quantize to a GGUF file".into());
            return Err(ConvertError::NoForm { file, what: "a quantized model".into(), layout: "safetensors", advice });
        };
        let mut n_elements = vec![0; FileType::ALL.len()];
        for (name, dtype) in types {
            let tensor = self.tensors.iter_mut().find(|tensor| tensor.name == *name && is_quantizable(tensor));
            let tensor = tensor.ok_or_else(|| ConvertError::Rule {
                rule: format!("{name}={dtype}"),
                problem: "the model has no such matrix".into(),
            })?;
            tensor.dtype = *dtype;
            let file_type = FileType::ALL.into_iter().position(|file_type| file_type.dtype() == *dtype);
            if let Some(place) = file_type {
                n_elements[place] += tensor.shape.iter().product::<usize>();
            }
        }
        let most = (0..n_elements.len()).rev().max_by_key(|&place| n_elements[place]).unwrap_or(0);
        describe(metadata, FileType::ALL[most], matrix);
        for tensor in &mut self.tensors {
            if !tensor.dtype.is_quantized() {
                tensor.importance = None;
            }
        }
        Ok(())
    }
}

impl OutputTensor {
    /// The matrix in the source, if the tensor is one in one piece.
    fn stored(&self) -> Option<&Weight> {
        match &self.pieces[..] {
            [Piece::Stored { weight, .. }] if self.n_dims() == 2 => Some(weight),
            _ => None,
        }
    }
}

/// Counts bytes and keeps none.
struct Count(u64);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
