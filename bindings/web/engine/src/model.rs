//! A loaded model.

use crate::error::{refused, thrown};
use crate::file::{FileBuilder, FileReader, Reader};
use crate::options::{self, Embed, Load, Reply, Turn, parse, template_name};
use crate::progress::Listener;
use crate::session::Session;
use anser::chat::{ChatTemplate, Message, Opening};
use anser::{StateLayout, Tokenizer};
use anser_format::ModelFile;
use serde::Serialize;
use std::sync::Arc;
use wasm_bindgen::prelude::*;

/// A model, ready to run.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Model {
    inner: anser::Model,
}

/// What the page shows of a model.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    name: &'a str,
    title: &'a str,
    n_vocab: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    head_size: usize,
    n_weight_bytes: usize,
    device: &'a str,
    on_gpu: bool,
    template: Option<&'static str>,
    has_tokenizer: bool,
    has_logits: bool,
    document_start: u32,
    state: Vec<Part>,
}

/// A part of the state, which lies in memory as `[nLayer, ...shape]`, part after part.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    name: &'static str,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// A conversation's prompt in the parts that a session reads.
#[derive(Serialize)]
struct Rendered {
    /// The turns.
    turns: String,
    /// The beginning of the answer.
    opening: &'static str,
}

#[wasm_bindgen]
impl Model {
    /// Loads the model in `file`; `options` is JSON. `progress(done, total)` hears of bytes that have become resident, and ends loading by
    /// returning `true`. `vocabulary` is a vocabulary file, for models that carry none.
    ///
    /// # Errors
    /// A file that is no model which can be run; options that are not known; a device that cannot be used or has no room.
    pub async fn load(
        file: FileBuilder,
        options: String,
        vocabulary: Option<Vec<u8>>,
        progress: js_sys::Function,
    ) -> Result<Model, JsValue> {
        let (name, bytes) = file.finish()?;
        let file = ModelFile::from_bytes(&name, bytes).map_err(|e| thrown(e.into()))?;
        Model::of_file(file, options, vocabulary, progress).await
    }

    /// [`Model::load`] of a file whose bytes stay where they are: `file.read(offset, into)` copies them into the engine's
    /// memory at once. The processor cannot run such a model.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub async fn load_from_reader(
        name: String,
        n_bytes: f64,
        file: FileReader,
        options: String,
        vocabulary: Option<Vec<u8>>,
        progress: js_sys::Function,
    ) -> Result<Model, JsValue> {
        let reader = Box::new(Reader::new(file, n_bytes as u64));
        let file = ModelFile::from_reader(&name, reader).map_err(|e| thrown(e.into()))?;
        Model::of_file(file, options, vocabulary, progress).await
    }

    /// The model's name, sizes, device and state, as JSON.
    pub fn info(&self) -> String {
        let model = &self.inner;
        let (config, layout, device) = (model.config(), model.state_layout(), model.device());
        let info = Info {
            name: model.name(),
            title: &model.plan().title,
            n_vocab: config.n_vocab,
            n_embd: config.n_embd,
            n_layer: config.n_layer,
            n_head: config.n_head,
            head_size: config.head_size,
            n_weight_bytes: model.plan().n_bytes_per_token(),
            on_gpu: !device.starts_with("CPU"),
            device,
            template: template_name(model.chat_template()),
            has_tokenizer: model.tokenizer().is_ok(),
            has_logits: model.check_has_logits().is_ok(),
            document_start: model.document_start(),
            state: parts(layout),
        };
        to_json(&info)
    }

    /// The token ids of `text`.
    ///
    /// # Errors
    /// A model without tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        self.inner.encode(text).map_err(thrown)
    }

    /// The text of token ids; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// A model without tokenizer; ids that it does not have.
    pub fn decode(&self, ids: &[u32]) -> Result<String, JsValue> {
        let bytes = self.inner.tokenizer().map_err(thrown)?.decode(ids).map_err(|e| thrown(e.into()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A new session with a fresh state.
    ///
    /// # Errors
    /// No memory for another state.
    pub fn session(&self) -> Result<Session, JsValue> {
        self.inner.session().map(Session::new).map_err(thrown)
    }

    /// The embeddings `[n, C]` of texts, one after another; `options` is JSON.
    ///
    /// # Errors
    /// Options that are not known or do not suit the model.
    pub async fn embed(&self, texts: Vec<String>, options: String) -> Result<Vec<f32>, JsValue> {
        let embed: Embed = parse("options", &options)?;
        let options = embed.options(self.inner.usual_embed_options());
        let encode = |text: &String| self.inner.encode(text);
        let texts: Vec<Vec<u32>> = texts.iter().map(encode).collect::<Result<_, _>>().map_err(thrown)?;
        self.inner.embed_batch_async(&texts, &options).await.map_err(thrown)
    }

    /// The turns (JSON) as the model was trained on them, and the opening of the answer that follows, as JSON.
    ///
    /// # Errors
    /// Turns or options that are not known.
    pub fn render(&self, turns: &str, reply: &str) -> Result<String, JsValue> {
        let turns: Vec<Turn> = parse("messages", turns)?;
        let reply: Reply = parse("options", reply)?;
        let messages: Vec<Message> = turns.into_iter().map(Message::from).collect();
        let (template, opening) = (self.template(reply), Opening::from(reply.thinking));
        let prompt = template.render(&messages, opening);
        let opening = opening.text(template);
        let turns = prompt.strip_suffix(opening).unwrap_or(&prompt).to_string();
        Ok(to_json(&Rendered { turns, opening }))
    }

    /// The tokens of a prompt that [`Model::render`] wrote, or of a part of it.
    ///
    /// # Errors
    /// A model without tokenizer; options that are not known.
    pub fn encode_prompt(&self, prompt: &str, reply: &str) -> Result<Vec<u32>, JsValue> {
        let reply: Reply = parse("options", reply)?;
        let tokenizer = self.inner.tokenizer().map_err(thrown)?;
        Ok(self.template(reply).encode(tokenizer, prompt))
    }
}

impl Model {
    async fn of_file(
        file: Arc<ModelFile>,
        options: String,
        vocabulary: Option<Vec<u8>>,
        progress: js_sys::Function,
    ) -> Result<Model, JsValue> {
        let load: Load = parse("options", &options)?;
        let mut options = load.options().map_err(thrown)?;
        let refuse = |e| refused(&format!("vocabulary: {e}"));
        options.tokenizer = vocabulary.map(|bytes| Tokenizer::from_vocab_file(&bytes)).transpose().map_err(refuse)?;
        let listener = Listener::new(progress);
        options.on_load = Some(listener.on_load());
        let inner = anser::Model::from_file_async(file, &options).await.map_err(thrown)?;
        Ok(Model { inner })
    }

    fn template(&self, reply: Reply) -> ChatTemplate {
        reply.template.map_or_else(|| self.inner.chat_template(), options::Template::into)
    }
}

fn parts(layout: &StateLayout) -> Vec<Part> {
    let parts = layout.parts.iter().enumerate();
    let part = parts.map(|(i, part)| (part, layout.part_range(i)));
    part.map(|(part, range)| Part { name: part.name, shape: part.shape.clone(), start: range.start, end: range.end })
        .collect()
}

/// The value as JSON.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    // Only a map whose keys are no strings could fail, and no type of this crate has one.
    serde_json::to_string(value).expect("structs, lists, strings and numbers are JSON")
}
