//! The header of a safetensors file that is to be written, whose data follows as a stream.

use crate::tensor::DType;

/// What the length of the header is a multiple of, so that tensors of numbers of up to 8 bytes lie aligned.
const ALIGNMENT: usize = 8;

/// Why a safetensors file cannot be written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SafetensorsWriteError {
    /// safetensors has floats and integers, and no blocks.
    #[error("tensor {tensor:?}: a safetensors file has no type {dtype}; F32, F16 or BF16 is needed")]
    Type {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        dtype: DType,
    },
    /// The name is used already.
    #[error("tensor {tensor:?}: the name is used already")]
    Duplicate {
        /// Name of the tensor.
        tensor: String,
    },
}

/// Collects the header of a safetensors file: the tensors' names, types and shapes, in the order of their data.
///
/// ```
/// use anser_format::{DType, ModelFile, SafetensorsHeader};
///
/// let mut header = SafetensorsHeader::new();
/// header.tensor("ln_out.weight", DType::F32, &[2])?;
/// let mut bytes = header.to_bytes();
/// bytes.extend([1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
/// let file = ModelFile::from_bytes("example", bytes)?;
/// assert_eq!(file.tensor("ln_out.weight").unwrap().shape(), [2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct SafetensorsHeader {
    entries: Vec<String>,
    names: std::collections::HashSet<String>,
    data_n_bytes: u64,
}

impl SafetensorsHeader {
    /// A header without tensors. Its metadata says that the file is for PyTorch, which its readers ask for.
    pub fn new() -> SafetensorsHeader {
        SafetensorsHeader::default()
    }

    /// Declares a tensor, whose data follows that of the tensor declared before; `shape` has its slowest dimension first.
    ///
    /// # Errors
    /// If the type is quantized, or the name used already.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<(), SafetensorsWriteError> {
        if dtype.is_quantized() {
            return Err(SafetensorsWriteError::Type { tensor: name.into(), dtype });
        }
        if !self.names.insert(name.into()) {
            return Err(SafetensorsWriteError::Duplicate { tensor: name.into() });
        }
        let start = self.data_n_bytes;
        self.data_n_bytes += shape.iter().map(|&n| n as u64).product::<u64>() * dtype.block_n_bytes() as u64;
        let (name, end) = (serde_json::Value::from(name), self.data_n_bytes);
        self.entries.push(format!(r#"{name}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#));
        Ok(())
    }

    /// Bytes of the data of all tensors.
    pub fn data_n_bytes(&self) -> u64 {
        self.data_n_bytes
    }

    /// The bytes before the data: the length of the header, and the header, padded with spaces.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut header = format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, self.entries.join(","));
        let n_padding = header.len().next_multiple_of(ALIGNMENT) - header.len();
        header.extend(std::iter::repeat_n(' ', n_padding));
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_safetensors_cannot_hold_is_refused() {
        let mut header = SafetensorsHeader::new();
        header.tensor("a", DType::F16, &[2, 3]).unwrap();
        assert_eq!(header.data_n_bytes(), 12);
        let refused = header.tensor("b", DType::Q4_K, &[256]).unwrap_err();
        assert_eq!(refused, SafetensorsWriteError::Type { tensor: "b".into(), dtype: DType::Q4_K });
        let refused = header.tensor("a", DType::F32, &[1]).unwrap_err();
        assert_eq!(refused, SafetensorsWriteError::Duplicate { tensor: "a".into() });
        assert_eq!(header.to_bytes().len() % ALIGNMENT, 0);
    }
}
