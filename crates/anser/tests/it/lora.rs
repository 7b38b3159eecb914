//! Adapters merged at load: every dialect of `fixtures/formats/tuned` gives the logits that package rwkv gives with merged weights.

use crate::fixtures::{demo_path, root};
use anser::{Device, Lora, LoraForm, Model, Options};
use anser_format::quant::dequantize;
use anser_format::{DType, ModelFile, SafetensorsHeader};
use anser_model::lora::{Adapter, Form, changes};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    root().join("fixtures/unpacked/formats").join(name)
}

fn load(model: &Path, device: &str, lora: Lora) -> Result<Model, anser::Error> {
    let device: Device = device.parse().unwrap();
    Model::load(model, &Options { device, lora: vec![lora], exact: true, ..Options::default() })
}

/// The cases of `cases.json` with an adapter: model, adapter, what is expected, prompts and tolerance.
fn cases() -> Vec<(PathBuf, Lora, Value)> {
    let json: Value = serde_json::from_slice(&std::fs::read(path("cases.json")).unwrap()).unwrap();
    let has_lora = |case: &&Value| case.get("lora").is_some();
    let number = |case: &Value, key: &str| case.get(key).map(|x| x.as_f64().unwrap() as f32);
    let case = |case: &Value| {
        let lora = Lora {
            path: path(case["lora"].as_str().unwrap()),
            scale: number(case, "scale").unwrap_or(1.0),
            alpha: number(case, "alpha"),
            init: case.get("init").map(|init| path(init.as_str().unwrap())),
            form: LoraForm::Fitting,
        };
        (path(case["file"].as_str().unwrap()), lora, case.clone())
    };
    json.as_array().unwrap().iter().filter(has_lora).map(case).collect()
}

/// Holds the logits after the prompts of a case to the oracle's.
fn check(model: &Model, case: &Value) {
    let bytes = std::fs::read(path("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let prompts: Vec<Vec<u32>> = serde_json::from_value(case["tokens"].clone()).unwrap();
    let name = case["expect"].as_str().unwrap();
    for (i, tokens) in prompts.iter().enumerate() {
        let mut session = model.session().unwrap();
        session.feed(tokens).unwrap();
        let tensor = expected.tensor(&format!("{name}.p{i}.logits")).unwrap();
        let oracle = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        let error = session.logits().iter().zip(oracle).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        // F16 keeps 11 bits of merged weights; the logits of these miniatures are some 1 to 4.
        assert!(f64::from(error) <= case["tolerance"].as_f64().unwrap(), "{model:?} {name} {i}: {error}");
    }
}

#[test]
fn every_dialect_gives_the_logits_of_merged_weights() {
    let cases = cases();
    assert_eq!(cases.len(), 11);
    for (model, lora, case) in cases {
        for form in [LoraForm::Fitting, LoraForm::Beside] {
            check(&load(&model, "cpu", Lora { form, ..lora.clone() }).unwrap(), &case);
        }
    }
}

#[test]
fn merged_weights_give_the_same_logits_on_a_gpu() {
    for (model, lora, case) in cases() {
        // One of F16 in GGUF with stacked vectors, one of BF16 in a folder.
        let is_vectors = case["lora"] == "tuned/f7-lora-vectors.st";
        if is_vectors || case["lora"] == "tuned/f7-lora.gguf" && case["file"] == "hf/fla" {
            for form in [LoraForm::Fitting, LoraForm::Beside] {
                check(&load(&model, "gpu:0", Lora { form, ..lora.clone() }).unwrap(), &case);
            }
        }
    }
}

/// PEFT's folder has the pairs of `f7-lora.pth` under the names of flash-linear-attention's modules.
#[test]
fn a_folder_of_peft_says_its_own_alpha() {
    let source = ModelFile::open(path("tuned/f7-lora.pth")).unwrap();
    let modules = [("att.receptance", "attn.r_proj"), ("att.key", "attn.k_proj"), ("att.value", "attn.v_proj")];
    let others = [("att.output", "attn.o_proj"), ("ffn.key", "ffn.key"), ("ffn.value", "ffn.value")];
    let mut header = SafetensorsHeader::new();
    let mut data = vec![];
    for info in source.tensors() {
        let mut name = info.name.replace("blocks.", "base_model.model.model.layers.") + ".weight";
        for (blink, fla) in modules.iter().chain(&others) {
            name = name.replace(&format!(".{blink}."), &format!(".{fla}."));
        }
        header.tensor(&name, DType::BF16, info.shape).unwrap();
        data.extend_from_slice(info.view().unwrap().bytes);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adapter_model.safetensors"), [header.to_bytes(), data].concat()).unwrap();
    let settings = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 12, "use_rslora": false, "rank_pattern": {}}"#;
    std::fs::write(folder.path().join("adapter_config.json"), settings).unwrap();
    std::fs::write(folder.path().join("training_args.bin"), "nothing that is read").unwrap();
    let (_, _, case) = cases().swap_remove(0);
    let model = path("hf/fla");
    check(&load(&model, "cpu", Lora::new(folder.path())).unwrap(), &case);
    let doubled = Lora { alpha: Some(24.0), ..Lora::new(folder.path()) };
    let error = load(&model, "cpu", doubled).unwrap_err().to_string();
    assert!(error.contains("alpha 12") && error.contains("leave alpha out"), "{error}");
    let settings = settings.replace("false", "true");
    std::fs::write(folder.path().join("adapter_config.json"), settings).unwrap();
    // 12/√4 = 6 instead of 12/4 = 3: half of it is the case's factor.
    let half = Lora { scale: 0.5, ..Lora::new(folder.path()) };
    check(&load(&model, "cpu", half).unwrap(), &case);
}

/// Bat's rule in plain loops over blocks, and what becomes of quantized matrices.
#[test]
fn bat_and_quantized_matrices_follow_their_formulas() {
    let numbers = |file: &std::sync::Arc<ModelFile>, name: &str| {
        let tensor = file.tensor(name).unwrap();
        let mut numbers = vec![0.0; tensor.shape().iter().product()];
        dequantize(tensor.dtype(), tensor.bytes(), &mut numbers);
        (tensor.dtype(), numbers)
    };
    let base = ModelFile::open(demo_path("demo-q4_k_m.gguf")).unwrap();
    let (n, rank) = (256, 64);
    let d: Vec<f32> = (0..n * rank).map(|i| ((i * 37 % 101) as f32 - 50.0) / 4000.0).collect();
    let mut header = SafetensorsHeader::new();
    header.tensor("blocks.1.att.key.disha", DType::F32, &[n / rank, rank, rank]).unwrap();
    let bytes = [header.to_bytes(), d.iter().flat_map(|x| x.to_le_bytes()).collect()].concat();
    let file = ModelFile::from_bytes("bat", bytes).unwrap();
    let form = Form::Beside; // Bat is no low-rank pair.
    let changes = changes(&base, &[Adapter { file, init: None, scale: 0.5, alpha: None, form }]).unwrap();
    assert_eq!((changes.merges.len(), changes.beside.len()), (1, 0));
    let name = "blk.1.time_mix_key.weight";
    let merged = base.replacing(vec![changes.merges[0].compute().unwrap()], "bat");
    let ((_, w), (dtype, found)) = (numbers(&base, name), numbers(&merged, name));
    assert_eq!(dtype, DType::Q8_0);
    let mut max_abs = 0.0f64;
    for o in 0..n {
        for i in 0..n {
            let (block, x, y) = (i / rank, o % rank, i % rank);
            let d = |x: usize, y: usize| f64::from(d[(block * rank + x) * rank + y]);
            let at = |z: usize| f64::from(w[o * n + block * rank + z]);
            let product: f64 = (0..rank).map(|z| at(z) * d(z, y)).sum();
            let expected = at(y) + 0.5 * (product + d(x, y));
            max_abs = max_abs.max((expected - f64::from(found[o * n + i])).abs());
        }
    }
    let largest = found.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    // Q8_0 has 127 steps from 0 to the largest number of a block, and F16 scales.
    assert!(max_abs <= f64::from(largest) / 127.0 * 0.51, "{max_abs} {largest}");
}

#[test]
fn states_of_a_model_and_of_its_variants_do_not_mix() {
    let base = path("gguf/f7-f16.gguf");
    let options = Options { device: Device::Cpu, ..Options::default() };
    let plain = Model::load(&base, &options).unwrap();
    let lora = || Lora::new(path("tuned/f7-lora.gguf"));
    let tuned = load(&base, "cpu", lora()).unwrap();
    let half = load(&base, "cpu", Lora { scale: 0.5, ..lora() }).unwrap();
    let again = load(&base, "cpu", lora()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let mut session = tuned.session().unwrap();
    session.feed(&[1, 2, 3]).unwrap();
    session.save_state(&state).unwrap();
    for other in [&plain, &half] {
        assert_ne!(other.fingerprint(), tuned.fingerprint());
        assert_ne!(other.digest().unwrap(), tuned.digest().unwrap());
        assert!(!other.identity().unwrap().is_same_model(tuned.identity().unwrap()));
        let error = other.session().unwrap().load_state(&state).unwrap_err().to_string();
        assert!(error.contains("another model") && error.contains("lora="), "{error}");
    }
    again.session().unwrap().load_state(&state).unwrap();
    assert!(tuned.check_output(path("tuned/f7-lora.gguf")).is_err(), "the adapter would be overwritten");
}

#[test]
fn what_does_not_fit_is_told_by_name() {
    let base = path("gguf/f7-f16.gguf");
    let refused = |base: &str, lora: Lora| load(&path(base), "cpu", lora).unwrap_err().to_string();
    let pth = || Lora::new(path("tuned/f7-lora.pth"));
    let error = refused("gguf/f7-f16.gguf", pth());
    assert!(error.contains("f7-lora.pth") && error.contains("alpha=A") && error.contains("rank is 4"), "{error}");
    let error = refused("gguf/f7-f16.gguf", Lora { alpha: Some(12.0), ..Lora::new(path("tuned/f7-bone.pth")) });
    assert!(error.contains("no low-rank pairs"), "{error}");
    let error = refused("gguf/f7-f16.gguf", Lora { alpha: Some(8.0), ..Lora::new(path("tuned/f7-lora.gguf")) });
    assert!(error.contains("alpha 12"), "{error}");
    let error = refused("m6.pth", Lora::new(path("tuned/f7-lora.gguf")));
    assert!(error.contains("general.architecture") && error.contains("rwkv6"), "{error}");
    let error = refused("gguf/f7-f16.gguf", Lora { init: Some(path("tuned/f7-bone.pth")), ..pth() });
    assert!(error.contains("f7-bone.pth") && error.contains("disha"), "{error}");
    let error = refused("gguf/f7-f16.gguf", Lora::new(path("tuned/m7-state.pth")));
    assert!(error.contains("time_state") && error.contains("tuned initial state"), "{error}");

    // A file of one pair and whatever else `tensors` adds.
    let with = |tensors: &[(&str, &[usize])]| {
        let mut header = SafetensorsHeader::new();
        let mut n_elements = 0;
        for (name, shape) in tensors {
            header.tensor(name, DType::F32, shape).unwrap();
            n_elements += shape.iter().product::<usize>();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [header.to_bytes(), vec![0; n_elements * 4]].concat()).unwrap();
        let lora = Lora { alpha: Some(4.0), ..Lora::new(file.path()) };
        load(&base, "cpu", lora).map(|_| ()).map_err(|error| error.to_string())
    };
    let [down, up] = ["blocks.0.att.key.lora.0", "blocks.0.att.key.lora.1"];
    with(&[(down, &[64, 2]), (up, &[64, 2])]).unwrap();
    for (tensors, expected) in [
        (&[(down, &[64, 2][..])][..], "B of the low-rank pair is missing"),
        (&[(down, &[64, 0]), (up, &[64, 0])], "blocks.0.att.key.lora.0: expected shape no dimension of 0"),
        (
            &[(down, &[64, 2]), (up, &[64, 2]), ("blocks.1.att.key.disha", &[0, 64])],
            "blocks.1.att.key.disha: expected shape no dimension of 0",
        ),
        (&[(down, &[64, 2]), (up, &[64, 3])], "expected shape [64, 2] for this model, found [64, 3]"),
        (&[(down, &[63, 2]), (up, &[64, 2])], "expected shape [64, _] for this model, found [63, 2]"),
        (&[(down, &[64, 2]), (up, &[64, 2]), ("blocks.0.att.kee", &[64])], "blocks.0.att.kee: no tensor of the model"),
        (&[(down, &[64, 2]), (up, &[64, 2]), ("blocks.0.ln1.bias", &[63])], "blocks.0.ln1.bias: expected shape [64]"),
        (&[(down, &[64, 2]), (up, &[64, 2]), ("blocks.9.ln1.bias", &[64])], "blocks.9.ln1.bias: no tensor"),
    ] {
        let error = with(tensors).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
