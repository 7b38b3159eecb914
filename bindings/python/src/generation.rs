//! A text that is being generated: an iterator, also an asynchronous one.

use crate::arrays::Array;
use crate::detached::{Detached, drop_without_gil};
use crate::error::{BusyError, exception};
use crate::progress::Progress;
use crate::session::Session;
use anser::chat::{ReplyEnd, ReplyParser};
use anser::stop::StopMatcher;
use anser::{CancelToken, Error, FinishReason, GenerateOptions, Want};
use pyo3::inspect::PyStaticExpr;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use pyo3::{PyTraverseError, PyVisit, type_hint_identifier, type_hint_subscript};
use self_cell::{MutBorrow, self_cell};
use std::convert::Infallible;
use std::mem;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

type Drawing<'a> = anser::Generation<'a>;

self_cell! {
    /// A generation together with the session it draws from.
    struct Running {
        owner: MutBorrow<anser::Session>,
        #[covariant]
        dependent: Drawing,
    }
}

/// A text that is being generated: iterate for its pieces, with `for` or `async for`.
///
/// The prompt is read when the first piece is asked for. close() ends the generation early; so do Ctrl-C, leaving a
/// `with` or `async with` block, cancelling the task that iterates, and dropping it.
#[pyclass(frozen, weakref, module = "anser")]
pub(crate) struct Generation {
    model: Detached<anser::Model>,
    inner: Mutex<Inner>,
    cancel: CancelToken,
    /// The Python session to which the engine's session is given back.
    owner: Option<Py<Session>>,
    /// The caller's callback until the prompt is read. The lock is held for moments only and with the GIL, so that the
    /// garbage collector can always visit the callback.
    progress: Mutex<Option<Py<PyAny>>>,
}

struct Inner {
    phase: Phase,
    options: GenerateOptions,
    /// The parser of a chat's answer; without one the text is returned unchanged.
    parser: Option<ReplyParser>,
    reasoning: String,
    tokens: Vec<u32>,
    finish: Option<FinishReason>,
}

enum Phase {
    /// The prompt has not been read.
    Waiting {
        session: anser::Session,
        prompt: Vec<u32>,
    },
    Running(Running),
    Ended,
}

impl Generation {
    /// Checks the prompt and the options, so that errors are raised now and not with the first piece.
    pub(crate) fn check(model: &anser::Model, prompt: &[u32], options: &GenerateOptions) -> PyResult<()> {
        let n_vocab = model.config().n_vocab;
        model.tokenizer().map_err(exception)?;
        options.sampler.validate(n_vocab).map_err(|e| exception(e.into()))?;
        let refused = |reason: String| exception(Error::Option { option: "stop", reason });
        StopMatcher::new(options.stop.clone()).map_err(|e| refused(e.to_string()))?;
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
        let phase = Phase::Waiting { session, prompt };
        let (reasoning, tokens, finish) = (String::new(), vec![], None);
        let inner = Inner { phase, options, parser, reasoning, tokens, finish };
        Generation { model, inner: Mutex::new(inner), cancel, owner: None, progress: Mutex::new(progress) }
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
        let piece = match inner.phase {
            Phase::Waiting { .. } => inner.start(Progress::checked(self.take_progress())),
            Phase::Running(_) | Phase::Ended => Ok(()),
        };
        let piece = piece.and_then(|()| inner.advance());
        // The caller may ask for no further piece after cancelling, so this call gives the session back.
        if !matches!(piece, Ok(Some(_))) || self.cancel.is_cancelled() {
            self.end(&mut inner);
        }
        piece
    }

    fn take_progress(&self) -> Option<Py<PyAny>> {
        Python::attach(|_| self.progress.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Gives the session back.
    fn end(&self, inner: &mut Inner) {
        let session = match mem::replace(&mut inner.phase, Phase::Ended) {
            Phase::Waiting { session, .. } => session,
            Phase::Running(running) => {
                inner.tokens = running.borrow_dependent().tokens().to_vec();
                inner.finish = inner.finish.or(running.borrow_dependent().finish_reason());
                running.into_owner().into_inner()
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
    fn inner(&self) -> PyResult<MutexGuard<'_, Inner>> {
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
            return self.close_and_wait();
        }
        // In a forked child, a thread of the parent may have been using the generation, whose parts then cannot be dropped.
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        mem::forget(mem::replace(&mut inner.phase, Phase::Ended));
    }
}

impl Inner {
    fn advance(&mut self) -> PyResult<Option<String>> {
        loop {
            let Phase::Running(running) = &mut self.phase else { return Ok(None) };
            if self.finish.is_some() {
                return Ok(None);
            }
            let piece = running.with_dependent_mut(|_, drawing| drawing.next()).transpose().map_err(exception)?;
            let Some(parser) = &mut self.parser else { return Ok(piece.map(|p| p.text)) };
            let step = match &piece {
                Some(piece) => parser.push(&piece.text),
                None => parser.finish(),
            };
            self.reasoning += &step.reasoning;
            self.finish = match step.end {
                Some(ReplyEnd::Turn) => Some(FinishReason::TurnEnd),
                Some(ReplyEnd::Stop(index)) => Some(FinishReason::StopText(index)),
                None => running.borrow_dependent().finish_reason(),
            };
            if !step.content.is_empty() {
                return Ok(Some(step.content));
            }
            // A thought may be long, and yields no piece: signals are checked for every token of it.
            Python::attach(|py| py.check_signals())?;
        }
    }

    /// Reads the prompt.
    fn start(&mut self, mut progress: Progress) -> PyResult<()> {
        let Phase::Waiting { session, prompt } = &mut self.phase else { return Ok(()) };
        let prompt = mem::take(prompt);
        if !prompt.is_empty() {
            let report = |done, total| match self.options.cancel.is_cancelled() {
                true => ControlFlow::Break(()),
                false => progress.report(done, total),
            };
            let read = session.feed_for(&prompt, Want::LOGITS, report);
            match progress.result(read) {
                // The session stays in this state: Generation::end gives it back.
                Err(_) if self.options.cancel.is_cancelled() => return Ok(()),
                read => read?,
            };
        }
        let Phase::Waiting { session, .. } = mem::replace(&mut self.phase, Phase::Ended) else { return Ok(()) };
        let owner = MutBorrow::new(session);
        match Running::try_new_or_recover(owner, |session| session.borrow_mut().generate(&[], &self.options)) {
            Ok(running) => self.phase = Phase::Running(running),
            Err((session, error)) => {
                self.phase = Phase::Waiting { session: session.into_inner(), prompt: vec![] };
                return Err(exception(error));
            }
        }
        Ok(())
    }
}

/// The most texts that are generated at a time, since each has a state.
const MAX_SIDE_BY_SIDE: usize = 64;

/// The texts that follow `prompts`, generated side by side in copies of `first`. Call this without the GIL. `progress`
/// gets the number of texts done.
pub(crate) fn side_by_side(
    first: &anser::Session,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    progress: &mut Progress,
) -> Result<Vec<String>, Error> {
    let mut texts = vec![];
    for prompts_now in prompts.chunks(MAX_SIDE_BY_SIDE) {
        let n_before = texts.len();
        let mut report = |n_done| progress.report(n_before + n_done, prompts.len());
        let mut sessions = prompts_now.iter().map(|_| first.fork()).collect::<Result<Vec<_>, _>>()?;
        let mut feeds: Vec<_> = sessions.iter_mut().zip(prompts_now.iter().map(|prompt| &prompt[..])).collect();
        // Signals are checked in every step.
        first.model().feed_batch_for(&mut feeds, Want::LOGITS, |_, _| report(0))?;
        feeds.iter_mut().for_each(|(_, prompt)| *prompt = &[]);
        let mut generations = first.model().generate_batch(&mut feeds, std::slice::from_ref(options))?;
        texts.resize(n_before + prompts_now.len(), String::new());
        let mut last = 0;
        while let Some(piece) = generations.next() {
            let (index, piece) = piece?;
            texts[n_before + index] += &piece.text;
            // One report covers all pieces of one step.
            if index <= last {
                let is_done = |&i: &usize| generations.finish_reason(i).is_some();
                if report((0..prompts_now.len()).filter(is_done).count()).is_break() {
                    return Err(Error::Cancelled);
                }
            }
            last = index;
        }
        if report(prompts_now.len()).is_break() {
            return Err(Error::Cancelled);
        }
    }
    Ok(texts)
}

/// The coroutine of the next piece.
struct NextPiece<'py>(Bound<'py, PyAny>);

impl<'py> IntoPyObject<'py> for NextPiece<'py> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = Infallible;

    const OUTPUT_TYPE: PyStaticExpr = type_hint_subscript!(
        type_hint_identifier!("collections.abc", "Awaitable"),
        type_hint_identifier!("builtins", "str")
    );

    fn into_pyobject(self, _: Python<'py>) -> Result<Self::Output, Infallible> {
        Ok(self.0)
    }
}

/// The name of a finish reason.
struct FinishName(&'static str);

impl<'py> IntoPyObject<'py> for FinishName {
    type Target = PyString;
    type Output = Bound<'py, PyString>;
    type Error = Infallible;

    const OUTPUT_TYPE: PyStaticExpr = type_hint_identifier!("anser._types", "FinishReason");

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
        Ok(PyString::new(py, self.0))
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
            Phase::Waiting { .. } | Phase::Ended => &inner.tokens,
        };
        Ok(Array::from_vec(py, tokens.to_vec()))
    }

    /// The reason for which the generation ended: "stop", "length" or "cancelled"; None while it goes on.
    #[getter]
    fn finish_reason(&self) -> PyResult<Option<FinishName>> {
        let inner = self.inner()?;
        Ok(match inner.phase {
            Phase::Ended => inner.finish.map(|reason| FinishName(reason.name())),
            Phase::Waiting { .. } | Phase::Running(_) => None,
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
                (Phase::Waiting { prompt, .. }, _) => {
                    format!("<anser.Generation: not started, prompt of {} tokens>", prompt.len())
                }
                (Phase::Ended, Some(reason)) => {
                    format!("<anser.Generation: {} tokens, ended: {}>", inner.tokens.len(), reason.name())
                }
                (Phase::Running(_) | Phase::Ended, _) => "<anser.Generation: running>".into(),
            },
            Err(_) => "<anser.Generation: running>".into(),
        }
    }
}
