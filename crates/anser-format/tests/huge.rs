//! Opening needs memory for the index only, however large the file.

use std::fs::OpenOptions;

use anser_format::{DType, GgufWriter, MetaValue, ModelFile};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Memory of this process that is resident, mapped files included.
#[cfg(target_os = "linux")]
fn resident_n_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_file_of_four_gigabytes_opens_without_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.gguf");
    let mut writer = GgufWriter::new();
    writer.metadata("general.architecture", MetaValue::Str("none".to_owned())).unwrap();
    writer.tensor("huge", DType::F16, &[1 << 16, 1 << 15]).unwrap();
    writer.tensor("small", DType::F32, &[3]).unwrap();
    let data_n_bytes = writer.data_n_bytes();
    let file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
    drop(writer.begin(&file).unwrap());
    let header_n_bytes = file.metadata().unwrap().len();
    file.set_len(header_n_bytes + data_n_bytes).unwrap(); // A hole: no disk is used.

    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    #[cfg(target_os = "linux")]
    let resident_before = resident_n_bytes();
    let model = ModelFile::open(&path).unwrap();
    #[cfg(target_os = "linux")]
    assert!(resident_n_bytes() - resident_before < 4 << 20, "opening read the tensors");
    let n_allocated = ALLOCATOR.peak_usage() - before;
    assert!(n_allocated < 16 << 10, "{n_allocated} bytes allocated");

    let huge = model.tensor("huge").unwrap();
    assert_eq!(huge.shape(), [1 << 16, 1 << 15]);
    assert_eq!(huge.bytes().len(), 1 << 32);
    assert_eq!(huge.bytes().last(), Some(&0));
    assert_eq!(model.tensor("small").unwrap().bytes(), [0; 12]);
}
