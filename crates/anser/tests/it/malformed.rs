//! Broken files behave as their manifest says: rejected with a message, or loaded with the good file's logits.

use crate::fixtures::root;
use anser::{Model, Options};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

#[derive(Deserialize)]
struct Entry {
    file: String,
    expect: String,
    why: String,
}

/// Loads the model and reads a few tokens, as a program would.
fn logits(path: &Path) -> Result<Vec<f32>, String> {
    let model = Model::load(path, &Options { n_threads: Some(1), ..Options::default() }).map_err(|e| e.to_string())?;
    if let Ok(tokenizer) = model.tokenizer() {
        assert_eq!(tokenizer.decode(&tokenizer.encode(b"<s> \xff\xff")).unwrap(), b"<s> \xff\xff");
    }
    let mut session = model.session().map_err(|e| e.to_string())?;
    let n_vocab = model.config().n_vocab as u32;
    session.feed(&[1 % n_vocab, 7 % n_vocab, 0]).map_err(|e| e.to_string())?;
    Ok(session.logits().to_vec())
}

#[test]
fn broken_files_are_refused_by_name_and_never_crash() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = root().join("fixtures/tiny");
    let made = Command::new("python3")
        .arg(root().join("fixtures/malformed/make_malformed.py"))
        .args([tiny.join("tiny-v7mini-f16.gguf"), tiny.join("tiny-v7mini.st"), dir.path().to_path_buf()])
        .output()
        .expect("python3 makes the files");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let manifest = std::fs::read(root().join("fixtures/malformed/manifest.json")).unwrap();
    let entries: Vec<Entry> = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(entries.len(), 184);

    let good = [logits(&dir.path().join("g_good.gguf")).unwrap(), logits(&dir.path().join("s_good.st")).unwrap()];
    let mut wrong = vec![];
    for Entry { file, expect, why } in &entries {
        let result = logits(&dir.path().join(file));
        let message = result.as_ref().err().cloned().unwrap_or_default();
        let ok = match (&expect[..], &result) {
            ("reject", Err(_)) | ("either", Ok(_) | Err(_)) => true,
            ("load", Ok(logits)) => file == "g_zero_embedding.gguf" || good.contains(logits),
            _ => false,
        };
        if !ok || (result.is_err() && (!message.contains(file.as_str()) || message.lines().count() != 1)) {
            wrong.push(format!("{file} ({why}): expected {expect}, got {:?}", result.map(|l| l.len())));
        }
    }
    assert!(wrong.is_empty(), "{} of 184:\n{}", wrong.len(), wrong.join("\n"));
}
