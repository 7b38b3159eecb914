//! Converting and quantizing take memory for some chunks, however large the model.

use anser_convert::{FileType, GgufOptions, Output, QuantizeOptions};
use anser_format::ModelFile;
use peak_alloc::PeakAlloc;
use std::ops::ControlFlow;
use std::path::Path;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What one thread may need beside the header with its 65,536 tokens: chunks of half a million numbers in F32, and their bytes. The largest
/// tensors of the model have 67 MB in F32.
const LIMIT_N_BYTES: usize = 32 << 20;

#[test]
fn memory_holds_some_chunks() {
    let open = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/unpacked").join(name);
        ModelFile::open(path).expect("run scripts/prepare")
    };
    let write = |output: &Output| {
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        output.write_with_threads(std::io::sink(), 1, |_, _| ControlFlow::Continue(())).unwrap();
        let n_bytes = ALLOCATOR.peak_usage() - before;
        assert!(n_bytes < LIMIT_N_BYTES, "{n_bytes} bytes");
    };
    let source = open("demo.st");
    write(&Output::gguf(&source, &GgufOptions::default()).unwrap());
    let mut output = Output::same_gguf(&open("demo-f16.gguf")).unwrap();
    write(&Output::web_rwkv(&open("demo-f16.gguf")).unwrap());
    let file_type = FileType::Q4_K_M;
    output.quantize(&QuantizeOptions { file_type, matrix: None, rules: &[], allow_requantize: false }).unwrap();
    write(&output);
}
