//! Conversions to GGUF.

use crate::harness::{assert_same_tensors, bytes, formats, logits, no_tokens, open, written};
use anser_convert::{FloatType, GgufOptions, Output};
use anser_format::{MetaValue, ModelFile};
use anser_model::cases::nmse;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Files of the model f7 and of m7, in all containers and dialects that keep BlinkDL's numbers, and of m6.
const SAME_MODEL_AS: [(&str, &str); 10] = [
    ("hf/fla", "gguf/f7-f16.gguf"),
    ("hf/fla-x_x", "gguf/f7-f16.gguf"),
    ("hf/rwkv7-hf", "gguf/f7-f16.gguf"),
    ("hf/rwkv7-hf-sharded", "gguf/f7-f16.gguf"),
    ("hf/transformers-linear", "gguf/f7-f16.gguf"),
    ("hf/transformers-native", "gguf/f7-f16.gguf"),
    ("hf/transformers-rwkv", "gguf/f7-f16.gguf"),
    ("gguf/f7-split-00001-of-00002.gguf", "gguf/f7-f16.gguf"),
    ("m6.pth", "gguf/m6-rescale2.gguf"),
    ("hf/rwkv6-hf", "gguf/m6-rescale2.gguf"),
];

fn as_f16() -> GgufOptions {
    GgufOptions { float: Some(FloatType::F16), rescale_every: Some(2), ..no_tokens() }
}

/// The fixtures' GGUF files were laid out as llama.cpp's converter does, and llama.cpp has run them.
#[test]
fn tensors_and_sizes_are_those_of_the_same_model_in_gguf() {
    for (source, expected) in SAME_MODEL_AS {
        println!("{source}");
        let expected = formats(expected);
        let found = written(&Output::gguf(&formats(source), &as_f16()).unwrap());
        assert_same_tensors(&found, &expected);
        assert_same_sizes(&found, &expected);
    }
    let tiny = open("tiny/tiny-v7mini-f16.gguf");
    for name in ["pth", "st", "blink.safetensors"] {
        let found = written(&Output::gguf(&open(&format!("tiny/tiny-v7mini.{name}")), &as_f16()).unwrap());
        assert_same_tensors(&found, &tiny);
        assert_same_sizes(&found, &tiny);
    }
}

/// Every key that is no name and not about tokens.
#[track_caller]
fn assert_same_sizes(found: &Arc<ModelFile>, expected: &Arc<ModelFile>) {
    let left_out = ["general.name", "general.size_label", "rwkv6.vocab_size", "rwkv7.vocab_size"];
    let is_size = |key: &str| !key.starts_with("tokenizer.") && !left_out.contains(&key);
    let entries = |file: &Arc<ModelFile>| {
        let mut entries: Vec<(String, MetaValue)> =
            file.metadata_entries().filter(|(key, _)| is_size(key)).map(|(k, v)| (k.to_owned(), v.clone())).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries
    };
    assert_eq!(entries(found), entries(expected));
}

/// A model of five separate mixes becomes one with a stack of them.
#[test]
fn mixes_are_stacked() {
    let source = formats("gguf/m6-lerp5.gguf");
    assert!(source.info("blk.0.time_mix_lerp_w.weight").is_some());
    let found = written(&Output::gguf(&source, &as_f16()).unwrap());
    assert!(found.info("blk.0.time_mix_lerp_w.weight").is_none());
    assert_same_tensors(&found, &formats("gguf/m6-rescale2.gguf"));
}

/// The demo model was made by llama.cpp's own converter; web-rwkv's file of it is the other source.
#[test]
fn the_demo_model_is_that_of_llama_cpps_converter() {
    let expected = open("unpacked/demo-f16.gguf");
    let found = written(&Output::gguf(&open("unpacked/demo.st"), &GgufOptions::default()).unwrap());
    assert_same_sizes(&found, &expected);
    for (key, value) in expected.metadata_entries().filter(|(key, _)| key.starts_with("tokenizer.")) {
        assert!(found.metadata(key) == Some(value), "{key}");
    }
    assert_same_tensors(&found, &expected);
}

/// A conversion changes no number where the type holds all of them, as F32 does, and the miniatures' four digits fit every type.
#[test]
fn converted_models_give_the_logits_of_their_source() {
    let sources = SAME_MODEL_AS.map(|(source, _)| source).into_iter().chain([
        "m7.safetensors",
        "m6.st",
        "gguf/m6-rescale2.gguf",
        "gguf/m6-lerp5.gguf",
        "pth/torch-bf16.pth",
        "pth/torch-f16-legacy.pth",
        "pth/torch-f16-views.pth",
        "pth/torch-mixed-types.pth",
        "pth/torch-nested-module.pth",
    ]);
    for source in sources {
        let file = formats(source);
        let expected = logits(&file);
        for float in FloatType::ALL {
            for rescale_every in [None, Some(0), Some(1)] {
                let options = GgufOptions { float: Some(float), rescale_every, ..no_tokens() };
                let found = written(&Output::gguf(&file, &options).unwrap());
                // RWKV-6 multiplies by powers of two at another place, which is exact; sums keep their order.
                let error = nmse(&logits(&found), &expected);
                assert!(error < 1e-12, "{source} as {float}, rescaled every {rescale_every:?}: {error:e}");
            }
        }
    }
}

#[test]
fn the_type_is_the_sources_unless_another_is_asked_for() {
    let dtype = |source: &str, float| {
        let output = Output::gguf(&formats(source), &GgufOptions { float, ..no_tokens() }).unwrap();
        let found = written(&output);
        let file_type = found.metadata("general.file_type").unwrap().as_u64().unwrap();
        (found.info("output.weight").unwrap().stored.name().to_owned(), file_type)
    };
    assert_eq!(dtype("pth/torch-bf16.pth", None), ("BF16".into(), 32));
    assert_eq!(dtype("pth/torch-f32.pth", None), ("F32".into(), 0));
    assert_eq!(dtype("m7.safetensors", None), ("F16".into(), 1));
    assert_eq!(dtype("pth/torch-bf16.pth", Some(FloatType::F16)), ("F16".into(), 1));
    assert_eq!(dtype("quant/q7-q4_k_m-imatrix.gguf", None), ("F16".into(), 1));
}

/// Where the source does not say it, RWKV-6's residual stream is halved every six layers, as in published files.
#[test]
fn rescaling_follows_the_source() {
    let rescale = |source: &str| {
        let found = written(&Output::gguf(&formats(source), &no_tokens()).unwrap());
        found.metadata("rwkv6.rescale_every_n_layers").unwrap().as_u64().unwrap()
    };
    assert_eq!(["m6.pth", "hf/rwkv6-hf", "gguf/m6-rescale2.gguf"].map(rescale), [6, 6, 2]);
}

#[test]
fn a_file_depends_neither_on_threads_nor_on_the_run() {
    let output = Output::gguf(&open("unpacked/demo.st"), &GgufOptions::default()).unwrap();
    let first = bytes(&output);
    for n_threads in [1, 3, 16] {
        let again = output.write_with_threads(vec![], n_threads, |_, _| ControlFlow::Continue(())).unwrap();
        assert!(again == first, "{n_threads} threads");
    }
}
