//! `anser inspect`

mod metadata;

use crate::args::{InspectArgs, load, not_run};
use crate::output::Output;
use crate::printable::printable;
use crate::report::Failure;
use anser::Model;
use anser_format::{DType, FileKind, ModelFile};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::sync::Arc;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    file: String,
    format: String,
    n_bytes: usize,
    n_tensors: usize,
    /// What the model is; absent if Anser cannot run the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Sizes>,
    /// Why Anser cannot run the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    dtypes: Vec<Share>,
    metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<Vec<TensorLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
}

#[derive(Serialize)]
struct Sizes {
    title: String,
    n_layer: usize,
    n_embd: usize,
    n_head: usize,
    head_size: usize,
    n_ffn: usize,
    n_vocab: usize,
    n_parameters: usize,
    n_bytes_per_token: usize,
    state_n_bytes: usize,
    fingerprint: String,
}

/// What one storage type takes of the file.
#[derive(Serialize)]
struct Share {
    dtype: &'static str,
    n_tensors: usize,
    n_elements: usize,
    n_bytes: usize,
}

#[derive(Serialize)]
struct TensorLine {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    n_bytes: usize,
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
        format: format(file.kind()),
        n_bytes: file.n_bytes(),
        n_tensors: file.tensors().len(),
        model: model.as_ref().ok().map(sizes),
        problem: model.as_ref().err().map(|e| without_name(&file, e)),
        dtypes: shares(&file),
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
    let file = ModelFile::open(path).map_err(anser::Error::from)?;
    let model = Model::from_file(file.clone(), &options);
    Ok((file, model))
}

/// The reason alone: the file is named beside it.
fn without_name(file: &ModelFile, error: &anser::Error) -> String {
    let message = error.to_string();
    message.strip_prefix(&format!("{}: ", file.name())).map(str::to_owned).unwrap_or(message)
}

fn format(kind: FileKind) -> String {
    match kind {
        FileKind::Gguf { version } => format!("GGUF version {version}"),
        FileKind::Safetensors => "safetensors".into(),
    }
}

fn sizes(model: &Model) -> Sizes {
    let (config, plan) = (model.config(), model.plan());
    Sizes {
        title: plan.title.clone(),
        n_layer: config.n_layer,
        n_embd: config.n_embd,
        n_head: config.n_head,
        head_size: config.head_size,
        n_ffn: config.n_ffn,
        n_vocab: config.n_vocab,
        n_parameters: plan.weights.iter().map(|w| w.n_rows() * w.n_cols()).sum(),
        n_bytes_per_token: plan.n_bytes_per_token(),
        state_n_bytes: model.state_layout().len() * size_of::<f32>(),
        fingerprint: model.fingerprint().into(),
    }
}

fn shares(file: &ModelFile) -> Vec<Share> {
    let share = |dtype: DType| {
        let of_type = || file.tensors().filter(move |t| t.dtype == dtype);
        Share {
            dtype: dtype.name(),
            n_tensors: of_type().count(),
            n_elements: of_type().map(|t| t.shape.iter().product::<usize>()).sum(),
            n_bytes: of_type().map(|t| t.bytes.len()).sum(),
        }
    };
    let mut shares: Vec<Share> = DType::ALL.map(share).into_iter().filter(|s| s.n_tensors > 0).collect();
    shares.sort_by_key(|s| std::cmp::Reverse(s.n_bytes));
    shares
}

fn tensors(file: &ModelFile) -> Vec<TensorLine> {
    let line = |t: anser_format::TensorView| TensorLine {
        name: t.name.into(),
        dtype: t.dtype.name(),
        shape: t.shape.to_vec(),
        n_bytes: t.bytes.len(),
    };
    file.tensors().map(line).collect()
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "file          {}", printable(&self.file))?;
        writeln!(f, "format        {}, {} tensors, {}", self.format, self.n_tensors, Bytes(self.n_bytes))?;
        if let Some(sizes) = &self.model {
            write!(f, "{sizes}")?;
        }
        if let Some(problem) = &self.problem {
            writeln!(f, "cannot run    {}", printable(problem))?;
        }
        writeln!(f, "\ntype     tensors      elements         bytes")?;
        for share in &self.dtypes {
            writeln!(f, "{:<8} {:>7} {:>13} {:>13}", share.dtype, share.n_tensors, share.n_elements, share.n_bytes)?;
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
                writeln!(f, "{:<44} {:<7} {:?}", printable(&t.name), t.dtype, t.shape)?;
            }
        }
        Ok(())
    }
}

impl Display for Sizes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "architecture  {}", self.title)?;
        writeln!(f, "parameters    {:.1} M", self.n_parameters as f64 / 1e6)?;
        writeln!(f, "per token     {} of weights are read", Bytes(self.n_bytes_per_token))?;
        writeln!(f, "state         {} per sequence", Bytes(self.state_n_bytes))?;
        writeln!(f, "fingerprint   {}", self.fingerprint)
    }
}

/// A number of bytes with the unit that suits it.
struct Bytes(usize);

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
