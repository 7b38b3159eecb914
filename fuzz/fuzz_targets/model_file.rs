//! Any bytes, told apart by their content; seeds: the tiny GGUF files.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| anser_fuzz::read_model_file(bytes));
