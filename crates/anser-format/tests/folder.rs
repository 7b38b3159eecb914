//! Folders of Hugging Face's: which files are opened, what the settings become, and what is said of those that are no model.

mod common;

use std::fs;
use std::path::Path;

use anser_format::ModelFile;
use common::{fixture, walk};

/// A folder with copies of these files of a fixture's folder.
fn folder(from: &str, names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let from = fixture("unpacked/formats/hf").join(from).join(name);
        fs::copy(from, folder.path().join(name)).expect("run scripts/prepare");
    }
    folder
}

fn error(path: &Path) -> String {
    let error = ModelFile::open(path).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "the error does not name {}: {error}", path.display());
    error
}

#[test]
fn settings_are_metadata_of_the_model() {
    let folder = folder("fla", &["config.json", "model.safetensors"]);
    for path in [folder.path().to_owned(), folder.path().join("model.safetensors")] {
        let file = ModelFile::open(&path).unwrap();
        walk(&file);
        assert_eq!(file.metadata("config.model_type").and_then(|value| value.as_str()), Some("rwkv7"));
        assert_eq!(file.metadata("config.norm_eps").and_then(|value| value.as_f64()), Some(1e-5));
        assert!(file.metadata("config.pad_token_id").is_none(), "null says nothing");
        assert_eq!(file.name(), path.to_str().unwrap());
    }
    // A file of another name is a model of its own.
    fs::rename(folder.path().join("model.safetensors"), folder.path().join("other.st")).unwrap();
    assert!(ModelFile::open(folder.path().join("other.st")).unwrap().metadata("config.model_type").is_none());
    assert!(ModelFile::open(folder.path()).unwrap().metadata("config.model_type").is_some());
}

#[test]
fn shards_are_found_by_the_folder() {
    let path = fixture("unpacked/formats/hf/rwkv7-hf-sharded");
    for file in [ModelFile::open(&path), ModelFile::read(&path)] {
        let file = file.unwrap();
        assert_eq!(file.part_names().len(), 3);
        assert!(file.info("model.embeddings.weight").is_some() && file.metadata("config.num_heads").is_some());
        file.check_unchanged().unwrap();
    }
}

#[test]
fn folders_without_one_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(error(path).contains("there is no model.safetensors"));
    let model = fixture("tiny/tiny-v7mini.st");
    fs::copy(&model, path.join("a.st")).unwrap();
    assert!(ModelFile::open(path).is_ok());
    fs::copy(&model, path.join("b.safetensors")).unwrap();
    let two = error(path);
    assert!(two.contains("2 models") && two.contains("a.st") && two.contains("b.safetensors"), "{two}");
    fs::copy(&model, path.join("model.safetensors")).unwrap();
    assert!(ModelFile::open(path).is_ok());
}

#[test]
fn settings_that_cannot_be_read_are_told() {
    let folder = folder("fla", &["model.safetensors"]);
    let (path, settings) = (folder.path(), folder.path().join("config.json"));
    for (content, expected) in [
        ("{\"norm_eps\": 1e-5", "settings"),
        ("[1]", "settings"),
        ("", "settings"),
        (&format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20)), "more than 1048576 bytes"),
        ("{\"a\": 1, \"a\": 2}", ""),
    ] {
        fs::write(&settings, content).unwrap();
        // They say which epsilons the model computes with, so the weights' own name needs them, too.
        let by_name = ModelFile::open(path.join("model.safetensors"));
        match expected {
            "" => assert!(ModelFile::open(path).is_ok() && by_name.is_ok()),
            _ => {
                assert!(error(path).contains(expected), "{content:.40}");
                let told = by_name.unwrap_err().to_string();
                assert!(told.contains(settings.to_str().unwrap()) && told.contains(expected), "{told}");
            }
        }
    }
}

#[test]
fn an_index_cannot_leave_the_folder() {
    let folder = folder("fla", &["config.json", "model.safetensors"]);
    for shard in ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ""] {
        let index = format!("{{\"weight_map\": {{\"lm_head.weight\": {shard:?}}}}}");
        fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        assert!(error(folder.path()).contains("same folder"), "{shard:?}");
    }
}
