//! Functions that do not block give what the blocking ones give, and models run from files that are read piece by piece.
//!
//! Runs on the processor and on the first adapter, Mesa's software one where there is no other.

use crate::fixtures::{demo_path, root};
use anser::{
    Device, EmbedOptions, Error, GenerateOptions, Likelihood, Model, Options, RowEventKind, RowTask, Rows,
    SamplerOptions, Session, Want, Which,
};
use anser_format::{ModelFile, ReadAt};
use std::io;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Wakes a thread that is parked.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls `future` until it is ready.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

fn on(device: &str) -> Options {
    Options { device: device.parse::<Device>().unwrap(), ..Options::default() }
}

fn models() -> [Model; 2] {
    ["cpu", "gpu:0"].map(|device| Model::load(demo_path("demo-q8_0.gguf"), &on(device)).unwrap())
}

const PROMPT: &str = "Once upon a time there was a little";

fn sampled(seed: u64) -> GenerateOptions {
    let sampler = SamplerOptions { seed: Some(seed), ..SamplerOptions::default() };
    GenerateOptions { sampler, max_tokens: 16, ..GenerateOptions::default() }
}

/// What a session says of where it stands.
fn place(session: &mut Session) -> (Vec<f32>, Vec<u32>, usize, Vec<f32>) {
    let (logits, pending, n_tokens) = (session.logits().to_vec(), session.pending().to_vec(), session.n_tokens());
    (logits, pending, n_tokens, session.state().unwrap().data().to_vec())
}

#[test]
fn what_is_fed_without_blocking_gives_the_same_numbers() {
    for model in models() {
        let tokens = model.encode(PROMPT).unwrap();
        let [mut blocking, mut other] = [model.session().unwrap(), model.session().unwrap()];
        blocking.feed(&tokens[..3]).unwrap();
        wait(other.feed_async(&tokens[..3])).unwrap();
        assert!(place(&mut blocking) == place(&mut other) && !other.logits().is_empty());

        let want = Want { logits: Which::All, hidden: Which::Last };
        let mut told = vec![];
        let expected = blocking.feed_chunked(&tokens[3..], want, 2, |_, _| ControlFlow::Continue(())).unwrap();
        let progress = |read, total| {
            told.push((read, total));
            ControlFlow::Continue(())
        };
        let fed = wait(other.feed_chunked_async(&tokens[3..], want, 2, progress)).unwrap();
        assert_eq!(fed, expected);
        assert_eq!(told.last(), Some(&(tokens.len() - 3, tokens.len() - 3)));
        let cancel = |_, _| ControlFlow::Break(());
        assert!(matches!(blocking.feed_chunked(&tokens, Want::LOGITS, 2, cancel), Err(Error::Cancelled)));
        let cancelled = wait(other.feed_chunked_async(&tokens, Want::LOGITS, 2, cancel));
        assert!(matches!(cancelled, Err(Error::Cancelled)));
        assert_eq!(other.n_tokens(), blocking.n_tokens());

        let names = ["blocks.0.att.r", "blocks.1.att.k"];
        let read = |activations: Vec<anser::Activation>| activations.into_iter().map(|a| a.data).collect::<Vec<_>>();
        let expected = read(blocking.feed_reading(&[5, 6], &names).unwrap());
        assert_eq!(read(wait(other.feed_reading_async(&[5, 6], &names)).unwrap()), expected);

        let state = wait(other.state_async()).unwrap();
        assert_eq!(state.data(), blocking.state().unwrap().data());
        let mut feeds = [(&mut blocking, &tokens[..]), (&mut other, &tokens[..2])];
        let fed = wait(model.feed_batch_async(&mut feeds, Want { logits: Which::None, hidden: Which::All })).unwrap();
        let n_embd = model.config().n_embd;
        assert_eq!(fed.iter().map(|fed| fed.hidden.len()).collect::<Vec<_>>(), [tokens.len() * n_embd, 2 * n_embd]);
        assert!(matches!(wait(other.feed_async(&[u32::MAX])), Err(Error::Step(_))));

        let texts = [&tokens[..], &tokens[..1], &[]];
        let options = EmbedOptions { normalize: true, ..EmbedOptions::default() };
        let expected = model.embed_batch(&texts, &options).unwrap();
        assert_eq!(wait(model.embed_batch_async(&texts, &options)).unwrap(), expected);
    }
}

#[test]
fn what_is_generated_without_blocking_is_the_same_text() {
    for model in models() {
        let tokens = model.encode(PROMPT).unwrap();
        for options in [sampled(3), GenerateOptions { sampler: SamplerOptions::greedy(), ..sampled(0) }] {
            let [mut blocking, mut other] = [model.session().unwrap(), model.session().unwrap()];
            let expected = blocking.generate(&tokens, &options).unwrap().text().unwrap();
            let mut generation = wait(other.generate_async(&tokens, &options)).unwrap();
            assert_eq!(wait(generation.text_async()).unwrap(), expected);
            drop(generation);
            assert!(place(&mut blocking) == place(&mut other) && !expected.is_empty());

            // One that ends early stands after its last token, and has the logits of the one before.
            let [mut blocking, mut other] = [model.session().unwrap(), model.session().unwrap()];
            let mut early = blocking.generate(&tokens, &options).unwrap();
            let first = [early.next(), early.next()].map(|piece| piece.unwrap().unwrap());
            drop(early);
            let mut generation = wait(other.generate_async(&tokens, &options)).unwrap();
            assert_eq!([(); 2].map(|()| wait(generation.next_async()).unwrap().unwrap()), first);
            wait(generation.finish_async()).unwrap();
            assert!(place(&mut blocking) == place(&mut other));
        }
    }
}

#[test]
fn rows_are_the_same_without_blocking() {
    /// The ids that each row has drawn, and the likelihoods of what was scored.
    fn run(model: &Model, step: impl Fn(&mut Rows) -> Vec<anser::RowEvent>) -> (Vec<u32>, Vec<Option<Likelihood>>) {
        let tokens = model.encode(PROMPT).unwrap();
        let mut rows = Rows::new(model);
        let task = RowTask::Generate { options: sampled(8), n_top: None };
        rows.join(model.session().unwrap(), &tokens, &task).unwrap();
        rows.join(model.session().unwrap(), &tokens, &RowTask::Score { n_top: 2 }).unwrap();
        let (mut ids, mut scores) = (vec![], vec![]);
        while rows.n_going() > 0 {
            for event in step(&mut rows) {
                match event.kind {
                    RowEventKind::Token(drawn) => ids.push(drawn.id),
                    RowEventKind::Scored(scored) => scores.extend(scored),
                    RowEventKind::Failed(error) => panic!("{error}"),
                    RowEventKind::PromptRead | RowEventKind::Text(_) | RowEventKind::Ended(_) => {}
                }
            }
        }
        (ids, scores)
    }
    for model in models() {
        let expected = run(&model, |rows| rows.step(4).unwrap());
        assert_eq!(run(&model, |rows| wait(rows.step_async(4)).unwrap()), expected);
        assert!(expected.0.len() == 16 && expected.1.len() > 4);
    }
}

/// A file that is read piece by piece, and how many bytes were read of it.
struct Pieces {
    bytes: Vec<u8>,
    n_read: Arc<Mutex<usize>>,
}

impl ReadAt for Pieces {
    fn n_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        *self.n_read.lock().unwrap() += into.len();
        let bytes = self.bytes.get(offset as usize..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[test]
fn a_model_whose_file_is_read_piece_by_piece_computes_the_same_on_a_gpu() {
    let with_matrices_in_f32 = root().join("fixtures/tiny/tiny-v7.st");
    for path in [demo_path("demo-q8_0.gguf"), with_matrices_in_f32] {
        let bytes = std::fs::read(&path).unwrap();
        let n_read = Arc::new(Mutex::new(0));
        let reader = || Box::new(Pieces { bytes: bytes.clone(), n_read: n_read.clone() });
        let file = ModelFile::from_reader("pieces", reader()).unwrap();
        let model = wait(Model::from_file_async(file.clone(), &on("gpu:0"))).unwrap();
        let expected = Model::load(&path, &on("gpu:0")).unwrap();
        wait(model.finish_loading_async()).unwrap();
        assert!(*n_read.lock().unwrap() > bytes.len() / 2);
        let run = |model: &Model| {
            let mut session = model.session().unwrap();
            let fed = session.feed_for(&[9, 200, 7, 31], Want { logits: Which::All, hidden: Which::All }, |_, _| {
                ControlFlow::Continue(())
            });
            let options = GenerateOptions { stop_tokens: Some(vec![]), ..sampled(1) };
            // More tokens than the host draws itself, so that the device looks embeddings up.
            let mut generation = session.generate(&[4], &options).unwrap();
            while generation.next().is_some() {}
            (fed.unwrap(), generation.tokens().to_vec())
        };
        assert_eq!(run(&model), run(&expected), "{}", path.display());
        assert_eq!(model.digest().unwrap(), expected.digest().unwrap());
        assert_eq!(model.fingerprint(), expected.fingerprint());
    }
}

#[test]
fn the_processor_says_that_it_needs_weights_in_memory() {
    let bytes = std::fs::read(demo_path("demo-q8_0.gguf")).unwrap();
    let file = ModelFile::from_reader("pieces", Box::new(Pieces { bytes, n_read: Arc::default() })).unwrap();
    let error = Model::from_file(file, &on("cpu")).unwrap_err();
    assert!(matches!(error, Error::Option { option: "device", .. }), "{error}");
    assert!(error.to_string().contains("of pieces is not; read the file into memory"), "{error}");
}
