//! The GGUF writer against the reader, and against a file that llama.cpp's tools wrote.

mod common;

use anser_format::{DType, GgufWriteError, GgufWriter, MetaArray, MetaValue, ModelFile};
use common::{fixture, walk};

#[test]
fn copying_a_file_of_another_writer_gives_the_same_bytes() {
    for name in ["tiny-v7mini-f16.gguf", "tiny-v7c256-q4_0.gguf"] {
        let path = fixture("tiny").join(name);
        let file = ModelFile::open(&path).unwrap();
        let mut writer = GgufWriter::new();
        for (key, value) in file.metadata_entries() {
            writer.metadata(key, value.clone()).unwrap();
        }
        for view in file.tensors().map(|tensor| tensor.view().unwrap()) {
            writer.tensor(view.name, view.dtype, view.shape).unwrap();
        }
        let mut data = writer.begin(Vec::new()).unwrap();
        for view in file.tensors().map(|tensor| tensor.view().unwrap()) {
            data.write_tensor(view.name, view.bytes.chunks(1000)).unwrap();
        }
        let copy = data.finish().unwrap();
        assert!(copy == std::fs::read(&path).unwrap(), "{name}: the copy differs");
    }
}

#[test]
fn every_metadata_type_and_tensor_type_survives() {
    let entries = [
        ("u8", MetaValue::U8(200)),
        ("i8", MetaValue::I8(-100)),
        ("u16", MetaValue::U16(60_000)),
        ("i16", MetaValue::I16(-30_000)),
        ("u32", MetaValue::U32(4_000_000_000)),
        ("i32", MetaValue::I32(-2_000_000_000)),
        ("u64", MetaValue::U64(u64::MAX)),
        ("i64", MetaValue::I64(i64::MIN)),
        ("f32", MetaValue::F32(1.5)),
        ("f64", MetaValue::F64(-1e300)),
        ("bool", MetaValue::Bool(true)),
        ("str", MetaValue::Str("né\0\n".to_owned())),
        ("empty", MetaValue::Str(String::new())),
        ("array.u8", MetaValue::Array(MetaArray::U8([1, 255].into()))),
        ("array.i8", MetaValue::Array(MetaArray::I8([-1, 127].into()))),
        ("array.u16", MetaValue::Array(MetaArray::U16([1, 65_535].into()))),
        ("array.i16", MetaValue::Array(MetaArray::I16([-1, 300].into()))),
        ("array.u32", MetaValue::Array(MetaArray::U32([1, u32::MAX].into()))),
        ("array.i32", MetaValue::Array(MetaArray::I32([-1, 70_000].into()))),
        ("array.u64", MetaValue::Array(MetaArray::U64([1, u64::MAX].into()))),
        ("array.i64", MetaValue::Array(MetaArray::I64([-1, 1 << 40].into()))),
        ("array.f32", MetaValue::Array(MetaArray::F32([0.25, -3.0].into()))),
        ("array.f64", MetaValue::Array(MetaArray::F64([0.1].into()))),
        ("array.bool", MetaValue::Array(MetaArray::Bool([true, false, true].into()))),
        ("array.str", MetaValue::Array(MetaArray::Str(["a", "", "né"].into_iter().collect()))),
        ("array.none", MetaValue::Array(MetaArray::U32([].into()))),
    ];
    let mut writer = GgufWriter::new();
    for (key, value) in &entries {
        writer.metadata(key, value.clone()).unwrap();
    }
    let shape = [2, 1, 3, 512];
    for dtype in DType::ALL {
        writer.tensor(dtype.name(), dtype, &shape).unwrap();
    }
    writer.tensor("none", DType::F32, &[0]).unwrap();
    let data_of = |dtype: DType| -> Vec<u8> {
        let n_bytes = 6 * dtype.row_n_bytes(512).unwrap();
        (0..n_bytes).map(|i| (i * 7 + dtype.ggml_id() as usize) as u8).collect()
    };
    let mut data = writer.begin(Vec::new()).unwrap();
    for dtype in DType::ALL {
        data.write_tensor(dtype.name(), [data_of(dtype)]).unwrap();
    }
    data.write_tensor("none", [[]; 0]).unwrap();

    let file = ModelFile::from_bytes("written", data.finish().unwrap()).unwrap();
    walk(&file);
    let read: Vec<_> = file.metadata_entries().map(|(key, value)| (key, value.clone())).collect();
    assert_eq!(read, entries);
    assert_eq!(file.tensors().len(), DType::ALL.len() + 1);
    for (view, dtype) in file.tensors().map(|tensor| tensor.view().unwrap()).zip(DType::ALL) {
        assert_eq!((view.name, view.dtype, view.shape), (dtype.name(), dtype, &shape[..]));
        assert!(view.bytes == data_of(dtype), "{dtype}: the bytes differ");
    }
}

#[test]
fn mistakes_of_the_caller_are_errors() {
    let mut writer = GgufWriter::new();
    writer.metadata("key", MetaValue::U8(1)).unwrap();
    for key in ["key", "", "general.alignment"] {
        assert!(matches!(writer.metadata(key, MetaValue::U8(1)), Err(GgufWriteError::Key { .. })), "{key:?}");
    }
    writer.tensor("a", DType::F32, &[2]).unwrap();
    writer.tensor("b", DType::Q8_0, &[32]).unwrap();
    let refused: [(&str, DType, &[usize]); 6] = [
        ("a", DType::F32, &[2]),
        ("", DType::F32, &[2]),
        ("c", DType::Q4_K, &[64]),
        ("c", DType::F32, &[]),
        ("c", DType::F32, &[1, 1, 1, 1, 1]),
        ("c", DType::F32, &[usize::MAX, usize::MAX]),
    ];
    for (name, dtype, shape) in refused {
        let declared = writer.tensor(name, dtype, shape);
        assert!(matches!(declared, Err(GgufWriteError::Declaration { .. })), "{name:?} {dtype} {shape:?}");
    }
    let mut data = writer.begin(Vec::new()).unwrap();
    assert!(matches!(data.write_tensor("b", [[0; 34]]), Err(GgufWriteError::Order { .. })));
    assert!(matches!(data.write_tensor("a", [[0; 7]]), Err(GgufWriteError::Length { expected: 8, found: 7, .. })));
    assert!(matches!(data.write_tensor("a", [[0; 9]]), Err(GgufWriteError::Length { expected: 8, found: 9, .. })));
    data.write_tensor("a", [[0; 8]]).unwrap();
    assert!(matches!(data.finish(), Err(GgufWriteError::Unfinished { tensor }) if tensor == "b"));
}
