//! Compiled kernels on disk.

use crate::harness::{load, open};
use anser_gpu::{Device, DeviceChoice, Gpu, GpuOptions};
use anser_model::{Sequence, Step};
use std::path::Path;

/// A token's logits on a device of its own that keeps its kernels in `folder`.
fn logits(folder: &Path) -> Vec<f32> {
    let choice = DeviceChoice::Number(open().report().number);
    let device = Device::open_with_cache(&choice, Some(folder)).unwrap();
    let plan = load("tiny-v7mini-f16.gguf");
    let mut gpu = Gpu::new(plan.clone(), &device, GpuOptions::default()).unwrap();
    let sequences = [Sequence { slot: gpu.create_state().unwrap(), n_tokens: 1 }];
    let reads = [plan.logits.unwrap()];
    gpu.step(&Step { tokens: &[7], sequences: &sequences, outputs: &[0], reads: &reads, inputs: &[] })
        .unwrap()
        .remove(0)
}

#[test]
fn damaged_files_and_folders_do_no_harm() {
    let folder = std::env::temp_dir().join(format!("anser-gpu-kernels-{}", std::process::id()));
    let expected = logits(&folder);
    let files: Vec<_> = std::fs::read_dir(&folder).map_or(vec![], |files| files.map(|f| f.unwrap().path()).collect());
    // Only Vulkan drivers give out what they have compiled.
    assert!(files.len() == 1 || open().report().backend != "vulkan", "{files:?}");
    assert_eq!(logits(&folder), expected, "with the kernels of the run before");
    for path in files {
        let file = std::fs::read(&path).unwrap();
        let mut damaged = file.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for content in [&file[..file.len() / 2], &damaged, b"", b"not what a driver made"] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(logits(&folder), expected);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "a file where the folder should be").unwrap();
    assert_eq!(logits(&folder), expected);
    std::fs::remove_file(&folder).unwrap();
}
