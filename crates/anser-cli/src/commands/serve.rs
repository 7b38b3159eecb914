//! `anser serve`

mod logger;
#[cfg(unix)]
mod unix;

use crate::args::{NamedAdapter, ServeArgs, TunedState, load};
use crate::interrupt;
use crate::printable::printable;
use crate::report::Failure;
use crate::term::note;
use anser::{LoadedState, Model, Options as ModelOptions, Reranker};
use anser_engine::{CacheLimits, Limits, Reload, Turns};
use anser_serve::{Bounds, Keys, Listener, Options, ServeError, ServedModel, Server};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::SystemTime;

/// The most bytes of a file of keys.
const MAX_KEYS_N_BYTES: u64 = 1 << 20;
/// The variable that may hold a key, since arguments are shown to other users of the machine.
const KEY_VARIABLE: &str = "ANSER_API_KEY";
/// The bytes of states that a GPU keeps for conversations.
const DEVICE_CACHE_N_BYTES: usize = 1 << 30;

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let keys = keys(args)?;
    #[cfg(unix)]
    unix::allow_many_connections();
    logger::install(args.log);
    // The port is taken before the model is loaded, since that may take longer.
    let (listener, places) = listen(args)?;
    let served = served_models(args)?;
    let options = Options {
        keys,
        host_names: args.host_name.iter().map(|name| name.to_ascii_lowercase()).collect(),
        origins: args.cors.clone(),
        bounds: Bounds {
            request_time: args.limits.request_timeout,
            max_tokens: args.limits.max_tokens,
            max_connections: args.limits.max_connections,
            max_responses: args.limits.max_responses,
            states_n_bytes: usize::try_from(args.limits.states).unwrap_or(usize::MAX),
            ..Bounds::default()
        },
        extra_grammars: args.extra_grammars,
        has_page: !args.no_page,
    };
    let on_devices = |served: &ServedModel| Some(format!("{} on {}", served.names.first()?, served.model.device()));
    let models: Vec<String> = served.iter().filter_map(on_devices).collect();
    let server = Server::new(served, listener, options)?;
    let stop = server.stop_handle();
    let mut is_first = true;
    let _armed = interrupt::arm_with(move || {
        stop.stop();
        std::mem::replace(&mut is_first, false)
    });
    #[cfg(unix)]
    unix::stop_on_sigterm(server.stop_handle())?;
    note(&printable(&format!("{}; serving on {places}; Ctrl-C ends it", models.join(", "))));
    Ok(server.run(args.limits.drain)?)
}

/// Where the server listens, and how clients and people name the place.
fn listen(args: &ServeArgs) -> Result<(Listener, String), Failure> {
    #[cfg(unix)]
    if let Some(path) = &args.socket {
        return Ok((unix::listen(path)?, format!("the socket {}", path.display())));
    }
    let address = SocketAddr::new(args.host, args.port);
    let listener =
        TcpListener::bind(address).map_err(|error| Failure::about(format!("cannot listen on {address}"), error))?;
    let address = listener.local_addr().map_err(|error| Failure::about(address, error))?;
    if args.no_page {
        return Ok((Listener::Tcp(listener), format!("http://{address}/v1")));
    }
    // No browser can ask for every address.
    let page = match args.host.is_unspecified() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    };
    Ok((Listener::Tcp(listener), format!("http://{address}/v1; its page is http://{page}/")))
}

/// The keys that requests need. An address that others reach needs some, unless the user says that it does not.
fn keys(args: &ServeArgs) -> Result<Keys, Failure> {
    let of_text =
        |name: &str, text: &str| Keys::from_lines(text).map_err(|reason| Failure::Usage(format!("{name}: {reason}")));
    if let Some(path) = &args.api_key_file {
        let name = path.display().to_string();
        let bytes = anser::files::read_at_most(path, MAX_KEYS_N_BYTES, "a file of keys")?;
        let text = String::from_utf8(bytes).map_err(|_| Failure::Usage(format!("{name}: expected UTF-8")))?;
        return of_text(&name, &text);
    }
    if args.no_key {
        return Ok(Keys::default());
    }
    match std::env::var(KEY_VARIABLE) {
        Ok(key) if !key.is_empty() => of_text(KEY_VARIABLE, &key),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::Usage(format!("{KEY_VARIABLE}: expected UTF-8"))),
        Ok(_) | Err(std::env::VarError::NotPresent) if is_private(args) => Ok(Keys::default()),
        Ok(_) | Err(std::env::VarError::NotPresent) => Err(Failure::Usage(format!(
            "--host {}: others reach this address, so requests need a key: give --api-key-file FILE or {KEY_VARIABLE}, or --no-key to \
             let everybody ask",
            args.host
        ))),
    }
}

/// Whether only this machine's users reach the server.
fn is_private(args: &ServeArgs) -> bool {
    #[cfg(unix)]
    if args.socket.is_some() {
        return true;
    }
    args.host.is_loopback()
}

/// The models with their names and limits.
fn served_models(args: &ServeArgs) -> Result<Vec<ServedModel>, Failure> {
    let stems: Vec<String> = args.models.iter().map(|path| stem(path)).collect();
    let mut names: Vec<Vec<String>> = vec![vec![]; stems.len()];
    for alias in &args.alias {
        let (name, of_model) = alias_of(alias, &stems)?;
        names[of_model].push(name.to_owned());
    }
    let of_tuned = args.tuned.iter().map(|tuned| ("--tuned", &tuned.name, &tuned.model));
    let of_adapters = args.adapter.iter().map(|adapter| ("--adapter", &adapter.name, &adapter.model));
    let n_models = stems.len();
    for (flag, name, model) in of_tuned.chain(of_adapters) {
        match model {
            Some(model) if !stems.contains(model) => {
                let stems: Vec<String> = stems.iter().map(|stem| format!("{stem:?}")).collect();
                let stems = stems.join(", ");
                let problem = format!("{flag} {name}@{model}: no model is called so; expected one of {stems}");
                return Err(Failure::Usage(problem));
            }
            None if n_models > 1 => {
                let problem = format!("{flag} {name}: expected {name}@MODEL=FILE, since several models are served");
                return Err(Failure::Usage(problem));
            }
            Some(_) | None => {}
        }
    }
    let n_served = n_models + args.adapter.len();
    let mut served = vec![];
    for ((path, mut names), stem) in args.models.iter().zip(names).zip(stems) {
        if !names.contains(&stem) {
            names.push(stem.clone());
        }
        let model = args.opening.load(path)?;
        let reranker = reranker(args, &stem, &model)?;
        let states = tuned_states(&args.tuned, &stem, &model)?;
        let options = args.opening.options()?;
        let adapters: Vec<_> = args.adapter.iter().filter(|adapter| is_of(&adapter.model, &stem)).collect();
        // One of these models runs a step at a time.
        let turns = (!adapters.is_empty()).then(Turns::default);
        let limits = |model: &Model, options| limits(args, path, model, options, n_served, turns.clone());
        let mut adapted = vec![];
        for NamedAdapter { name, lora, .. } in adapters {
            let options =
                ModelOptions { lora: [&options.lora[..], std::slice::from_ref(lora)].concat(), ..options.clone() };
            let model = model.with_options(&options)?;
            adapted.push(ServedModel {
                names: names.iter().map(|of_model| format!("{of_model}:{name}")).collect(),
                created: created(&lora.path),
                limits: limits(&model, options)?,
                states: vec![],
                is_adapted: true,
                reranker: None,
                model,
            });
        }
        let limits = limits(&model, options)?;
        let created = created(path);
        served.push(ServedModel { names, created, limits, states, is_adapted: false, reranker, model });
        served.extend(adapted);
    }
    Ok(served)
}

/// Whether what is given for `model`, or for the only one, is for the model called `stem`.
fn is_of(model: &Option<String>, stem: &str) -> bool {
    model.as_deref().is_none_or(|model| model == stem)
}

/// The reranker that `--reranker` names for the model called `stem`. Documents' states take as many bytes as those of conversations.
fn reranker(args: &ServeArgs, stem: &str, model: &Model) -> Result<Option<Reranker>, Failure> {
    let n_models = args.models.len();
    let mut found = None;
    for given in &args.reranker {
        let text = given.to_string_lossy();
        let path = match text.split_once('=') {
            _ if n_models == 1 => given.clone(),
            Some((name, path)) if name == stem => path.into(),
            Some((name, _)) if args.models.iter().any(|model| self::stem(model) == name) => continue,
            Some(_) | None => {
                return Err(Failure::Usage(format!(
                    "--reranker {text}: expected MODEL=FILE with the name of one of the models' files, since several models are served"
                )));
            }
        };
        if found.replace(path).is_some() {
            return Err(Failure::Usage(format!("--reranker: two are given for the model {stem:?}; a model has one")));
        }
    }
    let n_bytes = usize::try_from(args.limits.cache).unwrap_or(usize::MAX) / n_models;
    let load = |path: std::path::PathBuf| {
        Reranker::load(model, path, &args.opening.options()?, n_bytes).map_err(Failure::from)
    };
    found.map(load).transpose()
}

/// The states that `--tuned` names for the model called `stem`.
fn tuned_states(given: &[TunedState], stem: &str, model: &Model) -> Result<Vec<(String, LoadedState)>, Failure> {
    let mut states = vec![];
    for TunedState { name, file, .. } in given.iter().filter(|tuned| is_of(&tuned.model, stem)) {
        let loaded = model.load_state(file)?;
        crate::commands::tell_origin(file, loaded.origin);
        states.push((name.clone(), loaded));
    }
    Ok(states)
}

/// The name of a model's file or folder, without the ending, by which the server knows it.
pub(super) fn stem(path: &Path) -> String {
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    stem.map_or("model".into(), |stem| stem.to_string_lossy().into_owned())
}

/// The name that `alias` gives, and the number of the model that has it.
fn alias_of<'a>(alias: &'a str, stems: &[String]) -> Result<(&'a str, usize), Failure> {
    if stems.len() == 1 {
        return Ok((alias, 0));
    }
    let named = alias.rsplit_once('=').filter(|(name, _)| !name.is_empty());
    let found = named.and_then(|(name, model)| Some((name, stems.iter().position(|stem| stem == model)?)));
    found.ok_or_else(|| {
        let stems: Vec<String> = stems.iter().map(|stem| format!("{stem:?}")).collect();
        let stems = stems.join(", ");
        Failure::Usage(format!("--alias {alias}: expected NAME=MODEL, since several models are served: one of {stems}"))
    })
}

/// When the model's file was made; the built-in model is as old as the command.
fn created(model: &Path) -> SystemTime {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let of_command = || modified(&std::env::current_exe().ok()?);
    modified(model).or_else(of_command).unwrap_or_else(SystemTime::now)
}

/// The limits of `model`, one of `n_served`, which was loaded from `path` with `options`. Models have equal parts of the memory for states of
/// conversations.
fn limits(
    args: &ServeArgs,
    path: &Path,
    model: &Model,
    options: ModelOptions,
    n_served: usize,
    turns: Option<Turns>,
) -> Result<Limits, Failure> {
    let given = &args.limits;
    let is_on_gpu = model.gpu_memory()?.is_some();
    // States would take memory that the user gave to nothing but weights.
    let device_n_bytes = if is_on_gpu && options.gpu_memory.is_none() { DEVICE_CACHE_N_BYTES / n_served } else { 0 };
    let host_n_bytes = usize::try_from(given.cache).unwrap_or(usize::MAX) / n_served;
    Ok(Limits {
        max_rows: given.max_rows,
        max_waiting: given.max_waiting,
        max_choices: given.max_n,
        max_prompt_tokens: given.max_prompt,
        max_wait: given.queue_timeout,
        cache: CacheLimits {
            host_n_bytes,
            device_n_bytes: device_n_bytes.min(host_n_bytes),
            folder: given.cache_dir.clone(),
            folder_n_bytes: given.cache_dir_size,
        },
        reload: Some(reload(path.to_owned(), options)),
        turns,
        ..Limits::default()
    })
}

/// Loads the model again after its device was lost.
fn reload(path: std::path::PathBuf, options: ModelOptions) -> Reload {
    Reload::new(move || {
        load(&path, &options).map_err(|failure| match failure {
            Failure::Usage(reason) | Failure::Run(reason) | Failure::Loss(reason) => {
                anser::Error::Option { option: "model", reason }
            }
            Failure::Interrupted | Failure::PipeClosed => anser::Error::Cancelled,
        })
    })
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        match error {
            ServeError::Option(reason) => Failure::Usage(reason),
            ServeError::Model(error) => error.into(),
            other => Failure::Run(other.to_string()),
        }
    }
}
