//! Importance matrices, which say for each column of a matrix how large its input is: the mean square over a text.
//!
//! llama-imatrix writes them as GGUF, and has written them as a form of its own (`.dat`), which many published files have.

use crate::error::ConvertError;
use anser_format::{MetaValue, ModelFile};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The most bytes that a `.dat` file is read with: those of the largest models have some 40 MB.
const MAX_N_BYTES: u64 = 1 << 30;
/// The most bytes of a name in a `.dat` file.
const MAX_NAME_N_BYTES: usize = 1 << 16;
/// What the names of the sums and of their counts end in, in GGUF.
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// An importance matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportanceMatrix {
    pub(crate) file: String,
    /// The text that it was made with, if the file says it.
    pub(crate) dataset: Option<String>,
    /// The number of pieces of text, if the file says it.
    pub(crate) n_chunks: Option<u32>,
    /// The importance of each column, by the matrix's name in GGUF files.
    pub(crate) entries: BTreeMap<String, Arc<[f32]>>,
}

impl ImportanceMatrix {
    /// Reads the importance matrix at `path`, in either form.
    ///
    /// # Errors
    /// If the file cannot be read, or is none.
    pub fn open(path: impl AsRef<Path>) -> Result<ImportanceMatrix, ConvertError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let io = |source| ConvertError::Matrix { file: file.clone(), problem: format!("cannot read: {source}") };
        let mut start = vec![];
        File::open(path).and_then(|file| file.take(4).read_to_end(&mut start)).map_err(io)?;
        if start == b"GGUF" {
            return ImportanceMatrix::from_gguf(&ModelFile::open(path)?);
        }
        let mut bytes = vec![];
        File::open(path).and_then(|file| file.take(MAX_N_BYTES).read_to_end(&mut bytes)).map_err(io)?;
        ImportanceMatrix::from_dat(&file, &bytes)
    }

    /// Reads one in GGUF form.
    ///
    /// # Errors
    /// If the file is none.
    pub fn from_gguf(file: &Arc<ModelFile>) -> Result<ImportanceMatrix, ConvertError> {
        let refuse = |problem: String| ConvertError::Matrix { file: file.name().into(), problem };
        if file.metadata("general.type").and_then(MetaValue::as_str) != Some("imatrix") {
            return Err(refuse("this GGUF file is no importance matrix (general.type is not \"imatrix\")".into()));
        }
        let mut entries = BTreeMap::new();
        for info in file.tensors() {
            let Some(name) = info.name.strip_suffix(SUMS) else { continue };
            let sums = numbers(file, info.name).map_err(&refuse)?;
            let counts = numbers(file, &format!("{name}{COUNTS}")).map_err(&refuse)?;
            let [count] = counts[..] else {
                return Err(refuse(format!("{name}{COUNTS}: expected one number, found {}", counts.len())));
            };
            entries.insert(name.to_owned(), weights(name, &sums, count).map_err(&refuse)?);
        }
        let dataset = file.metadata("imatrix.datasets").and_then(MetaValue::as_str_array);
        let dataset = dataset.and_then(|datasets| datasets.get(0)).map(str::to_owned);
        let n_chunks = file.metadata("imatrix.chunk_count").and_then(MetaValue::as_u64);
        let n_chunks = n_chunks.and_then(|n| u32::try_from(n).ok());
        ImportanceMatrix::new(file.name(), dataset, n_chunks, entries)
    }

    /// Reads one in the form of `.dat` files; `file` is its name for messages.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn from_dat(file: &str, bytes: &[u8]) -> Result<ImportanceMatrix, ConvertError> {
        let refuse = |problem: String| ConvertError::Matrix { file: file.into(), problem };
        let mut reader = Reader { bytes, at: 0 };
        let n_entries = reader.count("the number of entries").map_err(&refuse)?;
        let mut entries = BTreeMap::new();
        for i in 0..n_entries {
            let (name, importance) = reader.entry().map_err(|problem| refuse(format!("entry {i}: {problem}")))?;
            if entries.insert(name.clone(), importance).is_some() {
                return Err(refuse(format!("entry {i}: there are two of the name {name:?}; the file is damaged")));
            }
        }
        let (mut n_chunks, mut dataset) = (None, None);
        if reader.at < bytes.len() {
            n_chunks = Some(reader.count("the number of chunks").map_err(&refuse)? as u32);
            dataset = Some(reader.text("the name of the text").map_err(&refuse)?);
        }
        if reader.at != bytes.len() {
            return Err(refuse(format!(
                "{} bytes follow the last entry; the file is damaged",
                bytes.len() - reader.at
            )));
        }
        ImportanceMatrix::new(file, dataset, n_chunks, entries)
    }

    fn new(
        file: &str,
        dataset: Option<String>,
        n_chunks: Option<u32>,
        entries: BTreeMap<String, Arc<[f32]>>,
    ) -> Result<ImportanceMatrix, ConvertError> {
        if entries.is_empty() {
            let problem = "the importance matrix has no entries; make it anew".into();
            return Err(ConvertError::Matrix { file: file.into(), problem });
        }
        Ok(ImportanceMatrix { file: file.into(), dataset, n_chunks, entries })
    }

    /// The importance of each column of the matrix `name`, if there is an entry.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.entries.get(name).map(|importance| &importance[..])
    }

    /// The number of matrices that it has an entry for.
    pub fn n_entries(&self) -> usize {
        self.entries.len()
    }
}

/// The numbers of a tensor.
fn numbers(file: &Arc<ModelFile>, name: &str) -> Result<Vec<f32>, String> {
    let tensor = file.tensor(name).ok_or_else(|| format!("tensor {name} is missing; the file is incomplete"))?;
    let mut numbers = vec![0.0; tensor.shape().iter().product()];
    anser_format::quant::dequantize(tensor.dtype(), tensor.bytes(), &mut numbers);
    Ok(numbers)
}

/// Means from sums, which must be weights.
fn weights(name: &str, sums: &[f32], count: f32) -> Result<Arc<[f32]>, String> {
    if !(count.is_finite() && count > 0.0) {
        return Err(format!(
            "entry {name:?}: expected a positive number of inputs, found {count}; make the matrix with a longer text"
        ));
    }
    let means: Arc<[f32]> = sums.iter().map(|sum| sum / count).collect();
    match means.iter().position(|mean| !mean.is_finite() || *mean < 0.0) {
        None => Ok(means),
        Some(at) => Err(format!(
            "entry {name:?}: column {at} has {}, but means of squares are needed; make the matrix anew",
            means[at]
        )),
    }
}

/// Numbers of a `.dat` file, all little-endian.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, n_bytes: usize, what: &str) -> Result<&[u8], String> {
        let left = &self.bytes[self.at..];
        let taken = left.get(..n_bytes).ok_or_else(|| {
            format!(
                "{what} needs {n_bytes} bytes at byte {}, but only {} are left; this is no importance matrix, or it is cut short",
                self.at,
                left.len()
            )
        })?;
        self.at += n_bytes;
        Ok(taken)
    }

    /// A number that is not negative.
    fn count(&mut self, what: &str) -> Result<usize, String> {
        let bytes = self.take(4, what)?;
        let number = bytes.as_chunks().0.first().map_or(0, |&bytes| i32::from_le_bytes(bytes));
        usize::try_from(number)
            .map_err(|_| format!("{what} is {number}; this is no importance matrix, or it is damaged"))
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        let n_bytes = self.count(what)?;
        if n_bytes > MAX_NAME_N_BYTES {
            return Err(format!("{what} would have {n_bytes} bytes; this is no importance matrix, or it is damaged"));
        }
        Ok(String::from_utf8_lossy(self.take(n_bytes, what)?).into_owned())
    }

    fn entry(&mut self) -> Result<(String, Arc<[f32]>), String> {
        let name = self.text("its name")?;
        let n_calls = self.count("the number of calls")?;
        let n_values = self.count("the number of columns")?;
        let bytes = self.take(n_values.saturating_mul(4), "its columns")?;
        let sums: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let importance = weights(&name, &sums, n_calls as f32)?;
        Ok((name, importance))
    }
}
