//! Weights by name, shape-checked, as they lie in the file.

use crate::error::ModelError;
use crate::names;
use anser_format::quant::dequantize;
use anser_format::{DType, FileKind, FormatError, ModelFile, Tensor};
use std::sync::Arc;

/// A matrix or vector of the model, borrowed from its file: row-major, `n_rows` × `n_cols`.
///
/// A vector has one row. A weight may be one row of a larger tensor (GGUF stacks the six token-shift vectors).
#[derive(Debug, Clone)]
pub struct Weight {
    name: String,
    tensor: Tensor,
    bytes: std::ops::Range<usize>,
    n_rows: usize,
    n_cols: usize,
}

impl Weight {
    /// A whole tensor as a matrix; `None` if its element count is not `n_rows · n_cols` or a row is not whole blocks.
    pub fn from_tensor(name: &str, tensor: Tensor, n_rows: usize, n_cols: usize) -> Option<Weight> {
        let n_bytes = tensor.dtype().row_n_bytes(n_cols)?.checked_mul(n_rows)?;
        (n_bytes == tensor.bytes().len()).then(|| Weight {
            name: name.into(),
            tensor,
            bytes: 0..n_bytes,
            n_rows,
            n_cols,
        })
    }

    /// BlinkDL's name, e.g. `blocks.3.att.key.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Storage type.
    pub fn dtype(&self) -> DType {
        self.tensor.dtype()
    }

    /// Output features of a matrix; 1 for a vector.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Input features of a matrix; length of a vector.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Bytes of one row.
    pub fn row_n_bytes(&self) -> usize {
        self.bytes.len() / self.n_rows
    }

    /// All bytes, row after row, as they lie in the file (unaligned).
    pub fn bytes(&self) -> &[u8] {
        &self.tensor.bytes()[self.bytes.clone()]
    }

    /// Bytes of row `row`.
    ///
    /// # Panics
    /// If `row >= n_rows`.
    pub fn row(&self, row: usize) -> &[u8] {
        let n = self.row_n_bytes();
        &self.bytes()[row * n..][..n]
    }

    /// Bytes of `rows`, without making the file's pages resident; see [`Tensor::fetch`].
    ///
    /// # Errors
    /// If they cannot be read, or the file was cut short.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn fetch_rows<'a>(
        &'a self,
        rows: std::ops::Range<usize>,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], FormatError> {
        let (n, start) = (self.row_n_bytes(), self.bytes.start);
        self.tensor.fetch(start + rows.start * n..start + rows.end * n, scratch)
    }

    /// The file that holds it.
    pub fn file(&self) -> &Arc<ModelFile> {
        self.tensor.file()
    }

    /// The weight in f32, row after row. Meant for vectors; a matrix would be expanded.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.n_rows * self.n_cols];
        dequantize(self.dtype(), self.bytes(), &mut out);
        out
    }
}

/// A model file seen through BlinkDL's tensor names.
pub(crate) struct Source<'a> {
    file: &'a Arc<ModelFile>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a Arc<ModelFile>) -> Self {
        Source { file }
    }

    /// The tensor that holds `name`, and the row to take of it.
    fn find(&self, name: &str) -> Result<(Tensor, Option<usize>), ModelError> {
        let (spelled, row) = match self.file.kind() {
            FileKind::Gguf { .. } => names::gguf_name(name).unwrap_or((name.into(), None)),
            FileKind::Safetensors => (name.into(), None),
        };
        match (self.file.tensor(&spelled), self.file.info(&spelled)) {
            (Some(tensor), _) => Ok((tensor, row)),
            (None, Some(info)) => {
                let found = info.stored.name().into();
                Err(ModelError::Type { file: self.file.name().into(), tensor: spelled, found })
            }
            (None, None) => Err(ModelError::MissingTensor { file: self.file.name().into(), tensor: spelled }),
        }
    }

    pub(crate) fn shape(&self, name: &str) -> Result<Vec<usize>, ModelError> {
        Ok(self.find(name)?.0.shape().to_vec())
    }

    /// Shape of a matrix whose sizes are not known yet: both must be positive.
    pub(crate) fn matrix_shape(&self, name: &str) -> Result<[usize; 2], ModelError> {
        let (tensor, _) = self.find(name)?;
        match tensor.shape() {
            &[rows, cols] if rows > 0 && cols > 0 => Ok([rows, cols]),
            _ => Err(self.wrong_shape(&tensor, "[_, _]")),
        }
    }

    /// Matrix `name` of exactly `n_rows` × `n_cols`.
    pub(crate) fn matrix(&self, name: &str, [n_rows, n_cols]: [usize; 2]) -> Result<Weight, ModelError> {
        let (tensor, _) = self.find(name)?;
        if tensor.shape() != [n_rows, n_cols] {
            return Err(self.wrong_shape(&tensor, &format!("[{n_rows}, {n_cols}]")));
        }
        self.whole(name, tensor, n_rows, n_cols)
    }

    /// Vector `name` of length `len`; dimensions of length 1 do not count, and a matrix [H, N] is a vector of H·N.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Weight, ModelError> {
        let (tensor, row) = self.find(name)?;
        let Some(row) = row else {
            if tensor.shape().iter().product::<usize>() != len {
                return Err(self.wrong_shape(&tensor, &format!("[{len}]")));
            }
            return self.whole(name, tensor, 1, len);
        };
        let n_bytes = tensor.dtype().row_n_bytes(len);
        match (&squeeze(tensor.shape())[..], n_bytes) {
            (&[rows, cols], Some(n)) if cols == len && row < rows => {
                Ok(Weight { name: name.into(), tensor, bytes: row * n..(row + 1) * n, n_rows: 1, n_cols: len })
            }
            _ => Err(self.wrong_shape(&tensor, &format!("[6, {len}]"))),
        }
    }

    /// A low-rank pair: down [R, C] and up [C, R], with R from the file.
    pub(crate) fn low_rank(&self, down: &str, up: &str, n_embd: usize) -> Result<(Weight, Weight), ModelError> {
        let [rank, cols] = self.matrix_shape(down)?;
        if cols != n_embd {
            let (tensor, _) = self.find(down)?;
            let hint = if rank == n_embd { " (transposed; convert the .pth with web-rwkv's converter)" } else { "" };
            return Err(self.wrong_shape(&tensor, &format!("[_, {n_embd}]{hint}")));
        }
        Ok((self.matrix(down, [rank, n_embd])?, self.matrix(up, [n_embd, rank])?))
    }

    fn whole(&self, name: &str, tensor: Tensor, n_rows: usize, n_cols: usize) -> Result<Weight, ModelError> {
        let expected = format!("[{n_rows}, {n_cols}] in whole {} blocks", tensor.dtype().name());
        Weight::from_tensor(name, tensor.clone(), n_rows, n_cols).ok_or_else(|| self.wrong_shape(&tensor, &expected))
    }

    fn wrong_shape(&self, tensor: &Tensor, expected: &str) -> ModelError {
        ModelError::Shape {
            file: self.file.name().into(),
            tensor: tensor.name().into(),
            expected: expected.into(),
            found: tensor.shape().to_vec(),
        }
    }
}

/// A shape without its dimensions of length 1.
pub(crate) fn squeeze(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&n| n != 1).collect()
}
