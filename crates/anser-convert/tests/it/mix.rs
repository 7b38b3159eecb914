//! Errors of matrices in each type, matrices in memory, and sizes of files, against what is written.

use crate::harness::{bytes, formats, numbers, open, written};
use anser_convert::{ImportanceMatrix, Output};
use anser_format::DType;
use anser_format::quant::dequantize;
use std::ops::ControlFlow;

const NAME: &str = "blk.0.time_mix_key.weight";

fn matrix() -> ImportanceMatrix {
    ImportanceMatrix::from_gguf(&formats("quant/q7-imatrix.gguf")).unwrap()
}

/// An error is that of the numbers that a file with the matrix in this type has, and so is the matrix in memory.
#[test]
fn errors_and_matrices_are_those_of_files() {
    let (file, matrix) = (formats("quant/q7-f16.gguf"), matrix());
    let source = numbers(&file, NAME);
    for importance in [None, Some(&matrix)] {
        let mut output = Output::same_gguf(&file).unwrap();
        if let Some(importance) = importance {
            output.set_importance(importance).unwrap();
        }
        let errors = output.quantization_errors(|_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(errors.len(), output.quantizable().count());
        let tensor = errors.iter().find(|tensor| tensor.name == NAME).unwrap();
        let types: Vec<DType> = tensor.of_types.iter().map(|&(dtype, ..)| dtype).collect();
        assert_eq!(types.last(), Some(&DType::F16));
        for dtype in [DType::Q3_K, DType::Q6_K, DType::Q8_0] {
            let mut assigned = output.clone();
            assigned.assign(&[(NAME.into(), dtype)], importance).unwrap();
            let file = written(&assigned);
            let back = numbers(&file, NAME);
            let &(_, n_bytes, error) = tensor.of_types.iter().find(|(other, ..)| *other == dtype).unwrap();
            assert_eq!(n_bytes as usize, file.tensor(NAME).unwrap().n_bytes().next_multiple_of(32));
            let weights = importance.and_then(|matrix| matrix.get(NAME)).map_or(vec![1.0], <[f32]>::to_vec);
            let weighted = |numbers: &mut dyn Iterator<Item = f64>| -> f64 {
                numbers.zip(weights.iter().cycle()).map(|(x, &w)| x * x * f64::from(w)).sum()
            };
            let difference = weighted(&mut source.iter().zip(&back).map(|(&a, &b)| f64::from(a - b)));
            let expected = difference / weighted(&mut source.iter().map(|&x| f64::from(x)));
            assert!((error / expected - 1.0).abs() < 1e-4, "{dtype}: {error}, expected {expected}");

            let weight = output.quantized_weight(NAME, dtype).unwrap();
            assert_eq!((weight.dtype(), weight.n_rows() * weight.n_cols()), (dtype, source.len()));
            let mut in_memory = vec![0.0; source.len()];
            dequantize(dtype, weight.bytes(), &mut in_memory);
            assert!(in_memory == back, "{dtype}");
        }
        assert!(output.quantized_weight("output_norm.weight", DType::Q8_0).is_err());
    }
}

/// A file has as many bytes as were foretold, and the types that were assigned.
#[test]
fn sizes_of_files_are_exact() {
    for file in
        [formats("quant/q7-f16.gguf"), formats("gguf/m6-rescale2.gguf"), open("unpacked/formats/gguf/rwkv6qwen2.gguf")]
    {
        let mut output = Output::same_gguf(&file).unwrap();
        assert_eq!(output.file_n_bytes().unwrap(), bytes(&output).len() as u64, "{}", file.name());
        let errors = output.quantization_errors(|_, _| ControlFlow::Continue(())).unwrap();
        let types: Vec<(String, DType)> = errors
            .iter()
            .enumerate()
            .map(|(i, tensor)| (tensor.name.clone(), tensor.of_types[i % tensor.of_types.len()].0))
            .collect();
        output.assign(&types, None).unwrap();
        let written_file = written(&output);
        assert_eq!(output.file_n_bytes().unwrap(), bytes(&output).len() as u64, "{}", file.name());
        for (name, dtype) in &types {
            assert_eq!(written_file.tensor(name).unwrap().dtype(), *dtype, "{name}");
        }
        assert!(output.assign(&[("no.weight".into(), DType::Q8_0)], None).is_err());
    }
}
