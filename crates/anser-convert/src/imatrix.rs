//! Importance matrices, which say for each column of a matrix how large its input is: the mean square over a text.
//!
//! llama-imatrix writes them as GGUF, and has written them as a form of its own (`.dat`), which many published files have.

mod read;
mod write;

use crate::error::ConvertError;
use anser_model::gguf_name;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the names of the sums and of their counts end in, in GGUF.
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// An importance matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportanceMatrix {
    pub(crate) file: String,
    /// The texts that it was made with, if the file says it.
    pub(crate) datasets: Vec<String>,
    /// The number of pieces of text, if the file says it.
    pub(crate) n_chunks: Option<u32>,
    /// The number of tokens of a piece, if the file says it.
    pub(crate) chunk_len: Option<u32>,
    /// What the counts of the entries are numbers of.
    unit: CountUnit,
    /// The sums of each matrix, by its name in GGUF files.
    pub(crate) entries: BTreeMap<String, Entry>,
}

/// What is counted: GGUF has the number of inputs, `.dat` files the number of pieces of text, with sums smaller by the same factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CountUnit {
    Tokens,
    Chunks,
}

/// Sums of squares for one matrix.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// For each column, the sum of its squared inputs, in the unit of the count.
    sums: Vec<f64>,
    count: f64,
    /// For each column, sum over count.
    pub(crate) importance: Arc<[f32]>,
}

impl Entry {
    fn new(sums: Vec<f64>, count: f64) -> Entry {
        let importance = sums.iter().map(|sum| (sum / count) as f32).collect();
        Entry { sums, count, importance }
    }
}

impl ImportanceMatrix {
    /// A matrix without entries of the text `dataset`, which is read in pieces of `chunk_len` tokens, for [`ImportanceMatrix::add`];
    /// `file` is its name for messages.
    pub fn of_text(file: &str, dataset: &str, chunk_len: u32) -> ImportanceMatrix {
        ImportanceMatrix {
            file: file.into(),
            datasets: vec![dataset.into()],
            n_chunks: Some(0),
            chunk_len: Some(chunk_len),
            unit: CountUnit::Tokens,
            entries: BTreeMap::new(),
        }
    }

    /// Adds to the entry of the matrix `name` (in GGUF files) the sums of the squared inputs of its columns over `n_rows` inputs.
    ///
    /// # Errors
    /// If there is an entry of another width.
    pub fn add(&mut self, name: &str, sums: &[f64], n_rows: u64) -> Result<(), ConvertError> {
        let (mut all, mut count) = (sums.to_vec(), n_rows as f64);
        if let Some(before) = self.entries.get(name) {
            if before.sums.len() != sums.len() {
                let problem = widths(name, before.sums.len(), sums.len());
                return Err(ConvertError::Matrix { file: self.file.clone(), problem });
            }
            all.iter_mut().zip(&before.sums).for_each(|(sum, before)| *sum += before);
            count += before.count;
        }
        if count > 0.0 {
            self.entries.insert(name.into(), Entry::new(all, count));
        }
        Ok(())
    }

    /// Adds sums that are known by BlinkDL's names, e.g. `blocks.3.att.key.weight`: name, sums, number of inputs. Left out is what has no
    /// matrix of its own in GGUF files, and what several sums are of: matrices that a file stacks, which are never quantized.
    ///
    /// # Errors
    /// As [`ImportanceMatrix::add`].
    pub fn add_sums(&mut self, all: impl IntoIterator<Item = (String, Vec<f64>, u64)>) -> Result<(), ConvertError> {
        let mut by_name: BTreeMap<String, Vec<(Vec<f64>, u64)>> = BTreeMap::new();
        for (name, sums, n_rows) in all {
            if let Some((name, None)) = gguf_name(&name) {
                by_name.entry(name).or_default().push((sums, n_rows));
            }
        }
        for (name, sums) in by_name {
            if let [(sums, n_rows)] = &sums[..] {
                self.add(&name, sums, *n_rows)?;
            }
        }
        Ok(())
    }

    /// Counts `n` more pieces of text.
    pub fn add_chunks(&mut self, n: u32) {
        self.n_chunks = self.n_chunks.map(|before| before.saturating_add(n));
    }

    /// A matrix that counts pieces of text, as `.dat` files do, as one that counts tokens, where a piece has `chunk_len`. One that counts
    /// tokens stays as it is.
    ///
    /// # Errors
    /// If the file says another length of its pieces.
    pub fn in_tokens(mut self, chunk_len: u32) -> Result<ImportanceMatrix, ConvertError> {
        if let Some(found) = self.chunk_len.filter(|&found| found != chunk_len) {
            let problem = format!(
                "its pieces of text have {found} tokens, not {chunk_len}; matrices are merged that were made with the same number"
            );
            return Err(ConvertError::Matrix { file: self.file, problem });
        }
        self.chunk_len = Some(chunk_len);
        if self.unit == CountUnit::Chunks {
            self.unit = CountUnit::Tokens;
            for entry in self.entries.values_mut() {
                entry.sums.iter_mut().for_each(|sum| *sum *= f64::from(chunk_len));
                entry.count *= f64::from(chunk_len);
            }
        }
        Ok(self)
    }

    /// Adds the sums, counts and pieces of another matrix of the same model to this one's. Entries that only one has are kept.
    ///
    /// # Errors
    /// If they count in different units, were made with pieces of different lengths, or have entries of different widths.
    pub fn merge(&mut self, other: &ImportanceMatrix) -> Result<(), ConvertError> {
        let refuse = |problem: String| Err(ConvertError::Matrix { file: other.file.clone(), problem });
        if self.unit != other.unit {
            return refuse(format!(
                "one of it and {} is a .dat file, which counts pieces of text and does not say how long they are; say it with --chunk",
                self.file
            ));
        }
        if let (Some(a), Some(b)) = (self.chunk_len, other.chunk_len)
            && a != b
        {
            return refuse(format!(
                "its pieces of text have {b} tokens, those of {} {a}; merge matrices that were made with the same number",
                self.file
            ));
        }
        for (name, entry) in &other.entries {
            if let Some(before) = self.entries.get(name)
                && before.sums.len() != entry.sums.len()
            {
                return refuse(widths(name, before.sums.len(), entry.sums.len()));
            }
        }
        for (name, entry) in &other.entries {
            let merged = match self.entries.get(name) {
                None => entry.clone(),
                Some(before) => Entry::new(
                    before.sums.iter().zip(&entry.sums).map(|(a, b)| a + b).collect(),
                    before.count + entry.count,
                ),
            };
            self.entries.insert(name.clone(), merged);
        }
        self.chunk_len = self.chunk_len.or(other.chunk_len);
        self.n_chunks = self.n_chunks.zip(other.n_chunks).map(|(a, b)| a.saturating_add(b));
        for dataset in &other.datasets {
            if !self.datasets.contains(dataset) {
                self.datasets.push(dataset.clone());
            }
        }
        Ok(())
    }

    /// The importance of each column of the matrix `name`, if there is an entry.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.entries.get(name).map(|entry| &entry.importance[..])
    }

    /// The names of the matrices that it has an entry for, in GGUF files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The number of matrices that it has an entry for.
    pub fn n_entries(&self) -> usize {
        self.entries.len()
    }

    /// The texts that it was made with, as far as the file names them.
    pub fn datasets(&self) -> &[String] {
        &self.datasets
    }

    /// The number of pieces of text that it was made with, if the file says it.
    pub fn n_chunks(&self) -> Option<u32> {
        self.n_chunks
    }

    /// The number of tokens of a piece, if the file says it.
    pub fn chunk_len(&self) -> Option<u32> {
        self.chunk_len
    }

    /// The matrix, if it has entries.
    fn checked(self) -> Result<ImportanceMatrix, ConvertError> {
        if self.entries.is_empty() {
            let problem = "the importance matrix has no entries; make it anew".into();
            return Err(ConvertError::Matrix { file: self.file, problem });
        }
        Ok(self)
    }
}

/// The problem of an entry that two matrices have in different widths.
fn widths(name: &str, expected: usize, found: usize) -> String {
    format!("entry {name:?}: expected {expected} columns, found {found}; the matrices are of different models")
}
