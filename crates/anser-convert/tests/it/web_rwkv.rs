//! Conversions to web-rwkv's layout.

use crate::harness::{assert_same_tensors, bytes, formats, logits, open, written};
use anser_convert::Output;
use anser_model::cases::nmse;

/// The .st files were made by web-rwkv's own converter from the same models.
#[test]
fn files_are_those_of_web_rwkvs_converter() {
    let pairs = ["m4", "m51", "m52", "m6"]
        .map(|name| (formats(&format!("{name}.pth")), formats(&format!("{name}.st"))))
        .into_iter()
        .chain([
            (open("tiny/tiny-v7mini.pth"), open("tiny/tiny-v7mini.st")),
            (open("tiny/tiny-v7mini.blink.safetensors"), open("tiny/tiny-v7mini.st")),
            (open("unpacked/demo-f16.gguf"), open("unpacked/demo.st")),
            // A GGUF file of RWKV-6 has smaller numbers, which become those of the model again.
            (formats("gguf/m6-rescale2.gguf"), formats("m6.st")),
            (formats("hf/rwkv4-hf"), formats("m4.st")),
        ]);
    for (source, expected) in pairs {
        println!("{}", source.name());
        assert_same_tensors(&written(&Output::web_rwkv(&source).unwrap()), &expected);
    }
}

#[test]
fn converted_models_give_the_logits_of_their_source() {
    for name in
        ["m4.pth", "m51.pth", "m52.pth", "m6.pth", "m7.safetensors", "hf/fla", "hf/rwkv6-hf", "gguf/f7-f16.gguf"]
    {
        let source = formats(name);
        let error = nmse(&logits(&written(&Output::web_rwkv(&source).unwrap())), &logits(&source));
        assert!(error < 1e-12, "{name}: {error:e}");
    }
}

#[test]
fn the_header_is_the_same_from_run_to_run() {
    let source = formats("m6.pth");
    assert!(bytes(&Output::web_rwkv(&source).unwrap()) == bytes(&Output::web_rwkv(&source).unwrap()));
}
