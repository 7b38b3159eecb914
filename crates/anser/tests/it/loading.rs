//! Loading: within a budget, told of and cancelled, and from files that change.
//!
//! Runs on the first adapter, Mesa's software one where there is no other; without any it fails.

use crate::fixtures::{demo_path, root};
use anser::{Device, Error, GenerateOptions, LoadProgress, Model, OnLoad, Options, SamplerOptions};
use anser_format::FormatError;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

fn on(device: &str) -> Options {
    Options { device: device.parse::<Device>().unwrap(), ..Options::default() }
}

fn text(model: &Model) -> String {
    let options = GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens: 12, ..GenerateOptions::default() };
    model.session().unwrap().generate_text("Once upon a time", &options).unwrap().text().unwrap()
}

#[test]
fn a_budget_changes_no_text() {
    let load = |options: &Options| Model::load(demo_path("demo-q8_0.gguf"), options).unwrap();
    let (whole, bounded) = (load(&on("gpu:0")), load(&Options { gpu_memory: Some(6 << 20), ..on("gpu:0") }));
    assert!(!whole.device().contains("streams"), "{}", whole.device());
    assert!(bounded.device().contains("of weights at a time, the rest streams"), "{}", bounded.device());
    bounded.finish_loading().unwrap();
    assert_eq!(text(&bounded), text(&whole));
    let few = Model::load(demo_path("demo-q8_0.gguf"), &Options { gpu_memory: Some(1 << 20), ..on("gpu:0") });
    assert!(few.unwrap_err().to_string().contains("takes at least"));
}

#[test]
fn progress_is_told_on_every_device_and_can_cancel() {
    for device in ["cpu", "gpu:0"] {
        let last = Arc::new(Mutex::new(None));
        let told = last.clone();
        let on_load = OnLoad::new(move |progress: LoadProgress| {
            *told.lock().unwrap() = Some(progress);
            ControlFlow::Continue(())
        });
        let options = Options { on_load: Some(on_load), ..on(device) };
        let model = Model::load(demo_path("demo-q8_0.gguf"), &options).unwrap();
        model.finish_loading().unwrap();
        drop(model); // with the threads that tell
        let LoadProgress { n_bytes, total_n_bytes, layer } = last.lock().unwrap().unwrap();
        assert!(n_bytes == total_n_bytes && n_bytes > 20 << 20 && layer == 6, "{device}: {n_bytes} {total_n_bytes}");

        let options = Options { on_load: Some(OnLoad::new(|_| ControlFlow::Break(()))), ..on(device) };
        let cancelled = Model::load(demo_path("demo-q8_0.gguf"), &options).and_then(|model| model.finish_loading());
        assert!(cancelled.unwrap_err().to_string().contains("cancelled"));
    }
}

#[test]
fn a_file_that_changed_before_its_first_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    std::fs::copy(root().join("fixtures/tiny/tiny-v7mini-f16.gguf"), &path).unwrap();
    let model = Model::load(&path, &on("cpu")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(matches!(model.session(), Err(Error::Format(FormatError::Changed { .. }))));
}
