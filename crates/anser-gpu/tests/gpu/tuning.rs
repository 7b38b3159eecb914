//! Shapes of kernels that a measurement chose: they are kept for the next device, and compute the same.

use crate::harness::{Executor, device, load};
use anser_gpu::{Device, DeviceChoice, Gpu, GpuOptions, Tuner};
use anser_model::cases::nmse;
use anser_model::{Plan, Sequence, Step};
use std::path::Path;
use std::sync::Arc;

/// One token, and the class of the 12 tokens of [`logits`].
const LENGTHS: [usize; 2] = [1, 16];

fn open(folder: &Path) -> Arc<Device> {
    Device::open_with_cache(&DeviceChoice::Number(device().report().number), Some(folder)).unwrap()
}

/// The logits of the last of some tokens.
fn logits(plan: &Plan, executor: &mut Executor) -> Vec<f32> {
    let tokens = [5, 17, 3, 99, 41, 7, 80, 2, 61, 44, 9, 12];
    let sequences = [Sequence { slot: executor.create_state(), n_tokens: tokens.len() }];
    let (outputs, reads) = ([tokens.len() as u32 - 1], [plan.logits.unwrap()]);
    let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
    executor.step(&step).remove(0)
}

#[test]
fn what_was_measured_is_kept_and_changes_no_result() {
    let folder = std::env::temp_dir().join(format!("anser-tuned-{}", std::process::id()));
    let plan = load("tiny-v7c256-q4_0.gguf");
    let mut gpu = Gpu::new(plan.clone(), &open(&folder), GpuOptions::default()).unwrap();
    let mut tuner = Tuner::of_lengths(&gpu, &LENGTHS, true).unwrap();
    let mut steps = vec![];
    while tuner.n_left() > 0 {
        tuner.compile().unwrap();
        steps.extend(tuner.measure(&mut gpu).unwrap());
    }
    tuner.finish(&mut gpu).unwrap();
    assert_eq!(steps.iter().map(|step| step.n_tokens).collect::<Vec<_>>(), LENGTHS);
    for step in &steps {
        assert!(!step.kernels.is_empty() && step.elapsed_us.iter().all(|&us| us > 0.0), "{step:?}");
        for kernel in &step.kernels {
            assert!(kernel.n_candidates > 1 && kernel.elapsed_us[1] <= kernel.elapsed_us[0], "{kernel:?}");
        }
    }
    drop(gpu);

    // A device that is opened later knows all of it.
    let device = open(&folder);
    let gpu = Gpu::new(plan.clone(), &device, GpuOptions::default()).unwrap();
    assert_eq!(Tuner::of_lengths(&gpu, &LENGTHS, false).unwrap().n_left(), 0);
    let expected = logits(&plan, &mut Executor::reference(&plan));
    let tuned = logits(&plan, &mut Executor::Gpu(Box::new(gpu)));
    assert!(nmse(&tuned, &expected) < 1e-4, "{:e}", nmse(&tuned, &expected));
    drop(device);

    // Names that no kernel knows, as another version may leave them, count for nothing.
    let is_ours = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("tuning-");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let path = files.into_iter().find(|path| is_ours(path)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let damaged = text.lines().map(|line| match line.split_once('\t') {
        Some((key, _)) if key.contains("T=") => format!("{key}\tunknown\n"),
        _ => format!("{line}\n"),
    });
    std::fs::write(&path, damaged.collect::<String>()).unwrap();
    let gpu = Gpu::new(plan.clone(), &open(&folder), GpuOptions::default()).unwrap();
    let unknown = logits(&plan, &mut Executor::Gpu(Box::new(gpu)));
    let usual = logits(&plan, &mut Executor::gpu(&plan, GpuOptions::default()));
    assert_eq!(unknown, usual);
    std::fs::remove_dir_all(&folder).unwrap();
}
