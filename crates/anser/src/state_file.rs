//! State files: Anser's own, and the initial states of state tuning.
//!
//! Anser's are safetensors files: one F32 tensor per part, `[L, …shape]`, the last token's logits `[V]` where they are
//! known, samples of the model's vectors ([`Identity`]), and a header with format, version and model. The header's
//! `fingerprint` is the only identity of the model that older versions of Anser wrote; `digest` identifies the file.
//! Equal states have equal bytes.

use crate::error::Error;
use crate::files;
use crate::model::Model;
use anser_format::{DType, FileKind, MetaValue, ModelFile, quant};
use anser_model::{Identity, State};
use std::io;
use std::path::Path;
use std::sync::Arc;

const FORMAT: &str = "anser-state";
const VERSION: &str = "1";
const LOGITS: &str = "logits";
const SAMPLES: &str = "model_samples";
/// The most bytes that a state file may have beside state and logits: its header and the samples.
const MAX_OVERHEAD_N_BYTES: u64 = 2 << 20;
/// A safetensors header is padded with spaces to a multiple of this.
const HEADER_ALIGNMENT: usize = 8;

/// The relation between the model of a state file and the model that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateOrigin {
    /// The file of this model, or a copy of it.
    SameFile,
    /// Another file whose sizes and vectors are those of this model.
    OtherFile,
    /// A model of the same sizes and final norm, in a file of an older version of Anser, which did not write more about
    /// the model.
    Unverified,
    /// An initial state from state tuning, with which a text begins.
    Tuned,
}

impl StateOrigin {
    /// A remark for the user if the state may be another model's.
    pub fn remark(self) -> Option<&'static str> {
        match self {
            StateOrigin::SameFile | StateOrigin::Tuned => None,
            StateOrigin::OtherFile => Some(
                "this state was made with another model file of the same sizes: the same model in another quantization, \
                 or a fine-tune of it",
            ),
            StateOrigin::Unverified => Some(
                "this state was saved by an older version of Anser, which did not tell a model from its fine-tunes: it \
                 may be that of another model of the same sizes",
            ),
        }
    }
}

/// A state from a file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadedState {
    /// The state.
    pub state: State,
    /// Logits `[V]` of the token that follows; empty where they are not known.
    pub logits: Vec<f32>,
    /// The relation between the file's model and this model.
    pub origin: StateOrigin,
}

impl Model {
    /// The state in the file at `path`, which [`Session::save_state`](crate::Session::save_state) or state tuning (see
    /// [`Model::import_state`]) wrote; the file's content tells which. It may be a pipe.
    ///
    /// # Errors
    /// If the file cannot be read, has more bytes than a state of this model, is damaged, or has a state of another model.
    pub fn load_state(&self, path: impl AsRef<Path>) -> Result<LoadedState, Error> {
        let path = path.as_ref();
        let numbers = self.state_layout().len() + self.config().n_vocab;
        let limit = MAX_OVERHEAD_N_BYTES + 4 * numbers as u64;
        let read = files::read_at_most(path, limit, "not a state of this model: such a file");
        let bytes = read.map_err(|error| match error {
            Error::Io { file, source } if source.kind() == io::ErrorKind::FileTooLarge => {
                Error::StateFile { file, reason: source.to_string() }
            }
            error => error,
        })?;
        self.state_from_bytes(&path.display().to_string(), bytes)
    }

    /// [`Model::load_state`] of a file's bytes. Messages call the file `name`.
    ///
    /// # Errors
    /// As [`Model::load_state`].
    pub fn state_from_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<LoadedState, Error> {
        let refuse = |reason: String| Error::StateFile { file: name.into(), reason };
        let file = ModelFile::from_bytes(name, bytes).map_err(|error| {
            let error = error.to_string();
            let cause = error.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&error);
            refuse(format!("not a state file: {cause}"))
        })?;
        match file.kind() {
            FileKind::Safetensors | FileKind::Torch(_) => {}
            FileKind::Gguf { .. } => return Err(refuse("not a state file: it is a GGUF file".into())),
        }
        if entry(&file, "format") == FORMAT {
            return self.decode(&file);
        }
        if file.tensors().any(|tensor| tensor.name.ends_with(".att.time_state")) {
            let state = self.state_from_tuned(&file)?;
            return Ok(LoadedState { state, logits: vec![], origin: StateOrigin::Tuned });
        }
        Err(refuse(
            "not a state file: neither does its header say so, nor has it tensors blocks.N.att.time_state, as files of \
             state tuning have; `anser state` writes state files"
                .into(),
        ))
    }

    /// The bytes of a state file with `state`, which is one of this model, and the logits `[V]` of the token that follows; none if they are
    /// not known.
    ///
    /// # Errors
    /// A state of another model; a file of the model that cannot be read, or was changed.
    pub fn state_to_bytes(&self, state: &State, logits: &[f32]) -> Result<Vec<u8>, Error> {
        let contents = Contents::of(state, logits, self)?;
        let n_numbers: usize = contents.numbers.iter().map(|numbers| numbers.len()).sum();
        let mut bytes = Vec::with_capacity(contents.header.len() + 8 + 4 * n_numbers);
        contents.write_to(&mut bytes).map_err(|source| Error::Io { file: "a state".into(), source })?;
        Ok(bytes)
    }

    /// Writes `state`, and the logits `[V]` of the token that follows, or none if they are not known, to a safetensors file that
    /// names this model: what [`Session::save_state`](crate::Session::save_state) does for its own.
    ///
    /// # Errors
    /// A state of another model; if the file cannot be written; [`Error::Output`] if it is a file that the model is read from.
    pub fn save_state(&self, path: impl AsRef<Path>, state: &State, logits: &[f32]) -> Result<(), Error> {
        self.check_output(&path)?;
        let contents = Contents::of(state, logits, self)?;
        files::write_with(&path, |out| contents.write_to(out))
    }

    fn decode(&self, file: &ModelFile) -> Result<LoadedState, Error> {
        let refuse = |reason: String| Error::StateFile { file: file.name().into(), reason };
        let version = entry(file, "version");
        if version != VERSION {
            return Err(refuse(format!("a state file of version {version:?}; this version of Anser reads {VERSION}")));
        }
        let identity = self.identity()?;
        let origin = self.origin(file, identity)?;
        let layout = self.state_layout();
        let mut data = Vec::with_capacity(layout.len());
        for part in &layout.parts {
            let shape = stacked(layout.n_layer, &part.shape);
            let numbers = floats(file, part.name, Some(&shape)).map_err(refuse)?;
            data.extend(numbers.ok_or_else(|| refuse(format!("tensor {} is missing", part.name)))?);
        }
        let logits = floats(file, LOGITS, Some(&[self.config().n_vocab])).map_err(refuse)?.unwrap_or_default();
        if let Some(x) = logits.iter().find(|x| !x.is_finite()) {
            return Err(refuse(format!("{LOGITS}: {x} is not a finite number")));
        }
        let state = State::from_vec(layout.clone(), data).map_err(|e| refuse(e.to_string()))?;
        Ok(LoadedState { state: state.made_by(identity.clone()), logits, origin })
    }

    /// The relation between the model that the file names and this model.
    ///
    /// Errors: the file names another model.
    fn origin(&self, file: &ModelFile, identity: &Identity) -> Result<StateOrigin, Error> {
        let refuse = |reason: String| Error::StateFile { file: file.name().into(), reason };
        let title = entry(file, "model");
        let expected = identity.title();
        if title != expected {
            return Err(refuse(format!("a state of another model: expected {expected}, found {title:?}")));
        }
        let samples = floats(file, SAMPLES, None).map_err(refuse)?;
        let origin = match samples.map(|samples| Identity::new(title.into(), samples)) {
            Some(other) if !identity.is_same_model(&other) => None,
            Some(_) if entry(file, "digest") == self.digest()? => Some(StateOrigin::SameFile),
            Some(_) => Some(StateOrigin::OtherFile),
            None => (entry(file, "fingerprint") == self.fingerprint()).then_some(StateOrigin::Unverified),
        };
        origin.ok_or_else(|| {
            refuse(format!(
                "a state of another model, one of the same sizes ({title}) whose weights are not those of this"
            ))
        })
    }
}

/// What stands in a state file.
struct Contents<'a> {
    header: String,
    /// The numbers of its tensors, in their order.
    numbers: Vec<&'a [f32]>,
}

impl<'a> Contents<'a> {
    /// Errors: a state of another model, logits of another length, or a file of the model that cannot be read.
    fn of(state: &'a State, logits: &'a [f32], model: &'a Model) -> Result<Contents<'a>, Error> {
        model.check_state(state)?;
        let n_vocab = model.config().n_vocab;
        if !logits.is_empty() && logits.len() != n_vocab {
            let reason = format!("expected {n_vocab} or none, found {}", logits.len());
            return Err(Error::Option { option: "logits", reason });
        }
        let identity: &Arc<Identity> = model.identity()?;
        let layout = state.layout();
        let part = |(i, part): (usize, &anser_model::StatePart)| {
            (part.name, stacked(layout.n_layer, &part.shape), &state.data()[layout.part_range(i)])
        };
        let mut tensors: Vec<(&str, Vec<usize>, &[f32])> = layout.parts.iter().enumerate().map(part).collect();
        tensors.push((SAMPLES, vec![identity.samples().len()], identity.samples()));
        if !logits.is_empty() {
            tensors.push((LOGITS, vec![logits.len()], logits));
        }
        let entries = [
            ("format", FORMAT),
            ("version", VERSION),
            ("model", identity.title()),
            ("fingerprint", model.fingerprint()),
            ("digest", model.digest()?),
        ];
        let header = header(&entries, &tensors);
        Ok(Contents { header, numbers: tensors.into_iter().map(|(_, _, numbers)| numbers).collect() })
    }

    fn write_to(&self, out: &mut (impl io::Write + ?Sized)) -> io::Result<()> {
        out.write_all(&(self.header.len() as u64).to_le_bytes())?;
        out.write_all(self.header.as_bytes())?;
        self.numbers.iter().copied().flatten().try_for_each(|x| out.write_all(&x.to_le_bytes()))
    }
}

/// The header of a safetensors file with these entries and F32 tensors, in this order.
fn header(entries: &[(&str, &str)], tensors: &[(&str, Vec<usize>, &[f32])]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let entries: Vec<String> =
        entries.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
    let mut header = format!("{{\"__metadata__\":{{{}}}", entries.join(","));
    let mut start = 0;
    for (name, shape, numbers) in tensors {
        let end = start + 4 * numbers.len();
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        header += &format!(
            ",{}:{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[{start},{end}]}}",
            quoted(name),
            shape.join(",")
        );
        start = end;
    }
    header.push('}');
    let n_padded = header.len().next_multiple_of(HEADER_ALIGNMENT);
    header.extend(std::iter::repeat_n(' ', n_padded - header.len()));
    header
}

/// The shape `[L, …shape]`.
fn stacked(n_layer: usize, shape: &[usize]) -> Vec<usize> {
    [&[n_layer], shape].concat()
}

/// The text at `key` of the header; empty if there is none.
fn entry<'a>(file: &'a ModelFile, key: &str) -> &'a str {
    file.metadata(key).and_then(MetaValue::as_str).unwrap_or_default()
}

/// The numbers of the F32 tensor `name`, which has one dimension if no shape is expected; `None` if there is no such tensor.
fn floats(file: &ModelFile, name: &str, shape: Option<&[usize]>) -> Result<Option<Vec<f32>>, String> {
    let Some(tensor) = file.info(name) else { return Ok(None) };
    let is_expected = shape.map_or(tensor.shape.len() == 1, |shape| tensor.shape == shape);
    let view = tensor.view().filter(|view| view.dtype == DType::F32 && is_expected);
    let Some(view) = view else {
        let expected = shape.map_or("[_]".into(), |shape| format!("{shape:?}"));
        return Err(format!("{name}: expected F32 {expected}, found {} {:?}", tensor.stored, tensor.shape));
    };
    let mut numbers = vec![0.0; view.bytes.len() / size_of::<f32>()];
    quant::dequantize(view.dtype, view.bytes, &mut numbers);
    Ok(Some(numbers))
}
