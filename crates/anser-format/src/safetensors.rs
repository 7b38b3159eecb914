//! The safetensors reader: the `safetensors` crate parses and validates the header, we bound its input and its output.

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata};

use crate::error::{FormatError, TensorProblem};
use crate::file::{FileKind, Parsed, TensorEntry};
use crate::metadata::MetaValue;
use crate::tensor::DType;

/// Bytes of the length field in front of the header.
const LENGTH_N_BYTES: usize = 8;

/// The longest header that is parsed. The largest RWKV models have headers of about 0.3 MB; the parser may allocate
/// several times the header's length, so the limit keeps a hostile file from asking for gigabytes.
const MAX_HEADER_N_BYTES: u64 = 16 << 20;

/// The longest tensor name.
const MAX_NAME_N_BYTES: usize = 1024;

/// The most dimensions of a tensor.
const MAX_N_DIMS: usize = 8;

/// Reads the header of a safetensors file of length `bytes.len()`.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<Parsed, FormatError> {
    let header = header(file, bytes)?;
    let invalid = |source| FormatError::Safetensors { file: file.to_owned(), source };
    let text = std::str::from_utf8(header).map_err(|error| invalid(SafeTensorError::InvalidHeader(error)))?;
    // Not `SafeTensors::read_metadata`: it adds up lengths from the file without a check for overflow. Deserializing
    // applies the same validation (shapes agree with offsets, no gaps, no overlaps) but for the total length.
    let metadata: Metadata =
        serde_json::from_str(text).map_err(|error| invalid(SafeTensorError::InvalidHeaderDeserialization(error)))?;

    let data_start = LENGTH_N_BYTES + header.len();
    let section_n_bytes = bytes.len() - data_start;
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        if name.is_empty() || name.len() > MAX_NAME_N_BYTES {
            return Err(FormatError::Header {
                file: file.to_owned(),
                item: format!("tensor number {}", tensors.len()),
                problem: format!("its name has {} bytes, but 1 to {MAX_NAME_N_BYTES} are allowed", name.len()),
            });
        }
        let error = |problem| FormatError::Tensor { file: file.to_owned(), tensor: name.clone(), problem };
        let Some(info) = metadata.info(&name) else { continue };
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(error(TensorProblem::DType { found: other.to_string() })),
        };
        if info.shape.len() > MAX_N_DIMS {
            return Err(error(TensorProblem::NDims { found: info.shape.len() as u64, limit: MAX_N_DIMS }));
        }
        let (start, end) = info.data_offsets;
        if end > section_n_bytes {
            return Err(error(TensorProblem::OutOfBounds {
                offset: start as u64,
                n_bytes: end.saturating_sub(start),
                section_n_bytes,
            }));
        }
        let shape = info.shape.clone();
        tensors.push(TensorEntry { dtype, shape, range: data_start + start..data_start + end, name });
    }
    let mut entries: Vec<(String, MetaValue)> =
        metadata.metadata().iter().flatten().map(|(key, value)| (key.clone(), MetaValue::Str(value.clone()))).collect();
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(Parsed { kind: FileKind::Safetensors, tensors, metadata: entries })
}

/// The JSON text of the header.
fn header<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
    let truncated = |at, n_bytes| FormatError::Truncated {
        file: file.to_owned(),
        item: "the safetensors header".to_owned(),
        at,
        n_bytes,
        n_left: bytes.len() - at,
    };
    let (length, rest) = bytes.split_first_chunk().ok_or_else(|| truncated(0, LENGTH_N_BYTES as u64))?;
    let n_bytes = u64::from_le_bytes(*length);
    if n_bytes > rest.len() as u64 {
        return Err(truncated(LENGTH_N_BYTES, n_bytes));
    }
    if n_bytes > MAX_HEADER_N_BYTES {
        return Err(FormatError::Header {
            file: file.to_owned(),
            item: "the safetensors header".to_owned(),
            problem: format!("it has {n_bytes} bytes, but at most {MAX_HEADER_N_BYTES} are read"),
        });
    }
    // Not longer than `rest`, so it fits in a `usize`.
    Ok(&rest[..n_bytes as usize])
}
