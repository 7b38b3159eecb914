//! Files that are read piece by piece hold what mapped ones do.

mod common;

use std::io;
use std::sync::Arc;

use anser_format::{
    DType, FormatError, GgufWriter, MetaArray, MetaValue, ModelFile, ReadAt, SafetensorsHeader, TensorProblem,
};
use common::{fixture, walk};

/// The longest tensor that is kept in memory.
const KEPT_N_BYTES: usize = 128 << 10;

/// A file in memory that pretends not to be.
struct Pretending(Vec<u8>);

impl ReadAt for Pretending {
    fn n_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.get(offset as usize..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn read(bytes: Vec<u8>) -> Result<Arc<ModelFile>, FormatError> {
    ModelFile::from_reader("file", Box::new(Pretending(bytes)))
}

/// A GGUF file with a vector, a matrix in F16 and one in Q8_0, and `n_strings` strings; a safetensors file with a vector and a matrix.
fn files(n_strings: usize) -> [Vec<u8>; 2] {
    let numbers = |n: usize| (0..n).map(|i| (i * 7919 % 251) as u8).collect::<Vec<u8>>();
    let mut writer = GgufWriter::new();
    let strings = (0..n_strings).map(|i| format!("string {i}")).collect::<Vec<_>>();
    writer.metadata("strings", MetaValue::Array(MetaArray::Str(strings.iter().collect()))).unwrap();
    let tensors =
        [("vector", DType::F32, vec![300]), ("half", DType::F16, vec![300, 500]), ("q", DType::Q8_0, vec![700, 256])];
    for (name, dtype, shape) in &tensors {
        writer.tensor(name, *dtype, shape).unwrap();
    }
    let mut data = writer.begin(vec![]).unwrap();
    for (name, dtype, shape) in &tensors {
        let n_rows: usize = shape[..shape.len() - 1].iter().product();
        let n_bytes = n_rows * dtype.row_n_bytes(shape[shape.len() - 1]).unwrap();
        data.write_tensor(name, [&numbers(n_bytes)[..]]).unwrap();
    }
    let gguf = data.finish().unwrap();

    let mut header = SafetensorsHeader::new();
    header.tensor("vector", DType::BF16, &[300]).unwrap();
    header.tensor("half", DType::F16, &[300, 500]).unwrap();
    let mut st = header.to_bytes();
    st.extend(numbers(2 * (300 + 300 * 500)));
    [gguf, st]
}

#[test]
fn every_element_is_that_of_a_file_in_memory() {
    for bytes in files(10) {
        let (expected, file) = (ModelFile::from_bytes("file", bytes.clone()).unwrap(), read(bytes).unwrap());
        assert!(expected.is_in_memory() && !file.is_in_memory());
        assert_eq!((file.n_bytes(), file.kind()), (expected.n_bytes(), expected.kind()));
        assert!(file.metadata_entries().map(|(key, _)| key).eq(expected.metadata_entries().map(|(key, _)| key)));
        for info in expected.tensors() {
            let (ours, theirs) = (file.tensor(info.name).unwrap(), expected.tensor(info.name).unwrap());
            assert_eq!(
                (ours.dtype(), ours.shape(), ours.n_bytes()),
                (theirs.dtype(), theirs.shape(), theirs.n_bytes())
            );
            assert_eq!(ours.is_in_memory(), theirs.n_bytes() <= KEPT_N_BYTES, "{}", info.name);
            assert_eq!(file.info(info.name).unwrap().view().is_some(), ours.is_in_memory());
            assert_eq!(*ours.read().unwrap(), *theirs.bytes());
            assert_eq!(*file.info(info.name).unwrap().read().unwrap(), *theirs.bytes());
            let n = theirs.n_bytes();
            for range in [0..n, 0..0, 1..n, n / 3..n / 2, n - 1..n] {
                assert_eq!(ours.fetch(range.clone(), &mut vec![]).unwrap(), &theirs.bytes()[range]);
            }
            if let (Some(ours), Some(theirs)) = (ours.transposed(), theirs.transposed()) {
                assert_eq!(*ours.read().unwrap(), *theirs.bytes());
                assert_eq!(ours.fetch(n / 4..n / 2, &mut vec![]).unwrap(), &theirs.bytes()[n / 4..n / 2]);
            }
        }
    }
    for name in ["tiny-v7mini-f16.gguf", "tiny-v7mini.st"] {
        let bytes = std::fs::read(fixture("tiny").join(name)).unwrap();
        assert_eq!(walk(&read(bytes.clone()).unwrap()), walk(&ModelFile::from_bytes("file", bytes).unwrap()), "{name}");
    }
}

#[test]
fn a_header_is_read_as_far_as_it_goes() {
    // Some 6 MB of strings stand before the tensors' entries.
    let [bytes, _] = files(300_000);
    let (expected, file) = (ModelFile::from_bytes("file", bytes.clone()).unwrap(), read(bytes).unwrap());
    let strings = |file: &ModelFile| {
        file.metadata("strings").unwrap().as_str_array().unwrap().iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(strings(&file).len(), 300_000);
    assert_eq!(strings(&file), strings(&expected));
    assert_eq!(*file.tensor("q").unwrap().read().unwrap(), *expected.tensor("q").unwrap().bytes());
}

/// A file of which only the header and the last bytes are not zero.
struct Hole {
    header: Vec<u8>,
    n_bytes: u64,
    last: Vec<u8>,
}

impl ReadAt for Hole {
    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let last_start = self.n_bytes - self.last.len() as u64;
        for (at, byte) in (offset..).zip(into) {
            *byte = match at.checked_sub(last_start) {
                Some(of_last) => *self.last.get(of_last as usize).ok_or(io::ErrorKind::UnexpectedEof)?,
                None => self.header.get(at as usize).copied().unwrap_or(0),
            };
        }
        Ok(())
    }
}

#[test]
fn offsets_have_64_bits() {
    // Each matrix has less than 4 GiB, both together have more.
    let shape = [1 << 15, 3 << 15];
    let mut writer = GgufWriter::new();
    let mut st = SafetensorsHeader::new();
    for name in ["a", "b"] {
        writer.tensor(name, DType::Q8_0, &shape).unwrap();
        st.tensor(name, DType::BF16, &[1 << 15, 1 << 15]).unwrap();
    }
    st.tensor("c", DType::F16, &[1 << 15, 1 << 15]).unwrap();
    writer.tensor("last", DType::F32, &[8]).unwrap();
    st.tensor("last", DType::F32, &[8]).unwrap();
    let last: Vec<u8> = (0..32).collect();
    let gguf_n_bytes = writer.data_n_bytes();
    let mut gguf = vec![];
    drop(writer.begin(&mut gguf).unwrap());
    for (header, data_n_bytes) in [(gguf, gguf_n_bytes), (st.to_bytes(), 3 * (2 << 30) + 32)] {
        let n_bytes = header.len() as u64 + data_n_bytes;
        assert!(n_bytes > 5 << 30);
        let file = ModelFile::from_reader("file", Box::new(Hole { header, n_bytes, last: last.clone() })).unwrap();
        assert_eq!(file.n_bytes(), n_bytes);
        assert_eq!(*file.tensor("last").unwrap().read().unwrap(), *last);
        let b = file.tensor("b").unwrap();
        assert_eq!(b.fetch(b.n_bytes() - 3..b.n_bytes(), &mut vec![]).unwrap(), [0; 3]);
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    struct Failing(Vec<u8>, io::ErrorKind);
    impl ReadAt for Failing {
        fn n_bytes(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
            // Only the header and the vector can be read.
            if into.len() > KEPT_N_BYTES && offset > 0 {
                return Err(self.1.into());
            }
            Pretending(self.0.clone()).read_at(offset, into)
        }
    }
    let [gguf, st] = files(10);
    for (bytes, kind) in [(gguf.clone(), io::ErrorKind::UnexpectedEof), (st, io::ErrorKind::PermissionDenied)] {
        let file = ModelFile::from_reader("the file", Box::new(Failing(bytes, kind))).unwrap();
        let error = file.tensor("half").unwrap().read().unwrap_err();
        assert!(error.to_string().contains("the file"), "{error}");
        assert_eq!(matches!(error, FormatError::Changed { .. }), kind == io::ErrorKind::UnexpectedEof, "{error}");
    }

    let cut = read(gguf[..gguf.len() - 1000].to_vec()).unwrap_err();
    assert!(matches!(cut, FormatError::Tensor { problem: TensorProblem::OutOfBounds { .. }, .. }), "{cut}");
    let torch = std::fs::read(fixture("tiny/tiny-v7mini.pth")).unwrap();
    // One that is longer than what is read at first.
    let torch = read([torch, vec![0; 2 << 20]].concat()).unwrap_err();
    assert!(torch.to_string().contains("convert it to GGUF or safetensors"), "{torch}");
    assert!(read(vec![]).unwrap_err().to_string().contains("an empty file"));
}

#[test]
fn parts_are_one_model() {
    let part = |number: u16, tensor: &str| {
        let mut writer = GgufWriter::new();
        writer.metadata("split.no", MetaValue::U16(number)).unwrap();
        writer.metadata("split.count", MetaValue::U16(2)).unwrap();
        writer.tensor(tensor, DType::F16, &[300, 500]).unwrap();
        let mut data = writer.begin(vec![]).unwrap();
        data.write_tensor(tensor, [&vec![number as u8 + 1; 300_000][..]]).unwrap();
        (format!("part {number}"), data.finish().unwrap())
    };
    let parts = [part(0, "a"), part(1, "b")];
    let readers = |parts: &[(String, Vec<u8>)]| {
        let reader =
            |(name, bytes): &(String, Vec<u8>)| (name.clone(), Box::new(Pretending(bytes.clone())) as Box<dyn ReadAt>);
        ModelFile::from_readers("both", parts.iter().map(reader).collect())
    };
    let file = readers(&parts).unwrap();
    for (name, byte) in [("a", 1), ("b", 2)] {
        assert_eq!(*file.tensor(name).unwrap().read().unwrap(), [byte; 300_000]);
    }
    assert!(matches!(readers(&parts[..1]), Err(FormatError::MissingPart { .. })));
}
