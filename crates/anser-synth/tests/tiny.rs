//! The tiny shape, written to memory and read back.

use std::path::Path;
use std::sync::Arc;

use anser_format::quant::dequantize;
use anser_format::{DType, ModelFile};
use anser_synth::{FileType, Shape, Synth, SynthError};

fn synth(file_type: FileType) -> Synth {
    Synth { shape: "tiny".parse().unwrap(), file_type, seed: 7, sparsity: None }
}

fn bytes(synth: &Synth) -> Vec<u8> {
    synth.write(Vec::new(), |_, _| {}).unwrap()
}

fn open(synth: &Synth) -> Arc<ModelFile> {
    ModelFile::from_bytes("synthetic", bytes(synth)).unwrap()
}

#[test]
fn every_file_type_has_the_types_of_llama_cpps_quantizer() {
    for (file_type, matrix, head) in [
        (FileType::F16, DType::F16, DType::F16),
        (FileType::Q8_0, DType::Q8_0, DType::Q8_0),
        (FileType::Q4KM, DType::Q4_K, DType::Q6_K),
        (FileType::Q5KM, DType::Q5_K, DType::Q6_K),
        (FileType::Q6K, DType::Q6_K, DType::Q6_K),
    ] {
        let file = open(&synth(file_type));
        let expected: [(&str, DType, &[usize]); 12] = [
            ("token_embd.weight", matrix, &[65_536, 256]),
            ("output.weight", head, &[65_536, 256]),
            ("output_norm.bias", DType::F32, &[256]),
            ("blk.2.time_mix_receptance.weight", matrix, &[256, 256]),
            ("blk.2.channel_mix_key.weight", matrix, &[1024, 256]),
            ("blk.2.channel_mix_value.weight", matrix, &[256, 1024]),
            ("blk.2.time_mix_lerp_fused.weight", DType::F32, &[6, 1, 1, 256]),
            ("blk.2.time_mix_w1.weight", DType::F32, &[32, 256]),
            ("blk.2.time_mix_g2.weight", DType::F16, &[256, 64]),
            ("blk.2.time_mix_v1.weight", DType::F16, &[32, 256]),
            ("blk.0.time_mix_r_k.weight", DType::F32, &[256]),
            ("blk.0.attn_norm_2.weight", DType::F32, &[256]),
        ];
        for (name, dtype, shape) in expected {
            let tensor = file.tensor(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!((tensor.dtype(), tensor.shape()), (dtype, shape), "{name}");
        }
    }
}

/// The demo model was made by llama.cpp's own converter and quantizer.
#[test]
fn names_keys_and_vocabulary_are_those_of_a_converted_model() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo-q8_0.gguf");
    let real = ModelFile::open(path).unwrap();
    let mut shape: Shape = "tiny".parse().unwrap();
    shape.n_layer = real.metadata("rwkv7.block_count").unwrap().as_u64().unwrap() as usize;
    let made = open(&Synth { shape, ..synth(FileType::Q8_0) });

    let tensors = |file: &ModelFile| {
        let mut tensors: Vec<_> = file
            .tensors()
            .map(|view| {
                let is_low_rank = view.name.contains("1.weight") || view.name.contains("2.weight");
                (view.name.to_owned(), view.stored.clone(), if is_low_rank { vec![] } else { view.shape.to_vec() })
            })
            .collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    };
    assert_eq!(tensors(&made), tensors(&real));
    for key in ["tokenizer.ggml.token_type", "general.architecture", "general.file_type"] {
        assert!(made.metadata(key) == real.metadata(key), "{key} differs");
    }
    let tokens = |file: &ModelFile| file.metadata("tokenizer.ggml.tokens").unwrap().as_str_array().unwrap().clone();
    let (made_tokens, real_tokens) = (tokens(&made), tokens(&real));
    assert_eq!((made_tokens.len(), real_tokens.len()), (65_536, 65_536));
    for (id, (made, real)) in made_tokens.iter().zip(real_tokens.iter()).enumerate() {
        assert_eq!(made, real, "token {id}");
    }
    for (key, value) in real.metadata_entries().filter(|(key, _)| key.starts_with("rwkv7.")) {
        let made = made.metadata(key).unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(std::mem::discriminant(made), std::mem::discriminant(value), "{key}");
    }
}

#[test]
fn a_file_depends_on_the_seed_but_not_on_the_threads() {
    let first = bytes(&synth(FileType::Q4KM));
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert!(one_thread.install(|| bytes(&synth(FileType::Q4KM))) == first);
    assert!(bytes(&Synth { seed: 8, ..synth(FileType::Q4KM) }) != first);
}

/// Computes the feed-forward part on random tokens: norm, mixing with the token before, key matrix.
#[test]
fn sparsity_is_near_what_was_asked_for() {
    const C: usize = 256;
    const N_TOKENS: usize = 32;
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    for (file_type, sparsity) in
        [(FileType::F16, None), (FileType::F16, Some(0.8)), (FileType::Q8_0, Some(0.95)), (FileType::Q4KM, Some(0.3))]
    {
        let file = open(&Synth { sparsity, ..synth(file_type) });
        let values = |name: &str| {
            let tensor = file.tensor(name).unwrap();
            let mut values = vec![0.0; tensor.shape().iter().product()];
            dequantize(tensor.dtype(), tensor.bytes(), &mut values);
            values
        };
        for layer in 0..3 {
            let weight = values(&format!("blk.{layer}.attn_norm_2.weight"));
            let bias = values(&format!("blk.{layer}.attn_norm_2.bias"));
            let mixing = values(&format!("blk.{layer}.channel_mix_lerp_k.weight"));
            let key = values(&format!("blk.{layer}.channel_mix_key.weight")); // [4C, C]
            let mut normed = || {
                let x: Vec<f32> = (0..C).map(|_| (0..6).map(|_| uniform()).sum::<f32>() - 3.0).collect();
                let mean = x.iter().sum::<f32>() / C as f32;
                let deviation = (x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / C as f32).sqrt();
                (0..C).map(|i| (x[i] - mean) / deviation * weight[i] + bias[i]).collect::<Vec<f32>>()
            };
            let mut before = normed();
            let mut n_zeros = 0;
            for _ in 0..N_TOKENS {
                let x = normed();
                let mixed: Vec<f32> = (0..C).map(|i| x[i] + (before[i] - x[i]) * mixing[i]).collect();
                let is_zero = |row: &&[f32]| row.iter().zip(&mixed).map(|(key, x)| key * x).sum::<f32>() <= 0.0;
                n_zeros += key.chunks(C).filter(is_zero).count();
                before = x;
            }
            let found = n_zeros as f64 / (N_TOKENS * 4 * C) as f64;
            let expected = sparsity.unwrap_or(0.5);
            assert!((found - expected).abs() < 0.03, "{file_type:?}, layer {layer}: {found}, asked for {expected}");
        }
    }
}

#[test]
fn impossible_models_are_refused() {
    let write = |synth: Synth| synth.write(Vec::new(), |_, _| {}).unwrap_err();
    let sparse = Synth { sparsity: Some(1.0), ..synth(FileType::F16) };
    assert!(matches!(write(sparse), SynthError::Sparsity(_)));
    let mut empty = synth(FileType::F16);
    empty.shape.n_layer = 0;
    assert!(matches!(write(empty), SynthError::NoLayers));
}
