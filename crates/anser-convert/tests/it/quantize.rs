//! Quantized files against llama-quantize's.

use crate::harness::{bytes, fixture, formats, numbers, open, written};
use anser_convert::{FileType, ImportanceMatrix, Output, QuantizeOptions, TypeRule};
use anser_format::{DType, MetaValue, ModelFile};
use serde_json::Value;
use std::sync::Arc;

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(&format!("unpacked/formats/quant/{name}"))).unwrap()).unwrap()
}

fn matrix(name: &str) -> ImportanceMatrix {
    ImportanceMatrix::open(fixture(&format!("unpacked/formats/quant/{name}"))).unwrap()
}

fn options(file_type: FileType) -> QuantizeOptions<'static> {
    QuantizeOptions { file_type, matrix: None, rules: &[], allow_requantize: false }
}

fn quantized(file: &Arc<ModelFile>, options: &QuantizeOptions) -> Output {
    let mut output = Output::same_gguf(file).unwrap();
    output.quantize(options).unwrap_or_else(|error| panic!("{error}"));
    output
}

/// What llama-quantize gives to each tensor of the first layer, for 20 file types of 4 models.
#[test]
fn every_file_type_gives_llama_quantizes_types() {
    let models = [
        ("rwkv6 width 64", "gguf/m6-rescale2.gguf"),
        ("rwkv6qwen2 width 64", "gguf/rwkv6qwen2.gguf"),
        ("rwkv7 width 64", "gguf/f7-f16.gguf"),
        ("rwkv7 width 256", "quant/q7-f16.gguf"),
    ];
    let expected = json("types.json");
    let mut n_compared = 0;
    for (model, name) in models {
        let file = formats(name);
        for file_type in FileType::ALL {
            let row = &expected[model][file_type.name()];
            if row == "refused" {
                let mut output = Output::same_gguf(&file).unwrap();
                assert!(output.quantize(&options(file_type)).is_err(), "{model} {file_type}");
                continue;
            }
            let output = quantized(&file, &options(file_type));
            assert_eq!(row["general.file_type"].as_u64(), Some(file_type.id().into()), "{model} {file_type}");
            let types = row["types"].as_object().unwrap();
            for tensor in output.tensors() {
                let layer = tensor.name().strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
                if layer.is_some_and(|(number, _)| number != "0") {
                    continue;
                }
                // Those that are not listed are F32.
                let expected = types.get(tensor.name()).map_or("F32", |dtype| dtype.as_str().unwrap());
                assert_eq!(tensor.dtype().name(), expected, "{model} {file_type}: {}", tensor.name());
                n_compared += usize::from(types.contains_key(tensor.name()));
            }
        }
    }
    assert!(n_compared > 700, "{n_compared}");
    // With a matrix Q2_K_S is possible, and gives the types of Q2_K.
    let (file, matrix) = (formats("quant/q7-f16.gguf"), matrix("q7-imatrix.gguf"));
    let output = quantized(&file, &QuantizeOptions { matrix: Some(&matrix), ..options(FileType::Q2_K_S) });
    let types = &expected["rwkv7 width 256"]["Q2_K"]["types"];
    for tensor in output.tensors() {
        assert_eq!(types.get(tensor.name()).map_or("F32", |dtype| dtype.as_str().unwrap()), tensor.dtype().name());
    }
}

/// √(Σ w (a − b)² / Σ w)
fn rmse(a: &[f32], b: &[f32], weights: &[f32]) -> f64 {
    let [mut sum, mut sum_w] = [0.0, 0.0];
    for ((&a, &b), &w) in a.iter().zip(b).zip(weights.iter().cycle()) {
        sum += f64::from(w) * (f64::from(a) - f64::from(b)).powi(2);
        sum_w += f64::from(w);
    }
    (sum / sum_w).sqrt()
}

/// The errors of llama.cpp's quantizer on every matrix of a model, without a matrix and with one.
#[test]
fn errors_are_at_most_llama_cpps() {
    let file = formats("quant/q7-f16.gguf");
    let matrix = matrix("q7-imatrix.dat");
    let expected = json("q7-errors.json");
    for (file_type, key, uses_matrix) in [
        (FileType::Q4_K_M, "Q4_K_M", false),
        (FileType::Q4_K_M, "Q4_K_M-imatrix", true),
        (FileType::Q4_0, "Q4_0", false),
        (FileType::Q4_0, "Q4_0-imatrix", true),
    ] {
        let options = QuantizeOptions { matrix: uses_matrix.then_some(&matrix), ..options(file_type) };
        let found = written(&quantized(&file, &options));
        for (name, expected) in expected[key].as_object().unwrap() {
            let ours = numbers(&found, name);
            assert_eq!(found.info(name).unwrap().stored.name(), expected["type"].as_str().unwrap(), "{name}");
            let importance = matrix.get(name).filter(|_| uses_matrix).unwrap_or(&[1.0]);
            let told = expected[if uses_matrix { "weighted_rmse" } else { "rmse" }].as_f64().unwrap();
            let ratio = rmse(&numbers(&file, name), &ours, importance) / told;
            println!("{key} {name}: {ratio:.4} of llama.cpp's error");
            assert!(ratio <= 1.0, "{key} {name}: {ratio:.4} of llama.cpp's error");
        }
    }
}

#[test]
fn both_forms_of_a_matrix_give_the_same_bytes() {
    let file = formats("quant/q7-f16.gguf");
    let [gguf, dat] = ["q7-imatrix.gguf", "q7-imatrix.dat"].map(matrix);
    assert_eq!(gguf.n_entries(), 6);
    let tensors = |matrix: &ImportanceMatrix| {
        let output = quantized(&file, &QuantizeOptions { matrix: Some(matrix), ..options(FileType::Q4_K_M) });
        crate::harness::tensors(&written(&output))
    };
    assert!(tensors(&gguf) == tensors(&dat));
}

#[test]
fn metadata_say_what_was_done() {
    let file = formats("quant/q7-f16.gguf");
    let matrix = matrix("q7-imatrix.gguf");
    let output = quantized(&file, &QuantizeOptions { matrix: Some(&matrix), ..options(FileType::Q4_K_M) });
    let found = written(&output);
    let theirs = formats("quant/q7-q4_k_m-imatrix.gguf");
    for (key, value) in theirs.metadata_entries() {
        assert!(found.metadata(key) == Some(value), "{key}");
    }
    let number = |key: &str| found.metadata(key).and_then(MetaValue::as_u64);
    assert_eq!((number("quantize.imatrix.entries_count"), number("quantize.imatrix.chunks_count")), (Some(6), Some(4)));
    assert_eq!(found.metadata("quantize.imatrix.dataset").unwrap().as_str(), Some("tiny.txt"));
    assert!(found.metadata("quantize.imatrix.file").unwrap().as_str().unwrap().ends_with("q7-imatrix.gguf"));
    // Quantizing the parts of a split model makes one file.
    let split = written(&quantized(&formats("gguf/f7-split-00002-of-00002.gguf"), &options(FileType::Q8_0)));
    assert!(split.metadata_entries().all(|(key, _)| !key.starts_with("split.")));
}

/// Q8_0 has the bits of llama.cpp's quantizer, so the whole file has.
#[test]
fn the_demo_model_in_q8_0_is_llama_cpps() {
    let found = written(&quantized(&open("unpacked/demo-f16.gguf"), &options(FileType::Q8_0)));
    let expected = open("../models/demo-q8_0.gguf");
    crate::harness::assert_same_tensors(&found, &expected);
}

#[test]
fn rules_give_matrices_other_types() {
    let rule = |text: &str| text.parse::<TypeRule>().unwrap();
    let rules =
        [rule("*time_mix*=Q6_K"), rule("blk.0.time_mix_key.weight=Q5_K"), rule("blk.0.time_mix_g1.weight=BF16")];
    let output =
        quantized(&formats("quant/q7-f16.gguf"), &QuantizeOptions { rules: &rules, ..options(FileType::Q4_K_M) });
    let dtype = |name: &str| output.tensors().iter().find(|tensor| tensor.name() == name).unwrap().dtype();
    assert_eq!(dtype("blk.0.time_mix_value.weight"), DType::Q6_K);
    assert_eq!(dtype("blk.0.time_mix_key.weight"), DType::Q5_K);
    assert_eq!(dtype("blk.0.time_mix_g1.weight"), DType::BF16);
    assert_eq!(dtype("blk.0.time_mix_k_k.weight"), DType::F32);
    assert_eq!(dtype("blk.0.channel_mix_key.weight"), DType::Q4_K);
    assert!(!bytes(&output).is_empty());
}
