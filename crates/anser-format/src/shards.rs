//! The index of a safetensors model in several files: `model.safetensors.index.json`, which says in which of the files
//! beside it, the *shards*, each tensor lies.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::{FormatError, TensorProblem};
use crate::file::{MAX_ENTRIES, ReadPart};
use crate::gguf::split::MAX_PARTS;

/// The longest index that is parsed: 256 bytes for each of as many tensors as are read.
pub(crate) const MAX_INDEX_N_BYTES: usize = 256 * MAX_ENTRIES;

/// The longest name of a shard in bytes, as most file systems have it.
const MAX_SHARD_NAME_N_BYTES: usize = 255;

/// Where the tensors of a model lie.
pub(crate) struct ShardIndex {
    /// The path of the index.
    name: String,
    /// By tensor, the file name of its shard.
    shards: BTreeMap<String, String>,
}

/// What is read of an index; it has other entries, too.
#[derive(Deserialize)]
struct Json {
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Parses the index `name`.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<ShardIndex, FormatError> {
        let invalid = |item: &str, problem: String| {
            Err(FormatError::Header { file: name.to_owned(), item: item.to_owned(), problem })
        };
        if bytes.len() > MAX_INDEX_N_BYTES {
            let problem = format!("it has {} bytes, but at most {MAX_INDEX_N_BYTES} are read", bytes.len());
            return invalid("the index", problem);
        }
        let shards = match serde_json::from_slice::<Json>(bytes) {
            Ok(json) => json.weight_map,
            Err(error) => {
                let problem = format!("not a list of tensors and the files they are in ({error}); get the index again");
                return invalid("weight_map", problem);
            }
        };
        if shards.is_empty() || shards.len() > MAX_ENTRIES {
            return invalid("weight_map", format!("{} tensors, but 1 to {MAX_ENTRIES} are read", shards.len()));
        }
        if let Some((tensor, shard)) = shards.iter().find(|(_, shard)| !is_file_name(shard)) {
            let problem = format!("{:?}, but the name of a file in the same folder is needed", abbreviated(shard));
            return invalid(&format!("weight_map, tensor {}", abbreviated(tensor)), problem);
        }
        let index = ShardIndex { name: name.to_owned(), shards };
        match index.file_names().len() {
            n if n > MAX_PARTS => {
                invalid("weight_map", format!("{n} files, but a model has at most {MAX_PARTS} parts"))
            }
            _ => Ok(index),
        }
    }

    /// The shards, sorted by name.
    pub(crate) fn file_names(&self) -> BTreeSet<&str> {
        self.shards.values().map(String::as_str).collect()
    }

    /// Checks that every tensor of the index is in its shard. `parts` are in the order of [`ShardIndex::file_names`].
    pub(crate) fn check(&self, parts: &[ReadPart]) -> Result<(), FormatError> {
        let names = |part: &ReadPart| -> BTreeSet<String> {
            part.parsed.tensors.iter().map(|entry| entry.name.to_string()).collect()
        };
        let by_shard: BTreeMap<&str, (&ReadPart, BTreeSet<String>)> =
            self.file_names().into_iter().zip(parts).map(|(name, part)| (name, (part, names(part)))).collect();
        for (tensor, shard) in &self.shards {
            match by_shard.get(shard.as_str()) {
                Some((part, names)) if !names.contains(tensor) => {
                    return Err(FormatError::Tensor {
                        file: part.name().to_owned(),
                        tensor: tensor.clone(),
                        problem: TensorProblem::NotInShard { index: self.name.clone() },
                    });
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// Whether `name` names a file in the same folder, on every system.
fn is_file_name(name: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | ':');
    !matches!(name, "" | "." | "..") && name.len() <= MAX_SHARD_NAME_N_BYTES && name.chars().all(is_plain)
}

/// The beginning of a text that may be long.
fn abbreviated(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
