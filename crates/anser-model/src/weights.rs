//! Weights as they lie in the file.

use anser_format::quant::dequantize;
use anser_format::{DType, FormatError, ModelFile, Tensor};
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
    /// A `[R, n_cols]` and B `[n_rows, R]`, see [`Weight::pair`].
    pair: Option<Arc<[Weight; 2]>>,
}

/// A matrix column by column, as a file with transposed matrices has it, or some rows of one.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    /// The stored elements from the first row of the first column on: row r of column c is element c·`stride` + r.
    pub bytes: &'a [u8],
    /// Elements from one column to the next.
    pub stride: usize,
}

impl Weight {
    /// A whole tensor as a matrix; `None` if its element count is not `n_rows · n_cols` or a row is not whole blocks.
    pub fn from_tensor(name: &str, tensor: Tensor, n_rows: usize, n_cols: usize) -> Option<Weight> {
        let n_bytes = tensor.dtype().row_n_bytes(n_cols)?.checked_mul(n_rows)?;
        if n_bytes != tensor.n_bytes() {
            return None;
        }
        Some(Weight { name: name.into(), tensor, bytes: 0..n_bytes, n_rows, n_cols, pair: None })
    }

    /// The matrix with a low-rank pair A `[R, n_cols]`, B `[n_rows, R]` beside it; `None` if the pair has other shapes.
    pub(crate) fn with_pair(self, [down, up]: [Weight; 2]) -> Option<Weight> {
        let fits = down.n_cols == self.n_cols && up.n_rows == self.n_rows && down.n_rows == up.n_cols;
        fits.then(|| Weight { pair: Some(Arc::new([down, up])), ..self })
    }

    /// An adapter's low-rank pair A `[R, n_cols]`, B `[n_rows, R]`, if the matrix has one beside it: the model has W + B·A in its place. The
    /// elements of the weight are those of W alone, and [`crate::PlanBuilder::matmul_with`] writes the products of A and B down.
    pub fn pair(&self) -> Option<&[Weight; 2]> {
        self.pair.as_deref()
    }

    /// Some rows of it as a weight of its own.
    ///
    /// # Panics
    /// If it has no such rows.
    pub(crate) fn rows(&self, rows: std::ops::Range<usize>) -> Weight {
        assert!(rows.start <= rows.end && rows.end <= self.n_rows, "{rows:?} of {}", self.name);
        let (n, start) = (self.row_n_bytes(), self.bytes.start);
        let bytes = start + rows.start * n..start + rows.end * n;
        let of_rows = |[down, up]: &[Weight; 2]| Arc::new([down.clone(), up.rows(rows.clone())]);
        let pair = self.pair.as_deref().map(of_rows);
        Weight { bytes, n_rows: rows.len(), pair, ..self.clone() }
    }

    /// A vector of `len` numbers in F32, computed from this one's, which stands for it.
    ///
    /// # Panics
    /// If `compute` gives another number of numbers.
    pub(crate) fn computed(&self, len: usize, compute: impl FnOnce(Vec<f32>) -> Vec<f32>) -> Weight {
        let tensor = self.tensor.replaced(&[len], &compute(self.to_f32()));
        Weight { bytes: 0..tensor.n_bytes(), tensor, n_rows: 1, n_cols: len, ..self.clone() }
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

    /// Bytes of all rows.
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of one row.
    pub fn row_n_bytes(&self) -> usize {
        self.bytes.len() / self.n_rows
    }

    /// All bytes, row after row, as they lie in the file (unaligned). A matrix that the file has transposed is copied by the
    /// first call.
    ///
    /// # Panics
    /// If they are neither mapped nor in memory, see [`ModelFile::from_reader`].
    pub fn bytes(&self) -> &[u8] {
        &self.tensor.bytes()[self.bytes.clone()]
    }

    /// A float matrix that the file has column by column, in place: what [`Weight::bytes`] would make a copy of. `None` for
    /// others.
    pub fn columns(&self) -> Option<Columns<'_>> {
        let &[stride, n_cols] = self.tensor.shape() else { return None };
        if n_cols != self.n_cols || self.dtype().is_quantized() {
            return None;
        }
        let first_row = self.bytes.start / self.row_n_bytes();
        let bytes = self.tensor.columns()?.get(first_row * self.dtype().block_n_bytes()..)?;
        Some(Columns { bytes, stride })
    }

    /// Whether [`Weight::bytes`] has made a copy of a matrix that the file has in another order.
    pub fn is_copied(&self) -> bool {
        self.tensor.is_copied()
    }

    /// Bytes of row `row`.
    ///
    /// # Panics
    /// If `row >= n_rows`; as [`Weight::bytes`].
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

    /// Gets the bytes of `rows` ready, which [`Weight::fetch_rows`] is to read next, where that may wait.
    ///
    /// # Panics
    /// If a row is beyond the last one.
    pub async fn prepare_rows(&self, rows: std::ops::Range<usize>) {
        let (n, start) = (self.row_n_bytes(), self.bytes.start);
        self.tensor.prepare(start + rows.start * n..start + rows.end * n).await;
    }

    /// Bytes of row `row`: where they are mapped or in memory, else read into `scratch`.
    ///
    /// # Errors
    /// If they cannot be read.
    ///
    /// # Panics
    /// If `row >= n_rows`.
    pub fn row_in<'a>(&'a self, row: usize, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], FormatError> {
        match self.tensor.is_in_memory() {
            true => Ok(self.row(row)),
            false => self.fetch_rows(row..row + 1, scratch),
        }
    }

    /// Whether its bytes are mapped or in memory.
    pub fn is_in_memory(&self) -> bool {
        self.tensor.is_in_memory()
    }

    /// The file that holds it.
    pub fn file(&self) -> &Arc<ModelFile> {
        self.tensor.file()
    }

    /// The weight in f32, row after row. Meant for vectors; a matrix would be expanded.
    ///
    /// # Panics
    /// As [`Weight::bytes`]; vectors are always in memory.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.n_rows * self.n_cols];
        dequantize(self.dtype(), self.bytes(), &mut out);
        out
    }
}
