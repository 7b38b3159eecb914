//! Fixtures, outputs in memory, and the logits of a model.

use anser_convert::{ConvertError, GgufOptions, Output, Vocabulary};
use anser_cpu::{Cpu, Mode, Options};
use anser_format::quant::dequantize;
use anser_format::{FileKind, ModelFile};
use anser_model::{Sequence, Step};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// A file of the fixtures, with what scripts/prepare unpacks.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// A file of the miniatures.
pub(crate) fn formats(name: &str) -> Arc<ModelFile> {
    open(&format!("unpacked/formats/{name}"))
}

pub(crate) fn open(name: &str) -> Arc<ModelFile> {
    ModelFile::open(fixture(name)).unwrap_or_else(|error| panic!("run scripts/prepare: {error}"))
}

/// Options for miniatures, which have 80 tokens and no tokenizer.
pub(crate) fn no_tokens() -> GgufOptions {
    GgufOptions { vocabulary: Some(Vocabulary::None), ..GgufOptions::default() }
}

/// The bytes of an output.
pub(crate) fn bytes(output: &Output) -> Vec<u8> {
    try_bytes(output).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn try_bytes(output: &Output) -> Result<Vec<u8>, ConvertError> {
    output.write(vec![], |_, _| ControlFlow::Continue(()))
}

/// The output as a file in memory.
pub(crate) fn written(output: &Output) -> Arc<ModelFile> {
    ModelFile::from_bytes("converted", bytes(output)).unwrap()
}

/// All numbers of a tensor.
pub(crate) fn numbers(file: &Arc<ModelFile>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap_or_else(|| panic!("{name} is missing"));
    let mut numbers = vec![0.0; tensor.shape().iter().product()];
    dequantize(tensor.dtype(), tensor.bytes(), &mut numbers);
    numbers
}

/// Name, type, shape and bytes of every tensor, in the order of the names.
pub(crate) fn tensors(file: &Arc<ModelFile>) -> Vec<(String, String, Vec<usize>, Vec<u8>)> {
    let all = file.tensors().map(|info| {
        let bytes = file.tensor(info.name).unwrap().bytes().to_vec();
        (info.name.to_owned(), info.stored.name().to_owned(), shape(file, info.shape), bytes)
    });
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

/// A tensor's shape. In GGUF slowest dimensions of length 1 mean nothing: some writers have them where others leave them out.
fn shape(file: &ModelFile, shape: &[usize]) -> Vec<usize> {
    match file.kind() {
        FileKind::Gguf { .. } => shape[shape.iter().take_while(|&&n| n == 1).count().min(shape.len() - 1)..].to_vec(),
        FileKind::Safetensors | FileKind::Torch(_) => shape.to_vec(),
    }
}

/// Compares all tensors of two files: names, types, shapes, bytes.
#[track_caller]
pub(crate) fn assert_same_tensors(found: &Arc<ModelFile>, expected: &Arc<ModelFile>) {
    let (found, expected) = (tensors(found), tensors(expected));
    let heads = |tensors: &[(String, String, Vec<usize>, Vec<u8>)]| {
        tensors.iter().map(|(name, dtype, shape, _)| format!("{name} {dtype} {shape:?}")).collect::<Vec<_>>()
    };
    let (names, expected_names) = (heads(&found), heads(&expected));
    let differs = names.iter().zip(&expected_names).find(|(found, expected)| found != expected);
    assert_eq!((differs, found.len()), (None, expected.len()));
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.3 == expected.3, "{}: the bytes differ", found.0);
    }
}

/// The logits of every token of a text, by the plain loops.
pub(crate) fn logits(file: &Arc<ModelFile>) -> Vec<f32> {
    let tokens: [u32; 12] = [0, 5, 17, 60, 3, 3, 41, 22, 79, 1, 8, 30];
    let plan = Arc::new(anser_model::load(file).unwrap_or_else(|error| panic!("{error}")).1);
    let mut cpu = Cpu::new(plan.clone(), Options { mode: Mode::Reference, ..Options::default() }).unwrap();
    let slot = cpu.create_state();
    let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
    let sequences = [Sequence { slot, n_tokens: tokens.len() }];
    let reads = [plan.logits.unwrap()];
    cpu.step(&Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] })
        .unwrap()
        .swap_remove(0)
}
