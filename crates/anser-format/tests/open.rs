//! Good files, and what is said about those that are not.

mod common;

use std::sync::Arc;

use anser_format::{DType, FileKind, FormatError, ModelFile, TensorProblem, TorchContainer};
use common::{fixture, walk};

fn open(name: &str) -> Arc<ModelFile> {
    ModelFile::open(fixture("tiny").join(name)).unwrap()
}

#[test]
fn every_tiny_model_opens() {
    let gguf = FileKind::Gguf { version: 3 };
    let models = [
        ("tiny-v7.st", FileKind::Safetensors),
        ("tiny-v7n32.st", FileKind::Safetensors),
        ("tiny-v7mini.st", FileKind::Safetensors),
        ("tiny-v7mini.blink.safetensors", FileKind::Safetensors),
        ("tiny-v7mini.pth", FileKind::Torch(TorchContainer::Zip)),
        ("tiny-v7mini-f16.gguf", gguf),
        ("tiny-v7c256-q4_0.gguf", gguf),
    ];
    for (name, kind) in models {
        let file = open(name);
        assert_eq!(file.kind(), kind);
        assert_eq!(file.n_bytes(), std::fs::metadata(file.name()).unwrap().len());
        assert!(walk(&file) > 0);
    }
}

#[test]
fn both_formats_give_the_same_tensors() {
    let (gguf, st) = (open("tiny-v7mini-f16.gguf"), open("tiny-v7mini.st"));
    let pairs = [
        ("token_embd.weight", "emb.weight"),
        ("output.weight", "head.weight"),
        ("blk.1.channel_mix_key.weight", "blocks.1.ffn.key.weight"),
        ("blk.1.channel_mix_value.weight", "blocks.1.ffn.value.weight"),
        ("blk.0.time_mix_g2.weight", "blocks.0.att.g2"),
    ];
    for (a, b) in pairs {
        let (a, b) = (gguf.tensor(a).unwrap(), st.tensor(b).unwrap());
        assert_eq!((a.dtype(), a.shape(), a.bytes()), (DType::F16, b.shape(), b.bytes()), "{a:?} {b:?}");
    }
    assert_eq!(gguf.tensor("token_embd.weight").unwrap().shape(), [300, 64]);
    // Six mixing vectors: the file says [64, 1, 1, 6], fastest dimension first.
    assert_eq!(gguf.tensor("blk.0.time_mix_lerp_fused.weight").unwrap().shape(), [6, 1, 1, 64]);
}

#[test]
fn gguf_metadata_has_its_types() {
    let file = open("tiny-v7mini-f16.gguf");
    let value = |key| file.metadata(key).unwrap();
    assert_eq!(value("general.architecture").as_str(), Some("rwkv7"));
    assert_eq!(value("rwkv7.embedding_length").as_u64(), Some(64));
    assert_eq!(value("rwkv7.attention.layer_norm_epsilon").as_f64(), Some(f64::from(1e-5f32)));
    let tokens = value("tokenizer.ggml.tokens").as_str_array().unwrap();
    assert_eq!(
        (tokens.len(), tokens.get(0), tokens.get(1), tokens.get(66)),
        (300, Some("<s>"), Some("\\x00"), Some("A"))
    );
    let types = value("tokenizer.ggml.token_type").as_i64_array().unwrap();
    assert_eq!((types.len(), types[0], types[1]), (300, 3, 1));
    assert!(file.metadata("no.such.key").is_none());
    assert!(file.tensor("no.such.tensor").is_none());
}

#[test]
fn version_2_has_the_layout_of_version_3() {
    let mut bytes = std::fs::read(fixture("tiny/tiny-v7mini-f16.gguf")).unwrap();
    bytes[4] = 2;
    let old = ModelFile::from_bytes("old", bytes).unwrap();
    assert_eq!(old.kind(), FileKind::Gguf { version: 2 });
    assert_eq!(walk(&old), walk(&open("tiny-v7mini-f16.gguf")));
}

#[test]
fn embedded_bytes_are_used_in_place_and_tensors_outlive_the_handle() {
    static BYTES: &[u8] = include_bytes!("../../../fixtures/tiny/tiny-v7mini-f16.gguf");
    let file = ModelFile::from_static("embedded", BYTES).unwrap();
    let tensor = file.tensor("output.weight").unwrap();
    assert_eq!(file.name(), "embedded");
    drop(file);
    assert!(BYTES.as_ptr_range().contains(&tensor.bytes().as_ptr()));
    assert_eq!(tensor.file().n_bytes(), BYTES.len() as u64);
}

#[test]
fn files_and_tensors_cross_threads() {
    fn crosses_threads<T: Send + Sync + 'static>() {}
    crosses_threads::<Arc<ModelFile>>();
    crosses_threads::<anser_format::Tensor>();
}

#[test]
fn tensors_of_other_types_are_listed_and_not_handed_out() {
    let good = std::fs::read(fixture("tiny/tiny-v7mini-f16.gguf")).unwrap();
    let name = "blk.1.time_mix_key.weight"; // [64, 64]
    let at = good.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    let type_at = at + name.len() + 4 + 2 * 8; // After the number of dimensions and two dimensions.
    for (id, shown, n_bytes) in [(24, "I8", Some(4096)), (40, "NVFP4", Some(2304)), (99, "number 99 (unknown)", None)] {
        let mut bytes = good.clone();
        bytes[type_at] = id;
        let file = ModelFile::from_bytes("model.gguf", bytes).unwrap();
        assert!(file.tensor(name).is_none());
        let info = file.info(name).unwrap();
        assert_eq!((info.stored.name(), info.shape, info.n_bytes), (shown, &[64, 64][..], n_bytes));
        assert!(info.view().is_none());
        assert_eq!(file.tensors().filter(|tensor| tensor.view().is_none()).count(), 1);
    }
    // Elements of a known size must lie in the file, whatever they are.
    let mut bytes = good.clone();
    bytes[type_at] = 27;
    let last = good.len() as u64 / 32 * 32 - 32 - 16_384;
    bytes[type_at + 4..][..8].copy_from_slice(&last.to_le_bytes());
    let error = ModelFile::from_bytes("model.gguf", bytes).unwrap_err();
    assert!(matches!(error, FormatError::Tensor { problem: TensorProblem::OutOfBounds { .. }, .. }), "{error}");
}

#[test]
fn overlapping_tensors_are_refused_by_name() {
    let mut bytes = std::fs::read(fixture("tiny/tiny-v7mini-f16.gguf")).unwrap();
    let offset_at = |bytes: &[u8], name: &[u8]| {
        let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
        at + name.len() + 4 + 2 * 8 + 4
    };
    let to = offset_at(&bytes, b"blk.1.time_mix_key.weight");
    let from = offset_at(&bytes, b"token_embd.weight");
    bytes.copy_within(from..from + 8, to);
    let error = ModelFile::from_bytes("model.gguf", bytes).unwrap_err();
    assert!(matches!(error, FormatError::Tensor { problem: TensorProblem::Overlap { .. }, .. }), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = ModelFile::open("no/such/model.gguf").unwrap_err();
    assert!(
        matches!(error, FormatError::Io { .. }) && error.to_string().starts_with("no/such/model.gguf: "),
        "{error}"
    );
}

#[test]
fn hostile_safetensors_lengths_do_not_overflow() {
    // Offsets that chain up to 2^64: adding the header's length to them must not wrap.
    let size = (1u64 << 61) - 2;
    let entries: Vec<String> = (0..8)
        .map(|i| {
            let (start, end) = (i * size, (i + 1) * size);
            format!("\"t{i}\":{{\"dtype\":\"F16\",\"shape\":[{}],\"data_offsets\":[{start},{end}]}}", size / 2)
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    let error = ModelFile::from_bytes("hostile.st", bytes).unwrap_err();
    assert!(matches!(error, FormatError::Tensor { problem: TensorProblem::OutOfBounds { .. }, .. }), "{error}");
}

#[test]
fn fetched_bytes_are_the_mapped_ones() {
    let mapped = open("tiny-v7mini-f16.gguf");
    let owned = ModelFile::from_bytes("memory", std::fs::read(mapped.name()).unwrap()).unwrap();
    let mut scratch = vec![];
    for name in ["token_embd.weight", "output.weight", "blk.1.time_mix_g2.weight"] {
        for file in [&mapped, &owned] {
            let tensor = file.tensor(name).unwrap();
            let n_bytes = tensor.bytes().len();
            for range in [0..n_bytes, 3..5, n_bytes..n_bytes] {
                assert_eq!(tensor.fetch(range.clone(), &mut scratch).unwrap(), &tensor.bytes()[range], "{name}");
            }
        }
    }
}

#[test]
fn changes_of_an_open_file_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let copy = || std::fs::copy(fixture("tiny").join("tiny-v7mini-f16.gguf"), &path).unwrap();
    let write = || std::fs::OpenOptions::new().write(true).open(&path).unwrap();

    let n_bytes = copy();
    let file = ModelFile::open(&path).unwrap();
    file.read_ahead();
    file.check_unchanged().unwrap();
    write().set_len(n_bytes / 2).unwrap();
    let message = file.check_unchanged().unwrap_err().to_string();
    assert!(message.contains(&format!("it had {n_bytes} bytes, now {}", n_bytes / 2)), "{message}");
    let tensors = file.tensors().map(|tensor| file.tensor(tensor.name).unwrap());
    let cut = tensors.max_by_key(|tensor| tensor.bytes().as_ptr()).unwrap();
    let fetched = cut.fetch(0..cut.bytes().len(), &mut vec![]).map(drop);
    assert!(matches!(fetched, Err(FormatError::Changed { .. })), "{fetched:?}");

    std::fs::remove_file(&path).unwrap();
    copy();
    let file = ModelFile::open(&path).unwrap();
    write().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(matches!(file.check_unchanged(), Err(FormatError::Changed { .. })));

    std::fs::remove_file(&path).unwrap();
    copy();
    let file = ModelFile::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.check_unchanged().unwrap();
}
