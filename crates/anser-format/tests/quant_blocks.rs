//! Quantized formats against blocks that ggml wrote and expanded.

use std::path::Path;

use anser_format::DType;
use anser_format::quant::{BlockQ4K, BlockQ5K, BlockQ6K, dequantize, quantize};
use safetensors::SafeTensors;

fn fixture() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/quant_blocks.safetensors");
    std::fs::read(path).expect("the fixture quant_blocks.safetensors")
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Root mean square of the differences.
fn rmse(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

#[test]
fn dequantize_equals_ggml_bit_for_bit() {
    let bytes = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let with_blocks = DType::ALL.into_iter().filter(|&dtype| dtype != DType::F32 && dtype.has_quantizer());
    let mut n_types = 0;
    for dtype in with_blocks {
        let raw = file.tensor(&format!("{dtype}.raw")).unwrap();
        let expected = floats(file.tensor(&format!("{dtype}.f32")).unwrap().data());
        let mut values = vec![f32::NAN; expected.len()];
        dequantize(dtype, raw.data(), &mut values);
        let differs = values.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(differs, None, "{dtype}: first difference");
        n_types += 1;
    }
    assert_eq!(n_types, 14);
}

/// Every entry of every codebook, random signs, scales and shifts: blocks that the package gguf expanded.
#[test]
fn codebook_types_are_expanded_bit_for_bit() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/unpacked/formats/quant/codebook-blocks.safetensors");
    let bytes = std::fs::read(path).expect("run scripts/prepare");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read_only = DType::ALL.into_iter().filter(|dtype| !dtype.has_quantizer());
    let mut n_values = 0;
    for dtype in read_only {
        let raw = file.tensor(&format!("{dtype}.raw")).unwrap();
        let expected = floats(file.tensor(&format!("{dtype}.f32")).unwrap().data());
        let mut values = vec![f32::NAN; expected.len()];
        dequantize(dtype, raw.data(), &mut values);
        let differs = values.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(differs, None, "{dtype}: first difference");
        n_values += values.len();
    }
    // Blocks that hold 256, 512, 1024 and twice 2048 entries of eight elements, and 256 and 512 entries of four.
    assert_eq!(n_values, 8 * (256 + 512 + 1024 + 2 * 2048) + 4 * (256 + 512));
}

#[test]
fn q8_0_quantizes_to_ggmls_bytes() {
    let bytes = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let src = floats(file.tensor("src.f32").unwrap().data());
    assert_eq!(quantize(DType::Q8_0, &src).unwrap(), file.tensor("Q8_0.raw").unwrap().data());
    assert_eq!(quantize(DType::F16, &src).unwrap(), file.tensor("F16.raw").unwrap().data());
    assert_eq!(quantize(DType::BF16, &src).unwrap(), file.tensor("BF16.raw").unwrap().data());
}

#[test]
fn k_types_quantize_at_least_as_well_as_ggml() {
    let bytes = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let src = floats(file.tensor("src.f32").unwrap().data());
    for dtype in [DType::Q4_K, DType::Q5_K, DType::Q6_K] {
        let ggml = rmse(&src, &floats(file.tensor(&format!("{dtype}.f32")).unwrap().data()));
        let mut values = vec![f32::NAN; src.len()];
        dequantize(dtype, &quantize(dtype, &src).unwrap(), &mut values);
        let ours = rmse(&src, &values);
        assert!(ours <= 1.02 * ggml, "{dtype}: root mean square error {ours}, ggml's is {ggml}");
    }
}

#[test]
fn packing_ggmls_numbers_gives_ggmls_bytes() {
    let bytes = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |dtype: DType| file.tensor(&format!("{dtype}.raw")).unwrap().data();
    for bytes in raw(DType::Q4_K).as_chunks().0 {
        let block = BlockQ4K::from_bytes(bytes);
        let (scales, mins) =
            (std::array::from_fn(|s| block.scale_min(s).0), std::array::from_fn(|s| block.scale_min(s).1));
        assert_eq!(BlockQ4K::pack(block.d, block.dmin, &scales, &mins, &block.quants()).to_bytes(), *bytes);
    }
    for bytes in raw(DType::Q5_K).as_chunks().0 {
        let block = BlockQ5K::from_bytes(bytes);
        let (scales, mins) =
            (std::array::from_fn(|s| block.scale_min(s).0), std::array::from_fn(|s| block.scale_min(s).1));
        assert_eq!(BlockQ5K::pack(block.d, block.dmin, &scales, &mins, &block.quants()).to_bytes(), *bytes);
    }
    for bytes in raw(DType::Q6_K).as_chunks().0 {
        let block = BlockQ6K::from_bytes(bytes);
        assert_eq!(BlockQ6K::pack(block.d, block.scales, &block.quants()).to_bytes(), *bytes);
    }
}
