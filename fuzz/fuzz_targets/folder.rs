//! Folders of Hugging Face's: settings, an index and shards, or one file of weights without an index. The input is four lengths in
//! bytes (u32, little-endian) and, one after the other, `config.json`, `model.safetensors.index.json` and two shards; what the lengths
//! leave over is a third one. Where the index is empty, the first shard is the only file. Seeds: the folders of
//! `fixtures/unpacked/formats/hf` in this form.
#![no_main]

use anser_format::ModelFile;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The folder of this process, in memory where the system has such a place. All inputs use it, one after the other.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = parent.join(format!("anser-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((lengths, mut rest)) = bytes.split_first_chunk::<16>() else { return };
    let mut files = lengths.as_chunks().0.iter().map(|length| {
        let (file, after) = rest.split_at(rest.len().min(u32::from_le_bytes(*length) as usize));
        rest = after;
        file
    });
    let [config, index, first, second] = std::array::from_fn(|_| files.next().unwrap());
    drop(files);
    let single = index.is_empty();
    let files = [
        ("config.json", Some(config)),
        ("model.safetensors.index.json", (!single).then_some(index)),
        ("model.safetensors", single.then_some(first)),
        ("model-00001-of-00003.safetensors", (!single).then_some(first)),
        ("model-00002-of-00003.safetensors", (!single).then_some(second)),
        ("model-00003-of-00003.safetensors", (!single).then_some(rest)),
    ];
    for (name, content) in files {
        let path = folder().join(name);
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
    }
    if let Ok(file) = ModelFile::read(folder()) {
        anser_fuzz::use_model_file(&file);
    }
});
