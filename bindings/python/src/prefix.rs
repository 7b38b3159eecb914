//! A cache of the states after beginnings that texts share.

use crate::detached::Detached;
use crate::error::exception;
use crate::memory::CacheStats;
use crate::model::Model;
use crate::progress::Progress;
use crate::session::Session;
use crate::values::Given;
use crate::{tokens, values};
use anser::Want;
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A bounded cache of states after beginnings of texts, so that what many texts begin with is read once.
///
/// read() keeps the state at the end of each text. When a text shares only a beginning of at least 32 tokens with an earlier one, it also keeps
/// the state after that beginning, from which the third such text goes on. A state is used only after exactly the tokens that led to
/// it. The states take at most max_bytes bytes, the least recently used ones are dropped first; they lie in main memory, or on the
/// model's device if on_device is True, which saves copies. Several threads may use a cache at a time.
#[pyclass(frozen, module = "anser")]
pub(crate) struct PrefixCache {
    model: Detached<anser::Model>,
    /// A thread holds the lock to look states up and to keep them, and neither while it reads tokens nor with the GIL.
    cache: Detached<Mutex<anser::PrefixCache>>,
}

impl PrefixCache {
    /// Call this without the GIL. In a forked child no thread would ever release the lock, so the process id is checked first.
    fn lock(&self) -> PyResult<MutexGuard<'_, anser::PrefixCache>> {
        self.model.check_process().map_err(exception)?;
        Ok(self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl PrefixCache {
    #[new]
    #[pyo3(signature = (model, max_bytes: "int", *, on_device: "bool" = Given::default()),
           text_signature = "(model, max_bytes, *, on_device=False)")]
    fn new(model: &Model, max_bytes: &Bound<'_, PyAny>, on_device: Given<'_>) -> PyResult<PrefixCache> {
        let max_n_bytes = values::count("max_bytes", max_bytes)?;
        let model = model.engine_model();
        let cache = match on_device.or(false, |value| values::flag("on_device", value))? {
            true => anser::PrefixCache::on_device(model, max_n_bytes),
            false => anser::PrefixCache::new(model, max_n_bytes),
        };
        Ok(PrefixCache { model: Detached::new(model.clone()), cache: Detached::new(Mutex::new(cache)) })
    }

    /// A session that has read a text or token ids from a fresh state, and the number of tokens that it did not need to read, since the
    /// cache had the state after them. Ctrl-C ends the call.
    #[pyo3(signature = (prompt: "Prompt"))]
    fn read(&self, prompt: &Bound<'_, PyAny>) -> PyResult<(Session, usize)> {
        let py = prompt.py();
        let tokens = tokens::tokens(&self.model, prompt)?;
        py.detach(|| {
            let (mut session, n_cached, stops) = {
                let mut cache = self.lock()?;
                let (session, n_cached) = cache.longest(&tokens).map_err(exception)?;
                let stops = cache.stops(&tokens, n_cached);
                (session, n_cached, stops)
            };
            let mut n_read = n_cached;
            for end in stops {
                let mut progress = Progress::none();
                let read = session.feed_for(&tokens[n_read..end], Want::LOGITS, |_, _| progress.look());
                progress.result(read)?;
                self.lock()?.insert(&tokens[..end], &mut session).map_err(exception)?;
                n_read = end;
            }
            Ok((Session::new(session), n_cached))
        })
    }

    /// A session that has read the longest beginning of a text or of token ids after which the cache has a state, and the length of that
    /// beginning in tokens. Nothing is read.
    #[pyo3(signature = (prompt: "Prompt"))]
    fn longest(&self, prompt: &Bound<'_, PyAny>) -> PyResult<(Session, usize)> {
        let tokens = tokens::tokens(&self.model, prompt)?;
        let found = prompt.py().detach(|| self.lock()?.longest(&tokens).map_err(exception))?;
        Ok((Session::new(found.0), found.1))
    }

    /// The counts of the cache.
    #[getter]
    fn stats(&self, py: Python<'_>) -> PyResult<CacheStats> {
        py.detach(|| Ok(CacheStats(self.lock()?.stats())))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let name = self.model.name();
        match py.detach(|| self.lock().map(|cache| cache.stats())) {
            Ok(stats) => {
                format!("<anser.PrefixCache of {name}: {} states, {} bytes>", stats.n_entries, stats.n_bytes)
            }
            Err(_) => format!("<anser.PrefixCache of {name}: of another process>"),
        }
    }
}
