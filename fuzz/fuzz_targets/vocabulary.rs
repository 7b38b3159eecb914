//! Vocabulary files in both formats: any bytes, and any bytes after entries for all single bytes, so that the whole can
//! be a complete vocabulary.
#![no_main]

use anser_tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// Lines of a vocabulary of all single bytes.
static LINES: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..=255u8).flat_map(|b| format!("{} b'\\x{b:02x}' 1\n", u32::from(b) + 1).into_bytes()).collect());
/// A vocabulary of all single bytes in JSON, without the closing brace.
static JSON: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let entries: Vec<String> = (0..=255u8).map(|b| format!("\"{}\":[{b}]", u32::from(b) + 1)).collect();
    format!("{{{}", entries.join(",")).into_bytes()
});

fn check(file: &[u8]) {
    match Tokenizer::from_vocab_file(file) {
        Ok(tokenizer) => {
            let ids = tokenizer.encode(file);
            assert_eq!(tokenizer.decode(&ids).as_deref(), Ok(file));
        }
        Err(error) => assert!(error.to_string().len() < 500 + file.len(), "{error}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    check(&[&LINES, bytes].concat());
    check(&[&JSON, bytes, b"}"].concat());
    check(&[&JSON, &b","[..], bytes, b"}"].concat());
});
