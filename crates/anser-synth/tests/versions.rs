//! Every version in every form that it is written in: the model's own reader finds all tensors in their shapes, and the forms
//! have the same numbers.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use anser_format::ModelFile;
use anser_model::{Config, Plan, Version};
use anser_synth::{FileType, Shape, Synth, SynthError};

fn synth(shape: &str) -> Synth {
    Synth { shape: shape.parse().unwrap(), file_type: FileType::F16, seed: 7, sparsity: None }
}

fn pth(shape: &str) -> Arc<ModelFile> {
    let bytes = synth(shape).write_pth(Cursor::new(vec![]), |_, _| {}).unwrap().into_inner();
    ModelFile::from_bytes("m.pth", bytes).unwrap()
}

fn load(file: &Arc<ModelFile>) -> (Config, Plan) {
    anser_model::load(file).unwrap_or_else(|error| panic!("{error}"))
}

/// The numbers of all weights, by name.
fn numbers(plan: &Plan) -> Vec<(String, Vec<f32>)> {
    let mut all: Vec<_> = plan.weights.iter().map(|weight| (weight.name().to_owned(), weight.to_f32())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn every_version_is_read_as_what_it_is() {
    for (shape, version, n_ffn) in [
        ("v4-tiny", Version::V4, 1024),
        ("v5-tiny", Version::V5, 896),
        ("v6-tiny", Version::V6, 896),
        ("tiny", Version::V7, 1024),
    ] {
        let (config, plan) = load(&pth(shape));
        assert_eq!((config.version, config.n_embd, config.n_layer), (version, 256, 3), "{shape}");
        assert_eq!((config.n_ffn, config.n_vocab), (n_ffn, 65_536), "{shape}");
        assert!(numbers(&plan).iter().all(|(_, numbers)| numbers.iter().all(|x| x.is_finite())), "{shape}");
    }
}

#[test]
fn forms_of_a_model_have_the_same_numbers() {
    for shape in ["tiny", "v6-tiny"] {
        let gguf = ModelFile::from_bytes("m.gguf", synth(shape).write(vec![], |_, _| {}).unwrap()).unwrap();
        let (a, b) = (numbers(&load(&gguf).1), numbers(&load(&pth(shape)).1));
        assert_eq!(a.len(), b.len(), "{shape}");
        for ((name, a), (_, b)) in a.iter().zip(&b) {
            assert!(a == b, "{shape}: {name}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("model.safetensors", &synth("tiny").write_safetensors(vec![], |_, _| {}).unwrap());
    write("config.json", synth("tiny").config().as_bytes());
    let (config, plan) = load(&ModelFile::open(folder.path()).unwrap());
    assert!(config.dialect.contains("Hugging Face"), "{}", config.dialect);
    assert!(numbers(&plan) == numbers(&load(&pth("tiny")).1));
}

/// llama.cpp's converter made the miniature; only sizes differ.
#[test]
fn a_v6_file_has_the_names_keys_and_types_of_a_converted_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/unpacked/formats/gguf/m6-rescale2.gguf");
    let real = ModelFile::open(path).expect("run scripts/prepare");
    let mut shape: Shape = "v6-tiny".parse().unwrap();
    shape.n_layer = real.metadata("rwkv6.block_count").unwrap().as_u64().unwrap() as usize;
    let made = Synth { shape, ..synth("v6-tiny") }.write(vec![], |_, _| {}).unwrap();
    let made = ModelFile::from_bytes("m.gguf", made).unwrap();
    let tensors = |file: &ModelFile| {
        let describe =
            |tensor: anser_format::TensorInfo| (tensor.name.to_owned(), tensor.stored.clone(), tensor.shape.len());
        let mut tensors: Vec<_> = file.tensors().map(describe).collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    };
    assert_eq!(tensors(&made), tensors(&real));
    for (key, value) in real.metadata_entries().filter(|(key, _)| key.starts_with("rwkv6.")) {
        let made = made.metadata(key).unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(std::mem::discriminant(made), std::mem::discriminant(value), "{key}");
    }
}

#[test]
fn forms_that_do_not_exist_are_refused() {
    for shape in ["v4-tiny", "v5-tiny"] {
        assert!(matches!(synth(shape).write(vec![], |_, _| {}), Err(SynthError::NoGguf(_))), "{shape}");
    }
    assert!(matches!(synth("v6-tiny").write_safetensors(vec![], |_, _| {}), Err(SynthError::NoFolder(_))));
    let quantized = Synth { file_type: FileType::Q8_0, ..synth("tiny") };
    assert!(matches!(quantized.write_safetensors(vec![], |_, _| {}), Err(SynthError::PthType(_))));
}
