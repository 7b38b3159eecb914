//! Model files in several parts, with tensors and metadata that no model reads, or that change while they are in use.

use crate::harness::{anser, fixture, run};
use anser_format::{GgufWriter, MetaValue, ModelFile};
use std::path::{Path, PathBuf};

const TINY: &str = "tiny/tiny-v7mini-f16.gguf";
/// More tokens than a test waits for.
#[cfg(target_os = "linux")]
const ENDLESS: &str = "100000000";

/// The tiny model in `count` files in `folder`, with `more` as metadata; returns their paths.
fn write(folder: &Path, count: usize, more: &[(&str, MetaValue)]) -> Vec<PathBuf> {
    let whole = ModelFile::open(fixture(TINY)).unwrap();
    let tensors: Vec<_> = whole.tensors().map(|tensor| tensor.view().unwrap()).collect();
    let write = |(number, tensors): (usize, &[anser_format::TensorView])| {
        let mut writer = GgufWriter::new();
        for (key, value) in whole.metadata_entries().filter(|_| number == 0) {
            writer.metadata(key, value.clone()).unwrap();
        }
        let split = [("split.no", number), ("split.count", count)].map(|(key, n)| (key, MetaValue::U16(n as u16)));
        for (key, value) in split.iter().chain(more).filter(|_| count > 1 || !more.is_empty()) {
            writer.metadata(key, value.clone()).unwrap();
        }
        tensors.iter().for_each(|t| writer.tensor(t.name, t.dtype, t.shape).unwrap());
        let name = if count == 1 { "m.gguf".into() } else { format!("m-{:05}-of-{count:05}.gguf", number + 1) };
        let mut data = writer.begin(std::fs::File::create(folder.join(&name)).unwrap()).unwrap();
        tensors.iter().for_each(|t| data.write_tensor(t.name, [t.bytes]).unwrap());
        data.finish().unwrap();
        folder.join(name)
    };
    tensors.chunks(tensors.len().div_ceil(count)).enumerate().map(write).collect()
}

fn logits(model: &Path, more: &[&str]) -> crate::harness::Ran {
    run(&[&["logits", "-m", model.to_str().unwrap(), "--tokens", "97,98", "--top", "5"], more].concat())
}

#[test]
fn a_model_in_parts_is_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let parts = write(folder.path(), 3, &[]);
    let whole = logits(&fixture(TINY), &[]).text();
    for part in &parts {
        assert_eq!(logits(part, &[]).text(), whole);
        assert_eq!(logits(part, &["--read-file"]).text(), whole);
    }
    let found = run(&["inspect", parts[1].to_str().unwrap(), "--json"]).json();
    let n_bytes: u64 = parts.iter().map(|part| std::fs::metadata(part).unwrap().len()).sum();
    assert_eq!((found["n_tensors"].as_u64(), found["n_bytes"].as_u64()), (Some(62), Some(n_bytes)));
    assert_eq!(found["parts"].as_array().unwrap().len(), 3);
    let listing = run(&["inspect", parts[1].to_str().unwrap()]).text();
    assert!(listing.contains("62 tensors") && listing.contains("in 3 files"), "{listing}");
    std::fs::remove_file(&parts[2]).unwrap();
    assert!(logits(&parts[0], &[]).failure(1).contains("m-00003-of-00003.gguf"));
}

#[test]
fn texts_in_any_encoding_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let gbk = MetaValue::Bytes(vec![0xc4, 0xa3, 0xd0, 0xcd]);
    let model = write(folder.path(), 1, &[("general.author", gbk)]).remove(0);
    assert_eq!(logits(&model, &[]).text(), logits(&fixture(TINY), &[]).text());
    let found = run(&["inspect", model.to_str().unwrap(), "--json"]).json();
    assert!(found["metadata"]["general.author"].as_str().unwrap().contains('\u{fffd}'), "{found}");
}

#[test]
fn tensors_of_any_type_are_listed() {
    let bytes = std::fs::read(fixture("tiny/tiny-v7mini.st")).unwrap();
    let tiny = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let steps = safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![2], &[7; 16]).unwrap();
    let tensors = tiny.tensors().into_iter().chain([("trainer.step".to_owned(), steps)]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.st");
    std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    assert_eq!(logits(&path, &[]).text(), logits(&fixture("tiny/tiny-v7mini.st"), &[]).text());
    let found = run(&["inspect", path.to_str().unwrap(), "--json", "--tensors"]).json();
    let tensors = found["tensors"].as_array().unwrap();
    let listed = tensors.iter().find(|tensor| tensor["name"] == "trainer.step").unwrap();
    assert_eq!((&listed["dtype"], &listed["n_bytes"]), (&"I64".into(), &16.into()));
    let share = found["dtypes"].as_array().unwrap().iter().find(|share| share["dtype"] == "I64").unwrap();
    assert_eq!((&share["n_tensors"], &share["n_elements"], &share["n_bytes"]), (&1.into(), &2.into(), &16.into()));
}

/// The command while it generates `n` tokens, after its first byte of output.
#[cfg(target_os = "linux")]
fn generating(model: &Path, n: &str, more: &[&str]) -> std::process::Child {
    use std::io::Read;
    let mut command = anser();
    command.args(["generate", "-n", n, "--temperature", "0", "--logit-bias", "0=-inf", "a", "-m"]).arg(model);
    command.args(more).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    child
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_cut_short_while_it_is_used_ends_the_command_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for threads in ["1", "4"] {
        let model = write(folder.path(), 1, &[]).remove(0);
        let child = generating(&model, ENDLESS, &["--threads", threads]);
        std::fs::OpenOptions::new().write(true).open(&model).unwrap().set_len(0).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let is_one_line = stderr.starts_with("anser: ") && stderr.matches('\n').count() == 1;
        assert!(is_one_line && stderr.contains("m.gguf"), "{stderr}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_bus_error_is_told_with_the_files_name() {
    // Sent from outside, since no test can make a file shorter within a step for certain.
    let folder = tempfile::tempdir().unwrap();
    let model = write(folder.path(), 1, &[]).remove(0);
    let child = generating(&model, ENDLESS, &[]);
    let sent = std::process::Command::new("kill").args(["-BUS", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("m.gguf: it could not be read while it was in use"), "{stderr}");
    assert_eq!(stderr.matches('\n').count(), 1, "{stderr}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_was_read_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let model = write(folder.path(), 1, &[]).remove(0);
    let whole = generating(&model, "200", &[]).wait_with_output().unwrap().stdout;
    let child = generating(&model, "200", &["--read-file"]);
    std::fs::OpenOptions::new().write(true).open(&model).unwrap().set_len(0).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&whole));
    let output =
        anser().args(["tokenize", "a", "-m"]).arg(fixture(TINY)).env("ANSER_READ_FILE", "true").output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}
