//! `anser imatrix` and `anser imatrix merge`

use super::convert::EndSignals;
use crate::args::{ImatrixArgs, ImatrixWhat, MatrixFormat, MergeArgs};
use crate::input;
use crate::interrupt;
use crate::output::Output;
use crate::report::Failure;
use crate::term::{Progress, note};
use anser::{CancelToken, Device, InputSquares, Model, Options, files};
use anser_convert::ImportanceMatrix;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// The JSON object that `--json` prints; the help describes it.
#[derive(Serialize)]
struct Written<'a> {
    out: &'a str,
    n_entries: usize,
    n_chunks: Option<u32>,
    #[serde(flatten)]
    read: Option<Read>,
}

/// What was read for the matrix.
#[derive(Serialize)]
struct Read {
    n_tokens: usize,
    elapsed_ms: f64,
}

pub(crate) fn run(args: &ImatrixArgs) -> Result<(), Failure> {
    if let Some(ImatrixWhat::Merge(args)) = &args.what {
        return merge(args);
    }
    let (Some(file), Some(out)) = (&args.file, &args.out) else {
        return Err(Failure::Usage("--file and --out are needed".into()));
    };
    if args.resume && args.format == MatrixFormat::Dat {
        return Err(Failure::Usage(
            "--resume: a .dat file does not say how long its pieces of text are; leave --format dat out".into(),
        ));
    }
    files::check_output(out, &[("the text", file)])?;
    args.model.check_output(out)?;
    let text = input::file(file)?;
    let model = on_processor(args)?;
    args.model.check_output(out)?;
    let tokens = model.encode(&text)?;
    let chunks: Vec<&[u32]> = tokens.chunks(args.chunk as usize).collect();
    let n_chunks = args.chunks.map_or(chunks.len(), |most| chunks.len().min(most as usize));
    if n_chunks == 0 {
        return Err(Failure::about(file.display(), "an importance matrix needs at least 1 token, found 0"));
    }
    let mut matrix = start(args, out, &file.to_string_lossy())?;
    let n_before = matrix.n_chunks().unwrap_or(0) as usize;
    if n_before > n_chunks {
        return Err(Failure::about(
            out.display(),
            format!(
                "it was made of {n_before} pieces, and there are {n_chunks} to read; give the text that it was made of"
            ),
        ));
    }
    let began = Instant::now();
    let n_tokens = read(&model, args, &chunks[..n_chunks], n_before, &mut matrix)?;
    let elapsed_ms = began.elapsed().as_secs_f64() * 1e3;
    let n_read = matrix.n_chunks().unwrap_or(0) as usize;
    if n_read == 0 {
        return Err(Failure::Interrupted);
    }
    write(&matrix, args.format, out)?;
    let is_complete = n_read == n_chunks;
    if !is_complete {
        note(&format!("{}: has {n_read} of {n_chunks} pieces; the same command with --resume goes on", out.display()));
    }
    report(&matrix, out, args.json, Some(Read { n_tokens, elapsed_ms }))?;
    if is_complete { Ok(()) } else { Err(Failure::Interrupted) }
}

/// Loads the model for the processor, which is what sums are computed on.
fn on_processor(args: &ImatrixArgs) -> Result<Model, Failure> {
    let options = args.model.options()?;
    if matches!(options.device, Device::Gpu(_)) && args.model.opening.device.is_some() {
        return Err(Failure::Usage(
            "--device: an importance matrix is measured on the processor; leave --device out".into(),
        ));
    }
    crate::args::load(&args.model.model, &Options { device: Device::Cpu, ..options })
}

/// The matrix to add to: that in OUT if it is to be resumed and is there, else an empty one.
fn start(args: &ImatrixArgs, out: &Path, dataset: &str) -> Result<ImportanceMatrix, Failure> {
    if !(args.resume && out.exists()) {
        return Ok(ImportanceMatrix::of_text(&out.display().to_string(), dataset, args.chunk));
    }
    let matrix = ImportanceMatrix::open(out)?.in_tokens(args.chunk)?;
    if matrix.datasets() != [dataset] {
        let found = matrix.datasets().join(", ");
        return Err(Failure::about(
            out.display(),
            format!(
                "it was made of the text {found:?}, not {dataset:?}; give that one, or another --out and merge the two"
            ),
        ));
    }
    Ok(matrix)
}

/// Reads the pieces after the first `n_before`, until Ctrl-C or a signal that ends the process. Returns the number of tokens read.
fn read(
    model: &Model,
    args: &ImatrixArgs,
    chunks: &[&[u32]],
    n_before: usize,
    matrix: &mut ImportanceMatrix,
) -> Result<usize, Failure> {
    let cancel = CancelToken::default();
    let _armed = interrupt::arm(&cancel);
    let signals = EndSignals::note();
    let mut progress = Progress::new("reading, pieces");
    let mut squares = InputSquares::new(model, args.model.opening.threads)?;
    let (mut n_tokens, mut n_chunks) = (0, 0);
    for chunk in &chunks[n_before..] {
        if cancel.is_cancelled() || signals.seen() != 0 {
            break;
        }
        squares.read(chunk)?;
        n_tokens += chunk.len();
        n_chunks += 1;
        progress.update(n_before + n_chunks, chunks.len());
    }
    drop(progress);
    matrix.add_sums(squares.sums().into_iter().map(|sums| (sums.name, sums.sums, sums.n_rows)))?;
    matrix.add_chunks(u32::try_from(n_chunks).unwrap_or(u32::MAX));
    Ok(n_tokens)
}

fn merge(args: &MergeArgs) -> Result<(), Failure> {
    let inputs: Vec<_> = args.files.iter().map(|file| ("an importance matrix", &**file)).collect();
    files::check_output(&args.out, &inputs)?;
    let mut merged: Option<ImportanceMatrix> = None;
    for file in &args.files {
        let mut matrix = ImportanceMatrix::open(file)?;
        if let Some(chunk_len) = args.chunk {
            matrix = matrix.in_tokens(chunk_len)?;
        }
        match &mut merged {
            None => merged = Some(matrix),
            Some(merged) => merged.merge(&matrix)?,
        }
    }
    let Some(merged) = merged else { return Err(Failure::Usage("name two files or more".into())) };
    write(&merged, args.format, &args.out)?;
    report(&merged, &args.out, args.json, None)
}

fn write(matrix: &ImportanceMatrix, format: MatrixFormat, out: &Path) -> Result<(), Failure> {
    let bytes = match format {
        MatrixFormat::Gguf => matrix.to_gguf()?,
        MatrixFormat::Dat => matrix.to_dat()?,
    };
    Ok(files::write(out, &bytes)?)
}

fn report(matrix: &ImportanceMatrix, out: &Path, json: bool, read: Option<Read>) -> Result<(), Failure> {
    let (out, n_entries, n_chunks) = (out.to_string_lossy(), matrix.n_entries(), matrix.n_chunks());
    let mut output = Output::new();
    if json {
        return output.write_json(&Written { out: &out, n_entries, n_chunks, read });
    }
    let pieces = n_chunks.map_or("an unknown number of".into(), |n| n.to_string());
    output.write(format!("{out}: {n_entries} matrices, {pieces} pieces of text\n"))
}
