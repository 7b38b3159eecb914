//! Models: text and tokens, embeddings, states.

use crate::arrays::Array;
use crate::detached::Detached;
use crate::error::{OptionError, exception};
use crate::generation::{Asked, Generation};
use crate::memory::{CacheStats, MemoryUse};
use crate::options::{self, generate_options};
use crate::progress::Progress;
use crate::service::{self, Arrival, Service};
use crate::session::{self, Fed, Session};
use crate::side_by_side::{self, Starts};
use crate::state::{self, State};
use crate::values::Given;
use crate::{load, progress, tokenizer, tokens, values};
use anser::chat::Thinking;
use anser::{EmbedOptions, Layer, Pooling, TaskHead, Want};
use anser_engine::{Event, Keep, Request, Saved, Start, Turns, Work};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A loaded model. It may be used from several threads.
///
/// A model that load() returned can be pickled, by its path and options: another process opens the same file, once for all copies that
/// it unpickles, and refuses another model there. In this process the copy is the model itself.
#[pyclass(frozen, weakref, module = "anser")]
pub(crate) struct Model(Detached<anser::Model>, OnceLock<Detached<Arc<Service>>>, Opened);

/// How a model was opened.
#[derive(Default)]
pub(crate) struct Opened {
    /// The arguments of `load`; `None` for a model that a session has handed out.
    pub(crate) arguments: Option<Py<PyDict>>,
    /// What the arguments and the environment say, without `on_load`.
    pub(crate) options: anser::Options,
    /// The bytes of states after turns that its engine keeps.
    pub(crate) state_cache_n_bytes: usize,
    /// Of its engine and those of the same model with other adapters, which run on the same cores.
    pub(crate) turns: Turns,
}

#[pymethods]
impl Model {
    /// Name of the file.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// The device that the model runs on, and the reason for it.
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

    /// F, width of the feed-forward layers.
    #[getter]
    fn n_ffn(&self) -> usize {
        self.0.config().n_ffn
    }

    /// R, the widths of the low-rank pairs of time mixing, by the value that each makes: w (the decay), a, v and g.
    #[getter]
    fn ranks(&self) -> BTreeMap<&'static str, usize> {
        let plan = self.0.plan();
        // The first layer has no pair for v.
        let is_first = |name: &str, value: &str| {
            name.strip_prefix("blocks.")
                .and_then(|rest| rest.split_once(".att."))
                .is_some_and(|(_, part)| part.strip_suffix('1') == Some(value))
        };
        let rank = |value: &&str| plan.weights.iter().find(|w| is_first(w.name(), value)).map(|w| w.n_rows());
        ["w", "a", "v", "g"].into_iter().filter_map(|value| Some((value, rank(&value)?))).collect()
    }

    /// V, number of tokens.
    #[getter]
    fn n_vocab(&self) -> usize {
        self.0.config().n_vocab
    }

    /// A name for the model, which is the same for all its file types and quantizations.
    #[getter]
    fn fingerprint(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.fingerprint().to_owned())
    }

    /// The counts of the cache of embeddings.
    #[getter]
    fn embedding_cache(&self) -> CacheStats {
        CacheStats(self.0.embedding_cache_stats())
    }

    /// Token ids of text: a str, or bytes of any kind.
    #[pyo3(signature = (text: "Text"))]
    fn encode<'py>(&self, text: &Bound<'py, PyAny>) -> PyResult<Array<'py, u32>> {
        tokenizer::encode(self.0.tokenizer().map_err(exception)?, text)
    }

    /// Token ids of several texts.
    #[pyo3(signature = (texts: "Iterable[Text]"))]
    fn encode_batch<'py>(&self, texts: &Bound<'py, PyAny>) -> PyResult<Vec<Array<'py, u32>>> {
        let py = texts.py();
        let encode = |text: PyResult<Bound<'py, PyAny>>| {
            py.check_signals()?;
            self.encode(&text?)
        };
        match tokens::bytes(texts)? {
            Some(_) => Err(values::wrong_type("texts", "an iterable of texts", texts)),
            None => texts.try_iter()?.map(encode).collect(),
        }
    }

    /// The text of token ids. Ids need not begin and end with whole characters: errors says how to treat bytes that are not
    /// UTF-8, as in bytes.decode: "strict" raises UnicodeDecodeError, "replace" writes U+FFFD. decode_bytes() returns
    /// the bytes.
    #[pyo3(signature = (ids: "Iterable[int]", errors: "str" = "strict".into()) -> "str",
           text_signature = "($self, ids, errors='strict')")]
    fn decode<'py>(&self, ids: &Bound<'py, PyAny>, errors: String) -> PyResult<Bound<'py, PyAny>> {
        tokenizer::decode(self.0.tokenizer().map_err(exception)?, ids, &errors)
    }

    /// The bytes of token ids.
    #[pyo3(signature = (ids: "Iterable[int]"))]
    fn decode_bytes<'py>(&self, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        tokenizer::decode_bytes(self.0.tokenizer().map_err(exception)?, ids)
    }

    /// The memory that the model takes now, in bytes.
    fn memory(&self, py: Python<'_>) -> PyResult<MemoryUse> {
        py.detach(|| MemoryUse::of(&self.0)).map_err(exception)
    }

    /// Embeddings [n, C] of several texts (or token ids), read side by side: hidden rows of a layer, pooled over each
    /// text.
    ///
    /// pooling is "last" (the last token's row), "mean" (of all rows) or "eos-mean" (of the rows of eos_token, which
    /// embedding models are trained to end texts with; it is appended where there is none). layer -1 is the output of
    /// the final norm, 0 to L-1 the residual stream after that layer. normalize scales rows to length 1. progress is
    /// called as (texts done, total), or is a bar such as tqdm's.
    ///
    /// An embedding model has heads, which make the embedding of rows pooled by "eos-mean": head is "cls" (classification), "sts" (similarity),
    /// "retr" (retrieval), or "none" for the pooled row. Without pooling and head, such a model embeds as it was trained: a text gets
    /// eos_token at the end of every 512 tokens, and the head is "retr"; other models have no heads.
    #[pyo3(signature = (
        texts: "Prompt | Iterable[Prompt]", pooling: "Pooling" = Given::default(), layer: "int" = Given::default(),
        normalize: "bool" = Given::default(), *, eos_token: "int" = Given::default(), progress: "Progress | None" = None,
        head: "Head | None" = None
    ), text_signature = "($self, texts, pooling='last', layer=-1, normalize=False, *, eos_token=65535, progress=None, head=None)")]
    #[expect(clippy::too_many_arguments, reason = "they are Python's keyword arguments")]
    fn embed<'py>(
        &self,
        texts: &Bound<'py, PyAny>,
        pooling: Given<'py>,
        layer: Given<'py>,
        normalize: Given<'py>,
        eos_token: Given<'py>,
        progress: Option<Py<PyAny>>,
        head: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Array<'py, f32>> {
        let py = texts.py();
        let eos_token = eos_token.or(65535, |value| values::small_count("eos_token", value))?;
        let poolings = [("last", Pooling::Last), ("mean", Pooling::Mean), ("eos-mean", Pooling::MeanOf(eos_token))];
        let usual = self.0.usual_embed_options();
        let heads = [
            ("cls", Some(TaskHead::Cls)),
            ("sts", Some(TaskHead::Sts)),
            ("retr", Some(TaskHead::Retr)),
            ("none", None),
        ];
        let given = pooling.or(None, |value| values::word("pooling", value, &poolings).map(Some))?;
        let layer = layer.or(Layer::Final, parse_layer)?;
        let options = EmbedOptions {
            pooling: given.unwrap_or(usual.pooling),
            layer,
            normalize: normalize.or(false, |value| values::flag("normalize", value))?,
            head: match head {
                Some(head) => values::word("head", &head, &heads)?,
                None => usual.head.filter(|_| given.is_none() && layer == Layer::Final),
            },
            chunk_len: usual.chunk_len,
        };
        progress::check(py, progress.as_ref())?;
        let texts = tokens::tokens_of_each(&self.0, texts)?;
        if progress.is_none() {
            let n_texts = texts.len();
            let take = |event| match event {
                Event::Embedding(rows) => Some(rows),
                _ => None,
            };
            let rows = self.ask(py, Request::new(vec![], Work::EmbedMany { options, texts }), take)?;
            let rows = rows.ok_or_else(|| exception(anser::Error::Cancelled))?;
            return Array::from_rows(py, rows, n_texts, self.0.config().n_embd);
        }
        let mut progress = Progress::checked(progress);
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
        progress::check(py, progress.as_ref())?;
        let tokens = tokens::tokens(&self.0, prompt)?;
        if progress.is_none() {
            let take = |event| match event {
                Event::State(saved) => Some(saved),
                _ => None,
            };
            let saved = self.ask(py, Request::new(tokens, Work::State), take)?;
            let saved = saved.ok_or_else(|| exception(anser::Error::Cancelled))?;
            return Ok(State::new(py, Arc::unwrap_or_clone(saved).state, &self.0));
        }
        let mut progress = Progress::checked(progress);
        let state = py.detach(|| {
            let mut session = self.0.session()?;
            session.feed_for(&tokens, Want::NOTHING, |done, total| progress.report(done, total))?;
            session.state()
        });
        Ok(State::new(py, progress.result(state)?, &self.0))
    }

    /// The states after each of several texts (or token ids), which are read side by side: in far less time than one after the other.
    ///
    /// progress is called as (texts done, total), or is a bar such as tqdm's. The calls of other threads and tasks share the steps.
    #[pyo3(signature = (texts: "Prompt | Iterable[Prompt]", *, progress: "Progress | None" = None))]
    fn states(&self, texts: &Bound<'_, PyAny>, progress: Option<Py<PyAny>>) -> PyResult<Vec<State>> {
        let py = texts.py();
        let mut progress = Progress::new(py, progress)?;
        let texts = tokens::tokens_of_each(&self.0, texts)?;
        let service = self.service(py)?;
        let read = py.detach(|| side_by_side::read_states(&service, texts, &mut progress));
        let states = progress.first(read)?;
        Ok(states.into_iter().map(|saved| State::new(py, Arc::unwrap_or_clone(saved).state, &self.0)).collect())
    }

    /// Reads a text or token ids into each of several sessions of this model, side by side: in far less time than one feed() after the other.
    /// Returns what Session.feed() returns for each; logits and hidden are those of feed(). prompts has one for each session.
    ///
    /// progress is called as (tokens read, total) of all sessions. An exception in it, or Ctrl-C, ends the call; the sessions then hold
    /// the tokens that were read until then. BusyError if another call or a generation uses one of the sessions: nothing is read then.
    #[pyo3(signature = (
        sessions: "Iterable[Session]", prompts: "Iterable[Prompt]", *, logits: "Which | None" = Given::default(),
        hidden: "Which | None" = None, progress: "Progress | None" = None
    ), text_signature = "($self, sessions, prompts, *, logits='last', hidden=None, progress=None)")]
    fn feed_batch(
        &self,
        sessions: &Bound<'_, PyAny>,
        prompts: &Bound<'_, PyAny>,
        logits: Given<'_>,
        hidden: Option<Bound<'_, PyAny>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Vec<Fed>> {
        let py = sessions.py();
        let want = session::want(&logits, hidden.as_ref())?;
        let mut progress = Progress::new(py, progress)?;
        let prompts = tokens::tokens_of_each(&self.0, prompts)?;
        let sessions = session::sessions(sessions)?;
        options::same_number("prompts", prompts.len(), sessions.len(), "sessions")?;
        let fed = session::feed_batch(py, &self.0, &sessions, &prompts, want, &mut progress)?;
        let fed = progress.result(fed)?;
        fed.into_iter().map(|fed| Fed::new(py, fed, want, self.0.config())).collect()
    }

    /// The log-probabilities [T] of the tokens of a text (or of token ids), each after those before it: natural logarithms of the
    /// model's own distribution. That of the first token is NaN from a fresh state, since nothing is before it.
    #[pyo3(signature = (text: "Prompt", *, state: "State | None" = None))]
    fn score<'py>(&self, text: &Bound<'py, PyAny>, state: Option<&Bound<'_, State>>) -> PyResult<Array<'py, f32>> {
        let py = text.py();
        let tokens = tokens::tokens(&self.0, text)?;
        let start = self.start_at(py, state)?;
        let mut scores = vec![];
        let take = |event| {
            if let Event::Scored(more) = event {
                scores.extend(more.into_iter().map(|score| score.map_or(f32::NAN, |score| score.log_probability)));
            }
            None::<()>
        };
        self.ask(py, Request { start, ..Request::new(tokens, Work::Score { n_top: 0 }) }, take)?;
        Ok(Array::from_vec(py, scores))
    }

    /// The state before any token: zeros, to be filled by assignment.
    fn new_state(&self, py: Python<'_>) -> State {
        State::new(py, anser::State::zeros(self.0.state_layout().clone()), &self.0)
    }

    /// Generates the text that follows prompt, from a fresh state or from another.
    ///
    /// Calls from several threads or tasks are batched: the model's steps are shared by all that run at the same time. A generation
    /// with progress takes its own steps. logprobs is the number of most likely tokens to report, in the generation's logprobs, with
    /// the log-probability of each token; 0 reports the token's own alone.
    ///
    #[doc = include_str!("generate_options.md")]
    #[pyo3(signature = (
        prompt: "Prompt", *, state: "State | None" = None, progress: "Progress | None" = None,
        logprobs: "int | None" = None, **options: "Unpack[GenerateOptions]"
    ))]
    fn generate(
        &self,
        prompt: &Bound<'_, PyAny>,
        state: Option<&Bound<'_, State>>,
        progress: Option<Py<PyAny>>,
        logprobs: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Generation> {
        let py = prompt.py();
        let options = generate_options(options)?;
        progress::check(py, progress.as_ref())?;
        let n_top = logprobs.map(|n| values::count("logprobs", n)).transpose()?;
        let tokens = tokens::tokens(&self.0, prompt)?;
        Generation::check(py, &self.0, &tokens, &options)?;
        if progress.is_none() {
            let (start, service) = (self.start_at(py, state)?, self.service(py)?);
            let asked = Asked { start, prompt: tokens, n_top, keep: Keep::default() };
            return Ok(Generation::served(&self.0, service, asked, options, None));
        }
        if n_top.is_some() {
            return Err(OptionError::new_err("logprobs: expected no progress with it, found both"));
        }
        let session = self.session_at(py, state)?;
        Ok(Generation::new(session, tokens, options, progress, None))
    }

    /// Generates the text that follows each of several prompts. Returns the texts.
    ///
    /// state is the state from which all begin, or a list with a state or None for each; each is a list with a dict of options or None
    /// for each prompt, which change those of all. They are generated side by side, 64 at a time, which takes far less time than one after the other, and are those that
    /// generate() gives for each prompt with these options. progress is called as (texts done, total), or is a bar such as tqdm's; an
    /// exception in it, or Ctrl-C, ends the call.
    ///
    #[doc = include_str!("generate_options.md")]
    #[pyo3(signature = (
        prompts: "Prompt | Iterable[Prompt]", *, state: "State | Iterable[State | None] | None" = None,
        progress: "Progress | None" = None, each: "Iterable[GenerateOptions | None] | None" = None,
        **options: "Unpack[GenerateOptions]"
    ))]
    fn generate_batch(
        &self,
        prompts: &Bound<'_, PyAny>,
        state: Option<&Bound<'_, PyAny>>,
        progress: Option<Py<PyAny>>,
        each: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<String>> {
        let py = prompts.py();
        // Wrong options are told before prompts are read.
        generate_options(options)?;
        let mut progress = Progress::new(py, progress)?;
        let prompts = tokens::tokens_of_each(&self.0, prompts)?;
        let options = options::options_of_each(options, each, prompts.len())?;
        let mut checks = prompts.iter().zip(&options);
        checks.try_for_each(|(prompt, options)| Generation::check(py, &self.0, prompt, options))?;
        let starts = Starts::new(py, &self.0, state, prompts.len())?;
        let texts = py.detach(|| side_by_side::generate(&self.0, &starts, &prompts, &options, &mut progress));
        progress.result(texts)
    }

    /// Generates the answer to a conversation, given as messages {"role": …, "content": …} with the roles system, user,
    /// assistant and tool, in the format of RWKV-7 G1, or of G1h and later if the model's name says so, or in ChatML if its vocabulary has the marks.
    ///
    /// thinking is "off", "on" (and "short", "normal" or "long", which G1c models know), "fake" or "fake-inline" (an
    /// empty thought, after which models answer better than without one). The pieces are those of the answer; the
    /// thought is in reasoning. With state_cache of load() the states after turns are kept, so that the next turn of a conversation reads
    /// its own tokens and the last answer only. tools lists functions by their signatures (see anser.tools). With tool_choice "required"
    /// the answer is the JSON of a call; with "auto" it is words, or a call that begins with ```json.
    ///
    #[doc = include_str!("generate_options.md")]
    #[pyo3(signature = (
        messages: "Messages", *, thinking: "Thinking" = Given::default(), tools: "Sequence[str]" = Given::default(),
        tool_choice: "ToolChoice" = Given::default(), state: "State | None" = None, progress: "Progress | None" = None,
        **options: "Unpack[GenerateOptions]"
    ), text_signature = "($self, messages, *, thinking='off', tools=(), tool_choice='required', state=None, progress=None, **options)")]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn chat(
        &self,
        messages: &Bound<'_, PyAny>,
        thinking: Given<'_>,
        tools: Given<'_>,
        tool_choice: Given<'_>,
        state: Option<&Bound<'_, State>>,
        progress: Option<Py<PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Generation> {
        let py = messages.py();
        let mut options = generate_options(options)?;
        progress::check(py, progress.as_ref())?;
        let tools = tools.or(vec![], |value| values::texts("tools", value))?;
        let thinking = thinking.or(Thinking::Off, options::thinking)?;
        let must_call = [("required", true), ("auto", false)];
        let must_call = tool_choice.or(true, |value| values::word("tool_choice", value, &must_call))?;
        let chat = options::Chat::new(messages, thinking, &tools, must_call, self.0.chat_template())?;
        let tokenizer = self.0.tokenizer().map_err(exception)?;
        let prompt = if options.grammar.is_some() { chat.prompt_of_grammar()? } else { chat.prompt() };
        let tokens = tokens::encode_chat(chat.template(), tokenizer, &prompt, py)?;
        Generation::check(py, &self.0, &tokens, &options)?;
        // Stop texts count in the answer only, not in the thought: the parser looks for them.
        let parser = chat.parser(std::mem::take(&mut options.stop))?;
        if progress.is_none() {
            let (start, service) = (self.start_at(py, state)?, self.service(py)?);
            let keep = Keep { turns: chat.turn_ends(tokenizer, &tokens), answer: false, state: false };
            let asked = Asked { start, prompt: tokens, n_top: None, keep };
            return Ok(Generation::served(&self.0, service, asked, options, Some(parser)));
        }
        let session = self.session_at(py, state)?;
        Ok(Generation::new(session, tokens, options, progress, Some(parser)))
    }

    /// Writes a state to a safetensors file that names this model.
    #[pyo3(signature = (state, path: "StrPath"))]
    fn save_state(&self, py: Python<'_>, state: &Bound<'_, State>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let path = values::path("path", path)?;
        let mut session = self.session_at(py, Some(state))?;
        py.detach(|| session.save_state(path)).map_err(exception)
    }

    /// Reads a state of this model that save_state() or Session.save() wrote, or a state-tuned file. A state of
    /// another file of the model, or of a fine-tune, is taken with a UserWarning.
    #[pyo3(signature = (path: "StrPath"))]
    fn load_state(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<State> {
        let path = values::path("path", path)?;
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
        let state = match source.extract::<std::path::PathBuf>() {
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

    /// The same model with other adapters, which are given as to load(); None: without any. The other options are those of load().
    ///
    /// On the CPU both models use one mapping of the file, so that the other one takes the memory of its states, its adapters, and the
    /// matrices into which they are merged; pairs beside quantized matrices take little. On a GPU each has its weights there. Calls
    /// that are batched take steps in turns with those of the other one, so that threads and tasks may use several adapters at the
    /// same time. States and sessions are each model's own.
    #[pyo3(signature = (lora: "StrPath | LoraDict | Sequence[StrPath | LoraDict] | None") -> "Model")]
    fn with_lora(&self, lora: &Bound<'_, PyAny>) -> PyResult<Model> {
        load::with_lora(lora.py(), &self.0, &self.2, lora)
    }

    #[pyo3(signature = () -> "tuple[Callable[..., object], tuple[object, ...]]")]
    fn __reduce__<'py>(slf: &Bound<'py, Model>) -> PyResult<Bound<'py, PyAny>> {
        let (py, model) = (slf.py(), slf.get());
        let Some(arguments) = &model.2.arguments else {
            let reason = "a session's model cannot be pickled: pickle the model that load() returned";
            return Err(PyTypeError::new_err(reason));
        };
        py.import("anser._pickle")?.call_method1("hold_model", (arguments.bind(py), model.fingerprint(py), slf))
    }

    fn __repr__(&self) -> String {
        format!("<anser.Model {}: {}, {}>", self.0.name(), self.0.plan().title, self.0.device())
    }
}

impl Model {
    /// The engine's model.
    pub(crate) fn engine_model(&self) -> &anser::Model {
        &self.0
    }

    pub(crate) fn new(model: anser::Model) -> Model {
        Model(Detached::new(model), OnceLock::new(), Opened::default())
    }

    /// A model that `load` has opened.
    pub(crate) fn opened(model: anser::Model, opened: Opened) -> Model {
        Model(Detached::new(model), OnceLock::new(), opened)
    }

    /// The engine that batches the calls of all threads and tasks; it is started at the first call.
    fn service(&self, py: Python<'_>) -> PyResult<Arc<Service>> {
        // In a forked child, a thread of the parent that was starting it does not exist.
        self.0.check_process().map_err(exception)?;
        service::end_at_exit(py)?;
        Ok(py.detach(|| Arc::clone(self.1.get_or_init(|| Service::start(&self.0, &self.2)))))
    }

    /// Where a request of the engine begins.
    fn start_at(&self, py: Python<'_>, state: Option<&Bound<'_, State>>) -> PyResult<Start> {
        let Some(state) = state else { return Ok(Start::Fresh) };
        let state = state.get().to_engine(py, &self.0)?;
        self.0.check_state(&state).map_err(exception)?;
        Ok(Start::State(Arc::new(Saved { state, logits: vec![] })))
    }

    /// Has the engine do some work that gives one thing, and waits for what `take` takes from its events.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        request: Request,
        mut take: impl FnMut(Event) -> Option<T> + Send,
    ) -> PyResult<Option<T>> {
        let service = self.service(py)?;
        py.detach(move || {
            let served = service.submit(request)?;
            let mut taken = None;
            loop {
                match served.wait()? {
                    Arrival::Event(Event::Failed(failure)) => return Err(service::failed(failure)),
                    Arrival::Event(Event::Done(_)) => return Ok(taken),
                    // The engine ended before the request was complete, as it does at the exit of Python.
                    Arrival::End => return Err(exception(anser::Error::Cancelled)),
                    Arrival::Event(event) => taken = take(event).or(taken),
                }
            }
        })
    }

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

/// -1 for the final norm's output, else a layer's residual stream.
fn parse_layer(value: &Bound<'_, PyAny>) -> PyResult<Layer> {
    match values::found_int(value) {
        Some(-1) => Ok(Layer::Final),
        Some(layer) if layer >= 0 => Ok(Layer::Residual(usize::try_from(layer).unwrap_or(usize::MAX))),
        Some(layer) => Err(OptionError::new_err(format!("layer: expected -1 or a layer from 0, found {layer}"))),
        None => Err(values::wrong_type("layer", "-1 or a layer from 0", value)),
    }
}
