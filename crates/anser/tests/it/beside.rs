//! Adapters whose low-rank pairs stay beside the weights, against models with merged weights in F32 whose products are sums in f64.

use crate::fixtures::{demo_path, root};
use anser::{Device, Lora, LoraForm, Model, Options, with_loras};
use anser_format::quant::{dequantize, quantize};
use anser_format::{DType, GgufWriter, ModelFile, Replacement, SafetensorsHeader};
use anser_model::cases::nmse;
use anser_model::{Op, Source};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::{NamedTempFile, TempDir};

/// The bound on the NMSE of logits where activations are f32: sums in another order, and the merged weights' rounding to f32.
const NMSE_EXACT: f64 = 1e-9;
/// The bound where products of quantized weights take activations in 8 bits and GPUs multiply halves: that of the trained model without
/// adapters (`gpu.rs`).
const NMSE: f64 = 1e-4;

fn formats(name: &str) -> PathBuf {
    root().join("fixtures/unpacked/formats").join(name)
}

fn options(device: &str, exact: bool) -> Options {
    Options { device: device.parse::<Device>().unwrap(), exact, ..Options::default() }
}

/// One matrix of an adapter, with numbers that F16 holds.
struct Pair {
    name: String,
    n_out: usize,
    n_in: usize,
    /// `[R, in]`
    down: Vec<f32>,
    /// `[out, R]`
    up: Vec<f32>,
}

/// Pairs of inner width `rank` for all matrices `.weight` of layers, and for the head.
fn pairs(base: &Arc<ModelFile>, rank: usize, seed: u32) -> Vec<Pair> {
    let (_, plan) = anser_model::load(base).unwrap();
    let mut bits = seed;
    let mut numbers = |len: usize, scale: f32| -> Vec<f32> {
        let mut next = || {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((bits >> 16) % 255) as f32 - 127.0
        };
        (0..len).map(|_| next() / 128.0 * scale).collect()
    };
    let matrices = plan.nodes.iter().filter_map(|node| match &node.op {
        Op::MatMul { weight, .. } => Some(plan.weight(*weight)),
        _ => None,
    });
    let is_meant = |name: &str| name == "head.weight" || name.starts_with("blocks.") && name.ends_with(".weight");
    let meant = matrices.filter(|weight| is_meant(weight.name()));
    let pair = |weight: &anser_model::Weight| {
        let (n_out, n_in) = (weight.n_rows(), weight.n_cols());
        // Powers of two near 1/√in and 1/√R, so that B·A has numbers like W's.
        let scale = |n: usize| (-(n as f32).log2() / 2.0).round().exp2();
        let (down, up) = (numbers(rank * n_in, scale(n_in)), numbers(n_out * rank, scale(rank) / 4.0));
        Pair { name: weight.name().trim_end_matches(".weight").into(), n_out, n_in, down, up }
    };
    meant.map(pair).collect()
}

/// The pairs as RWKV-PEFT names them, in a file.
fn written(pairs: &[Pair], rank: usize) -> NamedTempFile {
    let (mut header, mut data) = (SafetensorsHeader::new(), vec![]);
    for Pair { name, n_out, n_in, down, up } in pairs {
        for (suffix, shape, numbers) in [("lora_A", [rank, *n_in], down), ("lora_B", [*n_out, rank], up)] {
            header.tensor(&format!("{name}.{suffix}"), DType::F32, &shape).unwrap();
            data.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        }
    }
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [header.to_bytes(), data].concat()).unwrap();
    file
}

/// `base` with W + Σ factor · B·A in F32 in the place of every matrix W.
fn merged(base: &Arc<ModelFile>, adapters: &[(&[Pair], f64)]) -> Arc<ModelFile> {
    let source = Source::new(base);
    let (first, _) = adapters[0];
    let replacement = |(i, pair): (usize, &Pair)| {
        let tensor = source.spelled(&format!("{}.weight", pair.name));
        let stored = base.tensor(&tensor).unwrap();
        assert_eq!(stored.shape(), [pair.n_out, pair.n_in], "{tensor}");
        let mut w = vec![0.0; pair.n_out * pair.n_in];
        dequantize(stored.dtype(), stored.bytes(), &mut w);
        for (at, w) in w.iter_mut().enumerate() {
            let (o, i_in) = (at / pair.n_in, at % pair.n_in);
            let mut sum = f64::from(*w);
            for (pairs, factor) in adapters {
                let Pair { down, up, n_in, .. } = &pairs[i];
                let rank = down.len() / n_in;
                let product = |r: usize| f64::from(up[o * rank + r]) * f64::from(down[r * n_in + i_in]);
                sum += factor * (0..rank).map(product).sum::<f64>();
            }
            *w = sum as f32;
        }
        let bytes = w.iter().flat_map(|x| x.to_le_bytes()).collect();
        Replacement { name: tensor, dtype: DType::F32, bytes }
    };
    base.replacing(first.iter().enumerate().map(replacement).collect(), "merged")
}

/// The logits after 1, 4 and 24 tokens: products of one token, of few and of many.
fn logits(model: &Model) -> Vec<f32> {
    let mut session = model.session().unwrap();
    let mut logits = vec![];
    let tokens: Vec<u32> = (0..24).map(|i| 1 + (i * 7 + 3) % 60).collect();
    for tokens in [&tokens[..1], &tokens[1..4], &tokens[4..]] {
        session.feed(tokens).unwrap();
        logits.extend_from_slice(session.logits());
    }
    logits
}

/// A GGUF file with the matrices of another one in Q8_0, as quantizers write it: small ones stay as they are.
fn quantized(folder: &TempDir, path: &Path) -> PathBuf {
    let file = ModelFile::open(path).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata_entries().filter(|(key, _)| *key != "general.alignment") {
        writer.metadata(key, value.clone()).unwrap();
    }
    let dtype_of = |info: &anser_format::TensorInfo| {
        let is_matrix = matches!(info.shape, [_, n_in] if n_in.is_multiple_of(32)) && info.name.ends_with(".weight");
        let is_low_rank = ["lerp", "decay", "lora", "_w1", "_w2", "_a1", "_a2", "_g1", "_g2", "_v1", "_v2"];
        let stays = !is_matrix || is_low_rank.iter().any(|part| info.name.contains(part));
        if stays { info.view().unwrap().dtype } else { DType::Q8_0 }
    };
    for info in file.tensors() {
        writer.tensor(info.name, dtype_of(&info), info.shape).unwrap();
    }
    let mut data = writer.begin(vec![]).unwrap();
    for info in file.tensors() {
        let view = info.view().unwrap();
        let dtype = dtype_of(&info);
        let bytes = match dtype == view.dtype {
            true => view.bytes.to_vec(),
            false => {
                let mut numbers = vec![0.0; info.shape.iter().product()];
                dequantize(view.dtype, view.bytes, &mut numbers);
                quantize(dtype, &numbers).unwrap()
            }
        };
        data.write_tensor(info.name, [bytes]).unwrap();
    }
    let out = folder.path().join(path.file_name().unwrap());
    std::fs::write(&out, data.finish().unwrap()).unwrap();
    out
}

/// Holds the model at `path` with an adapter of all its matrices in `form` to the one with merged weights, on a device.
fn check(path: &Path, form: LoraForm, device: &str) {
    const RANK: usize = 6;
    let base = ModelFile::open(path).unwrap();
    let pairs = pairs(&base, RANK, 1);
    assert!(pairs.len() >= 8, "{path:?}");
    let adapter = written(&pairs, RANK);
    let lora = Lora { alpha: Some(2.0 * RANK as f32), form, ..Lora::new(adapter.path()) };
    let tuned = Model::load(path, &Options { lora: vec![lora], ..options(device, true) }).unwrap();
    let weights = &tuned.plan().weights;
    for pair in &pairs {
        let name = format!("{}.weight", pair.name);
        let found = |name: &str| weights.iter().find(|weight| weight.name() == name).unwrap();
        let plain = base.tensor(&Source::new(&base).spelled(&name)).unwrap();
        assert_eq!(found(&name).dtype(), plain.dtype(), "{name} is used as it lies in the file");
        assert_eq!(found(&format!("{name}.lora_a")).n_rows(), RANK);
    }
    let expected = logits(&Model::from_file(merged(&base, &[(&pairs, 2.0)]), &options("cpu", true)).unwrap());
    let error = nmse(&logits(&tuned), &expected);
    assert!(error <= NMSE_EXACT, "{path:?} on {device}: nmse {error:e}");
    let without = nmse(&logits(&Model::load(path, &options("cpu", true)).unwrap()), &expected);
    assert!(without > 1e-2, "the adapter changes the logits: {path:?} {without:e}");
}

#[test]
fn pairs_beside_weights_of_every_version_are_as_good_as_merged() {
    for name in ["m4.pth", "m50.pth", "m51.pth", "m52.pth", "m6.pth", "m7a.pth", "hf/fla"] {
        check(&formats(name), LoraForm::Beside, "cpu");
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["gguf/m6-lerp5.gguf", "gguf/f7-f16.gguf", "gguf/rwkv6qwen2.gguf", "gguf/arwkv7.gguf"] {
        check(&quantized(&folder, &formats(name)), LoraForm::Fitting, "cpu");
    }
    check(&demo_path("demo-q4_k_m.gguf"), LoraForm::Fitting, "cpu");
}

#[test]
fn pairs_beside_weights_of_every_version_are_as_good_on_a_gpu() {
    for name in ["m4.pth", "m7a.pth"] {
        check(&formats(name), LoraForm::Beside, "gpu:0");
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["gguf/m6-lerp5.gguf", "gguf/arwkv7.gguf"] {
        check(&quantized(&folder, &formats(name)), LoraForm::Fitting, "gpu:0");
    }
    check(&demo_path("demo-q4_k_m.gguf"), LoraForm::Fitting, "gpu:0");
}

/// With activations in 8 bits, which is how quantized models run, the pairs see the activations as they are.
#[test]
fn rounded_activations_cost_no_more_than_without_an_adapter() {
    let path = demo_path("demo-q4_k_m.gguf");
    let base = ModelFile::open(&path).unwrap();
    let pairs = pairs(&base, 16, 2);
    let adapter = written(&pairs, 16);
    let lora = || Lora { alpha: Some(8.0), ..Lora::new(adapter.path()) };
    let expected = logits(&Model::from_file(merged(&base, &[(&pairs, 0.5)]), &options("cpu", true)).unwrap());
    for device in ["cpu", "gpu:0"] {
        let tuned = Model::load(&path, &Options { lora: vec![lora()], ..options(device, false) }).unwrap();
        let error = nmse(&logits(&tuned), &expected);
        assert!(error <= NMSE, "{device}: nmse {error:e}");
    }
}

/// Two adapters of a matrix are one pair of both inner widths; `merge` of one of them merges both.
#[test]
fn several_adapters_are_one_pair() {
    let path = demo_path("demo-q4_k_m.gguf");
    let base = ModelFile::open(&path).unwrap();
    let (small, large) = (pairs(&base, 1, 3), pairs(&base, 8, 4));
    let files = [written(&small, 1), written(&large, 8)];
    let lora =
        |i: usize, alpha: f32, scale: f32, form| Lora { alpha: Some(alpha), scale, form, ..Lora::new(files[i].path()) };
    let load = |forms: [LoraForm; 2]| {
        let lora = vec![lora(0, 1.0, 1.0, forms[0]), lora(1, 8.0, -0.5, forms[1])];
        Model::load(&path, &Options { lora, ..options("cpu", true) }).unwrap()
    };
    let expected = merged(&base, &[(&small, 1.0), (&large, -0.5)]);
    let expected = logits(&Model::from_file(expected, &options("cpu", true)).unwrap());
    let beside = load([LoraForm::Fitting, LoraForm::Beside]);
    let find = |model: &Model, name: &str| model.plan().weights.iter().find(|weight| weight.name() == name).cloned();
    assert_eq!(find(&beside, "blocks.2.ffn.value.weight.lora_a").unwrap().n_rows(), 9);
    let error = nmse(&logits(&beside), &expected);
    assert!(error <= NMSE_EXACT, "nmse {error:e}");
    let is_merged = load([LoraForm::Beside, LoraForm::Merged]);
    assert!(find(&is_merged, "blocks.2.ffn.value.weight.lora_a").is_none());
    assert_eq!(find(&is_merged, "blocks.2.ffn.value.weight").unwrap().dtype(), DType::Q8_0);
    // Both are the same model: a state of one is one of the other, although rank 1 has a matrix of one row.
    assert!(beside.identity().unwrap().is_same_model(is_merged.identity().unwrap()));
    let lora = vec![lora(0, 1.0, 1.0, LoraForm::Fitting)];
    let one = Model::load(&path, &Options { lora: lora.clone(), ..options("cpu", true) }).unwrap();
    let merged = vec![Lora { form: LoraForm::Merged, ..lora[0].clone() }];
    let merged = Model::load(&path, &Options { lora: merged, ..options("cpu", true) }).unwrap();
    assert!(one.identity().unwrap().is_same_model(merged.identity().unwrap()));
    assert!(!one.identity().unwrap().is_same_model(beside.identity().unwrap()));
    // What has adapters is not given more of them, whose names would say nothing of the first ones.
    let error = with_loras(one.file(), &lora, None).unwrap_err().to_string();
    assert!(error.contains("adapters already") && error.contains("lora="), "{error}");
}

/// llama.cpp's converter stores the last matrices of both halves of later layers smaller: their pairs count as much less.
#[test]
fn an_adapter_fits_a_file_of_rescaled_matrices() {
    let (plain, rescaled) = (formats("m6.pth"), formats("gguf/m6-rescale2.gguf"));
    let base = ModelFile::open(&plain).unwrap();
    assert!(anser_model::load(&ModelFile::open(&rescaled).unwrap()).unwrap().0.rescale_every > 0);
    let pairs = pairs(&base, 4, 5);
    let adapter = written(&pairs, 4);
    let expected = logits(&Model::from_file(merged(&base, &[(&pairs, 1.0)]), &options("cpu", true)).unwrap());
    // The file is F16, and so are weights that are merged: half a step is 2⁻¹² of a number, squared 6e-8, in each of some products.
    for (form, bound) in [(LoraForm::Beside, NMSE_EXACT), (LoraForm::Merged, 1e-5)] {
        let lora = vec![Lora { alpha: Some(4.0), form, ..Lora::new(adapter.path()) }];
        let tuned = Model::load(&rescaled, &Options { lora, ..options("cpu", true) }).unwrap();
        let error = nmse(&logits(&tuned), &expected);
        assert!(error <= bound, "{form:?}: nmse {error:e}");
    }
}
