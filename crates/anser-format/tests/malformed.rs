//! Broken files: an error that names the file, without panic and without allocating more than the file justifies.
//!
//! Needs `python3`: the files are derived from the tiny good ones by a script beside them.

mod common;

use std::process::Command;

use anser_format::{FormatError, ModelFile, ReadAt};
use common::{fixture, walk};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Files that are broken as models but well formed as files: names, shapes, architecture and settings do not fit.
const BROKEN_AS_MODELS: [&str; 31] = [
    "g_kv_count_zero.gguf",
    "g_dim_zero.gguf",
    "g_missing_tensor.gguf",
    "g_missing_embedding.gguf",
    "g_missing_norm_bias.gguf",
    "g_shape_ffn.gguf",
    "g_shape_transposed.gguf",
    "g_shape_embedding_width.gguf",
    "g_shape_vocab_differs.gguf",
    "g_shape_norm.gguf",
    "g_shape_lora_inner.gguf",
    "g_arch_llama.gguf",
    "g_arch_empty.gguf",
    "g_arch_missing.gguf",
    "g_arch_wrong_type.gguf",
    "g_arch_rwkv6.gguf",
    "g_arch_not_utf8.gguf",
    "g_dtype_unknown.gguf",
    "g_dtype_removed.gguf",
    "g_dtype_i8.gguf",
    "g_block_count_zero.gguf",
    "g_block_count_huge.gguf",
    "g_block_count_three.gguf",
    "g_embedding_length_zero.gguf",
    "g_embedding_length_other.gguf",
    "g_head_size_zero.gguf",
    "g_head_size_63.gguf",
    "g_head_size_huge.gguf",
    "s_shape_emb_1d.st",
    "s_layer_gap.st",
    "s_dtype_unknown.st",
];

/// A file that is read piece by piece.
struct Pieces(Vec<u8>);

impl ReadAt for Pieces {
    fn n_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        into.copy_from_slice(&self.0[offset as usize..][..into.len()]);
        Ok(())
    }
}

#[test]
fn broken_files_are_refused_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("malformed");
    let made = Command::new("python3")
        .arg(fixture("malformed/make_malformed.py"))
        .arg(fixture("tiny/tiny-v7mini-f16.gguf"))
        .arg(fixture("tiny/tiny-v7mini.st"))
        .arg(&out)
        .output()
        .expect("python3 is needed to make the broken files");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let entries = manifest.as_array().unwrap();
    assert_eq!(entries.len(), 184);

    let mut failures = Vec::new();
    for entry in entries {
        let (name, expect) = (entry["file"].as_str().unwrap(), entry["expect"].as_str().unwrap());
        let path = out.join(name);
        let file_n_bytes = std::fs::metadata(&path).unwrap().len() as usize;

        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let opened = ModelFile::open(&path);
        let n_allocated = ALLOCATOR.peak_usage() - before;
        if n_allocated > 8 * file_n_bytes + (64 << 10) {
            failures.push(format!("{name}: {n_allocated} bytes allocated for a file of {file_n_bytes}"));
        }

        match &opened {
            Ok(file) => {
                walk(file);
            }
            Err(error) => {
                if !error.to_string().contains(name) {
                    failures.push(format!("the error does not name the file {name}: {error}"));
                }
            }
        }
        // A file that is read piece by piece is refused for the same reason; one of them is a folder.
        if let Ok(bytes) = std::fs::read(&path) {
            let said = |opened: Result<_, FormatError>| opened.map(drop).map_err(|error| error.to_string());
            let read = said(ModelFile::from_reader(name, Box::new(Pieces(bytes.clone()))));
            if read != said(ModelFile::from_bytes(name, bytes)) {
                failures.push(format!("{name}: read piece by piece it is {read:?}"));
            }
        }
        let should_open = match expect {
            "load" => Some(true),
            "reject" => Some(BROKEN_AS_MODELS.contains(&name)),
            _ => None,
        };
        if should_open.is_some_and(|should_open| should_open != opened.is_ok()) {
            failures.push(format!("{name} ({}): {expect} is expected, found {opened:?}", entry["why"]));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
