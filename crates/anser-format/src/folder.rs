//! A folder that holds a model, as Hugging Face's programs save it: weights in safetensors, settings in `config.json`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::FormatError;
use crate::file::ReadPart;
use crate::parts::{USUAL_INDEX, shown};
use crate::safetensors::{Header, metadata_value};

/// The name of a model in one file.
const USUAL_MODEL: &str = "model.safetensors";
/// The name of the settings.
const SETTINGS: &str = "config.json";
/// What the keys of settings begin with among the metadata.
const SETTINGS_PREFIX: &str = "config.";
/// The names of an adapter that Hugging Face's PEFT has saved, safetensors or PyTorch's.
const USUAL_ADAPTERS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// The name of an adapter's settings.
const ADAPTER_SETTINGS: &str = "adapter_config.json";
/// What the keys of an adapter's settings begin with among the metadata.
const ADAPTER_PREFIX: &str = "adapter_config.";
/// The longest settings that are read: those of RWKV models have some 2 KB.
const MAX_SETTINGS_N_BYTES: usize = 1 << 20;
/// The most entries of a folder that is searched for its model.
const MAX_FOLDER_ENTRIES: usize = 10_000;
/// Endings of files that may be models.
const ENDINGS: [&str; 5] = ["safetensors", "st", "gguf", "pth", "bin"];

/// The file to open of the model in `folder`: the index of shards, or the only model.
pub(crate) fn model_in(folder: &Path) -> Result<PathBuf, FormatError> {
    for name in [USUAL_INDEX, USUAL_MODEL] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let io = |source| FormatError::Io { file: shown(folder), source };
    let mut models = vec![];
    for (i, entry) in std::fs::read_dir(folder).map_err(io)?.enumerate() {
        if i == MAX_FOLDER_ENTRIES {
            return Err(FormatError::Header {
                file: shown(folder),
                item: "the folder".into(),
                problem: format!("there are more than {MAX_FOLDER_ENTRIES} files in it; name the model's"),
            });
        }
        let path = entry.map_err(io)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| ENDINGS.contains(&ending)) && path.is_file() {
            models.push(path);
        }
    }
    models.sort();
    match &models[..] {
        [model] => Ok(model.clone()),
        [] => Err(FormatError::Header {
            file: shown(folder),
            item: "the folder".into(),
            problem: format!("there is no {USUAL_MODEL}, {USUAL_INDEX} or other model in it"),
        }),
        [first, .., last] => Err(FormatError::Header {
            file: shown(folder),
            item: "the folder".into(),
            problem: format!(
                "there are {} models in it, from {} to {}; name one",
                models.len(),
                shown(first),
                shown(last)
            ),
        }),
    }
}

/// Whether the file at `path` has a name under which Hugging Face's programs save models, beside their settings.
pub(crate) fn has_usual_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    USUAL_ADAPTERS.contains(&name)
        || name == USUAL_MODEL
        || name == USUAL_INDEX
        || name.starts_with("model-0") && name.ends_with(".safetensors")
}

/// Adds the entries of the settings beside `model` to its metadata: those of `config.json` under names that begin with `config.`, or
/// those of an adapter's `adapter_config.json` under `adapter_config.`; nothing if there are no settings.
///
/// # Errors
/// If they cannot be read.
pub(crate) fn add_settings(model: &Path, parts: &mut [ReadPart]) -> Result<(), FormatError> {
    let name = model.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (settings, prefix) = match USUAL_ADAPTERS.contains(&name) {
        true => (ADAPTER_SETTINGS, ADAPTER_PREFIX),
        false => (SETTINGS, SETTINGS_PREFIX),
    };
    let path = model.parent().unwrap_or(Path::new("")).join(settings);
    if !path.is_file() {
        return Ok(());
    }
    let mut bytes = vec![];
    let io = |source| FormatError::Io { file: shown(&path), source };
    let file = File::open(&path).map_err(io)?;
    file.take(MAX_SETTINGS_N_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    let invalid =
        |problem: String| FormatError::Header { file: shown(&path), item: "the model's settings".into(), problem };
    if bytes.len() > MAX_SETTINGS_N_BYTES {
        return Err(invalid(format!("they have more than {MAX_SETTINGS_N_BYTES} bytes, which are not read")));
    }
    let Header { entries } =
        serde_json::from_slice(&bytes).map_err(|error| invalid(format!("{error}; get them again")))?;
    let Some(first) = parts.first_mut() else { return Ok(()) };
    for (key, value) in entries {
        let key = format!("{prefix}{key}");
        // A null says nothing.
        if value.get() != "null" && first.parsed.metadata.iter().all(|(other, _)| *other != key) {
            first.parsed.metadata.push((key, metadata_value(value)));
        }
    }
    Ok(())
}
