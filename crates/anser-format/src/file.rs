//! A model, in one file or in several parts, and the tensors in it.

mod replaced;

pub use replaced::{Addition, Replacement};

use std::ops::Range;
use std::sync::Arc;

use crate::bytes::FileBytes;
use crate::error::{FormatError, TensorProblem};
use crate::index::NameIndex;
use crate::metadata::MetaValue;
#[cfg(not(target_arch = "wasm32"))]
use crate::parts;
use crate::sniff::{Sniffed, sniff};
use crate::stored::StoredType;
use crate::strided::{Strided, row_major};
use crate::tensor::{DType, TensorInfo, TensorView};
use crate::{gguf, safetensors, torch};

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
    /// PyTorch's own format (`.pth`, `.pt`, `.bin`).
    Torch(TorchContainer),
}

/// How a PyTorch file holds its pickle and its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorchContainer {
    /// A zip archive of entries that are stored as they are: since PyTorch 1.6.
    Zip,
    /// Five pickles, then the tensors: before PyTorch 1.6.
    Legacy,
}

impl std::fmt::Display for FileKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FileKind::Gguf { version } => write!(f, "GGUF version {version}"),
            FileKind::Safetensors => f.write_str("safetensors"),
            FileKind::Torch(TorchContainer::Zip) => f.write_str("PyTorch (zip)"),
            FileKind::Torch(TorchContainer::Legacy) => f.write_str("PyTorch (before version 1.6)"),
        }
    }
}

/// The most tensors, and the most metadata entries, that are read: the largest RWKV models have some 2,000 tensors. The
/// limit bounds what an index takes of memory beyond the bytes that it takes in the file.
pub(crate) const MAX_ENTRIES: usize = 1 << 16;

/// An open model: validated index and metadata over bytes that stay where they are.
///
/// The model lies in one file or in several *parts*, each a file of its own with an index of its own. All parts stay open;
/// nothing is joined. A tensor lies in one part.
pub struct ModelFile {
    name: String,
    kind: FileKind,
    parts: Arc<[Part]>,
    /// Those of the files, and behind them, sorted by name, those that [`ModelFile::adding`] has added.
    tensors: Vec<TensorEntry>,
    /// How many tensors are the files' own.
    n_in_files: usize,
    tensor_index: Arc<NameIndex>,
    metadata: Arc<[(String, MetaValue)]>,
    metadata_index: Arc<NameIndex>,
    /// Names what [`ModelFile::replacing`] and [`ModelFile::adding`] have put in.
    variant: Option<Box<str>>,
}

/// A file that holds a model, or a part of one.
pub(crate) struct Part {
    /// Path, or the name given by the caller.
    pub(crate) name: String,
    pub(crate) bytes: FileBytes,
}

/// A part whose header has been read and checked by itself.
pub(crate) struct ReadPart {
    pub(crate) part: Part,
    pub(crate) parsed: Parsed,
}

/// What a reader finds out about a file; the ranges have been checked against its length.
pub(crate) struct Parsed {
    pub(crate) kind: FileKind,
    pub(crate) tensors: Vec<TensorEntry>,
    pub(crate) metadata: Vec<(String, MetaValue)>,
}

/// One tensor of the index.
#[derive(Clone, Debug)]
pub(crate) struct TensorEntry {
    pub(crate) name: Box<str>,
    pub(crate) stored: StoredType,
    /// Slowest dimension first.
    pub(crate) shape: Box<[usize]>,
    /// Which part the tensor lies in.
    pub(crate) part: usize,
    /// Where the data starts, in bytes from the start of the part.
    pub(crate) start: usize,
    /// Bytes of the elements; `None` if the size of such elements is not known.
    pub(crate) n_bytes: Option<usize>,
    /// How the elements lie, if not in row-major order; only floats and integers may lie so.
    pub(crate) strided: Option<Arc<Strided>>,
    /// Elements in memory, in row-major order, that stand for those of the part.
    pub(crate) replaced: Option<Arc<[u8]>>,
}

impl TensorEntry {
    /// Where the data lies, in bytes from the start of the part; empty if its size is not known.
    fn range(&self) -> Range<usize> {
        let n_bytes = self.strided.as_ref().map(|strided| strided.span_n_bytes()).or(self.n_bytes);
        self.start..self.start + n_bytes.unwrap_or(0)
    }
}

impl ReadPart {
    /// Reads the header of a file.
    pub(crate) fn new(name: String, bytes: FileBytes) -> Result<ReadPart, FormatError> {
        let parsed = match sniff(&bytes) {
            Sniffed::Gguf => gguf::read(&name, &bytes)?,
            Sniffed::Safetensors => safetensors::read(&name, &bytes)?,
            Sniffed::Zip => torch::read_zip(&name, &bytes)?,
            Sniffed::TorchLegacy => torch::read_legacy(&name, &bytes)?,
            Sniffed::Other { found, advice } => return Err(FormatError::NotAModel { file: name, found, advice }),
        };
        match parsed.kind {
            FileKind::Gguf { .. } | FileKind::Safetensors => check_overlap(&name, &parsed.tensors)?,
            FileKind::Torch(_) => {} // Tensors may be views of one storage.
        }
        Ok(ReadPart { part: Part { name, bytes }, parsed })
    }

    pub(crate) fn name(&self) -> &str {
        &self.part.name
    }
}

impl ModelFile {
    /// Maps the model at `path` and validates its header; the format is told by content, not by extension.
    ///
    /// A model in several files opens as one. Of a GGUF model split into parts, `path` names any part: the others lie
    /// beside it under names that end in `-00001-of-00003.gguf`. Of a safetensors model in shards, `path` names the index
    /// (`model.safetensors.index.json`) or any shard beside it. `path` may also name the folder of one model; the entries of
    /// its `config.json` are metadata then, under names that begin with `config.`.
    ///
    /// No tensor data is read. While the files are open no process may change or truncate them: they are used in place,
    /// so a change would change the weights, and reading a part that was cut off ends the process (SIGBUS). Replacing
    /// them (a new file of the same name) or deleting them does no harm. [`ModelFile::check_unchanged`] tells of
    /// changes that happened already; [`ModelFile::read`] does not depend on the files afterwards.
    ///
    /// # Errors
    /// If a file cannot be opened, is not a model in a supported format, is damaged or missing, or if parts do not belong
    /// together.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Arc<ModelFile>, FormatError> {
        parts::open(path.as_ref(), parts::Access::Map)
    }

    /// Reads the model at `path`, which may lie in several files as for [`ModelFile::open`], into memory. It takes as much
    /// memory as the files have bytes; afterwards no change of the files matters. For files on a network or that other
    /// programs write.
    ///
    /// # Errors
    /// As [`ModelFile::open`]; if there is not enough memory, or a file changes while it is read.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read(path: impl AsRef<std::path::Path>) -> Result<Arc<ModelFile>, FormatError> {
        parts::open(path.as_ref(), parts::Access::Read)
    }

    /// Validates a file that is part of the program; `name` is for messages. The bytes are used in place.
    ///
    /// # Errors
    /// If the bytes are not a model in a supported format, or are damaged.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Arc<ModelFile>, FormatError> {
        ModelFile::assemble(name.to_owned(), vec![ReadPart::new(name.to_owned(), FileBytes::Static(bytes))?])
    }

    /// Validates a file in memory; `name` is for messages. The bytes are used in place.
    ///
    /// # Errors
    /// If the bytes are not a model in a supported format, or are damaged.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Arc<ModelFile>, FormatError> {
        ModelFile::assemble(name.to_owned(), vec![ReadPart::new(name.to_owned(), FileBytes::Owned(bytes))?])
    }

    /// Validates a model whose parts are in memory, each with a name for messages, in the order of their numbers. The
    /// bytes are used in place.
    ///
    /// # Errors
    /// If a part is not a model in a supported format or is damaged; if one is missing, or they do not belong together.
    pub fn from_parts(name: &str, parts: Vec<(String, Vec<u8>)>) -> Result<Arc<ModelFile>, FormatError> {
        let read = |(name, bytes)| ReadPart::new(name, FileBytes::Owned(bytes));
        ModelFile::assemble(name.to_owned(), parts.into_iter().map(read).collect::<Result<_, _>>()?)
    }

    /// Makes one model of its parts, which are in the order of their numbers: checks that they belong together.
    pub(crate) fn assemble(name: String, parts: Vec<ReadPart>) -> Result<Arc<ModelFile>, FormatError> {
        let Some(first) = parts.first() else { return Err(FormatError::NoTensors { file: name }) };
        let kind = first.parsed.kind;
        if let Some(other) = parts.iter().find(|part| part.parsed.kind != kind) {
            return Err(FormatError::Header {
                file: other.name().to_owned(),
                item: "the format".to_owned(),
                problem: format!("{}, but {} is {kind}; they are not of one model", other.parsed.kind, first.name()),
            });
        }
        gguf::split::check(&name, &parts)?;
        let n_tensors = parts.iter().map(|part| part.parsed.tensors.len()).sum::<usize>();
        if n_tensors == 0 {
            return Err(FormatError::NoTensors { file: name });
        }
        if n_tensors > MAX_ENTRIES {
            return Err(FormatError::Header {
                file: name,
                item: "the tensor tables of all parts".to_owned(),
                problem: format!("{n_tensors} entries together, but at most {MAX_ENTRIES} are read"),
            });
        }

        let mut files = Vec::with_capacity(parts.len());
        let mut tensors = Vec::with_capacity(n_tensors);
        let mut metadata = None;
        for (number, ReadPart { part, parsed }) in parts.into_iter().enumerate() {
            files.push(part);
            tensors.extend(parsed.tensors.into_iter().map(|entry| TensorEntry { part: number, ..entry }));
            // The first part's metadata are the model's; those of the others say which part they are.
            metadata.get_or_insert(parsed.metadata);
        }
        let metadata = metadata.unwrap_or_default();
        let tensor_index = NameIndex::new(&tensors, tensor_name).map_err(|[first, second]| {
            let (first, second) = (&tensors[first], &tensors[second]);
            let problem = match first.part == second.part {
                true => TensorProblem::Duplicate,
                false => TensorProblem::InTwoParts { other: files[first.part].name.clone() },
            };
            let (file, tensor) = (files[second.part].name.clone(), second.name.to_string());
            FormatError::Tensor { file, tensor, problem }
        })?;
        let metadata_index = NameIndex::new(&metadata, metadata_key).map_err(|[at, _]| FormatError::Header {
            file: files[0].name.clone(),
            item: format!("metadata key {}", metadata[at].0),
            problem: "it occurs twice; the file is damaged or was written by a faulty program".to_owned(),
        })?;
        Ok(Arc::new(ModelFile {
            name,
            kind,
            parts: files.into(),
            n_in_files: tensors.len(),
            tensors,
            tensor_index: Arc::new(tensor_index),
            metadata: metadata.into(),
            metadata_index: Arc::new(metadata_index),
            variant: None,
        }))
    }

    /// The path that was opened, or the name given by the caller, for messages. Of a model in several parts it is that of
    /// any part, or of the index.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The paths or names of the model's parts, in order; of a model in one file its name alone.
    pub fn part_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// The file's format.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// Size of all parts in bytes.
    pub fn n_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// Whether the files on disk still have the size and the time of change that they had when they were opened. It asks
    /// the system once for each part, which takes less than a microsecond.
    ///
    /// # Errors
    /// [`FormatError::Changed`] if not, or what the operating system says.
    pub fn check_unchanged(&self) -> Result<(), FormatError> {
        for part in &self.parts[..] {
            match part.bytes.change() {
                Ok(None) => {}
                Ok(Some(found)) => return Err(FormatError::Changed { file: part.name.clone(), found }),
                Err(source) => return Err(FormatError::Io { file: part.name.clone(), source }),
            }
        }
        Ok(())
    }

    /// Asks the system to read all parts into its cache, in large pieces; returns when it has been asked, which may
    /// take as long as reading takes. Call it from a thread of its own before a file is read for the first time.
    pub fn read_ahead(&self) {
        self.parts.iter().for_each(|part| part.bytes.read_ahead());
    }

    /// All tensors of any type, part by part, in the order of the part's tensor table (GGUF), of their data (safetensors)
    /// or of the saved dictionary (PyTorch).
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorInfo<'_>> {
        self.tensors[..self.n_in_files].iter().map(|entry| self.entry_info(entry))
    }

    /// What the index says about the tensor called `name`, whatever its type.
    pub fn info(&self, name: &str) -> Option<TensorInfo<'_>> {
        let index = self.tensor_index.find(&self.tensors, tensor_name, name)?;
        Some(self.entry_info(&self.tensors[index]))
    }

    /// The tensor called `name`; `None` if there is none, or if its type is not one that the engine computes with, as
    /// [`ModelFile::info`] tells.
    pub fn tensor(self: &Arc<Self>, name: &str) -> Option<Tensor> {
        let index = self.tensor_index.find(&self.tensors, tensor_name, name)?;
        let dtype = self.tensors[index].stored.computed()?;
        Some(Tensor { file: Arc::clone(self), index, dtype, form: Form::AsStored })
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

    fn entry_info<'a>(&'a self, entry: &'a TensorEntry) -> TensorInfo<'a> {
        TensorInfo {
            name: &entry.name,
            stored: &entry.stored,
            shape: &entry.shape,
            n_bytes: entry.n_bytes,
            file: self,
            entry,
        }
    }

    /// The elements in row-major order.
    pub(crate) fn entry_bytes<'a>(&'a self, entry: &'a TensorEntry) -> &'a [u8] {
        let span = self.entry_span(entry);
        entry.strided.as_ref().map_or(span, |strided| strided.bytes(span))
    }

    /// The bytes from the first element to the end of the last one.
    fn entry_span<'a>(&'a self, entry: &'a TensorEntry) -> &'a [u8] {
        if let Some(bytes) = &entry.replaced {
            return bytes;
        }
        &self.parts[entry.part].bytes[entry.range()] // In bounds: checked by the reader, and the length is fixed.
    }
}

impl std::fmt::Debug for ModelFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFile")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("n_parts", &self.parts.len())
            .field("n_bytes", &self.n_bytes())
            .field("n_tensors", &self.n_in_files)
            .finish_non_exhaustive()
    }
}

/// A tensor, of a type that the engine computes with, that keeps its file alive; cheap to clone.
#[derive(Clone)]
pub struct Tensor {
    file: Arc<ModelFile>,
    index: usize,
    dtype: DType,
    form: Form,
}

/// How a [`Tensor`] differs from what the file has under its name.
#[derive(Clone)]
enum Form {
    /// Not at all.
    AsStored,
    /// The elements in another order.
    Strided(Arc<Strided>),
    /// Numbers that were computed from the file's.
    Computed(Arc<Computed>),
}

/// Elements in memory.
struct Computed {
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
    pub fn bytes(&self) -> &[u8] {
        match &self.form {
            Form::AsStored => self.file.entry_bytes(self.entry()),
            Form::Strided(strided) => strided.bytes(self.file.entry_span(self.entry())),
            Form::Computed(computed) => &computed.bytes,
        }
    }

    /// The elements of a matrix column by column, if they lie so in the file: for programs that read them in that order, where
    /// [`Tensor::bytes`] would make a copy.
    pub fn columns(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Strided(strided) if strided.lies_by_columns() => Some(self.file.entry_span(self.entry())),
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
            return Ok(strided.fetch(self.file.entry_span(self.entry()), range, scratch));
        }
        if let Some(bytes) = &self.entry().replaced {
            return Ok(&bytes[range]);
        }
        let start = self.entry().start;
        let part = &self.file.parts[self.entry().part];
        part.bytes.fetch(start + range.start..start + range.end, scratch).map_err(|source| {
            let file = part.name.clone();
            match source.kind() {
                std::io::ErrorKind::UnexpectedEof => FormatError::Changed { file, found: "it was cut short".into() },
                _ => FormatError::Io { file, source },
            }
        })
    }

    /// Name, type, shape and bytes at once.
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

fn tensor_name(entry: &TensorEntry) -> &str {
    &entry.name
}

fn metadata_key(entry: &(String, MetaValue)) -> &str {
    &entry.0
}

/// Refuses tensors that share bytes: no program writes such files, so one of the offsets is wrong.
fn check_overlap(file: &str, tensors: &[TensorEntry]) -> Result<(), FormatError> {
    let mut by_start: Vec<&TensorEntry> = tensors.iter().filter(|entry| !entry.range().is_empty()).collect();
    by_start.sort_unstable_by_key(|entry| entry.start);
    match by_start.windows(2).find(|pair| pair[1].start < pair[0].range().end) {
        Some(pair) => Err(FormatError::Tensor {
            file: file.to_owned(),
            tensor: pair[1].name.to_string(),
            problem: TensorProblem::Overlap { other: pair[0].name.to_string() },
        }),
        None => Ok(()),
    }
}
