//! Sessions: one sequence of tokens each.

use crate::arrays::Array;
use crate::detached::{Detached, drop_without_gil};
use crate::error::{BusyError, ClosedError, OptionError, exception};
use crate::generation::Generation;
use crate::model::Model;
use crate::options::generate_options;
use crate::progress::{self, Progress};
use crate::state::{self, State};
use crate::values::Given;
use crate::{tokens, values};
use anser::{Config, Want, Which};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One sequence of tokens and its state.
///
/// Sessions of a model share its weights and nothing else; different threads may run different sessions. While feed() reads
/// into a session, or a generation uses it, its methods raise BusyError; other calls wait for each other.
#[pyclass(frozen, module = "anser")]
pub(crate) struct Session {
    model: Detached<anser::Model>,
    /// A call that neither reads tokens nor generates holds this lock until it returns.
    holder: Mutex<Holder>,
}

/// The holder of the engine's session.
pub(crate) enum Holder {
    Here(anser::Session),
    /// A call of feed(), which may take long and call back to Python, and which gives the session back.
    Reading,
    /// A generation, which gives the session back.
    Lent,
    Closed,
}

/// The session while a call of feed() uses it. Dropping this, also by a panic, gives it back.
struct Taken<'a> {
    owner: &'a Session,
    session: Option<anser::Session>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.owner.take_back(session);
        }
    }
}

impl Session {
    pub(crate) fn new(session: anser::Session) -> Session {
        Session { model: Detached::new(session.model().clone()), holder: Mutex::new(Holder::Here(session)) }
    }

    /// Waits for the call that holds the lock. Call this without the GIL, which the other call may need.
    ///
    /// In a forked child no thread would ever release the lock, so the process id is checked first.
    fn lock(&self) -> PyResult<MutexGuard<'_, Holder>> {
        self.model.check_process().map_err(exception)?;
        Ok(self.holder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls `f`, which must not call Python, with the session, without the GIL.
    fn with<T: Send>(&self, py: Python<'_>, f: impl Send + FnOnce(&mut anser::Session) -> T) -> PyResult<T> {
        py.detach(|| match &mut *self.lock()? {
            Holder::Here(session) => Ok(f(session)),
            elsewhere => Err(elsewhere.refusal()),
        })
    }

    /// Takes the session out and leaves `instead` in its place. Call this without the GIL.
    fn take(&self, instead: Holder) -> PyResult<anser::Session> {
        let mut holder = self.lock()?;
        match std::mem::replace(&mut *holder, instead) {
            Holder::Here(session) => Ok(session),
            elsewhere => {
                let refusal = elsewhere.refusal();
                *holder = elsewhere;
                Err(refusal)
            }
        }
    }

    /// Takes the session back, unless it was closed in the meantime.
    pub(crate) fn take_back(&self, session: anser::Session) {
        let Ok(mut holder) = self.lock() else { return };
        match *holder {
            Holder::Reading | Holder::Lent => *holder = Holder::Here(session),
            Holder::Here(_) | Holder::Closed => {}
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let holder = self.holder.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop_without_gil(std::mem::replace(holder, Holder::Closed));
    }
}

impl Holder {
    /// The error of a call that needs the session while another holder has it.
    fn refusal(&self) -> PyErr {
        match self {
            Holder::Here(_) | Holder::Reading => {
                BusyError::new_err("another call is using this session: wait until it returns")
            }
            Holder::Lent => {
                BusyError::new_err("the session is generating: read the generation to its end, or close it")
            }
            Holder::Closed => ClosedError::new_err("the session is closed"),
        }
    }
}

#[pymethods]
impl Session {
    /// The model.
    #[getter]
    fn model(&self) -> Model {
        Model::new(self.model.clone())
    }

    /// Tokens read since the fresh or restored state.
    #[getter]
    fn n_tokens(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |session| session.n_tokens())
    }

    /// Reads a text or token ids, and returns the outputs that are asked for: logits and hidden rows (after the final norm)
    /// of the "last" token or of "all". Without logits the head is not computed. Afterwards logits() are those of the last
    /// token, if they were asked for.
    ///
    /// progress is called as (read, total) between chunks, or is a bar such as tqdm's. An exception in it, or Ctrl-C,
    /// ends the call; the state holds the tokens that were read until then.
    #[pyo3(signature = (
        prompt: "Prompt", *, logits: "Which | None" = Given::default(), hidden: "Which | None" = None,
        progress: "Progress | None" = None
    ), text_signature = "($self, prompt, *, logits='last', hidden=None, progress=None)")]
    fn feed(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        logits: Given<'_>,
        hidden: Option<Bound<'_, PyAny>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Fed> {
        let want = want(&logits, hidden.as_ref())?;
        let mut progress = Progress::new(py, progress)?;
        let tokens = tokens::tokens(&self.model, prompt)?;
        let fed = py.detach(|| {
            let mut taken = Taken { owner: self, session: Some(self.take(Holder::Reading)?) };
            let feed = |session: &mut anser::Session| {
                session.feed_for(&tokens, want, |done, total| progress.report(done, total))
            };
            PyResult::Ok(taken.session.as_mut().map_or(Err(anser::Error::Cancelled), feed))
        })?;
        let fed = progress.result(fed)?;
        Fed::new(py, fed, want, self.model.config())
    }

    /// Logits [V] of the token that follows; empty until tokens have been read for them.
    fn logits<'py>(&self, py: Python<'py>) -> PyResult<Array<'py, f32>> {
        let logits = self.with(py, |session| session.logits().to_vec())?;
        Ok(Array::from_vec(py, logits))
    }

    /// A copy of the state, which Python owns.
    fn state(&self, py: Python<'_>) -> PyResult<State> {
        let state = self.with(py, |session| session.state())?.map_err(exception)?;
        Ok(State::new(py, state, &self.model))
    }

    /// Continues from state. The session has no logits until it has read a token.
    fn restore(&self, py: Python<'_>, state: &State) -> PyResult<()> {
        let state = state.to_engine(py, &self.model)?;
        self.with(py, |session| session.restore(&state))?.map_err(exception)
    }

    /// A second session that continues from the same point.
    fn fork(&self, py: Python<'_>) -> PyResult<Session> {
        let fork = self.with(py, |session| session.fork())?.map_err(exception)?;
        Ok(Session::new(fork))
    }

    /// Returns to a fresh state.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |session| session.reset())?.map_err(exception)
    }

    /// Writes the state, and the last logits if they are known, to a safetensors file that names this model.
    #[pyo3(signature = (path: "StrPath"))]
    fn save(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let path = values::path("path", path)?;
        self.with(py, |session| session.save_state(path))?.map_err(exception)
    }

    /// Continues from a file that save() wrote, or begins with a state-tuned file as Model.import_state() reads it.
    /// A state of another file of the model, or of a fine-tune, is taken with a UserWarning.
    #[pyo3(signature = (path: "StrPath"))]
    fn load(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let path = values::path("path", path)?;
        let origin = self.with(py, |session| session.load_state(&path))?.map_err(exception)?;
        state::warn_of_origin(py, &path, origin)
    }

    /// Generates the text that follows prompt; without one, the text that follows the tokens read. The session belongs to the
    /// generation until that ends or is closed.
    ///
    #[doc = include_str!("generate_options.md")]
    #[pyo3(signature = (
        prompt: "Prompt | None" = None, *, progress: "Progress | None" = None, **options: "Unpack[GenerateOptions]"
    ))]
    fn generate(
        slf: &Bound<'_, Session>,
        prompt: Option<&Bound<'_, PyAny>>,
        progress: Option<Py<PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Generation> {
        let (py, session) = (slf.py(), slf.get());
        let options = generate_options(options)?;
        progress::check(py, progress.as_ref())?;
        let tokens = prompt.map(|p| tokens::tokens(&session.model, p)).transpose()?.unwrap_or_default();
        Generation::check(py, &session.model, &tokens, &options)?;
        let taken = py.detach(|| session.take(Holder::Lent))?;
        Ok(Generation::of_session(slf.clone().unbind(), taken, tokens, options, progress))
    }

    /// Frees the state. A generation that uses the session goes on, and frees the state at its end.
    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            // A forked child has no state to free.
            if let Ok(mut holder) = self.lock() {
                *holder = Holder::Closed;
            }
        });
    }

    fn __enter__(slf: Py<Session>) -> Py<Session> {
        slf
    }

    #[pyo3(signature = (exc_type, exc_value: "BaseException | None", traceback: "TracebackType | None"))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<Bound<'_, PyType>>,
        exc_value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, traceback);
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let name = self.model.name();
        match self.holder.try_lock().as_deref() {
            Ok(Holder::Here(s)) => format!("<anser.Session of {name}: {} tokens read>", s.n_tokens()),
            Ok(Holder::Closed) => format!("<anser.Session of {name}: closed>"),
            Ok(Holder::Reading | Holder::Lent) | Err(_) => format!("<anser.Session of {name}: in use>"),
        }
    }
}

/// The outputs of fed tokens; None for those that were not asked for.
#[pyclass(frozen, generic, module = "anser")]
pub(crate) struct Fed {
    logits: Option<Py<PyAny>>,
    hidden: Option<Py<PyAny>>,
}

impl Fed {
    pub(crate) fn new(py: Python<'_>, fed: anser::Fed, want: Want, config: &Config) -> PyResult<Fed> {
        Ok(Fed {
            logits: rows(py, fed.logits, want.logits, config.n_vocab)?,
            hidden: rows(py, fed.hidden, want.hidden, config.n_embd)?,
        })
    }
}

#[pymethods]
impl Fed {
    /// Logits, [V] of the last token or [T, V] of all.
    #[getter]
    fn logits<'py>(&self, py: Python<'py>) -> Option<Array<'py, f32>> {
        self.logits.as_ref().map(|rows| Array::new(rows.bind(py).clone()))
    }

    /// Hidden rows after the final norm, [C] of the last token or [T, C] of all.
    #[getter]
    fn hidden<'py>(&self, py: Python<'py>) -> Option<Array<'py, f32>> {
        self.hidden.as_ref().map(|rows| Array::new(rows.bind(py).clone()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let shape = |rows: &Option<Py<PyAny>>| match rows {
            Some(rows) => Ok::<_, PyErr>(rows.bind(py).getattr("shape")?.to_string()),
            None => Ok("None".into()),
        };
        Ok(format!("<anser.Fed: logits {}, hidden {}>", shape(&self.logits)?, shape(&self.hidden)?))
    }
}

/// The sessions of an iterable, each of them once.
pub(crate) fn sessions<'py>(sessions: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, Session>>> {
    let wrong = |value: &Bound<'_, PyAny>| values::wrong_type("sessions", "an iterable of Session", value);
    let mut all: Vec<Bound<'py, Session>> = vec![];
    for session in sessions.try_iter().map_err(|_| wrong(sessions))? {
        let session = session?.cast_into::<Session>().map_err(|error| wrong(&error.into_inner()))?;
        if let Some(at) = all.iter().position(|other| other.is(&session)) {
            let index = all.len();
            return Err(OptionError::new_err(format!(
                "sessions: expected each session once, found that at {at} again at {index}"
            )));
        }
        all.push(session);
    }
    Ok(all)
}

/// Reads `prompts` into `sessions` side by side.
pub(crate) fn feed_batch(
    py: Python<'_>,
    model: &anser::Model,
    sessions: &[Bound<'_, Session>],
    prompts: &[Vec<u32>],
    want: Want,
    progress: &mut Progress,
) -> PyResult<Result<Vec<anser::Fed>, anser::Error>> {
    let owners: Vec<&Session> = sessions.iter().map(|session| session.get()).collect();
    py.detach(|| {
        let mut taken = vec![];
        for owner in owners {
            taken.push(Taken { owner, session: Some(owner.take(Holder::Reading)?) });
        }
        let read = taken.iter_mut().filter_map(|taken| taken.session.as_mut());
        let mut feeds: Vec<_> = read.zip(prompts.iter().map(|prompt| &prompt[..])).collect();
        let n_before: Vec<usize> = feeds.iter().map(|(session, _)| session.n_tokens()).collect();
        let fed = model.feed_batch_for(&mut feeds, want, |done, total| progress.report(done, total));
        Ok(fed.map(|mut fed| {
            if want.logits == Which::Last {
                // They are in the sessions only. A session that has read nothing gives none, as in feed().
                for (((session, _), fed), n_before) in feeds.iter().zip(&mut fed).zip(n_before) {
                    if session.n_tokens() > n_before {
                        fed.logits = session.logits().to_vec();
                    }
                }
            }
            fed
        }))
    })
}

/// The outputs that the arguments of feed() ask for.
pub(crate) fn want(logits: &Given<'_>, hidden: Option<&Bound<'_, PyAny>>) -> PyResult<Want> {
    Ok(Want {
        logits: logits.or(Which::Last, |value| which("logits", value))?,
        hidden: hidden.map_or(Ok(Which::None), |value| which("hidden", value))?,
    })
}

/// The tokens whose outputs are wanted; None means none.
fn which(option: &str, value: &Bound<'_, PyAny>) -> PyResult<Which> {
    let expected = "\"last\", \"all\" or None";
    match value.extract::<Option<String>>() {
        Ok(None) => Ok(Which::None),
        Ok(Some(word)) if word == "last" => Ok(Which::Last),
        Ok(Some(word)) if word == "all" => Ok(Which::All),
        Ok(Some(_)) => Err(values::out_of_range(option, expected, value)),
        Err(_) => Err(values::wrong_type(option, expected, value)),
    }
}

/// Rows of `n_cols` columns in the shape that was asked for.
fn rows(py: Python<'_>, data: Vec<f32>, which: Which, n_cols: usize) -> PyResult<Option<Py<PyAny>>> {
    match which {
        Which::None => Ok(None),
        Which::Last => Ok(Some(Array::from_vec(py, data).unbind())),
        Which::All => {
            let n_rows = data.len() / n_cols;
            Ok(Some(Array::from_rows(py, data, n_rows, n_cols)?.unbind()))
        }
    }
}
