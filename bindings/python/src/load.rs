//! Loads a model in another thread, while this one checks signals and calls the progress callback.

use crate::error::{exception, hub_exception};
use crate::lora;
use crate::model::{Model, Opened};
use crate::progress::Progress;
use crate::values::{self, Given};
use anser::{CancelToken, Device, Error, OnLoad, Options, environment};
use anser_engine::Turns;
use anser_hub::{Event, Hub, HubError, ModelName, Settings};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

/// Opens a GGUF, safetensors or .pth file, or a folder of Hugging Face's; without a path, the demo model that is part of the package.
///
/// - path: the file, or the name of a model on a hub, hf:OWNER/REPO[:FILE][@REVISION]: it is downloaded to the cache of Hugging
///   Face's own tools unless it is there, resumed after a break (HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are followed);
///   the logger "anser" tells which file was taken; default: the demo model.
/// - device: "auto" (the best hardware GPU if there is one, else the processor; weights that do not fit in the GPU's memory
///   stream from the file), "cpu", "gpu", or "gpu:1" or "gpu:NAME" for one of several; default: the environment variable
///   ANSER_DEVICE, else "auto".
/// - gpu_memory: the most bytes of weights that are kept on the GPU; other weights stream from the file in every step, with
///   the same results; default: ANSER_GPU_MEMORY (a number like 500M or 4G), else all of the GPU's memory.
/// - progress: called as (done, total) in bytes of weights, before that of each file that is downloaded, or a bar such as tqdm's. With it, load() returns when all
///   weights are there; without it as soon as the model can be used, and a call waits for the weights that it needs.
/// - threads: the number of threads on the CPU; default: ANSER_THREADS, else OMP_NUM_THREADS, else one per core.
/// - vocabulary: a file like rwkv_vocab_v20230424.txt, or one in JSON as web-rwkv reads it, used instead of the model's own
///   vocabulary.
/// - lora: an adapter (LoRA, PiSSA, Bone) that the model has, or a list of them: a file or folder, or a dict of path, and scale,
///   alpha, init and form where they are needed, such as {"path": "lora.pth", "alpha": 32}; default: none.
/// - embedding_cache: the bytes of embeddings to cache, so that a text embedded again is not read again; default: 0.
/// - exact: whether activations keep 32 bits: slower, and as close to the model's formulas as floats are; default:
///   ANSER_EXACT, else False.
/// - read_file: whether to read the file into memory instead of mapping it, for files on a network or that other programs
///   write; it takes as much memory as the file has bytes; default: ANSER_READ_FILE, else False.
/// - state_cache: the bytes of states after turns of chats that are kept in main memory, so that the next turn of a conversation does not
///   read the ones before it again; default: 0.
/// - cache_folder: a folder of your own for compiled GPU kernels, with which the next process starts faster; default: none
///   are kept.
///
/// An empty environment variable counts as unset. ANSER_GPU_NO_F16=1, ANSER_GPU_NO_SUBGROUPS=1, ANSER_GPU_NO_COOPMAT=1 and
/// ANSER_GPU_NO_DRAWING=1 each turn a feature of GPUs off.
///
/// A process that was forked after load() cannot use the model (DeviceError): call load() in the child.
#[pyfunction]
#[pyo3(signature = (
    path: "StrPath | None" = None, device: "str | None" = None, gpu_memory: "int | None" = None,
    progress: "Progress | None" = None, *, threads: "int | None" = None, vocabulary: "StrPath | None" = None,
    embedding_cache: "int" = Given::default(), exact: "bool | None" = None,
    read_file: "bool | None" = None, cache_folder: "StrPath | None" = None, state_cache: "int" = Given::default(),
    lora: "StrPath | LoraDict | Sequence[StrPath | LoraDict] | None" = None
) -> "Model", text_signature = "(path=None, device=None, gpu_memory=None, progress=None, *, threads=None, vocabulary=None, \
                                embedding_cache=0, exact=None, read_file=None, cache_folder=None, state_cache=0, lora=None)")]
#[expect(clippy::too_many_arguments, reason = "they are Python's keyword arguments")]
pub(crate) fn load(
    py: Python<'_>,
    path: Option<Bound<'_, PyAny>>,
    device: Option<Bound<'_, PyAny>>,
    gpu_memory: Option<Bound<'_, PyAny>>,
    progress: Option<Py<PyAny>>,
    threads: Option<Bound<'_, PyAny>>,
    vocabulary: Option<Bound<'_, PyAny>>,
    embedding_cache: Given<'_>,
    exact: Option<Bound<'_, PyAny>>,
    read_file: Option<Bound<'_, PyAny>>,
    cache_folder: Option<Bound<'_, PyAny>>,
    state_cache: Given<'_>,
    lora: Option<Bound<'_, PyAny>>,
) -> PyResult<Model> {
    let arguments = PyDict::new(py);
    let hub_name =
        path.as_ref().and_then(|path| path.extract::<String>().ok()).filter(|text| ModelName::is_meant(text));
    if let Some(name) = &hub_name {
        arguments.set_item("path", name)?;
    }
    let file = path.filter(|_| hub_name.is_none());
    let paths = [("path", &file), ("vocabulary", &vocabulary), ("cache_folder", &cache_folder)];
    for (name, value) in paths.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        // A process that unpickles the model may have another working directory.
        arguments
            .set_item(name, py.import("anser._pickle")?.call_method1("absolute", (values::path(name, value)?,))?)?;
    }
    let others = [
        ("device", &device),
        ("gpu_memory", &gpu_memory),
        ("threads", &threads),
        ("exact", &exact),
        ("read_file", &read_file),
    ];
    for (name, value) in others.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        arguments.set_item(name, value)?;
    }
    let given_path =
        |option: &str, value: Option<Bound<'_, PyAny>>| value.map(|value| values::path(option, &value)).transpose();
    let mut options = Options {
        device: chosen_device(device)?,
        n_threads: threads.map(|value| n_threads(&value)).transpose()?,
        embedding_cache_n_bytes: embedding_cache.or(0, |value| values::count("embedding_cache", value))?,
        vocabulary: given_path("vocabulary", vocabulary)?,
        gpu_memory: match gpu_memory {
            Some(n_bytes) => Some(values::whole_number("gpu_memory", &n_bytes, 0..=u64::MAX)?),
            None => environment::gpu_memory().map_err(exception)?,
        },
        exact: match exact {
            Some(exact) => values::flag("exact", &exact)?,
            None => environment::exact().map_err(exception)?.unwrap_or_default(),
        },
        in_memory: match read_file {
            Some(read_file) => values::flag("read_file", &read_file)?,
            None => environment::read_file().map_err(exception)?.unwrap_or_default(),
        },
        cache_folder: given_path("cache_folder", cache_folder)?,
        ..Options::default()
    };
    if let Some(lora) = &lora {
        options.lora = lora::adapters(lora)?;
        arguments.set_item("lora", lora::absolute(py, &options.lora)?)?;
    }
    let state_cache_n_bytes = state_cache.or(0, |value| values::count("state_cache", value))?;
    arguments.set_item("embedding_cache", options.embedding_cache_n_bytes)?;
    arguments.set_item("state_cache", state_cache_n_bytes)?;
    let source = match hub_name {
        Some(name) => Source::Hub(ModelName::parse(&name).map_err(hub_exception)?),
        None => given_path("path", file)?.map_or(Source::Demo, Source::File),
    };
    let is_told = progress.is_some();
    let mut progress = Progress::new(py, progress)?;
    let kept = options.clone();
    let model = py.detach(|| watched(source, options, is_told, &mut progress));
    let turns = Turns::default();
    let opened = Opened { arguments: Some(arguments.unbind()), options: kept, state_cache_n_bytes, turns };
    progress.first(model).map(|model| Model::opened(model, opened))
}

/// `model`, which was opened as `opened` says, with other adapters, or without any if `lora` is None.
pub(crate) fn with_lora(
    py: Python<'_>,
    model: &anser::Model,
    opened: &Opened,
    lora: &Bound<'_, PyAny>,
) -> PyResult<Model> {
    let Some(arguments) = &opened.arguments else {
        let reason = "a session's model takes no adapters: ask the model that load() returned";
        return Err(PyTypeError::new_err(reason));
    };
    let loras = if lora.is_none() { vec![] } else { lora::adapters(lora)? };
    let arguments = arguments.bind(py).copy()?;
    arguments.set_item("lora", lora::absolute(py, &loras)?)?;
    let options = Options { lora: loras, ..opened.options.clone() };
    let model = py.detach(|| model.with_options(&options)).map_err(exception)?;
    let opened = Opened {
        arguments: Some(arguments.unbind()),
        options,
        state_cache_n_bytes: opened.state_cache_n_bytes,
        turns: opened.turns.clone(),
    };
    Ok(Model::opened(model, opened))
}

/// The device that a caller names, else the environment's, else the usual choice.
pub(crate) fn chosen_device(device: Option<Bound<'_, PyAny>>) -> PyResult<Device> {
    match device {
        Some(device) => values::text("device", &device)?.parse().map_err(exception),
        None => Ok(environment::device().map_err(exception)?.unwrap_or_default()),
    }
}

fn n_threads(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let range = 1..=environment::max_threads() as u64;
    values::whole_number("threads", value, range).map(|n_threads| n_threads as usize)
}

/// Where a model comes from.
enum Source {
    Demo,
    File(PathBuf),
    Hub(ModelName),
}

/// A message of the loading thread.
enum News {
    /// Bytes that are there, and all of them: of a file that is downloaded, then of weights.
    Progress(u64, u64),
    /// A sentence for the user.
    Remark(String),
    Loaded,
}

/// The longest time between two checks for signals.
const PATIENCE: Duration = Duration::from_millis(50);

/// Loads a model as this module describes. Call this without the GIL. With `to_the_end` it returns when all weights are
/// loaded.
fn watched(source: Source, mut options: Options, to_the_end: bool, progress: &mut Progress) -> PyResult<anser::Model> {
    let (sender, news) = mpsc::channel();
    let cancel = CancelToken::default();
    let (teller, told_to_end, to_download) = (sender.clone(), cancel.clone(), cancel.clone());
    options.on_load = Some(OnLoad::new(move |progress| {
        // Once load() has returned, nothing receives these messages, and sending fails.
        let _ = teller.send(News::Progress(progress.n_bytes, progress.total_n_bytes));
        if told_to_end.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
    std::thread::scope(|scope| {
        let loading = scope.spawn(move || {
            let model = open(source, &options, &to_download, &sender).and_then(|model| match to_the_end {
                true => model.finish_loading().map(|()| model).map_err(exception),
                false => Ok(model),
            });
            let _ = sender.send(News::Loaded);
            model
        });
        loop {
            let go_on = match news.recv_timeout(PATIENCE) {
                Ok(News::Progress(done, total)) => progress.report(done as usize, total as usize),
                Ok(News::Remark(remark)) => progress.log(&remark),
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

fn open(source: Source, options: &Options, cancel: &CancelToken, news: &Sender<News>) -> PyResult<anser::Model> {
    let model = match source {
        Source::Demo => embedded(options),
        Source::File(path) => anser::Model::load(path, options),
        Source::Hub(name) => anser::Model::load(fetch(&name, cancel, news).map_err(hub_exception)?, options),
    };
    model.map_err(exception)
}

/// The file of a model on a hub, downloaded if the cache does not have it.
fn fetch(name: &ModelName, cancel: &CancelToken, news: &Sender<News>) -> Result<PathBuf, HubError> {
    let tell = |message| {
        // The receiver lives as long as this thread.
        let _ = news.send(message);
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    Hub::new(Settings::from_env()?).fetch(name, &mut |event| match event {
        Event::Remark(remark) => tell(News::Remark(remark.to_owned())),
        Event::Waiting { file } => {
            tell(News::Remark(format!("{file}: another process downloads it; waiting for that")))
        }
        Event::Downloading { n_bytes, total_n_bytes: Some(total), .. } => tell(News::Progress(n_bytes, total)),
        // Without a size there is nothing to compare with.
        Event::Downloading { n_bytes, total_n_bytes: None, .. } => tell(News::Progress(n_bytes, n_bytes)),
    })
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
