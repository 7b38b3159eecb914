//! What cannot be converted is refused in words that name the file, the place and what to do.

use crate::harness::{formats, no_tokens, open, try_bytes};
use anser_convert::{
    ConvertError, FileType, FloatType, GgufOptions, ImportanceMatrix, Output, QuantizeOptions, TypeRule, Vocabulary,
};
use anser_format::{DType, GgufWriter, MetaValue, ModelFile, SafetensorsHeader};
use std::ops::ControlFlow;
use std::sync::Arc;

fn gguf(name: &str) -> Result<Output, ConvertError> {
    Output::gguf(&formats(name), &no_tokens())
}

#[track_caller]
fn assert_told<T>(result: Result<T, ConvertError>, words: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn models_that_a_layout_has_no_form_for_are_named() {
    assert_told(gguf("m4.pth"), &["m4.pth", "RWKV-4 has no form in GGUF", "RWKV-6 and RWKV-7", "--to st"]);
    assert_told(gguf("m50.pth"), &["RWKV-5.0 has no form in GGUF"]);
    assert_told(gguf("m52.st"), &["RWKV-5 has no form in GGUF"]);
    assert_told(gguf("m7a.pth"), &["RWKV-7a (DeepEmbed) has no form in GGUF"]);
    assert_told(gguf("gguf/arwkv7.gguf"), &["a hybrid with Qwen2 has no form in GGUF", "anser quantize"]);
    assert_told(gguf("hf/transformers-rwkv-fused"), &["folded into", "convert the .pth file"]);
    assert_told(gguf("hf/rwkv7-hf-n32"), &["group norm of epsilon 0.00032", "0.00064"]);
    assert_told(gguf("tuned/m7-with-state.pth"), &["tuned initial state"]);
    let st = |name: &str| Output::web_rwkv(&formats(name));
    assert_told(st("m50.pth"), &["RWKV-5.0 has no form in web-rwkv's .st files", "RWKV-5.1"]);
    assert_told(st("m7a.pth"), &["RWKV-7a"]);
    assert_told(st("gguf/rwkv6qwen2.gguf"), &["hybrid"]);
    assert_told(st("hf/transformers-rwkv-fused"), &["folded into"]);
}

#[test]
fn a_vocabulary_is_asked_for_and_not_guessed() {
    let file = formats("m6.pth");
    assert_told(Output::gguf(&file, &GgufOptions::default()), &["m6.pth", "vocabulary of 80", "--vocab"]);
    let options = GgufOptions { vocabulary: Some(Vocabulary::World), ..GgufOptions::default() };
    assert_told(Output::gguf(&file, &options), &["65536 tokens", "only 80"]);
}

/// A model in safetensors whose head has one number replaced.
fn with_head(value: f32) -> Arc<ModelFile> {
    let file = formats("m7.safetensors");
    let mut header = SafetensorsHeader::new();
    let mut data = vec![];
    for info in file.tensors() {
        header.tensor(info.name, DType::F32, info.shape).unwrap();
        let mut numbers = crate::harness::numbers(&file, info.name);
        if info.name == "head.weight" {
            numbers[130] = value;
        }
        data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    ModelFile::from_bytes("huge", [header.to_bytes(), data].concat()).unwrap()
}

#[test]
fn numbers_that_a_type_cannot_hold_are_refused() {
    let write = |value, float| {
        let options = GgufOptions { float: Some(float), ..no_tokens() };
        try_bytes(&Output::gguf(&with_head(value), &options).unwrap())
    };
    let words = ["huge", "output.weight", "element 130", "70000", "F16", "65504", "BF16"];
    assert_told(write(70_000.0, FloatType::F16), &words);
    assert!(write(70_000.0, FloatType::BF16).is_ok() && write(70_000.0, FloatType::F32).is_ok());
    assert_told(write(f32::NAN, FloatType::BF16), &["element 130 is NaN", "damaged"]);
    assert_told(write(f32::INFINITY, FloatType::F16), &["element 130 is inf"]);

    let mut output = Output::gguf(&with_head(-70_000.0), &no_tokens()).unwrap();
    let options = QuantizeOptions { file_type: FileType::Q8_0, matrix: None, rules: &[], allow_requantize: false };
    output.quantize(&options).unwrap();
    assert_told(try_bytes(&output), &["output.weight", "-70000", "Q8_0", "--tensor"]);
}

fn quantize(name: &str, file_type: FileType, rules: &[&str]) -> Result<Output, ConvertError> {
    let rules: Vec<TypeRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    let mut output = Output::same_gguf(&formats(name)).unwrap();
    output.quantize(&QuantizeOptions { file_type, matrix: None, rules: &rules, allow_requantize: false })?;
    Ok(output)
}

#[test]
fn types_that_lose_more_than_expected_are_refused() {
    let q4 = "quant/q7-q4_k_m-imatrix.gguf";
    assert_told(quantize(q4, FileType::Q8_0, &[]), &["is Q", "already", "Q8_0", "--allow-requantize"]);
    assert!(quantize(q4, FileType::Q4_K_M, &[]).is_ok(), "nothing changes");
    assert_told(quantize("quant/q7-f16.gguf", FileType::Q2_K_S, &[]), &["Q2_K_S", "--imatrix"]);
}

/// A model whose matrices are of types with codebooks, which are read and not written.
#[test]
fn types_with_codebooks_become_others_when_asked() {
    let name = "quant/q7-codebooks.gguf";
    assert_told(quantize(name, FileType::Q8_0, &[]), &["q7-codebooks", "is IQ", "already", "--allow-requantize"]);
    let rule = "blk.0.*=IQ2_XS".parse::<TypeRule>().unwrap_err();
    assert!(rule.contains("read only") && rule.contains("Q2_K") && !rule.contains("IQ2_XXS,"), "{rule}");
    let file_type = "IQ2_XXS".parse::<FileType>().unwrap_err();
    assert!(file_type.contains("Q2_K"), "{file_type}");

    let mut output = Output::same_gguf(&formats(name)).unwrap();
    let options = QuantizeOptions { file_type: FileType::Q8_0, matrix: None, rules: &[], allow_requantize: true };
    output.quantize(&options).unwrap();
    let requantized = ModelFile::from_bytes("requantized", try_bytes(&output).unwrap()).unwrap();
    let float = GgufOptions { float: Some(FloatType::F32), ..no_tokens() };
    let floats = try_bytes(&Output::gguf(&formats(name), &float).unwrap()).unwrap();
    let floats = ModelFile::from_bytes("floats", floats).unwrap();
    let mut n_read = 0;
    for info in formats(name).tensors() {
        let stored = info.stored.computed().unwrap();
        if stored.has_quantizer() {
            continue;
        }
        let numbers = |file| crate::harness::numbers(file, info.name);
        let (source, exact, rounded) = (numbers(&formats(name)), numbers(&floats), numbers(&requantized));
        assert_eq!(source, exact, "{}", info.name);
        let largest = source.iter().fold(0.0f32, |largest, number| largest.max(number.abs()));
        assert!(source.iter().zip(&rounded).all(|(a, b)| (a - b).abs() <= largest / 127.0), "{}", info.name);
        assert_eq!(requantized.info(info.name).unwrap().stored.computed(), Some(DType::Q8_0), "{}", info.name);
        n_read += 1;
    }
    assert_eq!(n_read, 8);
}

#[test]
fn rules_that_cannot_be_followed_are_refused() {
    let rule = |rule: &str| quantize("gguf/f7-f16.gguf", FileType::Q8_0, &[rule]);
    assert_told(rule("nothing*=Q8_0"), &["nothing*=Q8_0", "no such matrix", "inspect"]);
    assert_told(rule("output.weight=Q4_K"), &["64 elements", "256", "blocks of 32"]);
    assert_told(rule("output_norm.weight=F16"), &["no matrix", "stays F32"]);
}

#[test]
fn matrices_of_other_models_are_refused() {
    let dat = |names: &[(&str, usize)]| {
        let mut bytes = (names.len() as i32).to_le_bytes().to_vec();
        for (name, n) in names {
            bytes.extend((name.len() as i32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(2i32.to_le_bytes());
            bytes.extend((*n as i32).to_le_bytes());
            bytes.extend(vec![1.0f32.to_le_bytes(); *n].concat());
        }
        bytes
    };
    let with = |names: &[(&str, usize)]| {
        let matrix = ImportanceMatrix::from_dat("other.dat", &dat(names)).unwrap();
        let mut output = Output::same_gguf(&formats("quant/q7-f16.gguf")).unwrap();
        let (file_type, rules) = (FileType::Q4_K_M, &[][..]);
        output.quantize(&QuantizeOptions { file_type, matrix: Some(&matrix), rules, allow_requantize: false })
    };
    let key = "blk.0.time_mix_key.weight";
    assert!(with(&[(key, 256), ("blk.7.time_mix_key.weight", 256)]).is_ok());
    assert_told(with(&[(key, 128)]), &["other.dat", key, "128 columns", "256", "another model's"]);
    assert_told(with(&[("blk.7.time_mix_key.weight", 256)]), &["none of its tensors"]);

    // Damaged and foreign files.
    let good = dat(&[(key, 4)]);
    let read = |bytes: &[u8]| ImportanceMatrix::from_dat("some.dat", bytes);
    assert!(read(&good).is_ok());
    for end in 0..good.len() {
        assert_told(read(&good[..end]), &["some.dat", "cut short"]);
    }
    assert_told(read(&[&good[..], &[0]].concat()), &["cut short"]);
    assert_told(read(&dat(&[])), &["no entries"]);
    assert_told(read(&dat(&[(key, 4), (key, 4)])), &["two of the name"]);
    let mut negative = good.clone();
    let at = good.len() - 4;
    negative[at..].copy_from_slice(&(-1.0f32).to_le_bytes());
    assert_told(read(&negative), &["column 3", "-0.5"]);
    assert_told(ImportanceMatrix::from_gguf(&formats("gguf/f7-f16.gguf")), &["no importance matrix"]);
    let mut writer = GgufWriter::new();
    writer.metadata("general.type", MetaValue::Str("imatrix".into())).unwrap();
    writer.tensor("a.weight.in_sum2", DType::F32, &[1]).unwrap();
    let mut data = writer.begin(vec![]).unwrap();
    data.write_tensor("a.weight.in_sum2", [1.0f32.to_le_bytes()]).unwrap();
    let file = ModelFile::from_bytes("half", data.finish().unwrap()).unwrap();
    assert_told(ImportanceMatrix::from_gguf(&file), &["half", "a.weight.counts is missing"]);
}

#[test]
fn the_caller_may_end_the_work() {
    let output = Output::web_rwkv(&open("unpacked/demo-f16.gguf")).unwrap();
    let mut n_calls = 0;
    let result = output.write(vec![], |n_bytes, total| {
        assert!(n_bytes <= total && total == output.data_n_bytes());
        n_calls += 1;
        if n_calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(result, Err(ConvertError::Cancelled)));
    assert_eq!(n_calls, 3);
}
