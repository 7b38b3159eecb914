//! A text that is being generated: an iterator, also an asynchronous one.

mod course;
mod results;

pub(crate) use course::Asked;

use crate::arrays::Array;
use crate::detached::{Detached, drop_without_gil};
use crate::error::{BusyError, exception};
use crate::progress::Progress;
use crate::service::{Served, Service};
use crate::session::Session;
use anser::chat::ReplyParser;
use anser::stop::StopMatcher;
use anser::{CancelToken, Error, FinishReason, GenerateOptions, Likelihood};
use anser_engine::Usage;
use course::{Course, Phase};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};
use results::{FinishName, NextPiece, TokenLogprob};
use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// A text that is being generated: iterate for its pieces, with `for` or `async for`.
///
/// The prompt is read when the first piece is asked for. Generations of one model that run at the same time, in threads or
/// in tasks, share the steps of the model; each then runs at most a few tokens ahead of its reader. close() ends the
/// generation early; so do Ctrl-C, leaving a `with` or `async with` block, cancelling the task that iterates, and dropping it.
#[pyclass(frozen, weakref, module = "anser")]
pub(crate) struct Generation {
    model: Detached<anser::Model>,
    inner: Mutex<Course>,
    cancel: CancelToken,
    /// The Python session to which the engine's session is given back.
    owner: Option<Py<Session>>,
    /// The caller's callback until the prompt is read. The lock is held for moments only and with the GIL, so that the
    /// garbage collector can always visit the callback.
    progress: Mutex<Option<Py<PyAny>>>,
}

impl Generation {
    /// Checks the prompt and the options, so that errors are raised now and not with the first piece.
    pub(crate) fn check(
        py: Python<'_>,
        model: &anser::Model,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> PyResult<()> {
        let n_vocab = model.config().n_vocab;
        model.tokenizer().map_err(exception)?;
        options.sampler.validate(n_vocab).map_err(|e| exception(e.into()))?;
        let refused = |reason: String| exception(Error::Option { option: "stop", reason });
        StopMatcher::new(options.stop.clone()).map_err(|e| refused(e.to_string()))?;
        let prepare = || options.grammar.iter().try_for_each(|grammar| grammar.prepare(model));
        py.detach(prepare).map_err(exception)?;
        let check = || options.draft.iter().try_for_each(|draft| model.check_draft(&draft.model));
        py.detach(check).map_err(exception)?;
        match prompt.iter().position(|&id| id as usize >= n_vocab) {
            Some(at) => Err(crate::error::TokenError::new_err(format!(
                "token {at} of the prompt is {}; expected an id below {n_vocab}",
                prompt[at]
            ))),
            None => Ok(()),
        }
    }

    /// A generation with a session of its own; `parser` reads the answer of a chat.
    pub(crate) fn new(
        session: anser::Session,
        prompt: Vec<u32>,
        options: GenerateOptions,
        progress: Option<Py<PyAny>>,
        parser: Option<ReplyParser>,
    ) -> Generation {
        let (model, cancel) = (Detached::new(session.model().clone()), options.cancel.clone());
        let inner = Course::new(Phase::Waiting { session, prompt }, options, parser);
        Generation { model, inner: Mutex::new(inner), cancel, owner: None, progress: Mutex::new(progress) }
    }

    /// A generation by the engine `service` of `model`.
    pub(crate) fn served(
        model: &anser::Model,
        service: Arc<Service>,
        asked: Asked,
        options: GenerateOptions,
        parser: Option<ReplyParser>,
    ) -> Generation {
        let (model, cancel) = (Detached::new(model.clone()), options.cancel.clone());
        let n_top = asked.n_top;
        let phase = Phase::Unasked { service: Detached::new(service), asked };
        let mut inner = Course::new(phase, options, parser);
        inner.likelihoods = n_top.map(|_| vec![]);
        inner.is_served = true;
        Generation { model, inner: Mutex::new(inner), cancel, owner: None, progress: Mutex::new(None) }
    }

    /// A generation with the session of `owner`, to which the session is given back.
    pub(crate) fn of_session(
        owner: Py<Session>,
        session: anser::Session,
        prompt: Vec<u32>,
        options: GenerateOptions,
        progress: Option<Py<PyAny>>,
    ) -> Generation {
        let mut generation = Generation::new(session, prompt, options, progress, None);
        generation.owner = Some(owner);
        generation
    }

    /// The next piece, or `None` at the end. Call this without the GIL.
    fn step(&self) -> PyResult<Option<String>> {
        let mut inner = self.inner()?;
        if self.ends_now(&mut inner) {
            return Ok(None);
        }
        let begun = match inner.phase {
            Phase::Waiting { .. } => inner.start(Progress::checked(self.take_progress())),
            Phase::Unasked { .. } => inner.ask(),
            Phase::Served(_) | Phase::Running(_) | Phase::Ended => Ok(()),
        };
        let piece = begun.and_then(|()| match inner.phase {
            Phase::Served(_) => inner.next_served(Served::wait).map(Option::flatten),
            Phase::Waiting { .. } | Phase::Unasked { .. } | Phase::Running(_) | Phase::Ended => inner.advance(),
        });
        // The caller may ask for no further piece after cancelling, so this call gives the session back.
        if !matches!(piece, Ok(Some(_))) || self.cancel.is_cancelled() {
            self.end(&mut inner);
        }
        piece
    }

    /// The next piece without waiting: `None` if there is none yet, `Some(None)` at the end. Only for a generation that the engine
    /// serves.
    fn poll(&self) -> PyResult<Option<Option<String>>> {
        let mut inner = self.inner()?;
        if self.ends_now(&mut inner) {
            return Ok(Some(None));
        }
        let begun = match inner.phase {
            Phase::Unasked { .. } => inner.ask(),
            Phase::Waiting { .. } | Phase::Served(_) | Phase::Running(_) | Phase::Ended => Ok(()),
        };
        let piece = begun.and_then(|()| match inner.phase {
            Phase::Served(_) => inner.next_served(|served| Ok(served.poll())),
            Phase::Waiting { .. } | Phase::Unasked { .. } | Phase::Running(_) | Phase::Ended => Ok(Some(None)),
        });
        if matches!(piece, Ok(Some(None)) | Err(_)) {
            self.end(&mut inner);
        }
        piece
    }

    /// Ends a generation that the engine serves if it was cancelled: what the engine has drawn ahead is no part of it.
    fn ends_now(&self, inner: &mut Course) -> bool {
        let is_served = matches!(inner.phase, Phase::Unasked { .. } | Phase::Served(_));
        let ends = is_served && self.cancel.is_cancelled();
        if ends {
            self.end(inner);
        }
        ends
    }

    fn take_progress(&self) -> Option<Py<PyAny>> {
        Python::attach(|_| self.progress.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Gives the session back.
    fn end(&self, inner: &mut Course) {
        let session = match mem::replace(&mut inner.phase, Phase::Ended) {
            Phase::Waiting { session, .. } => session,
            Phase::Running(running) => {
                inner.tokens = running.borrow_dependent().tokens().to_vec();
                inner.finish = inner.finish.or(running.borrow_dependent().finish_reason());
                running.into_owner().into_inner()
            }
            Phase::Unasked { service, .. } => {
                drop(service);
                inner.finish = inner.finish.or(Some(FinishReason::Cancelled));
                return;
            }
            Phase::Served(served) => {
                drop_without_gil(served);
                inner.usage.n_generated = inner.tokens.len();
                inner.finish = inner.finish.or(Some(FinishReason::Cancelled));
                return;
            }
            Phase::Ended => return,
        };
        inner.finish = inner.finish.or(Some(FinishReason::Cancelled));
        match &self.owner {
            Some(owner) => owner.get().take_back(session),
            None => drop_without_gil(session),
        }
    }

    /// Locks without waiting: the caller may hold the GIL, or run in a callback of the call that holds the lock.
    fn inner(&self) -> PyResult<MutexGuard<'_, Course>> {
        self.model.check_process().map_err(exception)?;
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::Poisoned(inner)) => Ok(inner.into_inner()),
            Err(TryLockError::WouldBlock) => Err(BusyError::new_err("another call is using this generation")),
        }
    }

    /// Ends the generation after the token that is being drawn. Call this without the GIL.
    fn close_and_wait(&self) {
        self.cancel.cancel();
        // In a forked child no thread would ever release the lock.
        if self.model.check_process().is_ok() {
            self.end(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.model.check_process().is_ok() {
            self.close_and_wait();
            let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
            return drop_without_gil(inner.take_draft());
        }
        // In a forked child, a thread of the parent may have been using the generation, whose parts then cannot be dropped.
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        mem::forget(mem::replace(&mut inner.phase, Phase::Ended));
    }
}

#[pymethods]
impl Generation {
    fn __iter__(slf: Py<Generation>) -> Py<Generation> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<String>> {
        py.detach(|| self.step())
    }

    fn __aiter__(slf: Py<Generation>) -> Py<Generation> {
        slf
    }

    fn __anext__<'py>(slf: Bound<'py, Generation>) -> PyResult<NextPiece<'py>> {
        slf.py().import("anser._aio")?.call_method1("next_piece", (&slf,)).map(NextPiece)
    }

    /// Runs to the end and returns the rest of the text.
    fn text(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = String::new();
        while let Some(piece) = self.__next__(py)? {
            text += &piece;
            py.check_signals()?;
        }
        Ok(text)
    }

    /// The thought of the model so far, in a chat.
    #[getter]
    fn reasoning(&self) -> PyResult<String> {
        Ok(self.inner()?.reasoning.clone())
    }

    /// Ids of all tokens drawn so far, but for a stop token.
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> PyResult<Array<'py, u32>> {
        let inner = self.inner()?;
        let tokens = match &inner.phase {
            Phase::Running(running) => running.borrow_dependent().tokens(),
            Phase::Waiting { .. } | Phase::Unasked { .. } | Phase::Served(_) | Phase::Ended => &inner.tokens,
        };
        Ok(Array::from_vec(py, tokens.to_vec()))
    }

    /// The reason for which the generation ended: "stop", "length" or "cancelled"; None while it goes on.
    #[getter]
    fn finish_reason(&self) -> PyResult<Option<FinishName>> {
        let inner = self.inner()?;
        Ok(match inner.phase {
            Phase::Ended => inner.finish.map(|reason| FinishName(reason.name())),
            Phase::Waiting { .. } | Phase::Unasked { .. } | Phase::Served(_) | Phase::Running(_) => None,
        })
    }

    /// For each token drawn so far its log-probability and the most likely tokens in its place, most likely first, as (token,
    /// logprob, [(token, logprob), ...]); None unless logprobs was given.
    #[getter]
    fn logprobs(&self) -> PyResult<Option<Vec<TokenLogprob>>> {
        let inner = self.inner()?;
        let all = |likelihoods: &Vec<Likelihood>| {
            let of = |l: &Likelihood| (l.token, l.log_probability, l.top.clone());
            likelihoods.iter().map(of).collect()
        };
        Ok(inner.likelihoods.as_ref().map(all))
    }

    /// The numbers of tokens once the text has ended: "prompt", "cached" (those of the prompt that were not read again) and
    /// "generated"; None before, and for a generation in a session or with progress.
    #[getter]
    fn usage(&self) -> PyResult<Option<BTreeMap<&'static str, usize>>> {
        let inner = self.inner()?;
        let Usage { n_prompt, n_cached, n_generated } = inner.usage;
        let has_ended = matches!(inner.phase, Phase::Ended) && inner.is_served;
        Ok(has_ended.then(|| [("prompt", n_prompt), ("cached", n_cached), ("generated", n_generated)].into()))
    }

    /// Whether the model's engine serves it, so that pieces come without a thread that waits.
    fn _is_served(&self) -> PyResult<bool> {
        Ok(matches!(self.inner()?.phase, Phase::Unasked { .. } | Phase::Served(_)))
    }

    /// The next piece in a tuple, (None,) at the end, or None if it has to be waited for.
    fn _poll(&self, py: Python<'_>) -> PyResult<Option<(Option<String>,)>> {
        Ok(py.detach(|| self.poll())?.map(|piece| (piece,)))
    }

    /// Has call called once, in another thread, when _poll() has something; False if it has already.
    #[pyo3(signature = (call: "Callable[[], object]"))]
    fn _call_when_there(&self, call: Py<PyAny>) -> PyResult<bool> {
        let inner = self.inner()?;
        Ok(match &inner.phase {
            Phase::Served(served) => served.call_when_there(call),
            Phase::Waiting { .. } | Phase::Unasked { .. } | Phase::Running(_) | Phase::Ended => false,
        })
    }

    /// Asks the generation to end before its next token. Any thread may call this.
    fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Ends the generation after the token that is being drawn, and gives the session back.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.close_and_wait());
    }

    /// close() without blocking the event loop.
    #[pyo3(signature = () -> "Coroutine[Any, Any, None]")]
    fn aclose<'py>(slf: Bound<'py, Generation>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("anser._aio")?.call_method1("close", (&slf,))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)?;
        match self.progress.try_lock() {
            Ok(progress) => visit.call(&*progress),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let progress = self.progress.try_lock().map(|mut progress| progress.take());
        drop(progress);
    }

    fn __enter__(slf: Py<Generation>) -> Py<Generation> {
        slf
    }

    #[pyo3(signature = () -> "Coroutine[Any, Any, Generation]")]
    fn __aenter__<'py>(slf: Bound<'py, Generation>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("anser._aio")?.call_method1("enter", (&slf,))
    }

    #[pyo3(signature = (exc_type: "type | None", exc_value: "BaseException | None", traceback: "TracebackType | None")
           -> "Coroutine[Any, Any, None]")]
    fn __aexit__<'py>(
        slf: Bound<'py, Generation>,
        exc_type: Bound<'_, PyAny>,
        exc_value: Bound<'_, PyAny>,
        traceback: Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = (exc_type, exc_value, traceback);
        Generation::aclose(slf)
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
        match self.inner.try_lock() {
            Ok(inner) => match (&inner.phase, inner.finish) {
                (Phase::Waiting { prompt, .. } | Phase::Unasked { asked: Asked { prompt, .. }, .. }, _) => {
                    format!("<anser.Generation: not started, prompt of {} tokens>", prompt.len())
                }
                (Phase::Ended, Some(reason)) => {
                    format!("<anser.Generation: {} tokens, ended: {}>", inner.tokens.len(), reason.name())
                }
                (Phase::Served(_) | Phase::Running(_) | Phase::Ended, _) => "<anser.Generation: running>".into(),
            },
            Err(_) => "<anser.Generation: running>".into(),
        }
    }
}
