//! A model file and the tensors in it.

use std::ops::Range;
use std::sync::Arc;

use crate::bytes::FileBytes;
use crate::error::{FormatError, TensorProblem};
use crate::index::NameIndex;
use crate::metadata::MetaValue;
use crate::sniff::{Sniffed, sniff};
use crate::tensor::{DType, TensorView};
use crate::{gguf, safetensors};

/// The format of a [`ModelFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// GGUF, little-endian.
    Gguf {
        /// Version of the container format: 2 or 3.
        version: u32,
    },
    /// safetensors.
    Safetensors,
}

/// An open model file: validated index and metadata over bytes that stay where they are.
pub struct ModelFile {
    name: String,
    kind: FileKind,
    bytes: FileBytes,
    tensors: Vec<TensorEntry>,
    tensor_index: NameIndex,
    metadata: Vec<(String, MetaValue)>,
    metadata_index: NameIndex,
}

/// What a reader finds out about a file; the ranges have been checked against its length.
pub(crate) struct Parsed {
    pub(crate) kind: FileKind,
    pub(crate) tensors: Vec<TensorEntry>,
    pub(crate) metadata: Vec<(String, MetaValue)>,
}

/// One tensor of the index.
pub(crate) struct TensorEntry {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// Slowest dimension first.
    pub(crate) shape: Vec<usize>,
    /// Where the data lies, in bytes from the start of the file.
    pub(crate) range: Range<usize>,
}

impl ModelFile {
    /// Maps a file and validates its header; the format is told by content, not by extension.
    ///
    /// No tensor data is read. While the file is open it must not be changed or truncated by anybody: it is used in
    /// place, so a change would change the weights, and reading a part that was cut off ends the process (SIGBUS).
    /// Replacing it (a new file of the same name) or deleting it does no harm. [`ModelFile::check_unchanged`] tells of
    /// changes that happened already.
    ///
    /// # Errors
    /// If the file cannot be opened, is not a model in a supported format, or is damaged.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Arc<ModelFile>, FormatError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let io = |source| FormatError::Io { file: name.clone(), source };
        // Asked before opening: opening a named pipe would wait for a writer.
        let kind = std::fs::metadata(path).map_err(io)?.file_type();
        if kind.is_dir() {
            return Err(FormatError::NotAModel {
                file: name,
                found: "a directory",
                advice: "name the model file in it",
            });
        }
        if !kind.is_file() {
            return Err(FormatError::NotAModel {
                file: name,
                found: "a device, socket or pipe",
                advice: "a model must be a regular file",
            });
        }
        let file = std::fs::File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return ModelFile::new(name, FileBytes::Static(&[])); // Not every system maps an empty file.
        }
        let mapping = crate::mmap::Mapping::new(file).map_err(io)?;
        ModelFile::new(name, FileBytes::Mapped(mapping))
    }

    /// Validates a file that is part of the program; `name` is for messages. The bytes are used in place.
    ///
    /// # Errors
    /// If the bytes are not a model in a supported format, or are damaged.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Arc<ModelFile>, FormatError> {
        ModelFile::new(name.to_owned(), FileBytes::Static(bytes))
    }

    /// Validates a file in memory; `name` is for messages. The bytes are used in place.
    ///
    /// # Errors
    /// If the bytes are not a model in a supported format, or are damaged.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Arc<ModelFile>, FormatError> {
        ModelFile::new(name.to_owned(), FileBytes::Owned(bytes))
    }

    fn new(name: String, bytes: FileBytes) -> Result<Arc<ModelFile>, FormatError> {
        let parsed = match sniff(&bytes) {
            Sniffed::Gguf => gguf::read(&name, &bytes)?,
            Sniffed::Safetensors => safetensors::read(&name, &bytes)?,
            Sniffed::Other { found, advice } => return Err(FormatError::NotAModel { file: name, found, advice }),
        };
        let Parsed { kind, tensors, metadata } = parsed;
        if tensors.is_empty() {
            return Err(FormatError::NoTensors { file: name });
        }
        let tensor_index = NameIndex::new(&tensors, tensor_name).map_err(|at| FormatError::Tensor {
            file: name.clone(),
            tensor: tensors[at].name.clone(),
            problem: TensorProblem::Duplicate,
        })?;
        let metadata_index = NameIndex::new(&metadata, metadata_key).map_err(|at| FormatError::Header {
            file: name.clone(),
            item: format!("metadata key {}", metadata[at].0),
            problem: "it occurs twice; the file is damaged or was written by a faulty program".to_owned(),
        })?;
        check_overlap(&name, &tensors)?;
        Ok(Arc::new(ModelFile { name, kind, bytes, tensors, tensor_index, metadata, metadata_index }))
    }

    /// The path, or the name given by the caller, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's format.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// Size of the whole file in bytes.
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the file on disk still has the size and the time of change that it had when it was opened.
    ///
    /// # Errors
    /// [`FormatError::Changed`] if not, or what the operating system says.
    pub fn check_unchanged(&self) -> Result<(), FormatError> {
        match self.bytes.change() {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(FormatError::Changed { file: self.name.clone(), found }),
            Err(source) => Err(FormatError::Io { file: self.name.clone(), source }),
        }
    }

    /// Asks the system to read all of the file into its cache, in large pieces; returns when it has been asked, which may
    /// take as long as reading takes. Call it from a thread of its own before a file is read for the first time.
    pub fn read_ahead(&self) {
        self.bytes.read_ahead();
    }

    /// All tensors, in the order of the file's tensor table (GGUF) or of their data (safetensors).
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|entry| self.view(entry))
    }

    /// The tensor called `name`.
    pub fn tensor(self: &Arc<Self>, name: &str) -> Option<Tensor> {
        let index = self.tensor_index.find(&self.tensors, tensor_name, name)?;
        Some(Tensor { file: Arc::clone(self), index })
    }

    /// The metadata value under `key`.
    pub fn metadata(&self, key: &str) -> Option<&MetaValue> {
        let index = self.metadata_index.find(&self.metadata, metadata_key, key)?;
        Some(&self.metadata[index].1)
    }

    /// All metadata; in file order for GGUF, sorted by key for safetensors.
    pub fn metadata_entries(&self) -> impl ExactSizeIterator<Item = (&str, &MetaValue)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    fn view<'a>(&'a self, entry: &'a TensorEntry) -> TensorView<'a> {
        TensorView {
            name: &entry.name,
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes: &self.bytes[entry.range.clone()], // In bounds: checked by the reader, and the length is fixed.
        }
    }
}

impl std::fmt::Debug for ModelFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFile")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("n_bytes", &self.n_bytes())
            .field("n_tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

/// A tensor that keeps its file alive; cheap to clone.
#[derive(Clone)]
pub struct Tensor {
    file: Arc<ModelFile>,
    index: usize,
}

impl Tensor {
    /// The tensor's name in the file.
    pub fn name(&self) -> &str {
        &self.entry().name
    }

    /// How the elements are stored.
    pub fn dtype(&self) -> DType {
        self.entry().dtype
    }

    /// Slowest dimension first (row-major).
    pub fn shape(&self) -> &[usize] {
        &self.entry().shape
    }

    /// The stored elements, unaligned, in row-major order.
    pub fn bytes(&self) -> &[u8] {
        self.view().bytes
    }

    /// The stored elements in `range`, counted in bytes. Those of a file on disk are read into `scratch`, so that they do not
    /// become part of the process's memory as those of [`Tensor::bytes`] do; others are borrowed.
    ///
    /// # Errors
    /// If the operating system cannot read them, or the file was cut short after it was opened.
    ///
    /// # Panics
    /// If `range` goes beyond the tensor.
    pub fn fetch<'a>(&'a self, range: Range<usize>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], FormatError> {
        let whole = &self.entry().range;
        assert!(range.start <= range.end && range.end <= whole.len(), "{range:?} of {}", self.name());
        let fetched = self.file.bytes.fetch(whole.start + range.start..whole.start + range.end, scratch);
        fetched.map_err(|source| {
            let file = self.file.name.clone();
            match source.kind() {
                std::io::ErrorKind::UnexpectedEof => FormatError::Changed { file, found: "it was cut short".into() },
                _ => FormatError::Io { file, source },
            }
        })
    }

    /// Name, type, shape and bytes at once.
    pub fn view(&self) -> TensorView<'_> {
        self.file.view(self.entry())
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

fn tensor_name(entry: &TensorEntry) -> &str {
    &entry.name
}

fn metadata_key(entry: &(String, MetaValue)) -> &str {
    &entry.0
}

/// Refuses tensors that share bytes: no program writes such files, so one of the offsets is wrong.
fn check_overlap(file: &str, tensors: &[TensorEntry]) -> Result<(), FormatError> {
    let mut by_start: Vec<&TensorEntry> = tensors.iter().filter(|entry| !entry.range.is_empty()).collect();
    by_start.sort_unstable_by_key(|entry| entry.range.start);
    match by_start.windows(2).find(|pair| pair[1].range.start < pair[0].range.end) {
        Some(pair) => Err(FormatError::Tensor {
            file: file.to_owned(),
            tensor: pair[1].name.clone(),
            problem: TensorProblem::Overlap { other: pair[0].name.clone() },
        }),
        None => Ok(()),
    }
}
