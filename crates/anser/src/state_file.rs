//! States as safetensors files: one f32 tensor per part, `[L, …shape]`, the last token's logits `[V]` where they are
//! known, and a header that names format and model.

use crate::error::Error;
use crate::model::Model;
use anser_model::{State, StatePart};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;

const FORMAT: &str = "anser-state";
const VERSION: &str = "1";
const LOGITS: &str = "logits";
/// Room for a state file's header.
const MAX_OVERHEAD_N_BYTES: u64 = 1 << 20;

/// Writes `state` beside `path` first and renames it, so that an interrupted save leaves the old file.
pub(crate) fn save(path: &Path, state: &State, logits: &[f32], model: &Model) -> Result<(), Error> {
    let io = |e| Error::io(path, e);
    let bytes = encode(state, logits, model).map_err(|reason| damaged(path, reason))?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    std::fs::write(&partial, bytes).map_err(io)?;
    std::fs::rename(&partial, path).map_err(io)
}

fn encode(state: &State, logits: &[f32], model: &Model) -> Result<Vec<u8>, String> {
    let layout = state.layout();
    let to_bytes = |data: &[f32]| data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let part = |(i, part): (usize, &StatePart)| {
        (part.name, stacked(layout.n_layer, &part.shape), to_bytes(&state.data()[layout.part_range(i)]))
    };
    let mut parts: Vec<_> = layout.parts.iter().enumerate().map(part).collect();
    if !logits.is_empty() {
        parts.push((LOGITS, vec![logits.len()], to_bytes(logits)));
    }
    let views = parts
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (*name, view)));
    let views: Vec<_> = views.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let header = [
        ("format", FORMAT),
        ("version", VERSION),
        ("model", &model.plan().title),
        ("fingerprint", model.fingerprint()),
    ];
    let header: HashMap<String, String> = header.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    safetensors::serialize(views, Some(header)).map_err(|e| e.to_string())
}

/// `[L, …shape]`
fn stacked(n_layer: usize, shape: &[usize]) -> Vec<usize> {
    [&[n_layer], shape].concat()
}

/// Reads a state of `model`, and the logits if the file has them.
pub(crate) fn load(path: &Path, model: &Model) -> Result<(State, Vec<f32>), Error> {
    let io = |e| Error::io(path, e);
    let limit = MAX_OVERHEAD_N_BYTES + 4 * (model.state_layout().len() + model.config().n_vocab) as u64;
    let n_bytes = std::fs::metadata(path).map_err(io)?.len();
    if n_bytes > limit {
        return Err(damaged(path, format!("a state file of this model has at most {limit} bytes, this one {n_bytes}")));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let (data, logits) = decode(&bytes, model).map_err(|reason| damaged(path, reason))?;
    let state = State::from_vec(model.state_layout().clone(), data).map_err(|e| damaged(path, e.to_string()))?;
    Ok((state, logits))
}

fn decode(bytes: &[u8], model: &Model) -> Result<(Vec<f32>, Vec<f32>), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| format!("not a state file: {e}"))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("not a state file: {e}"))?;
    let entry = |key: &str| header.metadata().as_ref().and_then(|m| m.get(key)).map_or("", String::as_str);
    if entry("format") != FORMAT {
        return Err("not a state file: its header does not say so; `anser state` writes such files".into());
    }
    if entry("version") != VERSION {
        return Err(format!("a state file of version {:?}; this version of Anser reads {VERSION}", entry("version")));
    }
    if entry("fingerprint") != model.fingerprint() {
        return Err(format!(
            "a state of another model: expected {} ({}…), found {} ({}…)",
            model.plan().title,
            &model.fingerprint()[..8],
            entry("model"),
            entry("fingerprint").get(..8).unwrap_or_default()
        ));
    }
    let tensor = |name: &str, shape: &[usize]| {
        let view = file.tensor(name).map_err(|_| format!("tensor {name} is missing"))?;
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            return Err(format!("{name}: expected F32 {shape:?}, found {:?} {:?}", view.dtype(), view.shape()));
        }
        Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<f32>>())
    };
    let layout = model.state_layout();
    let mut data = Vec::with_capacity(layout.len());
    for part in &layout.parts {
        data.extend(tensor(part.name, &stacked(layout.n_layer, &part.shape))?);
    }
    let has_logits = file.names().contains(&LOGITS);
    let logits = if has_logits { tensor(LOGITS, &[model.config().n_vocab])? } else { vec![] };
    match logits.iter().find(|x| !x.is_finite()) {
        Some(x) => Err(format!("{LOGITS}: {x} is not a finite number")),
        None => Ok((data, logits)),
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::StateFile { file: path.display().to_string(), reason }
}
