//! PyTorch files: those that torch wrote, and 108 that were made by hand to be odd or hostile. The tensors of sound ones must
//! be those of `m7.safetensors`, number by number; the others must be refused in bounds, and nothing may run.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anser_format::quant::dequantize;
use anser_format::{DType, FileKind, ModelFile, Tensor, TorchContainer};
use common::{fixture, walk};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Files that are sound as files; only as models they are not.
const BROKEN_AS_MODELS: [&str; 2] = ["tensor_dtype_int.pth", "tensor_missing.pth"];

fn formats(name: &str) -> PathBuf {
    fixture("unpacked/formats").join(name)
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    let mut numbers = vec![0.0; tensor.shape().iter().product()];
    dequantize(tensor.dtype(), tensor.bytes(), &mut numbers);
    numbers
}

/// The base model's tensors: shape and numbers.
fn base() -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let file = ModelFile::open(formats("m7.safetensors")).expect("run scripts/prepare");
    let tensor = |name: &str| file.tensor(name).unwrap();
    file.tensors().map(|t| (t.name.to_owned(), (t.shape.to_vec(), numbers(&tensor(t.name))))).collect()
}

/// Every tensor of the base has its shape and numbers in `file`.
fn assert_is_base(name: &str, file: &std::sync::Arc<ModelFile>) {
    for (tensor, (shape, expected)) in base() {
        let found = file.tensor(&tensor).unwrap_or_else(|| panic!("{name}: {tensor} is missing"));
        assert_eq!(found.shape(), shape, "{name}: {tensor}");
        assert!(numbers(&found) == expected, "{name}: {tensor} has other numbers");
    }
}

#[test]
fn hand_made_files_behave_as_their_manifest_says() {
    let folder = formats("pth/hand");
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).expect("run scripts/prepare");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let entries = manifest.as_array().unwrap();
    assert_eq!(entries.len(), 108);
    let mut failures = vec![];
    for entry in entries {
        let (name, expect) = (entry["file"].as_str().unwrap(), entry["expect"].as_str().unwrap());
        let path = folder.join(name);
        let file_n_bytes = std::fs::metadata(&path).unwrap().len() as usize;
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let opened = ModelFile::open(&path);
        let n_allocated = ALLOCATOR.peak_usage() - before;
        if n_allocated > 8 * file_n_bytes + (64 << 10) {
            failures.push(format!("{name}: {n_allocated} bytes allocated for a file of {file_n_bytes}"));
        }
        match &opened {
            Ok(file) => {
                walk(file);
                if expect == "load" {
                    assert_is_base(name, file);
                }
            }
            Err(error) if !error.to_string().contains(name) => {
                failures.push(format!("the error does not name the file {name}: {error}"));
            }
            Err(error) => println!("{error}"),
        }
        let should_open = match expect {
            "load" => Some(true),
            "reject" => Some(BROKEN_AS_MODELS.contains(&name)),
            _ => None,
        };
        if should_open.is_some_and(|should_open| should_open != opened.is_ok()) {
            failures.push(format!("{name} ({}): {expect} is expected, found {opened:?}", entry["why"]));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(!std::path::Path::new("pwned.txt").exists());
}

#[test]
fn files_of_torch_have_the_same_tensors() {
    let kinds = [
        ("torch-bf16.pth", TorchContainer::Zip, Some(DType::BF16)),
        ("torch-bf16-protocol4.pth", TorchContainer::Zip, Some(DType::BF16)),
        ("torch-f32.pth", TorchContainer::Zip, Some(DType::F32)),
        ("torch-f16-legacy.pth", TorchContainer::Legacy, Some(DType::F16)),
        ("torch-f16-views.pth", TorchContainer::Zip, Some(DType::F16)),
        ("torch-mixed-types.pth", TorchContainer::Zip, None),
        ("torch-nested-module.pth", TorchContainer::Zip, None),
        ("torch-parameters.pth", TorchContainer::Zip, None),
    ];
    for (name, container, dtype) in kinds {
        let path = formats("pth").join(name);
        for file in [ModelFile::open(&path), ModelFile::read(&path)] {
            let file = file.unwrap();
            assert_eq!(file.kind(), FileKind::Torch(container), "{name}");
            assert_is_base(name, &file);
            walk(&file);
            if let Some(dtype) = dtype {
                assert!(base().keys().all(|tensor| file.tensor(tensor).unwrap().dtype() == dtype), "{name}");
            }
        }
    }
}

/// Contiguous tensors borrow from the file's bytes; views with strides are copied, and are in place again when transposed.
#[test]
fn tensors_stay_in_place() {
    let open = |name: &str| {
        let bytes: &'static [u8] = std::fs::read(formats("pth").join(name)).unwrap().leak();
        (bytes.as_ptr_range(), ModelFile::from_static(name, bytes).unwrap())
    };
    for name in ["torch-bf16.pth", "torch-f16-legacy.pth", "hand/ok_unaligned.pth", "hand/ok_nested_module.pth"] {
        let (range, file) = open(name);
        assert!(file.tensors().all(|tensor| range.contains(&tensor.view().unwrap().bytes.as_ptr())), "{name}");
    }
    let (range, file) = open("hand/ok_column_major.pth");
    for (name, (shape, expected)) in base() {
        let tensor = file.tensor(&name).unwrap();
        assert_eq!(range.contains(&tensor.bytes().as_ptr()), shape.len() != 2 || shape[0] == 1, "{name}");
        let Some(transposed) = tensor.transposed() else { continue };
        if shape.len() == 2 {
            assert!(range.contains(&transposed.bytes().as_ptr()), "{name}");
            let n_cols = shape[1];
            let column = |col: usize| expected.iter().skip(col).step_by(n_cols).copied().collect::<Vec<_>>();
            assert_eq!(transposed.shape(), [shape[1], shape[0]]);
            assert!(numbers(&transposed) == (0..n_cols).flat_map(column).collect::<Vec<_>>(), "{name}");
        }
        assert_eq!(numbers(&transposed.transposed().unwrap()), expected, "{name}");
    }
}

/// A transposed matrix of a file on disk: parts of it are gathered without a copy of all.
#[test]
fn parts_of_a_transposed_matrix_are_those_of_the_whole() {
    let file = ModelFile::open(formats("pth/torch-bf16.pth")).unwrap();
    let tensor = file.tensor("blocks.1.att.w1").unwrap().transposed().unwrap();
    let [rank, n_embd] = *tensor.shape() else { panic!("{tensor:?}") };
    let row_n_bytes = n_embd * 2;
    let mut scratch = vec![];
    let rows: Vec<u8> = (0..rank)
        .flat_map(|row| tensor.fetch(row * row_n_bytes..(row + 1) * row_n_bytes, &mut scratch).unwrap().to_vec())
        .collect();
    assert_eq!(rows, tensor.bytes());
    assert_eq!(tensor.fetch(3..17, &mut scratch).unwrap(), &rows[3..17]);
}

#[test]
fn numbers_that_stand_for_a_vector_are_f32() {
    let file = ModelFile::open(formats("pth/torch-bf16.pth")).unwrap();
    let tensor = file.tensor("blocks.0.att.w0").unwrap();
    let twice: Vec<f32> = numbers(&tensor).iter().map(|x| 2.0 * x).collect();
    let replaced = tensor.replaced(&[twice.len()], &twice);
    assert_eq!((replaced.dtype(), replaced.name(), replaced.n_bytes()), (DType::F32, tensor.name(), 4 * twice.len()));
    assert_eq!(numbers(&replaced), twice);
    assert_eq!(replaced.fetch(4..8, &mut vec![]).unwrap(), twice[1].to_le_bytes());
}

#[test]
fn numbers_and_texts_beside_the_tensors_are_metadata() {
    let file = ModelFile::open(formats("pth/hand/ok_nested_model.pth")).unwrap();
    let entries: Vec<String> = file.metadata_entries().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(entries, ["epoch=3", "lr=0.0001", "note=\"x\""]);
}
