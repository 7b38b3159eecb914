//! Loading a model: by another thread, while this one looks at signals and calls the progress callback.

use crate::error::exception;
use crate::model::Model;
use crate::progress::Progress;
use anser::{CancelToken, Error, LoadProgress, OnLoad, Options};
use pyo3::prelude::*;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Opens a GGUF or safetensors file; without a path, the demo model that is part of the package.
///
/// device is "auto", "cpu" or "gpu" ("gpu:1" names one of several). gpu_memory bounds the bytes of weights that are kept
/// there: the rest is streamed from the file in every step, with the same results. progress is called as (done, total)
/// in bytes of weights, or is a bar such as tqdm's; with it, load() returns when all of them are there, without it as
/// soon as the model can be asked, and what needs weights waits for them. threads are those of the CPU, one per core by
/// default. vocabulary names a file like rwkv_vocab_v20230424.txt, or one in JSON as web-rwkv reads it, where the model's own shall not be used.
/// embedding_cache is how many bytes of embeddings to keep, so that a text embedded again is not read again.
#[pyfunction]
#[pyo3(signature = (
    path: "StrPath | None" = None, device: "str" = "auto".into(), gpu_memory: "int | None" = None,
    progress: "Progress | None" = None, *, threads: "int | None" = None, vocabulary: "StrPath | None" = None,
    embedding_cache: "int" = 0
) -> "Model")]
#[expect(clippy::too_many_arguments, reason = "they are Python's keyword arguments")]
pub(crate) fn load(
    py: Python<'_>,
    path: Option<PathBuf>,
    device: String,
    gpu_memory: Option<u64>,
    progress: Option<Py<PyAny>>,
    threads: Option<usize>,
    vocabulary: Option<PathBuf>,
    embedding_cache: usize,
) -> PyResult<Model> {
    let options = Options {
        device: device.parse().map_err(exception)?,
        n_threads: threads,
        embedding_cache_n_bytes: embedding_cache,
        vocabulary,
        gpu_memory,
        ..Options::default()
    };
    let is_told = progress.is_some();
    let mut progress = Progress::new(progress);
    let model = py.detach(|| watched(path, options, is_told, &mut progress));
    progress.result(model).map(Model)
}

/// What the loading thread tells.
enum News {
    Progress(LoadProgress),
    Loaded,
}

/// How long a signal may wait.
const PATIENCE: Duration = Duration::from_millis(50);

/// To be called without the GIL. With `to_the_end` it returns when all weights are there.
fn watched(
    path: Option<PathBuf>,
    mut options: Options,
    to_the_end: bool,
    progress: &mut Progress,
) -> Result<anser::Model, Error> {
    let (sender, news) = mpsc::channel();
    let cancel = CancelToken::default();
    let (teller, told_to_end) = (sender.clone(), cancel.clone());
    options.on_load = Some(OnLoad::new(move |progress| {
        // Nobody listens any more once the model is in use.
        let _ = teller.send(News::Progress(progress));
        if told_to_end.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
    std::thread::scope(|scope| {
        let loading = scope.spawn(move || {
            let model = open(path, &options).and_then(|model| match to_the_end {
                true => model.finish_loading().map(|()| model),
                false => Ok(model),
            });
            let _ = sender.send(News::Loaded);
            model
        });
        loop {
            let go_on = match news.recv_timeout(PATIENCE) {
                Ok(News::Progress(p)) => progress.report(p.n_bytes as usize, p.total_n_bytes as usize),
                Err(RecvTimeoutError::Timeout) => progress.look(),
                Ok(News::Loaded) | Err(RecvTimeoutError::Disconnected) => break,
            };
            if go_on.is_break() {
                cancel.cancel();
                break;
            }
        }
        loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn open(path: Option<PathBuf>, options: &Options) -> Result<anser::Model, Error> {
    match path {
        Some(path) => anser::Model::load(path, options),
        None => embedded(options),
    }
}

#[cfg(feature = "embedded-model")]
fn embedded(options: &Options) -> Result<anser::Model, Error> {
    anser::Model::embedded(options)
}

#[cfg(not(feature = "embedded-model"))]
fn embedded(_: &Options) -> Result<anser::Model, Error> {
    let reason = "this build has no demo model; name a file".into();
    Err(Error::Option { option: "path", reason })
}
