//! Loading: within a memory budget, with progress and cancelling, and from files that change.
//!
//! Runs on the first adapter, Mesa's software one where there is no other; without any it fails.

use crate::fixtures::{demo_path, root};
use anser::{
    Device, EmbedOptions, Error, GenerateOptions, LoadProgress, Model, OnLoad, Options, SamplerOptions, Session,
};
use anser_format::{FormatError, GgufWriter, MetaValue, ModelFile};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
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

/// A copy of the tiny model in `folder`.
fn copy(folder: &Path) -> PathBuf {
    let path = folder.join("model.gguf");
    std::fs::copy(root().join("fixtures/tiny/tiny-v7mini-f16.gguf"), &path).unwrap();
    path
}

fn touch(path: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
}

#[test]
fn a_file_that_changed_ends_every_kind_of_step() {
    let folder = tempfile::tempdir().unwrap();
    let greedy = GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens: 8, ..GenerateOptions::default() };
    let is_told = |error: Error| match error {
        Error::Format(FormatError::Changed { file, .. }) => assert!(file.ends_with("model.gguf"), "{file}"),
        other => panic!("{other}"),
    };
    for device in ["cpu", "gpu:0"] {
        let path = copy(folder.path());
        let model = Model::load(&path, &on(device)).unwrap();
        model.finish_loading().unwrap();
        let mut sessions: [Session; 3] = std::array::from_fn(|_| model.session().unwrap());
        sessions.iter_mut().for_each(|session| session.feed(&[1, 2, 3]).unwrap());
        let [fed, read, generated] = &mut sessions;
        let mut generation = generated.generate(&[4], &greedy).unwrap();
        generation.next().unwrap().unwrap();
        touch(&path);
        is_told(generation.by_ref().find_map(Result::err).unwrap());
        drop(generation);
        is_told(fed.feed(&[4]).unwrap_err());
        is_told(read.feed_reading(&[4], &["blocks.0.att.r"]).unwrap_err());
        is_told(model.embed_batch(&[vec![1, 2]], &EmbedOptions::default()).map(drop).unwrap_err());
        is_told(model.session().unwrap_err());
        // The session keeps the results from before the error.
        assert_eq!(read.logits().len(), 300);
        read.state().unwrap();
    }
}

#[test]
fn a_model_in_memory_does_not_depend_on_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for device in ["cpu", "gpu:0"] {
        let logits = |model: &Model| {
            let mut session = model.session().unwrap();
            session.feed(&[1, 2, 3]).unwrap();
            session.logits().to_vec()
        };
        let path = copy(folder.path());
        let expected = logits(&Model::load(&path, &on(device)).unwrap());
        let model = Model::load(&path, &Options { in_memory: true, ..on(device) }).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert_eq!(logits(&model), expected, "{device}");
    }
}

/// A tensor of a safetensors file: name, type, shape and bytes.
type Raw = (String, Dtype, Vec<usize>, Vec<u8>);

/// The tensors of the tiny model, changed.
fn tiny_with(change: impl FnOnce(&mut Vec<Raw>)) -> tempfile::NamedTempFile {
    let bytes = std::fs::read(root().join("fixtures/tiny/tiny-v7.st")).unwrap();
    let tiny = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |(name, view): (String, TensorView)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec());
    let mut tensors: Vec<Raw> = tiny.tensors().into_iter().map(raw).collect();
    change(&mut tensors);
    let file = tempfile::NamedTempFile::new().unwrap();
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(file.path(), safetensors::serialize(views, None).unwrap()).unwrap();
    file
}

#[test]
fn a_tuned_state_in_the_model_file_is_where_sessions_begin() {
    let plain = Model::load(root().join("fixtures/tiny/tiny-v7.st"), &on("cpu")).unwrap();
    let (n_layer, h, n) = (plain.config().n_layer, plain.config().n_head, plain.config().head_size);
    let tuned: Vec<Raw> = (0..n_layer)
        .map(|layer| {
            let number = |at: usize| ((layer * 31 + at * 7) % 97) as f32 / 97.0 - 0.5;
            let bytes = (0..h * n * n).flat_map(|at| number(at).to_le_bytes()).collect();
            (format!("blocks.{layer}.att.time_state"), Dtype::F32, vec![h, n, n], bytes)
        })
        .collect();
    let file = tiny_with(|tensors| tensors.extend(tuned.clone()));
    let model = Model::load(file.path(), &on("cpu")).unwrap();

    // The same state, in a file of its own, imported into the model without it.
    let alone = tiny_with(|tensors| *tensors = tuned);
    let mut expected = plain.session().unwrap();
    expected.restore(&plain.import_state(alone.path()).unwrap()).unwrap();
    let state = expected.state().unwrap();
    expected.feed(&[5, 6]).unwrap();

    let mut session = model.session().unwrap();
    for _ in 0..2 {
        assert!(session.is_fresh());
        assert_eq!(session.state().unwrap().data(), state.data());
        session.feed(&[5, 6]).unwrap();
        assert_eq!(session.logits(), expected.logits());
        session.reset().unwrap();
    }
    assert!(plain.initial_state().is_none() && model.initial_state().is_some());
    let part = tiny_with(|tensors| tensors.push(("blocks.0.att.time_state".into(), Dtype::F32, vec![1], vec![0; 4])));
    let error = Model::load(part.path(), &on("cpu")).unwrap_err().to_string();
    assert!(error.contains("blocks.0.att.time_state: expected"), "{error}");
}

#[test]
fn other_layouts_and_types_are_named() {
    let refused = |file: tempfile::NamedTempFile| Model::load(file.path(), &on("cpu")).unwrap_err().to_string();
    let hugging_face = refused(tiny_with(|tensors| {
        for tensor in tensors.iter_mut() {
            tensor.0 = tensor.0.replace("blocks.", "model.layers.").replace("att.receptance", "attn.r_proj");
        }
    }));
    assert!(hugging_face.contains("Hugging Face") && hugging_face.contains(".pth"), "{hugging_face}");
    let double = refused(tiny_with(|tensors| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.0 == "blocks.0.ffn.key.weight").unwrap();
        (tensor.1, tensor.3) = (Dtype::F64, vec![0; tensor.3.len() * 4]);
    }));
    assert!(double.contains("blocks.0.ffn.key.weight: its type F64 is not supported"), "{double}");
}

#[test]
fn a_split_model_computes_what_the_whole_one_does() {
    let path = root().join("fixtures/tiny/tiny-v7mini-f16.gguf");
    let whole = ModelFile::open(&path).unwrap();
    let tensors: Vec<_> = whole.tensors().map(|tensor| tensor.view().unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let name = |number: usize| folder.path().join(format!("m-{number:05}-of-00002.gguf"));
    for (number, half) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let mut writer = GgufWriter::new();
        for (key, value) in whole.metadata_entries().filter(|_| number == 0) {
            writer.metadata(key, value.clone()).unwrap();
        }
        writer.metadata("split.no", MetaValue::U16(number as u16)).unwrap();
        writer.metadata("split.count", MetaValue::U16(2)).unwrap();
        half.iter().for_each(|t| writer.tensor(t.name, t.dtype, t.shape).unwrap());
        let mut data = writer.begin(std::fs::File::create(name(number + 1)).unwrap()).unwrap();
        half.iter().for_each(|t| data.write_tensor(t.name, [t.bytes]).unwrap());
        data.finish().unwrap();
    }
    for device in ["cpu", "gpu:0"] {
        let logits = |path: &Path| {
            let model = Model::load(path, &on(device)).unwrap();
            let mut session = model.session().unwrap();
            session.feed(&[1, 2, 3]).unwrap();
            (model.fingerprint().to_owned(), session.logits().to_vec())
        };
        assert_eq!(logits(&name(2)), logits(&path), "{device}");
    }
    let model = Model::load(name(1), &on("cpu")).unwrap();
    touch(&name(2));
    assert!(model.session().unwrap_err().to_string().contains("m-00002-of-00002.gguf"));
}
