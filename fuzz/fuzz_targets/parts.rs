//! A model in two parts, divided at a position in the input; seeds: two parts of a split GGUF file after their lengths.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (n_first, bytes) = input;
    anser_fuzz::read_parts(&bytes, n_first.into());
});
