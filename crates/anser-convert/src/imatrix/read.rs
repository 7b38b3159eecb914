//! Reads importance matrices, as GGUF and as `.dat`.

use super::{COUNTS, CountUnit, Entry, ImportanceMatrix, SUMS};
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
            entries.insert(name.to_owned(), entry(name, &sums, count).map_err(&refuse)?);
        }
        let datasets = file.metadata("imatrix.datasets").and_then(MetaValue::as_str_array);
        let number = |key: &str| file.metadata(key).and_then(MetaValue::as_u64).and_then(|n| u32::try_from(n).ok());
        ImportanceMatrix {
            file: file.name().into(),
            datasets: datasets.map_or(vec![], |datasets| datasets.iter().map(str::to_owned).collect()),
            n_chunks: number("imatrix.chunk_count"),
            chunk_len: number("imatrix.chunk_size"),
            unit: CountUnit::Tokens,
            entries,
        }
        .checked()
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
        let (mut n_chunks, mut datasets) = (None, vec![]);
        if reader.at < bytes.len() {
            n_chunks = Some(reader.count("the number of chunks").map_err(&refuse)? as u32);
            datasets.push(reader.text("the name of the text").map_err(&refuse)?);
        }
        if reader.at != bytes.len() {
            return Err(refuse(format!(
                "{} bytes follow the last entry; the file is damaged",
                bytes.len() - reader.at
            )));
        }
        let file = file.into();
        ImportanceMatrix { file, datasets, n_chunks, chunk_len: None, unit: CountUnit::Chunks, entries }.checked()
    }
}

/// The numbers of a tensor.
fn numbers(file: &Arc<ModelFile>, name: &str) -> Result<Vec<f32>, String> {
    let tensor = file.tensor(name).ok_or_else(|| format!("tensor {name} is missing; the file is incomplete"))?;
    let mut numbers = vec![0.0; tensor.shape().iter().product()];
    anser_format::quant::dequantize(tensor.dtype(), tensor.bytes(), &mut numbers);
    Ok(numbers)
}

/// An entry of sums, whose means must be weights.
fn entry(name: &str, sums: &[f32], count: f32) -> Result<Entry, String> {
    if !(count.is_finite() && count > 0.0) {
        return Err(format!(
            "entry {name:?}: expected a positive number of inputs, found {count}; make the matrix with a longer text"
        ));
    }
    let means: Arc<[f32]> = sums.iter().map(|sum| sum / count).collect();
    match means.iter().position(|mean| !mean.is_finite() || *mean < 0.0) {
        None => {
            let sums = sums.iter().map(|&sum| f64::from(sum)).collect();
            Ok(Entry { sums, count: f64::from(count), importance: means })
        }
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

    fn entry(&mut self) -> Result<(String, Entry), String> {
        let name = self.text("its name")?;
        let n_calls = self.count("the number of calls")?;
        let n_values = self.count("the number of columns")?;
        let bytes = self.take(n_values.saturating_mul(4), "its columns")?;
        let sums: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let entry = entry(&name, &sums, n_calls as f32)?;
        Ok((name, entry))
    }
}
