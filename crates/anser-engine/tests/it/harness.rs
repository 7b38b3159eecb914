//! Models, requests, and what they give alone.

use anser::{Device, FinishReason, GenerateOptions, Model, Options, SamplerOptions};
use anser_engine::{Engine, Event, Failure, Limits, Request, Usage, channel};
use std::io::Write;
use std::sync::mpsc::Receiver;

/// A small model of random weights with 300 tokens and no vocabulary, computed in floats: steps of one token and of several round
/// differently, and with activations in 8 bits that is enough for texts to part at the first near tie.
pub(crate) fn tiny() -> Model {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/tiny-v7.st");
    let options = Options { device: Device::Cpu, exact: true, n_threads: Some(1), ..Options::default() };
    Model::load(path, &options).unwrap()
}

/// The same model with a vocabulary: token 0 has no text, the next 256 are single bytes, and some are longer.
pub(crate) fn tiny_with_vocabulary() -> Model {
    with_vocabulary("tiny-v7.st")
}

/// Another model of the same vocabulary.
pub(crate) fn draft_for_tiny() -> Model {
    with_vocabulary("tiny-v7n32.st")
}

fn with_vocabulary(file_name: &str) -> Model {
    let bytes = (0..256).map(|byte| format!("\"{}\": [{byte}]", byte + 1));
    let longer = ["ab", "ba", "abab", "12", "{\"", "\": ", "北", "é"];
    let longer = longer.iter().zip(257..).map(|(text, id)| format!("\"{id}\": {text:?}"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{{{}}}", bytes.chain(longer).collect::<Vec<_>>().join(", ")).unwrap();
    let vocabulary = Some(file.path().to_owned());
    let path = format!("{}/../../fixtures/tiny/{file_name}", env!("CARGO_MANIFEST_DIR"));
    let options = Options { device: Device::Cpu, exact: true, n_threads: Some(1), vocabulary, ..Options::default() };
    let model = Model::load(path, &options).unwrap();
    model.tokenizer().unwrap();
    model
}

pub(crate) fn options(seed: Option<u64>, max_tokens: usize) -> GenerateOptions {
    let sampler = match seed {
        None => SamplerOptions::greedy(),
        seed => SamplerOptions { seed, ..SamplerOptions::plain() },
    };
    GenerateOptions { sampler, max_tokens, stop_tokens: Some(vec![]), ..GenerateOptions::default() }
}

/// The tokens that a prompt gives alone.
pub(crate) fn alone(model: &Model, prompt: &[u32], options: &GenerateOptions) -> Vec<u32> {
    let mut session = model.session().unwrap();
    let mut generation = session.generate(prompt, options).unwrap();
    generation.text().unwrap();
    generation.tokens().to_vec()
}

/// What a request has given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) n_cached: Option<usize>,
    /// For each choice.
    pub(crate) tokens: Vec<Vec<u32>>,
    pub(crate) texts: Vec<String>,
    pub(crate) ends: Vec<Option<FinishReason>>,
    pub(crate) others: Vec<Event>,
    pub(crate) usage: Option<Usage>,
    pub(crate) failure: Option<Failure>,
}

impl Given {
    /// Reads all events of a request.
    pub(crate) fn all(events: &Receiver<Event>) -> Given {
        let mut given = Given::default();
        events.iter().for_each(|event| given.add(event));
        given
    }

    pub(crate) fn add(&mut self, event: Event) {
        assert!(self.usage.is_none() && self.failure.is_none(), "nothing follows the last event: {event:?}");
        let mut of_choice = |choice: usize| {
            let n = self.tokens.len().max(choice + 1);
            self.tokens.resize(n, vec![]);
            self.texts.resize(n, String::new());
            self.ends.resize(n, None);
        };
        match event {
            Event::Started { n_cached } => assert_eq!(self.n_cached.replace(n_cached), None),
            Event::Token { choice, drawn } => {
                of_choice(choice);
                self.tokens[choice].push(drawn.id);
            }
            Event::Text { choice, piece } => {
                of_choice(choice);
                self.texts[choice] += &piece.text;
            }
            Event::Ended { choice, reason, .. } => {
                of_choice(choice);
                assert_eq!(self.ends[choice].replace(reason), None, "a text ends once");
                self.others.push(event);
            }
            Event::Scored(_) | Event::Embedding(_) | Event::State(_) => self.others.push(event),
            Event::Done(usage) => self.usage = Some(usage),
            Event::Failed(failure) => self.failure = Some(failure),
        }
    }
}

/// Submits a request and reads all that it gives.
pub(crate) fn ask(engine: &Engine, request: Request) -> Given {
    let (on_event, events) = channel(10_000);
    let ticket = engine.submit(request, on_event).unwrap();
    let given = Given::all(&events);
    drop(ticket);
    given
}

pub(crate) fn engine(model: &Model, max_rows: usize) -> Engine {
    Engine::start(model.clone(), Limits { max_rows: Some(max_rows), ..Limits::default() })
}
