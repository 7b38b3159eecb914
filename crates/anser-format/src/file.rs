//! A model, in one file or in several parts, and the tensors in it.

mod replaced;
mod tensor;

pub use replaced::{Addition, Replacement};
pub use tensor::Tensor;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::bytes::{FileBytes, Head, ReadAt};
use crate::error::{FormatError, TensorProblem};
use crate::index::NameIndex;
use crate::metadata::MetaValue;
#[cfg(not(target_arch = "wasm32"))]
use crate::parts;
use crate::sniff::{Sniffed, sniff};
use crate::stored::StoredType;
use crate::strided::Strided;
use crate::tensor::TensorInfo;
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
    pub(crate) start: u64,
    /// Bytes of the elements; `None` if the size of such elements is not known.
    pub(crate) n_bytes: Option<usize>,
    /// How the elements lie, if not in row-major order; only floats and integers may lie so.
    pub(crate) strided: Option<Arc<Strided>>,
    /// Elements in memory, in row-major order, that stand for those of the part.
    pub(crate) replaced: Option<Arc<[u8]>>,
}

impl TensorEntry {
    /// Where the data lies, in bytes from the start of the part; empty if its size is not known.
    fn range(&self) -> Range<u64> {
        let n_bytes = self.strided.as_ref().map(|strided| strided.span_n_bytes()).or(self.n_bytes);
        self.start..self.start + n_bytes.unwrap_or(0) as u64
    }
}

impl ReadPart {
    /// Reads the header of a file, and the small tensors of one that is not in memory.
    pub(crate) fn new(name: String, bytes: FileBytes) -> Result<ReadPart, FormatError> {
        let mut parsed = bytes.parse(&name, |head| parse(&name, head))?;
        match parsed.kind {
            FileKind::Gguf { .. } | FileKind::Safetensors => check_overlap(&name, &parsed.tensors)?,
            FileKind::Torch(_) => {} // Tensors may be views of one storage.
        }
        if bytes.in_memory().is_none() {
            keep_small(&name, &bytes, &mut parsed.tensors)?;
        }
        Ok(ReadPart { part: Part { name, bytes }, parsed })
    }

    pub(crate) fn name(&self) -> &str {
        &self.part.name
    }
}

/// Reads the header of the file called `name`.
fn parse(name: &str, head: &Head) -> Result<Parsed, FormatError> {
    let whole = || {
        head.whole().ok_or_else(|| FormatError::NotAModel {
            file: name.to_owned(),
            found: "a PyTorch file that is not in memory",
            advice: "read it into memory, or convert it to GGUF or safetensors, which are read piece by piece",
        })
    };
    match sniff(head.bytes()) {
        Sniffed::Gguf => gguf::read(name, head),
        Sniffed::Safetensors => safetensors::read(name, head),
        Sniffed::Zip => torch::read_zip(name, whole()?),
        Sniffed::TorchLegacy => torch::read_legacy(name, whole()?),
        Sniffed::Other { found, advice } => Err(FormatError::NotAModel { file: name.to_owned(), found, advice }),
    }
}

/// Reads the tensors that are as small as a model's vectors into memory. Kernels on the host and the upload of vectors take their elements
/// as slices, where the file could neither be waited for nor be reported as unreadable.
fn keep_small(name: &str, bytes: &FileBytes, tensors: &mut [TensorEntry]) -> Result<(), FormatError> {
    /// Six vectors in one tensor, of the largest models, in F32.
    const MAX_N_BYTES: u64 = 128 << 10;

    let mut scratch = vec![];
    for entry in tensors {
        let range = entry.range();
        if !range.is_empty() && range.end - range.start <= MAX_N_BYTES {
            let read = bytes.fetch(range, &mut scratch);
            let read = read.map_err(|source| FormatError::Io { file: name.to_owned(), source })?;
            entry.replaced = Some(read.into());
        }
    }
    Ok(())
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

    /// Validates a model in a GGUF or safetensors file that is read piece by piece; `name` is for messages. Only its header and its vectors are
    /// kept in memory; matrices are read when they are needed ([`Tensor::fetch`]), which a GPU needs once. The processor computes with
    /// files that are in memory or mapped.
    ///
    /// # Errors
    /// If the file is not a model in one of these formats, is damaged, or cannot be read.
    pub fn from_reader(name: &str, reader: Box<dyn ReadAt>) -> Result<Arc<ModelFile>, FormatError> {
        ModelFile::from_readers(name, vec![(name.to_owned(), reader)])
    }

    /// [`ModelFile::from_reader`] for a model in several files, each with a name for messages, in the order of their numbers.
    ///
    /// # Errors
    /// As [`ModelFile::from_reader`]; if a part is missing, or they do not belong together.
    pub fn from_readers(name: &str, parts: Vec<(String, Box<dyn ReadAt>)>) -> Result<Arc<ModelFile>, FormatError> {
        let read = |(name, reader)| ReadPart::new(name, FileBytes::Fetched(reader));
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
    pub fn n_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.n_bytes()).sum()
    }

    /// Whether the elements of all tensors are mapped or in memory, as [`Tensor::bytes`] needs them; not those of
    /// [`ModelFile::from_reader`].
    pub fn is_in_memory(&self) -> bool {
        self.parts.iter().all(|part| part.bytes.in_memory().is_some())
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
        Some(Tensor { file: Arc::clone(self), index, dtype, form: tensor::Form::AsStored })
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

    /// The elements in row-major order, if they are mapped or in memory.
    pub(crate) fn entry_bytes<'a>(&'a self, entry: &'a TensorEntry) -> Option<&'a [u8]> {
        let span = self.entry_span(entry)?;
        Some(entry.strided.as_ref().map_or(span, |strided| strided.bytes(span)))
    }

    /// The elements in row-major order, read if they are neither mapped nor in memory.
    pub(crate) fn read_entry<'a>(&'a self, entry: &'a TensorEntry) -> Result<Cow<'a, [u8]>, FormatError> {
        if let Some(bytes) = self.entry_bytes(entry) {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut scratch = vec![];
        let Part { name, bytes } = &self.parts[entry.part];
        let read = bytes.fetch(entry.range(), &mut scratch).map(<[u8]>::len);
        let n_bytes = read.map_err(|source| FormatError::Io { file: name.clone(), source })?;
        scratch.truncate(n_bytes);
        let gathered = entry.strided.as_ref().map(|strided| strided.bytes(&scratch).to_vec());
        Ok(Cow::Owned(gathered.unwrap_or(scratch)))
    }

    /// The bytes from the first element to the end of the last one, if they are mapped or in memory.
    fn entry_span<'a>(&'a self, entry: &'a TensorEntry) -> Option<&'a [u8]> {
        if let Some(bytes) = &entry.replaced {
            return Some(bytes);
        }
        let Range { start, end } = entry.range();
        // In bounds: checked by the reader, and the length is fixed.
        self.parts[entry.part].bytes.in_memory().map(|bytes| &bytes[start as usize..end as usize])
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
