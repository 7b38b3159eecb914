//! Sessions: one sequence of tokens each.

use crate::arrays::Array;
use crate::detached::{Detached, drop_without_gil};
use crate::error::{BusyError, ClosedError, exception};
use crate::generation::Generation;
use crate::model::Model;
use crate::options::generate_options;
use crate::progress::{self, Progress};
use crate::state::{self, State};
use crate::values::Given;
use crate::{tokens, values};
use anser::{Want, Which};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One sequence of tokens and what the model remembers of it.
///
/// Sessions of a model share its weights and nothing else; different threads may run different sessions. A session that
/// feed() is reading into, or that a generation has, raises BusyError; other calls wait for each other.
#[pyclass(frozen, module = "anser")]
pub(crate) struct Session {
    model: Detached<anser::Model>,
    /// Locked for as long as a call takes that neither reads tokens nor generates.
    place: Mutex<Place>,
}

/// Where the engine's session is.
pub(crate) enum Place {
    Here(anser::Session),
    /// With a call of feed(), which may take long and calls back, and which brings it back.
    Reading,
    /// With a generation, which brings it back.
    Lent,
    Closed,
}

/// The session while a call of feed() has it. Dropped, also by a panic, it goes back.
struct Taken<'a> {
    home: &'a Session,
    session: Option<anser::Session>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.home.take_back(session);
        }
    }
}

impl Session {
    pub(crate) fn new(session: anser::Session) -> Session {
        Session { model: Detached::new(session.model().clone()), place: Mutex::new(Place::Here(session)) }
    }

    /// Waits for the call that has the session. To be called without the GIL: that call may need it.
    ///
    /// In a forked child no thread would ever release the lock, so the process is looked at first.
    fn lock(&self) -> PyResult<MutexGuard<'_, Place>> {
        self.model.check_process().map_err(exception)?;
        Ok(self.place.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `f`, which calls nothing of Python, makes of the session, without the GIL.
    fn with<T: Send>(&self, py: Python<'_>, f: impl Send + FnOnce(&mut anser::Session) -> T) -> PyResult<T> {
        py.detach(|| match &mut *self.lock()? {
            Place::Here(session) => Ok(f(session)),
            elsewhere => Err(elsewhere.refusal()),
        })
    }

    /// Takes the session out and leaves `instead` in its place. To be called without the GIL.
    fn take(&self, instead: Place) -> PyResult<anser::Session> {
        let mut place = self.lock()?;
        match std::mem::replace(&mut *place, instead) {
            Place::Here(session) => Ok(session),
            elsewhere => {
                let refusal = elsewhere.refusal();
                *place = elsewhere;
                Err(refusal)
            }
        }
    }

    /// Takes the session back, unless it was closed in the meantime.
    pub(crate) fn take_back(&self, session: anser::Session) {
        let Ok(mut place) = self.lock() else { return };
        match *place {
            Place::Reading | Place::Lent => *place = Place::Here(session),
            Place::Here(_) | Place::Closed => {}
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let place = self.place.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop_without_gil(std::mem::replace(place, Place::Closed));
    }
}

impl Place {
    /// Why a call cannot have a session that is elsewhere.
    fn refusal(&self) -> PyErr {
        match self {
            Place::Here(_) | Place::Reading => {
                BusyError::new_err("another call is using this session: wait until it returns")
            }
            Place::Lent => BusyError::new_err("the session is generating: read the generation to its end, or close it"),
            Place::Closed => ClosedError::new_err("the session is closed"),
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

    /// Reads a text or token ids, and returns what is asked for: logits and hidden rows (after the final norm) of the
    /// "last" token or of "all". Without logits the head is not computed. Afterwards logits() are those of the last
    /// token, if they were asked for.
    ///
    /// progress is called as (read, total) between chunks, or is a bar such as tqdm's. An exception in it, or Ctrl-C,
    /// ends the call; what was read until then is in the state.
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
        let want = Want {
            logits: logits.or(Which::Last, |value| which("logits", value))?,
            hidden: hidden.map_or(Ok(Which::None), |value| which("hidden", &value))?,
        };
        let mut progress = Progress::new(py, progress)?;
        let tokens = tokens::tokens(&self.model, prompt)?;
        let fed = py.detach(|| {
            let mut taken = Taken { home: self, session: Some(self.take(Place::Reading)?) };
            let feed = |session: &mut anser::Session| {
                session.feed_for(&tokens, want, |done, total| progress.report(done, total))
            };
            PyResult::Ok(taken.session.as_mut().map_or(Err(anser::Error::Cancelled), feed))
        })?;
        let fed = progress.result(fed)?;
        let config = self.model.config();
        Ok(Fed {
            logits: rows(py, fed.logits, want.logits, config.n_vocab)?,
            hidden: rows(py, fed.hidden, want.hidden, config.n_embd)?,
        })
    }

    /// Logits [V] of the token that follows; empty until tokens have been read for them.
    fn logits<'py>(&self, py: Python<'py>) -> PyResult<Array<'py, f32>> {
        let logits = self.with(py, |session| session.logits().to_vec())?;
        Ok(Array::from_vec(py, logits))
    }

    /// A copy of the state, of which Python is the owner.
    fn state(&self, py: Python<'_>) -> PyResult<State> {
        let state = self.with(py, |session| session.state())?.map_err(exception)?;
        Ok(State::new(py, state, &self.model))
    }

    /// Goes on from state. Logits are unknown until a token is read.
    fn restore(&self, py: Python<'_>, state: &State) -> PyResult<()> {
        let state = state.to_engine(py, &self.model)?;
        self.with(py, |session| session.restore(&state))?.map_err(exception)
    }

    /// A second session that continues from the same point.
    fn fork(&self, py: Python<'_>) -> PyResult<Session> {
        let fork = self.with(py, |session| session.fork())?.map_err(exception)?;
        Ok(Session::new(fork))
    }

    /// Back to a fresh state.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |session| session.reset())?.map_err(exception)
    }

    /// Writes the state, and the last logits if they are known, to a safetensors file that names this model.
    #[pyo3(signature = (path: "StrPath"))]
    fn save(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let path = values::path("path", path)?;
        self.with(py, |session| session.save_state(path))?.map_err(exception)
    }

    /// Goes on from a file that save() wrote, or begins with a state-tuned file as Model.import_state() reads it.
    /// A state of another file of the model, or of a fine-tune, is taken with a UserWarning.
    #[pyo3(signature = (path: "StrPath"))]
    fn load(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let path = values::path("path", path)?;
        let origin = self.with(py, |session| session.load_state(&path))?.map_err(exception)?;
        state::warn_of_origin(py, &path, origin)
    }

    /// Generates what follows prompt; without one, goes on from the tokens read. The session belongs to the generation
    /// until that ends or is closed.
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
        Generation::check(&session.model, &tokens, &options)?;
        let taken = py.detach(|| session.take(Place::Lent))?;
        Ok(Generation::of_session(slf.clone().unbind(), taken, tokens, options, progress))
    }

    /// Frees the state; a generation that has the session goes on, and frees it at its end.
    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            // A forked child has no state to free.
            if let Ok(mut place) = self.lock() {
                *place = Place::Closed;
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
        match self.place.try_lock().as_deref() {
            Ok(Place::Here(s)) => format!("<anser.Session of {name}: {} tokens read>", s.n_tokens()),
            Ok(Place::Closed) => format!("<anser.Session of {name}: closed>"),
            Ok(Place::Reading | Place::Lent) | Err(_) => format!("<anser.Session of {name}: in use>"),
        }
    }
}

/// What feeding tokens gave; None where nothing was asked for.
#[pyclass(frozen, generic, module = "anser")]
pub(crate) struct Fed {
    logits: Option<Py<PyAny>>,
    hidden: Option<Py<PyAny>>,
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

/// Of which tokens something is wanted; None means of none.
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

/// Rows of width `n_cols` in the shape that was asked for.
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
