//! A model that a server answers with.

use crate::ids;
use crate::options::ServedModel;
use crate::transcripts::Transcripts;
use crate::wire::chat::Head;
use anser::chat::{ChatTemplate, Thinking};
use anser::{Grammar, Model, Reranker};
use anser_engine::{Engine, Limits};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A model and its engine.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) model: Model,
    pub(crate) engine: Engine,
    /// The tokens of its answers.
    pub(crate) transcripts: Arc<Transcripts>,
    /// The names that requests may call it by, the one that answers carry first.
    pub(crate) names: Vec<String>,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// The format of conversations that it was trained on.
    pub(crate) template: ChatTemplate,
    /// Whether it was trained to think, by its name.
    pub(crate) can_think: bool,
    /// Tells answers of different versions and models apart.
    pub(crate) fingerprint: String,
    /// The most texts of a request.
    pub(crate) max_n: usize,
    /// The most requests of a client that the engine is given at a time.
    pub(crate) max_at_once: usize,
    pub(crate) limits: Limits,
    /// Whether it is another model with an adapter, which requests have to name.
    pub(crate) is_adapted: bool,
    /// What ranks documents, if anything.
    pub(crate) reranker: Option<Reranker>,
}

impl Served {
    /// Starts the engine of a model.
    ///
    /// Errors: the model has no tokenizer.
    pub(crate) fn start(served: ServedModel) -> Result<Served, anser::Error> {
        let ServedModel { model, names, created, limits, states: _, is_adapted, reranker } = served;
        model.tokenizer()?;
        let engine = Engine::start(model.clone(), limits.clone());
        index_vocabulary(&model);
        let max_rows = engine.stats().max_rows.max(1);
        let digest = model.fingerprint().get(..8).unwrap_or_default();
        Ok(Served {
            created: created.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            template: model.chat_template(),
            can_think: is_g1(&model),
            fingerprint: format!("anser-{}-{digest}", env!("CARGO_PKG_VERSION")),
            max_n: limits.max_choices.min(max_rows),
            max_at_once: max_rows.min(16),
            names,
            engine,
            transcripts: Arc::default(),
            model,
            limits,
            is_adapted,
            reranker,
        })
    }

    /// The name that answers carry.
    pub(crate) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The head of a new answer, whose identifier begins with `prefix`.
    pub(crate) fn head(&self, prefix: &str, object: &'static str) -> Head {
        Head {
            id: ids::fresh(prefix),
            object,
            created: now(),
            model: self.name().to_owned(),
            system_fingerprint: self.fingerprint.clone(),
        }
    }

    pub(crate) fn n_vocab(&self) -> usize {
        self.model.config().n_vocab
    }

    /// How an answer begins where the request does not say: models that were trained to think answer better after an empty thought.
    pub(crate) fn usual_thinking(&self) -> Thinking {
        if self.can_think { Thinking::Fake } else { Thinking::Off }
    }
}

/// Indexes the vocabulary for grammars beside what the server does first, since the first grammar would wait for it.
fn index_vocabulary(model: &Model) {
    let model = model.clone();
    let index = move || {
        if let Err(error) = Grammar::json_object().prepare(&model) {
            log::warn!("grammars cannot be enforced: {error}");
        }
    };
    // Without a thread the first grammar waits.
    let _ = std::thread::Builder::new().name("anser-index".into()).spawn(index);
}

/// The time of an answer, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Whether the model is one of RWKV-7 G1 and later, by the name in its file or the name of the file.
fn is_g1(model: &Model) -> bool {
    let in_file = model.file().metadata("general.name").and_then(|name| name.as_str()).unwrap_or_default();
    [in_file, model.name()].iter().any(|name| has_g1(name))
}

/// Whether a word of `name` is `g1` with at most one more letter, as in `rwkv7-g1d-0.4b`.
fn has_g1(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter_map(|word| word.strip_prefix("g1"))
        .any(|rest| rest.is_empty() || (rest.len() <= 2 && rest.starts_with(|c: char| c.is_ascii_lowercase())))
}

#[cfg(test)]
mod tests {
    use super::has_g1;

    #[test]
    fn g1_is_a_word_of_the_name() {
        for name in ["rwkv7-g1-0.4b-q8_0.gguf", "RWKV7-G1d-2.9B", "models/rwkv7-g1h2-7.2b.gguf", "g1"] {
            assert!(has_g1(name), "{name}");
        }
        for name in ["demo", "rwkv7-world-0.4b", "big1", "rwkv-6-g12", "rwkv7-g1xyz"] {
            assert!(!has_g1(name), "{name}");
        }
    }
}
