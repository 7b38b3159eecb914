//! Builds the World vocabulary's tables with the library's own modules, so that a program need not.

// What these modules make public is public through the library; here they are private modules of a program.
#![allow(unreachable_pub)]

use std::error::Error;
use std::path::Path;
use std::{env, fs};

#[path = "src/escape.rs"]
#[allow(dead_code, reason = "this program writes the tables and does not read them")]
mod escape;
#[path = "src/index.rs"]
#[allow(dead_code, reason = "this program writes the tables and does not read them")]
mod index;
#[path = "src/index_build.rs"]
mod index_build;
#[path = "src/vocab_text.rs"]
mod vocab_text;
#[path = "src/vocabulary.rs"]
#[allow(dead_code, reason = "this program writes the tables and does not read them")]
mod vocabulary;

const VOCABULARY_FILE: &str = "vocab/rwkv_vocab_v20230424.txt";

/// As in the library. The file names 1 to 65,529, the others have no text.
const WORLD_VOCAB_SIZE: usize = 1 << 16;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={VOCABULARY_FILE}");
    for module in ["escape", "index", "index_build", "vocab_text", "vocabulary"] {
        println!("cargo::rerun-if-changed=src/{module}.rs");
    }

    if env::var_os("CARGO_FEATURE_WORLD_VOCAB").is_none() {
        return Ok(());
    }
    let mut tokens = vocab_text::parse(&fs::read_to_string(VOCABULARY_FILE)?)?;
    tokens.resize(WORLD_VOCAB_SIZE, None);
    let buffer = vocabulary::VocabularyBuf::collect(tokens.into_iter().map(Ok))?;
    let vocabulary = buffer.view();
    let index = index_build::build(vocabulary)?;

    let out_dir = env::var("OUT_DIR")?;
    let write = |name: &str, bytes: &[u8]| fs::write(Path::new(&out_dir).join(name), bytes);
    write("text", vocabulary.text)?;
    write("offsets", vocabulary.offsets.as_flattened())?;
    write("max_token_len", vocabulary.max_token_len.to_string().as_bytes())?;
    write("cuts", index.cuts.as_slice())?;
    write("pilots", index.pilots.as_flattened())?;
    write("slots", index.slots.as_flattened())?;
    write("trie", index.trie.as_flattened())?;
    Ok(())
}
