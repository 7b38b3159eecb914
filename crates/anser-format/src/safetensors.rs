//! The safetensors reader: the `safetensors` crate parses and validates the header, we bound its input and its output.

use std::collections::BTreeMap;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::Value;

use crate::error::{FormatError, TensorProblem};
use crate::file::{FileKind, Parsed, TensorEntry};
use crate::metadata::MetaValue;
use crate::tensor::DType;

/// Bytes of the length field in front of the header.
const LENGTH_N_BYTES: usize = 8;

/// The longest header that is parsed. The largest RWKV models have headers of about 0.3 MB; the parser may allocate
/// tens of times the header's length, so the limit keeps a hostile file from asking for gigabytes.
const MAX_HEADER_N_BYTES: u64 = 4 << 20;

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
    let metadata: Metadata = serde_json::from_str(text).map_err(|error| match faulty_tensor(text) {
        Some((tensor, problem)) => FormatError::Tensor { file: file.to_owned(), tensor, problem },
        None => invalid(SafeTensorError::InvalidHeaderDeserialization(error)),
    })?;

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
        let dtype = supported(info.dtype).map_err(error)?;
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

fn supported(dtype: Dtype) -> Result<DType, TensorProblem> {
    match dtype {
        Dtype::F32 => Ok(DType::F32),
        Dtype::F16 => Ok(DType::F16),
        Dtype::BF16 => Ok(DType::BF16),
        other => Err(TensorProblem::DType { found: other.to_string() }),
    }
}

/// Looks for the tensor that made the parser refuse a header; the parser itself names it for some faults only.
fn faulty_tensor(text: &str) -> Option<(String, TensorProblem)> {
    let entries: BTreeMap<String, Value> = serde_json::from_str(text).ok()?;
    let mut tensors: Vec<(String, TensorInfo)> = Vec::new();
    for (name, entry) in entries {
        if name == "__metadata__" {
            continue;
        }
        match serde_json::from_value(entry) {
            Ok(info) => tensors.push((name, info)),
            Err(error) => return Some((name, TensorProblem::Entry { message: error.to_string() })),
        }
    }
    tensors.sort_unstable_by_key(|(_, info)| info.data_offsets);
    let mut expected = 0;
    for (name, info) in tensors {
        let dtype = match supported(info.dtype) {
            Ok(dtype) => dtype,
            Err(problem) => return Some((name, problem)),
        };
        let (start, end) = info.data_offsets;
        if start != expected || end < start {
            return Some((name, TensorProblem::Gap { start, end, expected }));
        }
        let shape = info.shape;
        let n_bytes = shape.iter().try_fold(dtype.block_n_bytes(), |n_bytes, &n| n_bytes.checked_mul(n));
        let found = end - start;
        match n_bytes {
            Some(n_bytes) if n_bytes == found => {}
            Some(expected) => return Some((name, TensorProblem::Length { dtype, shape, expected, found })),
            None => {
                let shape = shape.into_iter().map(|n| n as u64).collect();
                return Some((name, TensorProblem::TooLarge { shape, dtype }));
            }
        }
        expected = end;
    }
    None
}
