//! A model and the same one with adapters, by name.

use crate::harness::{Running, exact_demo, limits, options};
use anser::{Device, GenerateOptions, Lora, LoraForm, Model, SamplerOptions};
use anser_engine::{Limits, Turns};
use anser_serve::ServedModel;
use serde_json::json;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// The model with a pair of inner width 1 beside the head, in random numbers.
fn adapted(model: &Model, seed: u32) -> Model {
    let (n_out, n_in) = (model.config().n_vocab, model.config().n_embd);
    let mut bits = seed;
    let mut next = || {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((bits >> 16) % 255) as f32 / 128.0 - 1.0
    };
    let data: Vec<u8> = (0..n_in + n_out).flat_map(|_| next().to_le_bytes()).collect();
    let header = json!({
        "head.lora_A": {"dtype": "F32", "shape": [1, n_in], "data_offsets": [0, 4 * n_in]},
        "head.lora_B": {"dtype": "F32", "shape": [n_out, 1], "data_offsets": [4 * n_in, 4 * (n_in + n_out)]},
    });
    let header = header.to_string();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
    let lora = Lora { alpha: Some(1.0), form: LoraForm::Beside, ..Lora::new(file.path()) };
    let options = anser::Options { device: Device::Cpu, exact: true, lora: vec![lora], ..anser::Options::default() };
    model.with_options(&options).unwrap()
}

#[test]
fn adapters_are_models_by_name() {
    let model = exact_demo();
    let models = [model.clone(), adapted(&model, 1), adapted(&model, 2)];
    let prompts = ["Once upon a time", "The fox"];
    let greedy = GenerateOptions { sampler: SamplerOptions::greedy(), max_tokens: 12, ..GenerateOptions::default() };
    let expected = |model: &Model, prompt: &str| {
        let tokens = model.encode(prompt).unwrap();
        let mut session = model.session().unwrap();
        session.generate(&tokens, &greedy).unwrap().text().unwrap()
    };
    let texts: Vec<Vec<String>> =
        models.iter().map(|model| prompts.iter().map(|prompt| expected(model, prompt)).collect()).collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2] && texts[0] != texts[2], "{texts:?}");

    let names = ["demo", "demo:poet", "demo:law"];
    let turns = Turns::default();
    let served = models.iter().zip(names).map(|(model, name)| ServedModel {
        model: model.clone(),
        names: vec![name.into()],
        created: SystemTime::now(),
        limits: Limits { turns: Some(turns.clone()), ..limits() },
        states: vec![],
        is_adapted: name != "demo",
        reranker: None,
    });
    let server = Running::of_served(served.collect(), options(), Duration::from_secs(10));
    let ask = |name: Option<&str>, prompt: &str| {
        let mut body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 12});
        if let Some(name) = name {
            body["model"] = name.into();
        }
        let answer = server.post("/v1/completions", &body).ok();
        assert_eq!(answer["model"], name.unwrap_or("demo"));
        answer["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    // All at the same time, twice: the second time from the caches.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            for (name, texts) in names.iter().zip(&texts) {
                for (prompt, text) in prompts.iter().zip(texts) {
                    let ask = &ask;
                    scope.spawn(move || assert_eq!(&ask(Some(name), prompt), text, "{name}: {prompt}"));
                }
            }
        }
    });
    assert_eq!(ask(None, prompts[0]), texts[0][0], "without a name: the model without an adapter");
    let listed = server.get("/v1/models").ok();
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, names);
    let error = server.post("/v1/completions", &json!({"model": "demo:cook", "prompt": "x"})).error(404);
    assert_eq!(error["code"], "model_not_found");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("\"demo:cook\"") && message.contains("\"demo\", \"demo:poet\", \"demo:law\""),
        "{message}"
    );
}
