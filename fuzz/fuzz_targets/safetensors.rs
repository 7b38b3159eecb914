//! A safetensors file whose header length is right, so that the fuzzer works on header and data.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (header, data) = input;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    anser_fuzz::read_model_file(&bytes);
});
