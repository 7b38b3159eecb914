//! A model in several files: split GGUF files and safetensors shards.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anser_format::{FormatError, GgufWriter, MetaValue, ModelFile, TensorInfo, TensorProblem};
use common::{fixture, walk};

const WHOLE: &str = "tiny/tiny-v7mini-f16.gguf";
const WHOLE_ST: &str = "tiny/tiny-v7mini.st";

/// The bytes of a GGUF file with these tensors, and these numbers as metadata; with the whole model's if `with_metadata`.
fn gguf(whole: &ModelFile, tensors: &[TensorInfo], with_metadata: bool, split: &[(&str, MetaValue)]) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    let metadata = whole.metadata_entries().filter(|_| with_metadata);
    for (key, value) in metadata.chain(split.iter().map(|(key, value)| (*key, value))) {
        writer.metadata(key, value.clone()).unwrap();
    }
    for tensor in tensors {
        writer.tensor(tensor.name, tensor.stored.computed().unwrap(), tensor.shape).unwrap();
    }
    let mut data = writer.begin(vec![]).unwrap();
    for tensor in tensors {
        data.write_tensor(tensor.name, [tensor.view().unwrap().bytes]).unwrap();
    }
    data.finish().unwrap()
}

/// The split keys of part `number` of `count`.
fn split(number: u16, count: u16, n_tensors: i32) -> Vec<(&'static str, MetaValue)> {
    vec![
        ("split.no", MetaValue::U16(number)),
        ("split.count", MetaValue::U16(count)),
        ("split.tensors.count", MetaValue::I32(n_tensors)),
    ]
}

/// The tiny model in three parts, the first of them without tensors.
fn three_parts(whole: &ModelFile) -> [Vec<u8>; 3] {
    let tensors: Vec<TensorInfo> = whole.tensors().collect();
    let n = tensors.len() as i32;
    [
        gguf(whole, &[], true, &split(0, 3, n)),
        gguf(whole, &tensors[..20], false, &split(1, 3, n)),
        gguf(whole, &tensors[20..], false, &split(2, 3, n)),
    ]
}

fn part(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("m-q8-{number:05}-of-00003.gguf"))
}

fn write_parts(folder: &Path, parts: &[Vec<u8>; 3]) {
    for (at, bytes) in parts.iter().enumerate() {
        std::fs::write(part(folder, at + 1), bytes).unwrap();
    }
}

/// Every tensor of `whole` is in `file` with the same type, shape and bytes, and no other one.
fn assert_same_tensors(file: &Arc<ModelFile>, whole: &Arc<ModelFile>) {
    assert_eq!(file.tensors().len(), whole.tensors().len());
    for expected in whole.tensors() {
        let (found, expected) = (file.tensor(expected.name).unwrap(), expected.view().unwrap());
        assert_eq!((found.dtype(), found.shape()), (expected.dtype, expected.shape));
        assert_eq!(found.bytes(), expected.bytes, "{}", expected.name);
        let n = expected.bytes.len();
        assert_eq!(found.fetch(n / 2..n, &mut vec![]).unwrap(), &expected.bytes[n / 2..]);
    }
}

#[test]
fn any_part_opens_the_whole_model() {
    let whole = ModelFile::open(fixture(WHOLE)).unwrap();
    let parts = three_parts(&whole);
    let folder = tempfile::tempdir().unwrap();
    write_parts(folder.path(), &parts);
    let names: Vec<String> = (1..=3).map(|number| part(folder.path(), number).display().to_string()).collect();
    for number in 1..=3 {
        let path = part(folder.path(), number);
        for file in [ModelFile::open(&path).unwrap(), ModelFile::read(&path).unwrap()] {
            assert_eq!(file.name(), names[number - 1]);
            assert!(file.part_names().eq(names.iter().map(String::as_str)));
            assert_eq!(file.n_bytes(), parts.iter().map(|part| part.len() as u64).sum::<u64>());
            assert_same_tensors(&file, &whole);
            assert_eq!(file.metadata("general.architecture").unwrap().as_str(), Some("rwkv7"));
            assert_eq!(file.metadata("split.count").unwrap().as_u64(), Some(3));
            file.read_ahead();
            file.check_unchanged().unwrap();
            walk(&file);
        }
    }
    let given = parts.into_iter().zip(names).map(|(bytes, name)| (name, bytes)).collect();
    assert_same_tensors(&ModelFile::from_parts("m", given).unwrap(), &whole);
}

#[test]
fn changes_of_every_part_are_told_and_do_not_reach_what_was_read() {
    let whole = ModelFile::open(fixture(WHOLE)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_parts(folder.path(), &three_parts(&whole));
    let first = part(folder.path(), 1);
    let (mapped, read) = (ModelFile::open(&first).unwrap(), ModelFile::read(&first).unwrap());
    let last = std::fs::OpenOptions::new().write(true).open(part(folder.path(), 3)).unwrap();
    last.set_len(100).unwrap();
    match mapped.check_unchanged() {
        Err(FormatError::Changed { file, .. }) => assert!(file.ends_with("m-q8-00003-of-00003.gguf"), "{file}"),
        other => panic!("{other:?}"),
    }
    read.check_unchanged().unwrap();
    assert_same_tensors(&read, &whole);
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let whole = ModelFile::open(fixture(WHOLE)).unwrap();
    let tensors: Vec<TensorInfo> = whole.tensors().collect();
    let n = tensors.len() as i32;
    let good = three_parts(&whole);
    let refused = |parts: [Vec<u8>; 3]| {
        let folder = tempfile::tempdir().unwrap();
        write_parts(folder.path(), &parts);
        let error = ModelFile::open(part(folder.path(), 1)).unwrap_err();
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    };
    let [first, second, third] = good.clone();
    let twice = refused([first.clone(), second.clone(), second.clone()]);
    assert!(twice.starts_with("m-q8-00003-of-00003.gguf: metadata split.no: 1, where part number 2"), "{twice}");
    let of_four = gguf(&whole, &tensors[20..], false, &split(2, 4, n));
    let other_count = refused([first.clone(), second.clone(), of_four]);
    assert!(other_count.contains("split.count: 4, but there are 3 parts"), "{other_count}");
    let fewer = gguf(&whole, &tensors[21..], false, &split(2, 3, n));
    let missing = refused([first.clone(), second.clone(), fewer]);
    assert!(missing.contains(&format!("split.tensors.count: {n}, but all parts together have {}", n - 1)), "{missing}");
    let again = gguf(&whole, &[&tensors[19..20], &tensors[21..]].concat(), false, &split(2, 3, n));
    let duplicate = refused([first.clone(), second.clone(), again]);
    assert!(duplicate.contains(&format!("tensor {}: m-q8-00002-of-00003.gguf", tensors[19].name)), "{duplicate}");
    let unsplit = refused([first.clone(), gguf(&whole, &tensors[..20], false, &[]), third.clone()]);
    assert!(unsplit.contains("m-q8-00002-of-00003.gguf: metadata split.count: it is missing"), "{unsplit}");
    let shard = std::fs::read(fixture(WHOLE_ST)).unwrap();
    let other_format = refused([first, second, shard]);
    assert!(other_format.contains("00003-of-00003.gguf: the format: safetensors, but"), "{other_format}");
    let [first, ..] = good;
    let alone = ModelFile::from_bytes("alone.gguf", first).unwrap_err();
    assert!(matches!(alone, FormatError::MissingPart { number: 2, count: 3, .. }), "{alone}");
}

#[test]
fn missing_and_renamed_parts_are_named() {
    let whole = ModelFile::open(fixture(WHOLE)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_parts(folder.path(), &three_parts(&whole));
    std::fs::remove_file(part(folder.path(), 3)).unwrap();
    for number in [1, 2] {
        let error = ModelFile::open(part(folder.path(), number)).unwrap_err().to_string();
        let is_told = error.contains("part 3 of 3 is missing") && error.contains("m-q8-00003-of-00003.gguf");
        assert!(is_told, "{error}");
    }
    let renamed = folder.path().join("m.gguf");
    std::fs::rename(part(folder.path(), 2), &renamed).unwrap();
    let error = ModelFile::open(&renamed).unwrap_err().to_string();
    assert!(error.contains("part 2 of a model in 3 files") && error.contains("-00002-of-00003.gguf"), "{error}");
}

/// The tiny model in two shards; returns the folder and the tensors' names by shard.
fn shards(names: [&str; 2]) -> (tempfile::TempDir, [Vec<String>; 2]) {
    let bytes = std::fs::read(fixture(WHOLE_ST)).unwrap();
    let whole = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<_> = whole.tensors();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let halves = [all[..30].to_vec(), all[30..].to_vec()];
    for (half, name) in halves.iter().zip(names) {
        let bytes = safetensors::serialize(half.clone(), None).unwrap();
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    (folder, halves.map(|half| half.into_iter().map(|(name, _)| name).collect()))
}

fn index(names: [&str; 2], tensors: &[Vec<String>; 2]) -> String {
    let entries =
        tensors.iter().zip(names).flat_map(|(tensors, shard)| tensors.iter().map(move |t| (t.as_str(), shard)));
    let map: std::collections::BTreeMap<&str, &str> = entries.collect();
    serde_json::json!({ "metadata": { "total_size": 5 }, "weight_map": map }).to_string()
}

#[test]
fn the_index_and_any_shard_open_the_whole_model() {
    let whole = ModelFile::open(fixture(WHOLE_ST)).unwrap();
    let numbered = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    for names in [numbered, ["a.safetensors", "b.safetensors"]] {
        let (folder, tensors) = shards(names);
        std::fs::write(folder.path().join("model.safetensors.index.json"), index(names, &tensors)).unwrap();
        std::fs::copy(fixture(WHOLE_ST), folder.path().join("other.safetensors")).unwrap();
        for name in ["model.safetensors.index.json", names[0], names[1]] {
            for file in
                [ModelFile::open(folder.path().join(name)).unwrap(), ModelFile::read(folder.path().join(name)).unwrap()]
            {
                assert_same_tensors(&file, &whole);
                assert_eq!(file.part_names().len(), 2, "{name}");
            }
        }
        // A file that the index does not list is a model of its own.
        assert_eq!(ModelFile::open(folder.path().join("other.safetensors")).unwrap().part_names().len(), 1);
    }
    // Without an index, numbered names tell as much.
    let (folder, _) = shards(numbered);
    assert_same_tensors(&ModelFile::open(folder.path().join(numbered[1])).unwrap(), &whole);
    std::fs::remove_file(folder.path().join(numbered[0])).unwrap();
    let error = ModelFile::open(folder.path().join(numbered[1])).unwrap_err().to_string();
    assert!(error.contains("part 1 of 2 is missing") && error.contains(numbered[0]), "{error}");
}

#[test]
fn an_index_is_checked() {
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let (folder, tensors) = shards(names);
    let path = folder.path().join("model.safetensors.index.json");
    let refused = |index: &str| {
        std::fs::write(&path, index).unwrap();
        ModelFile::open(&path).unwrap_err()
    };
    let [mut first, second] = tensors.clone();
    first.push("not.there".into());
    match refused(&index(names, &[first, second])) {
        FormatError::Tensor { file, tensor, problem: TensorProblem::NotInShard { .. } } => {
            assert!(file.ends_with(names[0]) && tensor == "not.there", "{file} {tensor}");
        }
        other => panic!("{other}"),
    }
    for name in ["../model.safetensors", "a/b.safetensors", "/etc/passwd", "a\\b", "C:a", "..", ".", "", "a\nb"] {
        let error = refused(&index([names[0], name], &tensors)).to_string();
        assert!(
            error.contains("the name of a file in the same folder is needed") && error.contains("index.json"),
            "{error}"
        );
    }
    let error = refused(&index([names[0], "gone.safetensors"], &tensors)).to_string();
    assert!(error.contains("part 1 of 2 is missing") && error.contains("gone.safetensors"), "{error}");
    for broken in ["{", "{}", r#"{"weight_map": 5}"#, r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": 5}}"#] {
        let error = refused(broken).to_string();
        assert!(error.contains("index.json: weight_map: "), "{error}");
    }
    // A shard whose own index is broken says so.
    let error = ModelFile::open(folder.path().join(names[0])).unwrap_err().to_string();
    assert!(error.contains("index.json: weight_map: "), "{error}");
}
