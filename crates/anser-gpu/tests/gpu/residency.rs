//! Weights that become resident in the background, or never all at once.

use crate::harness::{device, load, open};
use anser_format::ModelFile;
use anser_gpu::{Gpu, GpuError, GpuOptions, OnProgress, Progress};
use anser_model::{Plan, Sequence, Step};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const FILE: &str = "tiny-v7c256-q4_0.gguf";

/// A prompt, tokens one by one with and without outputs, and another prompt: all that is read, then the state.
fn run(gpu: &mut Gpu) -> Vec<Vec<f32>> {
    let plan = gpu.plan().clone();
    let slot = gpu.create_state().unwrap();
    let (logits, residual) = (plan.logits.unwrap(), *plan.residuals.last().unwrap());
    let tokens: Vec<u32> = (0..40).map(|i| (i * i * 31 + 5) % 300).collect();
    let mut results = vec![];
    for (tokens, reads) in [
        (&tokens[..17], vec![logits]),
        (&tokens[17..18], vec![]),
        (&tokens[18..19], vec![logits]),
        (&tokens[19..20], vec![residual, logits]),
        (&tokens[20..], vec![residual]),
        (&tokens[..1], vec![logits]),
    ] {
        let sequences = [Sequence { slot, n_tokens: tokens.len() }];
        let outputs = [tokens.len() as u32 - 1];
        let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        results.extend(gpu.step(&step).unwrap());
    }
    results.push(gpu.read_state(slot).unwrap());
    results
}

/// Bytes of all weights, and the least that a budget may be.
fn sizes(plan: &Arc<Plan>, options: GpuOptions) -> [u64; 2] {
    let n_bytes = |memory| Gpu::n_bytes_needed(plan, &device(), GpuOptions { memory, ..options });
    let state = 4 * plan.state.len() as u64;
    let all = n_bytes(None).unwrap() - state;
    let Err(GpuError::Budget { least, .. }) = n_bytes(Some(1)) else { panic!("a budget of one byte") };
    [all, least]
}

#[test]
fn streamed_weights_give_the_same_bits() {
    // The head of the demo model is many times as large as a layer.
    let demo = "../../models/demo-q8_0.gguf";
    for (file, max_binding_n_bytes) in [("tiny-v7.st", None), ("tiny-v7.st", Some(1 << 17)), (demo, None)] {
        let plan = load(file);
        let options = GpuOptions { max_binding_n_bytes, ..GpuOptions::default() };
        let mut gpu = Gpu::new(plan.clone(), &device(), options).unwrap();
        assert_eq!(gpu.notices().iter().filter(|n| n.contains("streams")).count(), 0);
        let expected = run(&mut gpu);
        let [all, least] = sizes(&plan, options);
        assert!(least < all, "{file}: {least} of {all}");
        for budget in [least, (least + all) / 2, all - 1] {
            let options = GpuOptions { memory: Some(budget), ..options };
            let needed = Gpu::n_bytes_needed(&plan, &device(), options).unwrap() - 4 * plan.state.len() as u64;
            assert!(needed <= budget, "{needed} of {budget}");
            let mut gpu = Gpu::new(plan.clone(), &device(), options).unwrap();
            assert_eq!(gpu.notices().iter().filter(|n| n.contains("streams")).count(), 1);
            assert_eq!(run(&mut gpu), expected, "{file} with {budget} of {all} bytes");
        }
    }
}

#[test]
fn a_budget_below_the_least_is_refused() {
    let plan = load(FILE);
    let [_, least] = sizes(&plan, GpuOptions::default());
    let new = |budget| Gpu::new(plan.clone(), &device(), GpuOptions { memory: Some(budget), ..GpuOptions::default() });
    assert!(matches!(new(least - 1), Err(GpuError::Budget { .. })));
    let gpu = new(least).unwrap();
    assert!(gpu.wait_until_resident().is_ok());
}

#[test]
fn a_device_with_too_little_memory_streams() {
    let plan = load("tiny-v7.st");
    let mut gpu = Gpu::new(plan.clone(), &device(), GpuOptions::default()).unwrap();
    let expected = run(&mut gpu);
    let [all, least] = sizes(&plan, GpuOptions::default());
    for device_n_bytes in [all - 1, least + least / 4] {
        let options = GpuOptions { device_n_bytes: Some(device_n_bytes), ..GpuOptions::default() };
        let mut gpu = Gpu::new(plan.clone(), &device(), options).unwrap();
        let notices = gpu.notices().join("; ");
        assert!(notices.contains("streams in every step: the device's memory holds no more"), "{notices}");
        assert_eq!(run(&mut gpu), expected);
    }
    let options = GpuOptions { device_n_bytes: Some(least / 2), ..GpuOptions::default() };
    let error = Gpu::new(plan, &device(), options).unwrap().wait_until_resident().unwrap_err();
    assert!(matches!(error, GpuError::Budget { .. }), "{error}");
}

#[test]
fn progress_is_told_in_order_and_ends_with_everything() {
    let plan = load(FILE);
    let seen = Arc::new(Mutex::new(vec![]));
    let told = seen.clone();
    let on_progress: OnProgress = Arc::new(move |progress: Progress| {
        if progress.n_bytes == progress.total_n_bytes {
            // Whoever waits for the weights must wait for this, too.
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        told.lock().unwrap().push(progress);
        ControlFlow::Continue(())
    });
    let gpu = Gpu::load(plan.clone(), &device(), GpuOptions::default(), Some(on_progress)).unwrap();
    gpu.wait_until_resident().unwrap();
    let seen: Vec<Progress> = seen.lock().unwrap().clone();
    let [all, _] = sizes(&plan, GpuOptions::default());
    assert!(seen.windows(2).all(|pair| pair[0].n_bytes <= pair[1].n_bytes && pair[0].layer <= pair[1].layer));
    let last = Progress { n_bytes: all, total_n_bytes: all, layer: plan.residuals.len() };
    assert_eq!(seen.last(), Some(&last));
}

#[test]
fn half_loaded_models_can_be_dropped() {
    let plan = load("../../models/demo-q8_0.gguf");
    for n in 0..10 {
        let gpu = Gpu::new(plan.clone(), &device(), GpuOptions::default()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(n));
        drop(gpu);
    }
}

#[test]
fn loading_can_be_cancelled() {
    let plan = load(FILE);
    let on_progress: OnProgress = Arc::new(|_| ControlFlow::Break(()));
    let mut gpu = Gpu::load(plan, &device(), GpuOptions::default(), Some(on_progress)).unwrap();
    let slot = gpu.create_state().unwrap();
    // A step before that may find its weights there.
    assert_eq!(gpu.wait_until_resident(), Err(GpuError::Cancelled));
    let step = Step { tokens: &[1], sequences: &[Sequence { slot, n_tokens: 1 }], ..Step::default() };
    assert_eq!(gpu.step(&step), Err(GpuError::Cancelled));
}

#[test]
fn a_device_lost_while_loading_is_an_error() {
    let (plan, device) = (load(FILE), open());
    let mut gpu = Gpu::new(plan, &device, GpuOptions::default()).unwrap();
    let slot = gpu.create_state().unwrap();
    device.destroy();
    let step = Step { tokens: &[1], sequences: &[Sequence { slot, n_tokens: 1 }], ..Step::default() };
    assert!(matches!(gpu.step(&step), Err(GpuError::Lost { .. })));
}

/// A copy of a tiny model that may be changed; deleted when dropped.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Copy {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny").join(FILE);
        let to = std::env::temp_dir().join(format!("anser-gpu-{}-{name}.gguf", std::process::id()));
        std::fs::copy(from, &to).unwrap();
        Copy(to)
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::new(anser_model::load(&ModelFile::open(&self.0).unwrap()).unwrap().1)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_that_shrank_or_changed_is_an_error() {
    let changes: [fn(&Path); 2] = [
        |path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100_000).unwrap(),
        |path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let copy = Copy::new(&format!("changed-{i}"));
        let plan = copy.plan();
        change(&copy.0);
        let error = Gpu::new(plan, &device(), GpuOptions::default()).unwrap().wait_until_resident().unwrap_err();
        assert!(
            matches!(&error, GpuError::File { reason } if reason.contains("changed after it was opened")),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_was_deleted_can_be_read() {
    let copy = Copy::new("deleted");
    let plan = copy.plan();
    drop(copy);
    Gpu::new(plan, &device(), GpuOptions::default()).unwrap().wait_until_resident().unwrap();
}
