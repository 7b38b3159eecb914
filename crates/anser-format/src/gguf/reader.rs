//! The GGUF reader: one pass over the header, nothing of the data.

use std::collections::HashSet;
use std::fmt::Display;

use super::cursor::Cursor;
use super::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_ARRAY_DEPTH, MAX_KEY_N_BYTES, MAX_N_DIMS, MAX_NAME_N_BYTES, meta_type,
};
use crate::bytes::Head;
use crate::error::{FormatError, TensorProblem};
use crate::file::{FileKind, Parsed, TensorEntry};
use crate::metadata::{BytesArray, MetaArray, MetaValue, StrArray};
use crate::stored::ggml_type;

/// The least bytes of a metadata entry: length of the key, a key of one byte, type, a one-byte value.
const MIN_ENTRY_N_BYTES: usize = 8 + 1 + 4 + 1;

/// The least bytes of a tensor's entry: length of the name, a name of one byte, number of dimensions, one dimension,
/// type, offset.
const MIN_TENSOR_N_BYTES: usize = 8 + 1 + 4 + 8 + 4 + 8;

/// The least bytes of an array in an array: element type and length.
const MIN_ARRAY_N_BYTES: usize = 4 + 8;

/// A tensor's entry as it stands in the file.
struct RawTensor<'a> {
    name: &'a str,
    /// Slowest dimension first.
    shape: Vec<u64>,
    type_id: u32,
    /// Bytes from the start of the data section.
    offset: u64,
}

/// Reads the header of a GGUF file.
pub(crate) fn read(file: &str, head: &Head) -> Result<Parsed, FormatError> {
    let mut cursor = Cursor::new(file, head);
    cursor.take(MAGIC.len() as u64, "the magic")?;
    let version = cursor.u32("the version")?;
    check_version(file, version)?;
    let n_tensors = cursor.u64("the number of tensors")?;
    let n_entries = cursor.u64("the number of metadata entries")?;

    let n_entries = cursor.table_len(n_entries, MIN_ENTRY_N_BYTES, "the metadata")?;
    let mut metadata = Vec::new();
    let mut keys = HashSet::new();
    for number in 0..n_entries {
        let key = read_key(&mut cursor, number)?;
        if !keys.insert(key) {
            let problem = "it occurs twice; the file is damaged or was written by a faulty program";
            return Err(cursor.invalid(format_args!("metadata key {key}"), problem));
        }
        let value = read_value(&mut cursor, format_args!("metadata {key}"))?;
        metadata.push((key.to_owned(), value));
    }
    let alignment = alignment(&cursor, &metadata)?;

    let n_tensors = cursor.table_len(n_tensors, MIN_TENSOR_N_BYTES, "the tensor table")?;
    let mut raw_tensors = Vec::new();
    let mut names = HashSet::new();
    for number in 0..n_tensors {
        let raw = read_tensor(file, &mut cursor, number)?;
        if !names.insert(raw.name) {
            let tensor = raw.name.to_owned();
            return Err(FormatError::Tensor { file: file.to_owned(), tensor, problem: TensorProblem::Duplicate });
        }
        raw_tensors.push(raw);
    }

    // A table that ends less than an alignment before the end of the file leaves an empty data section.
    let n_bytes = head.n_bytes();
    let data_start =
        (cursor.position() as u64).checked_next_multiple_of(alignment as u64).unwrap_or(n_bytes).min(n_bytes);
    let section = Section { start: data_start, n_bytes: n_bytes - data_start, alignment };
    let tensors = raw_tensors
        .into_iter()
        .map(|raw| {
            let name = raw.name.to_owned();
            section.place(raw).map_err(|problem| FormatError::Tensor { file: file.to_owned(), tensor: name, problem })
        })
        .collect::<Result<_, _>>()?;
    Ok(Parsed { kind: FileKind::Gguf { version }, tensors, metadata })
}

fn check_version(file: &str, version: u32) -> Result<(), FormatError> {
    let (found, advice) = match version {
        2 | 3 => return Ok(()),
        1 => ("version 1".to_owned(), "convert the original model again with a current converter"),
        _ if matches!(version.swap_bytes(), 1..=0xffff) => (
            format!("version {} in big-endian byte order", version.swap_bytes()),
            "convert the file or the original model to little-endian",
        ),
        0 => ("version 0".to_owned(), "the file is damaged, get it again"),
        _ => (format!("version {version}"), "the file is damaged or newer than this program"),
    };
    Err(FormatError::GgufVersion { file: file.to_owned(), found, advice })
}

fn read_key<'a>(cursor: &mut Cursor<'a>, number: usize) -> Result<&'a str, FormatError> {
    let item = format_args!("the key of metadata entry number {number}");
    let key = cursor.string(MAX_KEY_N_BYTES, item)?;
    if key.is_empty() {
        return Err(cursor.invalid(item, "it is empty; the file is damaged, get it again"));
    }
    Ok(key)
}

fn read_value(cursor: &mut Cursor<'_>, item: impl Display + Copy) -> Result<MetaValue, FormatError> {
    let type_id = cursor.u32(item)?;
    Ok(match type_id {
        meta_type::U8 => MetaValue::U8(u8::from_le_bytes(cursor.array(item)?)),
        meta_type::I8 => MetaValue::I8(i8::from_le_bytes(cursor.array(item)?)),
        meta_type::U16 => MetaValue::U16(u16::from_le_bytes(cursor.array(item)?)),
        meta_type::I16 => MetaValue::I16(i16::from_le_bytes(cursor.array(item)?)),
        meta_type::U32 => MetaValue::U32(u32::from_le_bytes(cursor.array(item)?)),
        meta_type::I32 => MetaValue::I32(i32::from_le_bytes(cursor.array(item)?)),
        meta_type::U64 => MetaValue::U64(u64::from_le_bytes(cursor.array(item)?)),
        meta_type::I64 => MetaValue::I64(i64::from_le_bytes(cursor.array(item)?)),
        meta_type::F32 => MetaValue::F32(f32::from_le_bytes(cursor.array(item)?)),
        meta_type::F64 => MetaValue::F64(f64::from_le_bytes(cursor.array(item)?)),
        meta_type::BOOL => {
            let [byte] = cursor.array(item)?;
            MetaValue::Bool(boolean(byte).ok_or_else(|| cursor.invalid(item, not_a_boolean(byte)))?)
        }
        meta_type::STR => {
            let text = cursor.text(u64::MAX, item)?;
            match std::str::from_utf8(text) {
                Ok(text) => MetaValue::Str(text.to_owned()),
                Err(_) => MetaValue::Bytes(text.to_owned()),
            }
        }
        meta_type::ARRAY => MetaValue::Array(read_array(cursor, item)?),
        _ => return Err(cursor.invalid(item, format_args!("unknown type {type_id} of a value, 0 to 12 are known"))),
    })
}

fn read_array(cursor: &mut Cursor<'_>, item: impl Display + Copy) -> Result<MetaArray, FormatError> {
    let type_id = cursor.u32(item)?;
    let n = cursor.u64(item)?;
    Ok(match type_id {
        meta_type::U8 => MetaArray::U8(numbers(cursor, n, u8::from_le_bytes, item)?),
        meta_type::I8 => MetaArray::I8(numbers(cursor, n, i8::from_le_bytes, item)?),
        meta_type::U16 => MetaArray::U16(numbers(cursor, n, u16::from_le_bytes, item)?),
        meta_type::I16 => MetaArray::I16(numbers(cursor, n, i16::from_le_bytes, item)?),
        meta_type::U32 => MetaArray::U32(numbers(cursor, n, u32::from_le_bytes, item)?),
        meta_type::I32 => MetaArray::I32(numbers(cursor, n, i32::from_le_bytes, item)?),
        meta_type::U64 => MetaArray::U64(numbers(cursor, n, u64::from_le_bytes, item)?),
        meta_type::I64 => MetaArray::I64(numbers(cursor, n, i64::from_le_bytes, item)?),
        meta_type::F32 => MetaArray::F32(numbers(cursor, n, f32::from_le_bytes, item)?),
        meta_type::F64 => MetaArray::F64(numbers(cursor, n, f64::from_le_bytes, item)?),
        meta_type::BOOL => {
            let bytes = cursor.take(n, item)?;
            match bytes.iter().find(|&&byte| boolean(byte).is_none()) {
                Some(&byte) => return Err(cursor.invalid(item, not_a_boolean(byte))),
                None => MetaArray::Bool(bytes.iter().map(|&byte| byte == 1).collect()),
            }
        }
        meta_type::STR => read_texts(cursor, n, item)?,
        meta_type::ARRAY => {
            let n = cursor.count(n, MIN_ARRAY_N_BYTES, item)?;
            for _ in 0..n {
                skip_array(cursor, 1, item)?;
            }
            MetaArray::Arrays(n)
        }
        _ => return Err(cursor.invalid(item, unknown_elements(type_id))),
    })
}

/// An array of texts: as strings if all of them are UTF-8, else as bytes.
fn read_texts(cursor: &mut Cursor<'_>, n: u64, item: impl Display + Copy) -> Result<MetaArray, FormatError> {
    let n = cursor.count(n, size_of::<u64>(), item)?;
    // The lengths first, so that exactly the memory is allocated that the texts need.
    let mut ahead = cursor.clone();
    let mut n_bytes = 0;
    for number in 0..n {
        n_bytes += ahead.text(u64::MAX, format_args!("{item}, string {number}"))?.len();
    }
    let mut texts = BytesArray::with_capacity(n, n_bytes);
    for _ in 0..n {
        texts.push(cursor.text(u64::MAX, item)?);
    }
    Ok(match StrArray::from_bytes(texts) {
        Ok(strings) => MetaArray::Str(strings),
        Err(texts) => MetaArray::Bytes(texts),
    })
}

/// Passes over an array that lies in `depth` others.
fn skip_array(cursor: &mut Cursor<'_>, depth: usize, item: impl Display + Copy) -> Result<(), FormatError> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(cursor.invalid(item, format_args!("more than {MAX_ARRAY_DEPTH} arrays lie in one another")));
    }
    let type_id = cursor.u32(item)?;
    let n = cursor.u64(item)?;
    let element_n_bytes = match type_id {
        meta_type::U8 | meta_type::I8 | meta_type::BOOL => 1,
        meta_type::U16 | meta_type::I16 => 2,
        meta_type::U32 | meta_type::I32 | meta_type::F32 => 4,
        meta_type::U64 | meta_type::I64 | meta_type::F64 => 8,
        meta_type::STR => {
            for _ in 0..cursor.count(n, size_of::<u64>(), item)? {
                cursor.text(u64::MAX, item)?;
            }
            return Ok(());
        }
        meta_type::ARRAY => {
            for _ in 0..cursor.count(n, MIN_ARRAY_N_BYTES, item)? {
                skip_array(cursor, depth + 1, item)?;
            }
            return Ok(());
        }
        _ => return Err(cursor.invalid(item, unknown_elements(type_id))),
    };
    cursor.take(n.saturating_mul(element_n_bytes), item).map(drop)
}

fn unknown_elements(type_id: u32) -> String {
    format!("unknown type {type_id} of array elements, 0 to 12 are known")
}

fn numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    n: u64,
    from_le_bytes: impl Fn([u8; N]) -> T,
    item: impl Display,
) -> Result<Box<[T]>, FormatError> {
    let bytes = cursor.take(n.saturating_mul(N as u64), item)?;
    let (numbers, _) = bytes.as_chunks();
    Ok(numbers.iter().map(|&number| from_le_bytes(number)).collect())
}

fn boolean(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn not_a_boolean(byte: u8) -> String {
    format!("the byte {byte} where 0 or 1 is expected")
}

fn alignment(cursor: &Cursor<'_>, metadata: &[(String, MetaValue)]) -> Result<usize, FormatError> {
    let Some((_, value)) = metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value.as_u64().map(usize::try_from) {
        Some(Ok(alignment)) if alignment.is_power_of_two() => Ok(alignment),
        _ => Err(cursor
            .invalid(format_args!("metadata {ALIGNMENT_KEY}"), format_args!("{value}, but a power of two is needed"))),
    }
}

fn read_tensor<'a>(file: &str, cursor: &mut Cursor<'a>, number: usize) -> Result<RawTensor<'a>, FormatError> {
    let name = cursor.string(MAX_NAME_N_BYTES, format_args!("the name of tensor number {number}"))?;
    if name.is_empty() {
        return Err(cursor.invalid(format_args!("tensor number {number}"), "its name is empty"));
    }
    let item = format_args!("the entry of tensor {name}");
    let n_dims = cursor.u32(item)? as usize;
    if n_dims == 0 || n_dims > MAX_N_DIMS {
        return Err(FormatError::Tensor {
            file: file.to_owned(),
            tensor: name.to_owned(),
            problem: TensorProblem::NDims { found: n_dims as u64, limit: MAX_N_DIMS },
        });
    }
    let mut shape = vec![0; n_dims];
    for n in shape.iter_mut().rev() {
        *n = cursor.u64(item)?;
    }
    Ok(RawTensor { name, shape, type_id: cursor.u32(item)?, offset: cursor.u64(item)? })
}

/// The part of the file that holds tensor data.
struct Section {
    /// Bytes from the start of the file.
    start: u64,
    n_bytes: u64,
    alignment: usize,
}

impl Section {
    /// Checks a tensor's entry against the section.
    fn place(&self, raw: RawTensor<'_>) -> Result<TensorEntry, TensorProblem> {
        let (stored, block) = ggml_type(raw.type_id);
        let too_large = || TensorProblem::TooLarge { shape: raw.shape.clone(), stored: stored.clone() };
        let to_usize = |&n: &u64| usize::try_from(n).map_err(|_| too_large());
        let shape = raw.shape.iter().map(to_usize).collect::<Result<Vec<usize>, _>>()?;
        // `read_tensor` lets no shape without dimensions through.
        let (&n_cols, outer) = shape.split_last().ok_or(TensorProblem::NDims { found: 0, limit: MAX_N_DIMS })?;
        let n_bytes = match block {
            Some(block) if !n_cols.is_multiple_of(block.len) => {
                let block_len = block.len;
                return Err(TensorProblem::RowLength { n_cols, stored, block_len });
            }
            Some(block) => {
                let row_n_bytes = (n_cols / block.len).checked_mul(block.n_bytes);
                let n_bytes = outer.iter().try_fold(row_n_bytes, |n, &len| Some(n?.checked_mul(len)));
                Some(n_bytes.flatten().ok_or_else(too_large)?)
            }
            None => None,
        };

        if !raw.offset.is_multiple_of(self.alignment as u64) {
            return Err(TensorProblem::Misaligned { offset: raw.offset, alignment: self.alignment });
        }
        // Of elements of unknown size, the start can be checked.
        let least_n_bytes = n_bytes.unwrap_or(0) as u64;
        match raw.offset.checked_add(least_n_bytes).filter(|&end| end <= self.n_bytes) {
            Some(_) => {
                let (name, shape) = (raw.name.into(), shape.into());
                Ok(TensorEntry {
                    name,
                    stored,
                    shape,
                    part: 0,
                    start: self.start + raw.offset,
                    n_bytes,
                    strided: None,
                    replaced: None,
                })
            }
            None => Err(TensorProblem::OutOfBounds {
                offset: raw.offset,
                n_bytes: least_n_bytes,
                section_n_bytes: self.n_bytes,
            }),
        }
    }
}
