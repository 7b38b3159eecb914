//! The GGUF writer: header first, then tensor data as a stream, so that files larger than memory can be written.

use std::collections::HashSet;
use std::io::{self, Write};

use super::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_KEY_N_BYTES, MAX_N_DIMS, MAX_NAME_N_BYTES, VERSION, meta_type,
};
use crate::metadata::{MetaArray, MetaValue};
use crate::tensor::DType;

/// Why a GGUF file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum GgufWriteError {
    /// The output refused the bytes.
    #[error("writing GGUF: {0}")]
    Io(#[from] io::Error),
    /// A metadata key that cannot be stored.
    #[error("metadata key {key:?}: {problem}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A tensor that cannot be declared.
    #[error("tensor {tensor:?}, {dtype} {shape:?}: {problem}")]
    Declaration {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        dtype: DType,
        /// Its shape, slowest dimension first.
        shape: Vec<usize>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Tensor data must be written in the order of declaration.
    #[error("data of tensor {found:?} is given where that of {expected:?} is next")]
    Order {
        /// Name of the next tensor; empty after the last.
        expected: String,
        /// Name that was given.
        found: String,
    },
    /// Type and shape of a tensor ask for another number of bytes.
    #[error("tensor {tensor:?} needs {expected} bytes of data, found {found}")]
    Length {
        /// Name of the tensor.
        tensor: String,
        /// Bytes as declared.
        expected: u64,
        /// Bytes that were given; where there are more than declared, those up to and with the chunk that is too long.
        found: u64,
    },
    /// Data of a declared tensor was never written.
    #[error("data of tensor {tensor:?} has not been written")]
    Unfinished {
        /// Name of the first such tensor.
        tensor: String,
    },
}

/// Collects the header of a GGUF file of version 3: metadata and tensor declarations.
///
/// Declare everything, call [`begin`](GgufWriter::begin), then write each tensor's data in the order of declaration:
///
/// ```
/// use anser_format::{DType, GgufWriter, MetaValue, ModelFile};
///
/// let mut writer = GgufWriter::new();
/// writer.metadata("general.architecture", MetaValue::Str("rwkv7".into()))?;
/// writer.tensor("output_norm.weight", DType::F32, &[2])?;
/// let mut data = writer.begin(Vec::new())?;
/// data.write_tensor("output_norm.weight", [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()])?;
/// let file = ModelFile::from_bytes("example", data.finish()?)?;
/// assert_eq!(file.tensor("output_norm.weight").unwrap().shape(), [2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct GgufWriter {
    metadata: Vec<(String, MetaValue)>,
    keys: HashSet<String>,
    tensors: Vec<Declared>,
    names: HashSet<String>,
    /// Bytes of the data section so far, padding included.
    data_n_bytes: u64,
}

struct Declared {
    name: String,
    dtype: DType,
    /// Slowest dimension first.
    shape: Vec<usize>,
    n_bytes: u64,
    /// Bytes from the start of the data section.
    offset: u64,
}

impl GgufWriter {
    /// A file without metadata and tensors.
    pub fn new() -> GgufWriter {
        GgufWriter::default()
    }

    /// Adds a metadata entry; entries are stored in the order of addition.
    ///
    /// # Errors
    /// If the key is empty, longer than 65,535 bytes, used already, or the alignment's, which the writer decides; if the
    /// value is an array of arrays.
    pub fn metadata(&mut self, key: &str, value: MetaValue) -> Result<(), GgufWriteError> {
        let problem = if key.is_empty() || key.len() as u64 > MAX_KEY_N_BYTES {
            "a key has 1 to 65535 bytes"
        } else if key == ALIGNMENT_KEY {
            "the alignment is always 32 and needs no entry"
        } else if matches!(value, MetaValue::Array(MetaArray::Arrays(_))) {
            "the elements of an array of arrays are not kept, so that it cannot be written"
        } else if !self.keys.insert(key.to_owned()) {
            "the key is used already"
        } else {
            self.metadata.push((key.to_owned(), value));
            return Ok(());
        };
        Err(GgufWriteError::Key { key: key.to_owned(), problem })
    }

    /// Declares a tensor; `shape` has its slowest dimension first. Data is stored in the order of declaration.
    ///
    /// # Errors
    /// If the name is empty, longer than 1024 bytes or used already; if there are not 1 to 4 dimensions; if rows are not
    /// whole blocks of `dtype`; if the size overflows.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<(), GgufWriteError> {
        let refuse = |problem| {
            Err(GgufWriteError::Declaration { tensor: name.to_owned(), dtype, shape: shape.to_vec(), problem })
        };
        if name.is_empty() || name.len() as u64 > MAX_NAME_N_BYTES {
            return refuse("a name has 1 to 1024 bytes");
        }
        let Some((&n_cols, outer)) = shape.split_last().filter(|_| shape.len() <= MAX_N_DIMS) else {
            return refuse("a tensor has 1 to 4 dimensions");
        };
        if !n_cols.is_multiple_of(dtype.block_len()) {
            return refuse("the last dimension is not a multiple of the type's block length");
        }
        let row_n_bytes = dtype.row_n_bytes(n_cols).map(|n| n as u64);
        let n_bytes =
            row_n_bytes.and_then(|row| outer.iter().try_fold(row, |n_bytes, &n| n_bytes.checked_mul(n as u64)));
        let end = n_bytes
            .and_then(|n_bytes| self.data_n_bytes.checked_add(n_bytes))
            .and_then(|end| end.checked_next_multiple_of(DEFAULT_ALIGNMENT as u64));
        let (Some(n_bytes), Some(end)) = (n_bytes, end) else {
            return refuse("the size overflows");
        };
        if !self.names.insert(name.to_owned()) {
            return refuse("the name is used already");
        }
        let offset = self.data_n_bytes;
        self.tensors.push(Declared { name: name.to_owned(), dtype, shape: shape.to_vec(), n_bytes, offset });
        self.data_n_bytes = end;
        Ok(())
    }

    /// Bytes of the data section, padding included; the file is longer by its header.
    pub fn data_n_bytes(&self) -> u64 {
        self.data_n_bytes
    }

    /// Writes the header and returns the writer of the data. `out` should be buffered or take large writes well.
    ///
    /// # Errors
    /// If `out` fails.
    pub fn begin<W: Write>(self, mut out: W) -> Result<GgufDataWriter<W>, GgufWriteError> {
        let mut header = Vec::new();
        header.extend_from_slice(MAGIC);
        put_u32(&mut header, VERSION);
        put_u64(&mut header, self.tensors.len() as u64);
        put_u64(&mut header, self.metadata.len() as u64);
        for (key, value) in &self.metadata {
            put_str(&mut header, key);
            put_value(&mut header, value);
        }
        for tensor in &self.tensors {
            put_str(&mut header, &tensor.name);
            put_u32(&mut header, tensor.shape.len() as u32);
            for &n in tensor.shape.iter().rev() {
                put_u64(&mut header, n as u64);
            }
            put_u32(&mut header, tensor.dtype.ggml_id());
            put_u64(&mut header, tensor.offset);
        }
        header.resize(header.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        out.write_all(&header)?;
        Ok(GgufDataWriter { out, tensors: self.tensors, next: 0 })
    }
}

/// Writes the data of declared tensors, one after the other.
pub struct GgufDataWriter<W: Write> {
    out: W,
    tensors: Vec<Declared>,
    /// Index of the tensor whose data comes next.
    next: usize,
}

impl<W: Write> GgufDataWriter<W> {
    /// Writes the data of the next tensor, given in chunks of any lengths.
    ///
    /// # Errors
    /// If `name` is not the next declared tensor, the chunks do not add up to its size, or the output fails. The output
    /// is not usable after an error.
    pub fn write_tensor(
        &mut self,
        name: &str,
        chunks: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<(), GgufWriteError> {
        let Some(tensor) = self.tensors.get(self.next).filter(|tensor| tensor.name == name) else {
            let expected = self.tensors.get(self.next).map_or(String::new(), |tensor| tensor.name.clone());
            return Err(GgufWriteError::Order { expected, found: name.to_owned() });
        };
        let length = |found| GgufWriteError::Length { tensor: name.to_owned(), expected: tensor.n_bytes, found };
        let mut n_written = 0;
        for chunk in chunks {
            let chunk = chunk.as_ref();
            let end = n_written + chunk.len() as u64;
            if end > tensor.n_bytes {
                return Err(length(end));
            }
            self.out.write_all(chunk)?;
            n_written = end;
        }
        if n_written < tensor.n_bytes {
            return Err(length(n_written));
        }
        let n_padding = n_written.next_multiple_of(DEFAULT_ALIGNMENT as u64) - n_written;
        self.out.write_all(&[0; DEFAULT_ALIGNMENT][..n_padding as usize])?;
        self.next += 1;
        Ok(())
    }

    /// Flushes and returns the output.
    ///
    /// # Errors
    /// If data is missing or the output fails.
    pub fn finish(mut self) -> Result<W, GgufWriteError> {
        if let Some(tensor) = self.tensors.get(self.next) {
            return Err(GgufWriteError::Unfinished { tensor: tensor.name.clone() });
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// A text: its length and its bytes.
fn put_bytes(out: &mut Vec<u8>, text: &[u8]) {
    put_u64(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// A value's type and bytes.
fn put_value(out: &mut Vec<u8>, value: &MetaValue) {
    fn scalar<const N: usize>(out: &mut Vec<u8>, type_id: u32, bytes: [u8; N]) {
        put_u32(out, type_id);
        out.extend_from_slice(&bytes);
    }
    match value {
        MetaValue::U8(v) => scalar(out, meta_type::U8, v.to_le_bytes()),
        MetaValue::I8(v) => scalar(out, meta_type::I8, v.to_le_bytes()),
        MetaValue::U16(v) => scalar(out, meta_type::U16, v.to_le_bytes()),
        MetaValue::I16(v) => scalar(out, meta_type::I16, v.to_le_bytes()),
        MetaValue::U32(v) => scalar(out, meta_type::U32, v.to_le_bytes()),
        MetaValue::I32(v) => scalar(out, meta_type::I32, v.to_le_bytes()),
        MetaValue::U64(v) => scalar(out, meta_type::U64, v.to_le_bytes()),
        MetaValue::I64(v) => scalar(out, meta_type::I64, v.to_le_bytes()),
        MetaValue::F32(v) => scalar(out, meta_type::F32, v.to_le_bytes()),
        MetaValue::F64(v) => scalar(out, meta_type::F64, v.to_le_bytes()),
        MetaValue::Bool(v) => scalar(out, meta_type::BOOL, [u8::from(*v)]),
        MetaValue::Str(v) => {
            put_u32(out, meta_type::STR);
            put_str(out, v);
        }
        MetaValue::Bytes(v) => {
            put_u32(out, meta_type::STR);
            put_bytes(out, v);
        }
        MetaValue::Array(v) => {
            put_u32(out, meta_type::ARRAY);
            put_array(out, v);
        }
    }
}

/// An array's element type, length and elements.
fn put_array(out: &mut Vec<u8>, array: &MetaArray) {
    fn numbers<T: Copy, const N: usize>(out: &mut Vec<u8>, type_id: u32, values: &[T], bytes: impl Fn(T) -> [u8; N]) {
        put_u32(out, type_id);
        put_u64(out, values.len() as u64);
        out.extend(values.iter().flat_map(|&value| bytes(value)));
    }
    match array {
        MetaArray::U8(v) => numbers(out, meta_type::U8, v, u8::to_le_bytes),
        MetaArray::I8(v) => numbers(out, meta_type::I8, v, i8::to_le_bytes),
        MetaArray::U16(v) => numbers(out, meta_type::U16, v, u16::to_le_bytes),
        MetaArray::I16(v) => numbers(out, meta_type::I16, v, i16::to_le_bytes),
        MetaArray::U32(v) => numbers(out, meta_type::U32, v, u32::to_le_bytes),
        MetaArray::I32(v) => numbers(out, meta_type::I32, v, i32::to_le_bytes),
        MetaArray::U64(v) => numbers(out, meta_type::U64, v, u64::to_le_bytes),
        MetaArray::I64(v) => numbers(out, meta_type::I64, v, i64::to_le_bytes),
        MetaArray::F32(v) => numbers(out, meta_type::F32, v, f32::to_le_bytes),
        MetaArray::F64(v) => numbers(out, meta_type::F64, v, f64::to_le_bytes),
        MetaArray::Bool(v) => numbers(out, meta_type::BOOL, v, |v| [u8::from(v)]),
        MetaArray::Str(v) => {
            put_u32(out, meta_type::STR);
            put_u64(out, v.len() as u64);
            for string in v.iter() {
                put_str(out, string);
            }
        }
        MetaArray::Bytes(v) => {
            put_u32(out, meta_type::STR);
            put_u64(out, v.len() as u64);
            for text in v.iter() {
                put_bytes(out, text);
            }
        }
        // `GgufWriter::metadata` lets no such array through.
        MetaArray::Arrays(_) => {
            put_u32(out, meta_type::U8);
            put_u64(out, 0);
        }
    }
}
