//! State files, Anser's own and those of state tuning, for a tiny model. Seeds: states that `anser state` writes for
//! `fixtures/tiny/tiny-v7mini-f16.gguf`, and a safetensors file with its `blocks.N.att.time_state`.
#![no_main]

use anser::{Device, Model, Options};
use anser_format::ModelFile;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

/// The model, of which one copy serves all inputs.
fn model() -> &'static Model {
    static BYTES: &[u8] = include_bytes!("../../fixtures/tiny/tiny-v7mini-f16.gguf");
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let file = ModelFile::from_static("tiny", BYTES).unwrap();
        Model::from_file(file, &Options { device: Device::Cpu, n_threads: Some(1), ..Options::default() }).unwrap()
    })
}

fuzz_target!(|bytes: &[u8]| {
    let model = model();
    match model.state_from_bytes("fuzz", bytes.to_vec()) {
        Ok(loaded) => {
            assert_eq!(model.state_layout().check(loaded.state.data()), Ok(()));
            assert!(loaded.logits.is_empty() || loaded.logits.len() == model.config().n_vocab);
            assert!(loaded.logits.iter().all(|x| x.is_finite()));
            model.session().unwrap().restore(&loaded.state).unwrap();
        }
        Err(error) => assert!(error.to_string().starts_with("fuzz: "), "{error}"),
    }
});
