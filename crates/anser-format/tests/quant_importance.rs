//! Every quantizer against ggml's, with and without an importance matrix: 12 rows of 512 and the errors of ggml's blocks.

use std::path::Path;

use anser_format::DType;
use anser_format::quant::{dequantize, quantize_row};
use safetensors::SafeTensors;

/// A file of the fixtures, unpacked.
fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/unpacked/formats/quant").join(name);
    std::fs::read(path).expect("run scripts/prepare")
}

/// Numbers of the fixture's tensor.
fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    let dtype = if tensor.dtype() == safetensors::Dtype::F16 { DType::F16 } else { DType::F32 };
    let mut out = vec![0.0; tensor.shape().iter().product()];
    dequantize(dtype, tensor.data(), &mut out);
    out
}

/// √(Σ w (a − b)² / Σ w)
fn rmse(a: &[f32], b: &[f32], weights: impl Iterator<Item = f32>) -> f64 {
    let [mut sum, mut sum_w] = [0.0, 0.0];
    for ((&a, &b), w) in a.iter().zip(b).zip(weights) {
        sum += f64::from(w) * (f64::from(a) - f64::from(b)).powi(2);
        sum_w += f64::from(w);
    }
    (sum / sum_w).sqrt()
}

#[test]
fn errors_are_at_most_ggmls() {
    let bytes = fixture("blocks.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let errors: serde_json::Value = serde_json::from_slice(&fixture("blocks.json")).unwrap();
    let (src, importance) = (floats(&file, "src"), floats(&file, "importance"));
    let weights = || importance.iter().copied().cycle();
    let mut failures = vec![];
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized() && dtype.has_quantizer()) {
        for (key, matrix) in [(dtype.name().to_owned(), None), (format!("{dtype}.imatrix"), Some(&importance[..]))] {
            // The fixture's errors are those of its blocks.
            let mut theirs = vec![0.0; src.len()];
            dequantize(dtype, file.tensor(&format!("{key}.raw")).unwrap().data(), &mut theirs);
            let told = |which: &str| errors[&key][which].as_f64().unwrap();
            let weighted = rmse(&src, &theirs, weights());
            assert!((weighted / told("weighted_rmse") - 1.0).abs() < 1e-4, "{key}");

            let mut ours = vec![];
            for row in src.chunks_exact(importance.len()) {
                let bytes = quantize_row(dtype, row, matrix).unwrap();
                let mut back = vec![0.0; row.len()];
                dequantize(dtype, &bytes, &mut back);
                ours.extend(back);
            }
            let plain = rmse(&src, &ours, std::iter::repeat(1.0)) / told("rmse");
            let weighted = rmse(&src, &ours, weights()) / told("weighted_rmse");
            println!("{key:<16} of ggml's error: plain {plain:.4}, weighted {weighted:.4}");
            // Q8_0 has ggml's bits. With a matrix the plain error grows on purpose.
            let exact = if dtype == DType::Q8_0 { 1e-4 } else { 0.0 };
            let bounds = if matrix.is_some() { [f64::INFINITY, 1.0] } else { [1.0, 1.0] };
            if plain > bounds[0] + exact || weighted > bounds[1] + exact {
                failures.push(format!("{key}: plain {plain:.4}, weighted {weighted:.4}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}
