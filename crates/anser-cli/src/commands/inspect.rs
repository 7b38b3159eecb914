//! `anser inspect`

mod metadata;

use crate::args::{InspectArgs, about_to_open, load, not_run};
use crate::output::Output;
use crate::printable::printable;
use crate::report::Failure;
use anser::Model;
use anser_format::{ModelFile, TensorInfo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::sync::Arc;

/// The JSON object that `--json` prints.
#[derive(Serialize)]
struct Report {
    file: String,
    format: String,
    /// The bytes of all files of the model.
    n_bytes: u64,
    /// The number of tensors in all files of the model.
    n_tensors: usize,
    /// The names of the files of a model in several files; absent for a model in one file.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<String>>,
    /// The sizes of the model; absent if Anser cannot run the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Sizes>,
    /// The reason for which Anser cannot run the file; absent if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    dtypes: Vec<DtypeUse>,
    metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<Vec<TensorLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
}

#[derive(Serialize)]
struct Sizes {
    title: String,
    /// Who wrote the file: how it spells the tensors' names.
    dialect: String,
    n_layer: usize,
    n_embd: usize,
    n_head: usize,
    head_size: usize,
    n_ffn: usize,
    n_vocab: usize,
    n_parameters: usize,
    n_bytes_per_token: usize,
    state_n_bytes: usize,
    /// Whether fresh sessions start from a tuned state in the file, instead of zeros.
    initial_state: bool,
    fingerprint: String,
}

/// The tensors of one storage type.
#[derive(Serialize)]
pub(super) struct DtypeUse {
    pub(super) dtype: String,
    n_tensors: usize,
    n_elements: usize,
    n_bytes: usize,
}

#[derive(Serialize)]
struct TensorLine {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    /// The tensor's bytes; absent if the size of its type is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_bytes: Option<usize>,
}

pub(crate) fn run(args: &InspectArgs) -> Result<(), Failure> {
    let (file, model) = open(&args.model)?;
    let mut output = Output::new();
    if args.plan && !args.json {
        return output.write(model?.plan().to_string());
    }
    let plan = match (&model, args.plan) {
        (Ok(model), true) => Some(model.plan().to_string()),
        (Err(error), true) => return Err(Failure::Run(error.to_string())),
        (_, false) => None,
    };
    let report = Report {
        file: file.name().into(),
        format: file.kind().to_string(),
        n_bytes: file.n_bytes(),
        n_tensors: file.tensors().len(),
        parts: (file.part_names().len() > 1).then(|| file.part_names().map(str::to_owned).collect()),
        model: model.as_ref().ok().map(sizes),
        problem: model.as_ref().err().map(|e| without_name(&file, e)),
        dtypes: dtype_uses(&file),
        metadata: metadata::to_json(&file),
        tensors: args.tensors.then(|| tensors(&file)),
        plan,
    };
    if args.json { output.write_json(&report) } else { output.write(report.to_string()) }
}

/// The file, and the model in it if Anser can run it.
fn open(path: &Path) -> Result<(Arc<ModelFile>, Result<Model, anser::Error>), Failure> {
    let options = not_run();
    if path.as_os_str() == "demo" {
        let model = load(path, &options)?;
        return Ok((model.file().clone(), Ok(model)));
    }
    about_to_open(path);
    let file = ModelFile::open(path).map_err(anser::Error::from)?;
    let model = Model::from_file(file.clone(), &options);
    Ok((file, model))
}

/// The reason without the name of the file, which is printed beside it.
fn without_name(file: &ModelFile, error: &anser::Error) -> String {
    let message = error.to_string();
    message.strip_prefix(&format!("{}: ", file.name())).map(str::to_owned).unwrap_or(message)
}

fn sizes(model: &Model) -> Sizes {
    let (config, plan) = (model.config(), model.plan());
    Sizes {
        title: plan.title.clone(),
        dialect: config.dialect.clone(),
        n_layer: config.n_layer,
        n_embd: config.n_embd,
        n_head: config.n_head,
        head_size: config.head_size,
        n_ffn: config.n_ffn,
        n_vocab: config.n_vocab,
        n_parameters: plan.weights.iter().map(|w| w.n_rows() * w.n_cols()).sum(),
        n_bytes_per_token: plan.n_bytes_per_token(),
        state_n_bytes: model.state_layout().len() * size_of::<f32>(),
        initial_state: model.initial_state().is_some(),
        fingerprint: model.fingerprint().into(),
    }
}

/// The tensors by storage type, the type with the most bytes first. Tensors of unknown size count 0 bytes.
pub(super) fn dtype_uses(file: &ModelFile) -> Vec<DtypeUse> {
    let mut by_name: BTreeMap<&str, DtypeUse> = BTreeMap::new();
    for tensor in file.tensors() {
        let dtype = tensor.stored.name();
        let none = || DtypeUse { dtype: dtype.into(), n_tensors: 0, n_elements: 0, n_bytes: 0 };
        let row = by_name.entry(dtype).or_insert_with(none);
        let n_elements = tensor.shape.iter().fold(1usize, |n, &len| n.saturating_mul(len));
        row.n_tensors += 1;
        row.n_elements = row.n_elements.saturating_add(n_elements);
        row.n_bytes += tensor.n_bytes.unwrap_or(0);
    }
    let mut rows: Vec<DtypeUse> = by_name.into_values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.n_bytes));
    rows
}

fn tensors(file: &ModelFile) -> Vec<TensorLine> {
    let line = |t: TensorInfo| TensorLine {
        name: t.name.into(),
        dtype: t.stored.name().into(),
        shape: t.shape.to_vec(),
        n_bytes: t.n_bytes,
    };
    file.tensors().map(line).collect()
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "file          {}", printable(&self.file))?;
        write!(f, "format        {}, {} tensors, {}", self.format, self.n_tensors, Bytes(self.n_bytes))?;
        match &self.parts {
            Some(parts) => writeln!(f, " in {} files", parts.len())?,
            None => writeln!(f)?,
        }
        if let Some(sizes) = &self.model {
            write!(f, "{sizes}")?;
        }
        if let Some(problem) = &self.problem {
            writeln!(f, "cannot run    {}", printable(problem))?;
        }
        writeln!(f, "\ntype     tensors      elements         bytes")?;
        for row in &self.dtypes {
            let dtype = printable(&row.dtype);
            writeln!(f, "{dtype:<8} {:>7} {:>13} {:>13}", row.n_tensors, row.n_elements, row.n_bytes)?;
        }
        if !self.metadata.is_empty() {
            writeln!(f, "\nmetadata")?;
        }
        for (key, value) in &self.metadata {
            writeln!(f, "{} = {}", printable(key), metadata::abbreviated(value))?;
        }
        if let Some(tensors) = &self.tensors {
            writeln!(f, "\ntensors")?;
            for t in tensors {
                writeln!(f, "{:<44} {:<7} {:?}", printable(&t.name), printable(&t.dtype), t.shape)?;
            }
        }
        Ok(())
    }
}

impl Display for Sizes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "architecture  {}", self.title)?;
        writeln!(f, "names         as {}", self.dialect)?;
        writeln!(f, "parameters    {:.1} M", self.n_parameters as f64 / 1e6)?;
        writeln!(f, "per token     {} of weights are read", Bytes(self.n_bytes_per_token as u64))?;
        let start = if self.initial_state { "; it starts as the tuned one in the file" } else { "" };
        writeln!(f, "state         {} per sequence{start}", Bytes(self.state_n_bytes as u64))?;
        writeln!(f, "fingerprint   {}", self.fingerprint)
    }
}

/// A number of bytes, written in the unit that gives a short number.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 as f64 {
            n if n < 1e3 => write!(f, "{n} bytes"),
            n if n < 1e6 => write!(f, "{:.1} kB", n / 1e3),
            n if n < 1e9 => write!(f, "{:.1} MB", n / 1e6),
            n => write!(f, "{:.2} GB", n / 1e9),
        }
    }
}
