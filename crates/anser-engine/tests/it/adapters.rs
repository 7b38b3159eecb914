//! A model and the same one with adapters, whose engines take turns.

use crate::harness::{Given, alone, ask, options, tiny};
use anser::{Lora, LoraForm, Model, Options};
use anser_engine::{Engine, Limits, Request, Turns, channel};
use std::io::Write;

/// A safetensors file with low-rank pairs of inner width 2 for some matrices of every layer, in random numbers.
fn adapter(model: &Model, seed: u32) -> tempfile::NamedTempFile {
    let (mut entries, mut data) = (vec![], vec![]);
    let mut bits = seed;
    let is_meant = |name: &str| {
        [".att.value.weight", ".att.output.weight", ".ffn.key.weight"].iter().any(|end| name.ends_with(end))
    };
    for weight in model.plan().weights.iter().filter(|weight| is_meant(weight.name())) {
        let module = weight.name().trim_end_matches(".weight");
        for (suffix, [n_rows, n_cols]) in [("lora_A", [2, weight.n_cols()]), ("lora_B", [weight.n_rows(), 2])] {
            let start = data.len();
            for _ in 0..n_rows * n_cols {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                data.extend((((bits >> 16) % 255) as f32 / 512.0 - 0.25).to_le_bytes());
            }
            let end = data.len();
            entries.push(format!(
                "\"{module}.{suffix}\": {{\"dtype\": \"F32\", \"shape\": [{n_rows}, {n_cols}], \"data_offsets\": [{start}, {end}]}}"
            ));
        }
    }
    let header = format!("{{{}}}", entries.join(", "));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
    file
}

/// The model with an adapter beside its weights, which are the same in memory.
fn adapted(model: &Model, seed: u32) -> Model {
    let file = adapter(model, seed);
    let lora = Lora { alpha: Some(4.0), form: LoraForm::Beside, ..Lora::new(file.path()) };
    let device = anser::Device::Cpu;
    let options = Options { lora: vec![lora], device, exact: true, n_threads: Some(1), ..Options::default() };
    let adapted = model.with_options(&options).unwrap();
    let bytes = |model: &Model| {
        let weights = &model.plan().weights;
        weights.iter().find(|weight| weight.name() == "blocks.0.att.value.weight").unwrap().bytes().as_ptr()
    };
    assert_eq!(bytes(&adapted), bytes(model), "both read the same mapping");
    adapted
}

#[test]
fn every_request_gets_the_text_of_its_adapter_alone() {
    let plain = tiny();
    let models = [plain.clone(), adapted(&plain, 1), adapted(&plain, 2)];
    let turns = Turns::default();
    let engine = |model: &Model| {
        let mut limits = Limits { max_rows: Some(3), turns: Some(turns.clone()), ..Limits::default() };
        limits.cache.host_n_bytes = 16 << 20;
        Engine::start(model.clone(), limits)
    };
    let engines = models.each_ref().map(engine);
    let prompt = |i: u32| (0..20 + i).map(|at| (at * 37 + i) % 300).collect::<Vec<u32>>();
    let expected = |model: &Model, i: u32| alone(model, &prompt(i), &options(None, 30));
    let texts: Vec<Vec<u32>> = models.iter().map(|model| expected(model, 0)).collect();
    assert!(
        texts[0] != texts[1] && texts[1] != texts[2] && texts[0] != texts[2],
        "adapters give other texts: {texts:?}"
    );
    // All of them wait at the same time, more than there are rows.
    let mut asked = vec![];
    for i in 0..5 {
        for (number, engine) in engines.iter().enumerate() {
            let (on_event, events) = channel(10_000);
            let ticket = engine.submit(Request::generate(prompt(i), options(None, 30)), on_event).unwrap();
            asked.push((number, i, ticket, events));
        }
    }
    for (number, i, _ticket, events) in asked {
        let given = Given::all(&events);
        assert!(given.failure.is_none(), "{:?}", given.failure);
        assert_eq!(given.tokens[0], expected(&models[number], i), "model {number}, prompt {i}");
    }
    // States after a prompt are cached by each engine for its own model.
    for (number, engine) in engines.iter().enumerate() {
        let given = ask(engine, Request::generate(prompt(3), options(None, 30)));
        assert_eq!(given.tokens[0], expected(&models[number], 3), "model {number} again");
    }
}
