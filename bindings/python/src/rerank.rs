//! Documents by how well they answer a query.

use crate::detached::Detached;
use crate::error::exception;
use crate::load::chosen_device;
use crate::memory::CacheStats;
use crate::model::Model;
use crate::progress::Progress;
use crate::values::{self, Given};
use anser::Options;
use pyo3::prelude::*;

/// The bytes of documents' states that are kept unless the caller says otherwise.
const KEPT_N_BYTES: usize = 1 << 30;

/// An embedding model with a reranker that was trained with it: it tells how well documents answer a query.
///
/// path is the reranker's file, with tensors reranker.*; device as for load(). The states after documents are kept in main memory, at most
/// cache bytes of them, so that the next query reads itself alone. Several threads may use a reranker at a time.
#[pyclass(frozen, module = "anser")]
pub(crate) struct Reranker(Detached<anser::Reranker>);

#[pymethods]
impl Reranker {
    #[new]
    #[pyo3(signature = (model, path: "StrPath", *, device: "str | None" = None, cache: "int" = Given::default()),
           text_signature = "(model, path, *, device=None, cache=1073741824)")]
    fn new(
        model: &Model,
        path: Bound<'_, PyAny>,
        device: Option<Bound<'_, PyAny>>,
        cache: Given<'_>,
    ) -> PyResult<Reranker> {
        let (py, text) = (path.py(), model.engine_model().clone());
        let path = values::path("path", &path)?;
        let n_bytes = cache.or(KEPT_N_BYTES, |value| values::count("cache", value))?;
        let options = Options { device: chosen_device(device)?, ..Options::default() };
        let loaded = py.detach(|| anser::Reranker::load(&text, path, &options, n_bytes));
        loaded.map(|reranker| Reranker(Detached::new(reranker))).map_err(exception)
    }

    /// The documents by how well they answer the query, the best one first: pairs of a document's index and its score, from 0 to 1; all, or
    /// the top_n best ones. Documents are read side by side; the state after each is kept. progress is called as (documents done, total), or
    /// is a bar such as tqdm's.
    #[pyo3(signature = (
        query: "str", documents: "Sequence[str]", top_n: "int | None" = None, *, progress: "Progress | None" = None
    ))]
    fn rerank(
        &self,
        py: Python<'_>,
        query: &Bound<'_, PyAny>,
        documents: &Bound<'_, PyAny>,
        top_n: Option<Bound<'_, PyAny>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Vec<(usize, f32)>> {
        let (query, documents) = (values::text("query", query)?, values::texts("documents", documents)?);
        let top_n = top_n.map(|n| values::whole_number("top_n", &n, 1..=u64::MAX)).transpose()?;
        let mut progress = Progress::new(py, progress)?;
        let ranked = py.detach(|| self.0.rank_for(&query, &documents, |done, total| progress.report(done, total)));
        let n = top_n.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Ok(progress.result(ranked)?.into_iter().take(n).map(|ranked| (ranked.index, ranked.score)).collect())
    }

    /// The counts of the cache of documents' states.
    #[getter]
    fn stats(&self, py: Python<'_>) -> CacheStats {
        CacheStats(py.detach(|| self.0.stats()))
    }

    fn __repr__(&self) -> String {
        format!("<anser.Reranker for {}>", self.0.model().name())
    }
}
