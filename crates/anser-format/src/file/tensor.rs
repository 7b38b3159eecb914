//! A tensor that keeps its file alive.

use super::{ModelFile, Part, TensorEntry};
use crate::error::FormatError;
use crate::strided::{Strided, row_major};
use crate::tensor::{DType, TensorView};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A tensor, of a type that the engine computes with, that keeps its file alive; cheap to clone.
#[derive(Clone)]
pub struct Tensor {
    pub(super) file: Arc<ModelFile>,
    pub(super) index: usize,
    pub(super) dtype: DType,
    pub(super) form: Form,
}

/// How a [`Tensor`] differs from what the file has under its name.
#[derive(Clone)]
pub(super) enum Form {
    /// Not at all.
    AsStored,
    /// The elements in another order.
    Strided(Arc<Strided>),
    /// Numbers that were computed from the file's.
    Computed(Arc<Computed>),
}

/// Elements in memory.
pub(super) struct Computed {
    shape: Box<[usize]>,
    bytes: Box<[u8]>,
}

impl Tensor {
    /// The tensor's name in the file.
    pub fn name(&self) -> &str {
        &self.entry().name
    }

    /// How the elements are stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Slowest dimension first (row-major).
    pub fn shape(&self) -> &[usize] {
        match &self.form {
            Form::AsStored => &self.entry().shape,
            Form::Strided(strided) => &strided.shape,
            Form::Computed(computed) => &computed.shape,
        }
    }

    /// Bytes of the elements.
    pub fn n_bytes(&self) -> usize {
        match &self.form {
            Form::AsStored => self.entry().n_bytes.unwrap_or(0),
            Form::Strided(strided) => strided.n_bytes(),
            Form::Computed(computed) => computed.bytes.len(),
        }
    }

    /// The stored elements, unaligned, in row-major order. Where the file has them in another order, the first call makes a
    /// copy, which is kept.
    ///
    /// # Panics
    /// If they are neither mapped nor in memory ([`Tensor::is_in_memory`]).
    pub fn bytes(&self) -> &[u8] {
        let bytes = match &self.form {
            Form::AsStored => self.file.entry_bytes(self.entry()),
            Form::Strided(strided) => self.file.entry_span(self.entry()).map(|span| strided.bytes(span)),
            Form::Computed(computed) => Some(&computed.bytes[..]),
        };
        bytes.unwrap_or_else(|| panic!("{}: tensor {} is not in memory", self.file.name(), self.name()))
    }

    /// Whether the elements are mapped or in memory.
    pub fn is_in_memory(&self) -> bool {
        match &self.form {
            Form::AsStored | Form::Strided(_) => self.file.entry_span(self.entry()).is_some(),
            Form::Computed(_) => true,
        }
    }

    /// The stored elements in row-major order, as [`Tensor::bytes`] has them, read if they are neither mapped nor in memory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(&self) -> Result<Cow<'_, [u8]>, FormatError> {
        if self.is_in_memory() {
            return Ok(Cow::Borrowed(self.bytes()));
        }
        let mut scratch = vec![];
        let n_bytes = self.fetch(0..self.n_bytes(), &mut scratch)?.len();
        scratch.truncate(n_bytes);
        Ok(Cow::Owned(scratch))
    }

    /// The elements of a matrix column by column, if they lie so in the file: for programs that read them in that order, where
    /// [`Tensor::bytes`] would make a copy.
    pub fn columns(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Strided(strided) if strided.lies_by_columns() => self.file.entry_span(self.entry()),
            Form::AsStored | Form::Strided(_) | Form::Computed(_) => None,
        }
    }

    /// Whether [`Tensor::bytes`] has made a copy of the elements, which lie in another order in the file.
    pub fn is_copied(&self) -> bool {
        match &self.form {
            Form::AsStored => self.entry().strided.as_ref().is_some_and(|strided| strided.copied().is_some()),
            Form::Strided(strided) => strided.copied().is_some(),
            Form::Computed(_) => false,
        }
    }

    /// The same tensor with its last two dimensions exchanged. No element is touched until somebody asks for them; then they
    /// are copied, unless they lie in the new order already.
    ///
    /// `None` for a tensor of one dimension, or of a quantized type, whose blocks cannot be taken apart.
    pub fn transposed(&self) -> Option<Tensor> {
        self.rearranged(Strided::transposed)
    }

    /// A matrix `[rows, n·cols]` as a stack of `n` matrices, `[n, rows, cols]`, which lie side by side in it. No element is touched
    /// until somebody asks for them.
    ///
    /// `None` for a tensor of other than two dimensions, for a number of columns that is not a multiple of `n`, and for a quantized type.
    pub fn stacked_columns(&self, n: usize) -> Option<Tensor> {
        self.rearranged(|strided| strided.stacked_columns(n))
    }

    /// The same elements in another order.
    fn rearranged(&self, order: impl Fn(&Strided) -> Option<Strided>) -> Option<Tensor> {
        if self.dtype.is_quantized() {
            return None;
        }
        let size = self.dtype.block_n_bytes();
        let of = |shape: &[usize]| order(&Strided::new(shape.into(), row_major(shape), size));
        let form = match (&self.form, &self.entry().strided) {
            (Form::AsStored, None) => Form::Strided(Arc::new(of(&self.entry().shape)?)),
            (Form::AsStored, Some(strided)) | (Form::Strided(strided), _) => Form::Strided(Arc::new(order(strided)?)),
            (Form::Computed(computed), _) => {
                let strided = of(&computed.shape)?;
                let (shape, bytes) = (strided.shape.clone(), strided.bytes(&computed.bytes).into());
                Form::Computed(Arc::new(Computed { shape, bytes }))
            }
        };
        Some(Tensor { form, ..self.clone() })
    }

    /// Numbers that were computed from this tensor and stand for it, in F32: for vectors, since they are kept in memory.
    ///
    /// # Panics
    /// If there are not as many numbers as `shape` says.
    pub fn replaced(&self, shape: &[usize], numbers: &[f32]) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), numbers.len(), "{}", self.name());
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let form = Form::Computed(Arc::new(Computed { shape: shape.into(), bytes }));
        Tensor { dtype: DType::F32, form, ..self.clone() }
    }

    /// The stored elements in `range`, counted in bytes of their row-major order. Those of a file on disk are read into
    /// `scratch`, so that they do not become part of the process's memory as those of [`Tensor::bytes`] do; others are
    /// borrowed. Elements that the file has in another order are gathered from the mapped file.
    ///
    /// # Errors
    /// If the operating system cannot read them, or the file was cut short after it was opened.
    ///
    /// # Panics
    /// If `range` goes beyond the tensor.
    pub fn fetch<'a>(&'a self, range: Range<usize>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], FormatError> {
        assert!(range.start <= range.end && range.end <= self.n_bytes(), "{range:?} of {}", self.name());
        let strided = match &self.form {
            Form::AsStored => self.entry().strided.as_ref(),
            Form::Strided(strided) => Some(strided),
            Form::Computed(computed) => return Ok(&computed.bytes[range]),
        };
        if let Some(strided) = strided.filter(|strided| !strided.is_contiguous()) {
            if let Some(span) = self.file.entry_span(self.entry()) {
                return Ok(strided.fetch(span, range, scratch));
            }
            let mut span = vec![];
            let span = self.fetch_from_part(self.entry().range(), &mut span)?;
            return Ok(strided.gather_bytes(span, range, scratch));
        }
        if let Some(bytes) = &self.entry().replaced {
            return Ok(&bytes[range]);
        }
        let start = self.entry().start;
        self.fetch_from_part(start + range.start as u64..start + range.end as u64, scratch)
    }

    /// Gets what [`Tensor::fetch`] is to read next ready, where that may wait. Elements that the file has in another order are not.
    ///
    /// # Panics
    /// If `range` goes beyond the tensor.
    pub async fn prepare(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.n_bytes(), "{range:?} of {}", self.name());
        let is_stored = match &self.form {
            Form::AsStored => self.entry().strided.as_ref().is_none_or(|strided| strided.is_contiguous()),
            Form::Strided(strided) => strided.is_contiguous(),
            Form::Computed(_) => false,
        };
        if is_stored && self.entry().replaced.is_none() {
            let start = self.entry().start;
            let range = start + range.start as u64..start + range.end as u64;
            self.file.parts[self.entry().part].bytes.prepare(range).await;
        }
    }

    /// The bytes in `range` of the part that the tensor lies in.
    fn fetch_from_part<'a>(&'a self, range: Range<u64>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], FormatError> {
        let Part { name, bytes } = &self.file.parts[self.entry().part];
        bytes.fetch(range, scratch).map_err(|source| {
            let file = name.clone();
            match source.kind() {
                std::io::ErrorKind::UnexpectedEof => FormatError::Changed { file, found: "it was cut short".into() },
                _ => FormatError::Io { file, source },
            }
        })
    }

    /// Name, type, shape and bytes at once.
    ///
    /// # Panics
    /// As [`Tensor::bytes`].
    pub fn view(&self) -> TensorView<'_> {
        TensorView { name: self.name(), dtype: self.dtype, shape: self.shape(), bytes: self.bytes() }
    }

    /// The file that the tensor lies in.
    pub fn file(&self) -> &Arc<ModelFile> {
        &self.file
    }

    fn entry(&self) -> &TensorEntry {
        &self.file.tensors[self.index]
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.name(), self.dtype(), self.shape())
    }
}
