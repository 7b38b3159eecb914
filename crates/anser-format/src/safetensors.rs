//! The safetensors reader: the header's JSON is parsed and bounded; types are those of the `safetensors` crate; shapes and offsets are
//! validated as it does, in 64 bits.
//!
//! ```text
//! n: u64   header: JSON of n bytes   data section
//! header = {"NAME": {"dtype": "F16", "shape": [4, 3], "data_offsets": [start, end]}, …, "__metadata__": {"KEY": "text", …}}
//! ```
//! Offsets are relative to the start of the data section; tensors follow one another without a gap. Values in
//! `__metadata__` are texts by the specification. Some programs write numbers or objects: they are read all the same, since
//! no weight depends on them.

use std::collections::HashSet;
use std::fmt;

use safetensors::SafeTensorError;
use safetensors::tensor::Dtype;
use serde::Deserialize;
use serde::de::value::{Error as TypeError, StrDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

use crate::bytes::Head;
use crate::error::{FormatError, TensorProblem};
use crate::file::{FileKind, MAX_ENTRIES, Parsed, TensorEntry};
use crate::metadata::MetaValue;
use crate::stored::StoredType;
use crate::tensor::DType;

/// Bytes of the length field in front of the header.
const LENGTH_N_BYTES: usize = 8;

/// The longest header that is parsed. The largest RWKV models have headers of about 0.3 MB; the parser may allocate
/// several times the header's length, so the limit keeps a hostile file from asking for gigabytes.
const MAX_HEADER_N_BYTES: u64 = 4 << 20;

/// The longest tensor name.
const MAX_NAME_N_BYTES: usize = 1024;

/// The longest name of a type.
const MAX_TYPE_N_BYTES: usize = 64;

/// The most dimensions of a tensor.
const MAX_N_DIMS: usize = 8;

/// The key of what is no tensor.
const METADATA_KEY: &str = "__metadata__";

/// Reads the header of a safetensors file.
pub(crate) fn read(file: &str, head: &Head) -> Result<Parsed, FormatError> {
    let header = header(file, head)?;
    let invalid = |source| FormatError::Safetensors { file: file.to_owned(), source };
    let tensor_error =
        |tensor: &str, problem| FormatError::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), problem };
    let text = std::str::from_utf8(header).map_err(|error| invalid(SafeTensorError::InvalidHeader(error)))?;
    let Header { entries } =
        serde_json::from_str(text).map_err(|error| invalid(SafeTensorError::InvalidHeaderDeserialization(error)))?;

    let mut tensors: Vec<(String, Entry)> = Vec::new();
    let mut metadata = Vec::new();
    let mut names = HashSet::new();
    for (name, json) in &entries {
        if name == METADATA_KEY {
            metadata.extend(read_metadata(file, json)?);
            continue;
        }
        if name.is_empty() || name.len() > MAX_NAME_N_BYTES {
            return Err(FormatError::Header {
                file: file.to_owned(),
                item: format!("tensor number {}", tensors.len()),
                problem: format!("its name has {} bytes, but 1 to {MAX_NAME_N_BYTES} are allowed", name.len()),
            });
        }
        if !names.insert(name.as_str()) {
            return Err(tensor_error(name, TensorProblem::Duplicate));
        }
        let entry = Entry::parse(json).map_err(|problem| tensor_error(name, problem))?;
        tensors.push((name.clone(), entry));
    }
    metadata.sort_unstable_by(|a: &(String, MetaValue), b| a.0.cmp(&b.0));
    tensors.sort_by_key(|(_, entry)| entry.offsets);
    // Not `SafeTensors::read_metadata`: it adds up lengths from the file without a check for overflow, refuses metadata that are no
    // texts, and has no offsets beyond 4 GiB where addresses have 32 bits. This is the same validation (shapes agree with
    // offsets, no gaps, no overlaps) but for the total length.
    if let Some((name, problem)) = fault(&tensors) {
        return Err(tensor_error(name, problem));
    }

    let data_start = (LENGTH_N_BYTES + header.len()) as u64;
    let section_n_bytes = head.n_bytes() - data_start;
    let place = |(name, entry): (String, Entry)| {
        let (start, end) = entry.offsets;
        let n_bytes = end.saturating_sub(start);
        if end > section_n_bytes {
            return Err(tensor_error(&name, TensorProblem::OutOfBounds { offset: start, n_bytes, section_n_bytes }));
        }
        let stored = entry.stored();
        let Ok(n_bytes) = usize::try_from(n_bytes) else {
            let shape = entry.shape.iter().map(|&n| n as u64).collect();
            return Err(tensor_error(&name, TensorProblem::TooLarge { shape, stored }));
        };
        let (shape, start, n_bytes) = (entry.shape.into(), data_start + start, Some(n_bytes));
        Ok(TensorEntry { name: name.into(), stored, shape, part: 0, start, n_bytes, strided: None, replaced: None })
    };
    let tensors = tensors.into_iter().map(place).collect::<Result<_, _>>()?;
    Ok(Parsed { kind: FileKind::Safetensors, tensors, metadata })
}

/// The JSON text of the header.
fn header<'a>(file: &str, head: &Head<'a>) -> Result<&'a [u8], FormatError> {
    let truncated = |at: usize, n_bytes| FormatError::Truncated {
        file: file.to_owned(),
        item: "the safetensors header".to_owned(),
        at: at as u64,
        n_bytes,
        n_left: head.n_bytes().saturating_sub(at as u64),
    };
    let length = head.get(0, LENGTH_N_BYTES as u64).and_then(<[u8]>::first_chunk);
    let n_bytes = u64::from_le_bytes(*length.ok_or_else(|| truncated(0, LENGTH_N_BYTES as u64))?);
    if n_bytes > head.n_bytes() - LENGTH_N_BYTES as u64 {
        return Err(truncated(LENGTH_N_BYTES, n_bytes));
    }
    if n_bytes > MAX_HEADER_N_BYTES {
        return Err(FormatError::Header {
            file: file.to_owned(),
            item: "the safetensors header".to_owned(),
            problem: format!("it has {n_bytes} bytes, but at most {MAX_HEADER_N_BYTES} are read"),
        });
    }
    head.get(LENGTH_N_BYTES, n_bytes).ok_or_else(|| truncated(LENGTH_N_BYTES, n_bytes))
}

/// The header's entries in the order of the file, as slices of its text.
pub(crate) struct Header<'a> {
    pub(crate) entries: Vec<(String, &'a RawValue)>,
}

impl<'de> Deserialize<'de> for Header<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {MAX_ENTRIES} entries")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if entries.len() == MAX_ENTRIES {
                        return Err(de::Error::invalid_length(MAX_ENTRIES + 1, &self));
                    }
                    entries.push(entry);
                }
                Ok(Header { entries })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// What the header says about a tensor.
struct Entry {
    /// `None` for a type that the `safetensors` crate does not know.
    dtype: Option<Dtype>,
    type_name: String,
    shape: Vec<usize>,
    /// Start and end, in bytes from the start of the data section.
    offsets: (u64, u64),
}

impl Entry {
    fn parse(json: &RawValue) -> Result<Entry, TensorProblem> {
        #[derive(Deserialize)]
        struct Json {
            dtype: String,
            shape: Vec<usize>,
            data_offsets: (u64, u64),
        }
        let unreadable = |message| TensorProblem::Entry { message };
        let Json { dtype: type_name, shape, data_offsets: offsets } =
            serde_json::from_str(json.get()).map_err(|error| unreadable(error.to_string()))?;
        if type_name.is_empty() || type_name.len() > MAX_TYPE_N_BYTES {
            let n_bytes = type_name.len();
            return Err(unreadable(format!("a dtype of {n_bytes} bytes, but 1 to {MAX_TYPE_N_BYTES} are allowed")));
        }
        if shape.len() > MAX_N_DIMS {
            return Err(TensorProblem::NDims { found: shape.len() as u64, limit: MAX_N_DIMS });
        }
        let name: StrDeserializer<'_, TypeError> = type_name.as_str().into_deserializer();
        Ok(Entry { dtype: Dtype::deserialize(name).ok(), type_name, shape, offsets })
    }

    fn stored(&self) -> StoredType {
        match self.dtype {
            Some(Dtype::F32) => DType::F32.into(),
            Some(Dtype::F16) => DType::F16.into(),
            Some(Dtype::BF16) => DType::BF16.into(),
            Some(_) | None => StoredType::Other(self.type_name.as_str().into()),
        }
    }
}

/// The first of `tensors`, which are in the order of their data, whose offsets leave a gap, overlap, or are not those of its type and
/// shape.
fn fault(tensors: &[(String, Entry)]) -> Option<(&str, TensorProblem)> {
    let mut expected = 0;
    for (name, entry) in tensors {
        let (start, end) = entry.offsets;
        if start != expected || end < start {
            return Some((name, TensorProblem::Gap { start, end, expected }));
        }
        expected = end;
        let Some(dtype) = entry.dtype else { continue };
        let (found, shape, stored) = (end - start, &entry.shape, entry.stored());
        let n_bits = shape.iter().try_fold(dtype.bitsize() as u64, |n_bits, &n| n_bits.checked_mul(n as u64));
        match n_bits {
            Some(n_bits) if n_bits % 8 == 0 && n_bits / 8 == found => {}
            Some(n_bits) => {
                let (expected, shape) = (n_bits.div_ceil(8), shape.clone());
                return Some((name, TensorProblem::Length { stored, shape, expected, found }));
            }
            None => {
                let shape = shape.iter().map(|&n| n as u64).collect();
                return Some((name, TensorProblem::TooLarge { shape, stored }));
            }
        }
    }
    None
}

/// The entries of `__metadata__`; where that is no object, one entry of this name with its JSON text.
fn read_metadata(file: &str, json: &RawValue) -> Result<Vec<(String, MetaValue)>, FormatError> {
    let text = json.get();
    if text == "null" {
        return Ok(vec![]);
    }
    if !text.starts_with('{') {
        return Ok(vec![(METADATA_KEY.to_owned(), metadata_value(json))]);
    }
    match serde_json::from_str(text) {
        Ok(Header { entries }) => Ok(entries.into_iter().map(|(key, value)| (key, metadata_value(value))).collect()),
        Err(error) => {
            let source = SafeTensorError::InvalidHeaderDeserialization(error);
            Err(FormatError::Safetensors { file: file.to_owned(), source })
        }
    }
}

/// A text, number or boolean as such, anything else as its JSON text.
pub(crate) fn metadata_value(json: &RawValue) -> MetaValue {
    let text = json.get();
    let number = || {
        let number = serde_json::from_str::<Number>(text).ok()?;
        let integer = number.as_i64().map(MetaValue::I64).or(number.as_u64().map(MetaValue::U64));
        integer.or(number.as_f64().map(MetaValue::F64))
    };
    let value = match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).ok().map(MetaValue::Str),
        Some(b't' | b'f') => serde_json::from_str(text).ok().map(MetaValue::Bool),
        Some(b'-' | b'0'..=b'9') => number(),
        _ => None,
    };
    value.unwrap_or_else(|| MetaValue::Str(text.to_owned()))
}
