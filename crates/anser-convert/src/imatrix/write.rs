//! Writes importance matrices, as GGUF and as `.dat`.

use super::{COUNTS, CountUnit, ImportanceMatrix, SUMS};
use crate::error::ConvertError;
use anser_format::{DType, GgufWriter, MetaArray, MetaValue, StrArray};

impl ImportanceMatrix {
    /// The file in GGUF form, as llama-imatrix writes it. The same matrix gives the same bytes.
    ///
    /// # Errors
    /// If there are no entries, if counts or pieces are not known in the unit of this form, or if a name has no form in GGUF.
    pub fn to_gguf(&self) -> Result<Vec<u8>, ConvertError> {
        let (Some(n_chunks), Some(chunk_len), CountUnit::Tokens) = (self.n_chunks, self.chunk_len, self.unit) else {
            return Err(self.refused(
                "it does not say how many pieces of text it was made with, or how many tokens they had, which the GGUF form needs; \
                 say --chunk, or write a .dat file",
            ));
        };
        self.check_entries()?;
        let mut datasets = StrArray::with_capacity(self.datasets.len());
        self.datasets.iter().for_each(|dataset| datasets.push(dataset));
        let mut writer = GgufWriter::new();
        writer.metadata("general.type", MetaValue::Str("imatrix".into()))?;
        writer.metadata("imatrix.datasets", MetaValue::Array(MetaArray::Str(datasets)))?;
        writer.metadata("imatrix.chunk_count", MetaValue::U32(n_chunks))?;
        writer.metadata("imatrix.chunk_size", MetaValue::U32(chunk_len))?;
        for (name, entry) in &self.entries {
            writer.tensor(&format!("{name}{SUMS}"), DType::F32, &[1, entry.sums.len()])?;
            writer.tensor(&format!("{name}{COUNTS}"), DType::F32, &[1, 1])?;
        }
        let mut data = writer.begin(vec![])?;
        for (name, entry) in &self.entries {
            let sums: Vec<u8> = entry.sums.iter().flat_map(|&sum| (sum as f32).to_le_bytes()).collect();
            data.write_tensor(&format!("{name}{SUMS}"), [sums])?;
            data.write_tensor(&format!("{name}{COUNTS}"), [(entry.count as f32).to_le_bytes()])?;
        }
        Ok(data.finish()?)
    }

    /// The file in the older form (`.dat`): means of squares times the number of pieces of text.
    ///
    /// # Errors
    /// If there are no entries, the number of pieces is not known, or a number is too large for the form.
    pub fn to_dat(&self) -> Result<Vec<u8>, ConvertError> {
        let Some(n_chunks) = self.n_chunks.filter(|&n| n > 0) else {
            return Err(self.refused("it does not say how many pieces of text it was made with; write it as GGUF"));
        };
        self.check_entries()?;
        let number = |n: usize| {
            let number =
                i32::try_from(n).map_err(|_| self.refused("it is too large for a .dat file; write it as GGUF"));
            Ok::<[u8; 4], ConvertError>(number?.to_le_bytes())
        };
        let mut bytes = number(self.entries.len())?.to_vec();
        for (name, entry) in &self.entries {
            bytes.extend(number(name.len())?);
            bytes.extend(name.as_bytes());
            bytes.extend(number(n_chunks as usize)?);
            bytes.extend(number(entry.sums.len())?);
            let means = entry.sums.iter().map(|sum| (sum / entry.count * f64::from(n_chunks)) as f32);
            bytes.extend(means.flat_map(f32::to_le_bytes));
        }
        bytes.extend(number(n_chunks as usize)?);
        let dataset = self.datasets.join(", ");
        bytes.extend(number(dataset.len())?);
        bytes.extend(dataset.as_bytes());
        Ok(bytes)
    }

    /// Refuses a matrix without entries, and sums that have no place in an F32.
    fn check_entries(&self) -> Result<(), ConvertError> {
        if self.entries.is_empty() {
            return Err(self.refused("there is nothing to write: no text was read; give a longer text"));
        }
        for (name, entry) in &self.entries {
            if let Some(column) = entry.sums.iter().position(|&sum| !(sum as f32).is_finite()) {
                let sum = entry.sums[column];
                return Err(self.refused(&format!(
                    "entry {name:?}: the sum of column {column} is {sum}, and the file holds numbers up to {}; read fewer chunks",
                    f32::MAX
                )));
            }
        }
        Ok(())
    }

    fn refused(&self, problem: &str) -> ConvertError {
        ConvertError::Matrix { file: self.file.clone(), problem: problem.into() }
    }
}
