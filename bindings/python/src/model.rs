//! Models: text and tokens, embeddings, states.

use crate::arrays::Array;
use crate::error::{OptionError, exception};
use crate::generation::{self, Generation};
use crate::options::{self, generate_options};
use crate::progress::Progress;
use crate::session::Session;
use crate::state::{self, State};
use crate::{tokenizer, tokens};
use anser::{EmbedOptions, Layer, Pooling, Want};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;

/// A loaded model. It may be used from several threads.
#[pyclass(frozen, module = "anser")]
pub(crate) struct Model(pub(crate) anser::Model);

#[pymethods]
impl Model {
    /// Name of the file.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Where the model runs.
    #[getter]
    fn device(&self) -> &str {
        self.0.device()
    }

    /// L, number of layers.
    #[getter]
    fn n_layer(&self) -> usize {
        self.0.config().n_layer
    }

    /// C, width of the residual stream and of embeddings.
    #[getter]
    fn n_embd(&self) -> usize {
        self.0.config().n_embd
    }

    /// H, number of heads.
    #[getter]
    fn n_head(&self) -> usize {
        self.0.config().n_head
    }

    /// N, size of a head.
    #[getter]
    fn head_size(&self) -> usize {
        self.0.config().head_size
    }

    /// V, number of tokens.
    #[getter]
    fn n_vocab(&self) -> usize {
        self.0.config().n_vocab
    }

    /// Tells models apart; the same for all file types and quantizations of a model.
    #[getter]
    fn fingerprint(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.fingerprint().to_owned())
    }

    /// How the cache of embeddings has done.
    #[getter]
    fn embedding_cache(&self) -> CacheStats {
        CacheStats(self.0.embedding_cache_stats())
    }

    /// Token ids of text.
    #[pyo3(signature = (text: "str | bytes"))]
    fn encode<'py>(&self, text: &Bound<'py, PyAny>) -> PyResult<Array<'py, u32>> {
        tokenizer::encode(self.0.tokenizer().map_err(exception)?, text)
    }

    /// Token ids of several texts.
    #[pyo3(signature = (texts: "Iterable[str | bytes]"))]
    fn encode_batch<'py>(&self, texts: &Bound<'py, PyAny>) -> PyResult<Vec<Array<'py, u32>>> {
        texts.try_iter()?.map(|text| self.encode(&text?)).collect()
    }

    /// The text of token ids: a str, or bytes where they are not UTF-8. With errors="replace" or another of the ways of
    /// bytes.decode, always a str.
    #[pyo3(signature = (ids: "Iterable[int]", errors: "str | None" = None) -> "str | bytes")]
    fn decode<'py>(&self, ids: &Bound<'py, PyAny>, errors: Option<String>) -> PyResult<Bound<'py, PyAny>> {
        tokenizer::decode(self.0.tokenizer().map_err(exception)?, ids, errors)
    }

    /// Embeddings [n, C] of several texts (or token ids), read side by side: hidden rows of a layer, pooled over each
    /// text.
    ///
    /// pooling is "last" (the last token's row), "mean" (of all rows) or "eos-mean" (of the rows of eos_token, which
    /// embedding models are trained to end texts with; it is appended where there is none). layer -1 is the output of
    /// the final norm, 0 to L-1 the residual stream after that layer. normalize scales rows to length 1. progress is
    /// called as (texts done, total), or is a bar such as tqdm's.
    #[pyo3(signature = (
        texts: "Prompt | Iterable[Prompt]", pooling: "Pooling" = "last".into(), layer: "int" = -1,
        normalize: "bool" = false, *, eos_token: "int" = 65535, progress: "Progress | None" = None
    ))]
    fn embed<'py>(
        &self,
        texts: &Bound<'py, PyAny>,
        pooling: String,
        layer: isize,
        normalize: bool,
        eos_token: u32,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Array<'py, f32>> {
        let py = texts.py();
        let layer = match usize::try_from(layer) {
            Ok(layer) => Layer::Residual(layer),
            Err(_) if layer == -1 => Layer::Final,
            Err(_) => return Err(OptionError::new_err(format!("layer: expected -1 or a layer from 0, found {layer}"))),
        };
        let options = EmbedOptions { pooling: parse_pooling(&pooling, eos_token)?, layer, normalize };
        let texts = tokens::tokens_of_each(&self.0, texts)?;
        let mut progress = Progress::new(progress);
        let rows = py.detach(|| self.0.embed_batch_for(&texts, &options, |done, total| progress.report(done, total)));
        Array::from_rows(py, progress.result(rows)?, texts.len(), self.0.config().n_embd)
    }

    /// A session with a fresh state.
    fn session(&self, py: Python<'_>) -> PyResult<Session> {
        py.detach(|| self.0.session()).map(Session::new).map_err(exception)
    }

    /// The state after a text or token ids.
    #[pyo3(signature = (prompt: "Prompt", *, progress: "Progress | None" = None))]
    fn state(&self, py: Python<'_>, prompt: &Bound<'_, PyAny>, progress: Option<Py<PyAny>>) -> PyResult<State> {
        let tokens = tokens::tokens(&self.0, prompt)?;
        let mut progress = Progress::new(progress);
        let state = py.detach(|| {
            let mut session = self.0.session()?;
            session.feed_for(&tokens, Want::NOTHING, |done, total| progress.report(done, total))?;
            session.state()
        });
        Ok(State::new(py, progress.result(state)?, &self.0))
    }

    /// The state before any token: zeros, to be filled by assignment.
    fn new_state(&self, py: Python<'_>) -> State {
        State::new(py, anser::State::zeros(self.0.state_layout().clone()), &self.0)
    }

    /// Generates what follows prompt, from a fresh state or from another. The options are those of GenerateOptions.
    #[pyo3(signature = (
        prompt: "Prompt", *, state: "State | None" = None, progress: "Progress | None" = None,
        **options: "Unpack[GenerateOptions]"
    ))]
    fn generate(
        &self,
        prompt: &Bound<'_, PyAny>,
        state: Option<&Bound<'_, State>>,
        progress: Option<Py<PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Generation> {
        let options = generate_options(options)?;
        let tokens = tokens::tokens(&self.0, prompt)?;
        Generation::check(&self.0, &tokens, &options)?;
        let session = self.session_at(prompt.py(), state)?;
        Ok(Generation::new(session, tokens, options, progress, None))
    }

    /// Generates what follows each of several prompts, all from a fresh state or all from another, and returns the texts.
    ///
    /// They are generated side by side, 64 at a time, which takes far less time than one after the other, and are those that
    /// generate() gives for each prompt with these options. progress is called as (texts done, total), or is a bar such as tqdm's; an
    /// exception in it, or Ctrl-C, ends the call.
    #[pyo3(signature = (
        prompts: "Prompt | Iterable[Prompt]", *, state: "State | None" = None, progress: "Progress | None" = None,
        **options: "Unpack[GenerateOptions]"
    ))]
    fn generate_batch(
        &self,
        prompts: &Bound<'_, PyAny>,
        state: Option<&Bound<'_, State>>,
        progress: Option<Py<PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<String>> {
        let py = prompts.py();
        let options = generate_options(options)?;
        let prompts = tokens::tokens_of_each(&self.0, prompts)?;
        prompts.iter().try_for_each(|prompt| Generation::check(&self.0, prompt, &options))?;
        let first = self.session_at(py, state)?;
        let mut progress = Progress::new(progress);
        // All sessions are dropped without the GIL.
        let (texts, progress) = py.detach(move || {
            let texts = generation::side_by_side(&first, &prompts, &options, &mut progress);
            (texts, progress)
        });
        progress.result(texts)
    }

    /// Generates the answer to a conversation, given as messages {"role": …, "content": …} with the roles system, user,
    /// assistant and tool, in the format of RWKV-7 G1.
    ///
    /// thinking is "off", "on" (and "short", "normal" or "long", which G1c models know), "fake" or "fake-inline" (an
    /// empty thought, after which models answer better than without one). The pieces are those of the answer; the
    /// thought is in reasoning. tools lists functions by their signatures; the answer is then the JSON of a call. The
    /// other options are those of GenerateOptions.
    #[pyo3(signature = (
        messages: "Iterable[Message]", *, thinking: "Thinking" = "off".into(), tools: "Sequence[str]" = vec![],
        state: "State | None" = None, progress: "Progress | None" = None, **options: "Unpack[GenerateOptions]"
    ))]
    fn chat(
        &self,
        messages: &Bound<'_, PyAny>,
        thinking: String,
        tools: Vec<String>,
        state: Option<&Bound<'_, State>>,
        progress: Option<Py<PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Generation> {
        let mut options = generate_options(options)?;
        let chat = options::Chat::new(messages, &thinking, &tools)?;
        let tokens = self.0.encode(chat.prompt()).map_err(exception)?;
        Generation::check(&self.0, &tokens, &options)?;
        // Stop texts count in the answer only, not in the thought: the parser looks for them.
        let parser = chat.parser(std::mem::take(&mut options.stop))?;
        let session = self.session_at(messages.py(), state)?;
        Ok(Generation::new(session, tokens, options, progress, Some(parser)))
    }

    /// Writes a state to a safetensors file that names this model.
    #[pyo3(signature = (state, path: "StrPath"))]
    fn save_state(&self, py: Python<'_>, state: &Bound<'_, State>, path: PathBuf) -> PyResult<()> {
        let mut session = self.session_at(py, Some(state))?;
        py.detach(|| session.save_state(path)).map_err(exception)
    }

    /// Reads a state of this model that save_state() or Session.save() wrote, or a state-tuned file. A state of
    /// another file of the model, or of a fine-tune, is taken with a UserWarning.
    #[pyo3(signature = (path: "StrPath"))]
    fn load_state(&self, py: Python<'_>, path: PathBuf) -> PyResult<State> {
        let loaded = py.detach(|| self.0.load_state(&path)).map_err(exception)?;
        state::warn_of_origin(py, &path, loaded.origin)?;
        Ok(State::new(py, loaded.state, &self.0))
    }

    /// The state that another program made: an array in web-rwkv's layout, [L, N + 2, C] (row 0 the attention's shift,
    /// row 1 + k key column k of all heads' matrices, row N + 1 the feed-forward layer's shift), or a state-tuned
    /// safetensors file of web-rwkv's converter (blocks.L.att.time_state), as an initial state.
    #[pyo3(signature = (source: "StrPath | ArrayLike"))]
    fn import_state(&self, source: &Bound<'_, PyAny>) -> PyResult<State> {
        let py = source.py();
        let state = match source.extract::<PathBuf>() {
            Ok(path) => py.detach(|| self.0.import_state(path)),
            Err(_) => {
                let numpy = py.import("numpy")?;
                let array = numpy.call_method1("ascontiguousarray", (source, "float32"))?.call_method0("ravel")?;
                let numbers = array.cast::<PyArray1<f32>>()?.try_readonly()?.as_slice()?.to_vec();
                py.detach(|| self.0.state_from_web_rwkv(&numbers))
            }
        };
        Ok(State::new(py, state.map_err(exception)?, &self.0))
    }

    fn __repr__(&self) -> String {
        format!("<anser.Model {}: {}, {}>", self.0.name(), self.0.plan().title, self.0.device())
    }
}

impl Model {
    /// A session that stands at `state`, or at the beginning.
    fn session_at(&self, py: Python<'_>, state: Option<&Bound<'_, State>>) -> PyResult<anser::Session> {
        let state = state.map(|state| state.get().to_engine(py, &self.0)).transpose()?;
        let session = py.detach(|| {
            let mut session = self.0.session()?;
            if let Some(state) = &state {
                session.restore(state)?;
            }
            Ok(session)
        });
        session.map_err(exception)
    }
}

fn parse_pooling(name: &str, eos_token: u32) -> PyResult<Pooling> {
    match name {
        "last" => Ok(Pooling::Last),
        "mean" => Ok(Pooling::Mean),
        "eos-mean" => Ok(Pooling::MeanOf(eos_token)),
        _ => Err(OptionError::new_err(format!("pooling: expected \"last\", \"mean\" or \"eos-mean\", found {name:?}"))),
    }
}

/// How a cache has done.
#[pyclass(frozen, module = "anser")]
pub(crate) struct CacheStats(anser::CacheStats);

#[pymethods]
impl CacheStats {
    /// Look-ups that found something.
    #[getter]
    fn n_hits(&self) -> u64 {
        self.0.n_hits
    }

    /// Look-ups that did not.
    #[getter]
    fn n_misses(&self) -> u64 {
        self.0.n_misses
    }

    /// Entries now.
    #[getter]
    fn n_entries(&self) -> usize {
        self.0.n_entries
    }

    /// Bytes now.
    #[getter]
    fn n_bytes(&self) -> usize {
        self.0.n_bytes
    }

    /// Share of the look-ups that found something; 0 before the first.
    #[getter]
    fn hit_rate(&self) -> f64 {
        let n = self.0.n_hits + self.0.n_misses;
        if n == 0 { 0.0 } else { self.0.n_hits as f64 / n as f64 }
    }

    fn __repr__(&self) -> String {
        let stats = &self.0;
        format!(
            "<anser.CacheStats: {} hits, {} misses, {} entries, {} bytes>",
            stats.n_hits, stats.n_misses, stats.n_entries, stats.n_bytes
        )
    }
}
