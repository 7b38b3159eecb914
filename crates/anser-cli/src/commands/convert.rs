//! `anser convert` and `anser quantize`

use super::mix;
use crate::args::{ConvertArgs, Layout, PathsArgs, QuantizeArgs, VocabArgs, about_to_open, load, not_run};
use crate::interrupt;
use crate::report::Failure;
use crate::term::Progress;
use anser::{CancelToken, Lora, LoraForm, files};
use anser_convert::{ConvertError, GgufOptions, ImportanceMatrix, Output, QuantizeOptions, Vocabulary};
use anser_format::{FileKind, ModelFile};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The value of --vocab that leaves the tokens out.
const NO_VOCABULARY: &str = "none";

pub(crate) fn convert(args: &ConvertArgs) -> Result<(), Failure> {
    let layout = layout(args)?;
    let adapters: Vec<_> = args.lora.iter().flat_map(Lora::inputs).collect();
    let file = anser::with_loras(&open(&args.paths, &adapters)?, &merged(&args.lora)?, None)?;
    let output = match layout {
        Layout::Gguf => {
            let options =
                GgufOptions { float: args.float, vocabulary: vocabulary(&args.vocab)?, ..GgufOptions::default() };
            Output::gguf(&file, &options)?
        }
        Layout::St => Output::web_rwkv(&file)?,
    };
    write(&output, &args.paths.output, "converting, MiB")
}

/// The adapters, merged into all that they change: a file has no place for pairs beside matrices.
fn merged(loras: &[Lora]) -> Result<Vec<Lora>, Failure> {
    let merged = |lora: &Lora| match lora.form {
        LoraForm::Fitting | LoraForm::Merged => Ok(Lora { form: LoraForm::Merged, ..lora.clone() }),
        LoraForm::Beside => Err(Failure::Usage(format!(
            "--lora {}:beside: a converted file has the adapter in its weights; leave :beside out",
            lora.path.display()
        ))),
    };
    loras.iter().map(merged).collect()
}

pub(crate) fn quantize(args: &QuantizeArgs) -> Result<(), Failure> {
    let matrix = args.imatrix.as_deref();
    let calibrate = args.mix.calibrate.as_deref();
    let others = [("the importance matrix", matrix), ("the calibration text", calibrate)];
    let others: Vec<_> = others.into_iter().filter_map(|(what, path)| Some((what, path?))).collect();
    let file = open(&args.paths, &others)?;
    let matrix = matrix.map(ImportanceMatrix::open).transpose()?;
    let mut output = match file.kind() {
        FileKind::Gguf { .. } if args.vocab.vocab.is_none() => Output::same_gguf(&file)?,
        FileKind::Gguf { .. } | FileKind::Safetensors | FileKind::Torch(_) => {
            Output::gguf(&file, &GgufOptions { vocabulary: vocabulary(&args.vocab)?, ..GgufOptions::default() })?
        }
    };
    let Some(file_type) = args.file_type else {
        let chosen = mix::choose(args, &mut output, matrix)?;
        write(&output, &args.paths.output, "quantizing, MiB")?;
        return chosen.tell();
    };
    output.quantize(&QuantizeOptions {
        file_type,
        matrix: matrix.as_ref(),
        rules: &args.rules,
        allow_requantize: args.allow_requantize,
    })?;
    write(&output, &args.paths.output, "quantizing, MiB")
}

/// The layout that is asked for, else the one that the output's name ends in.
fn layout(args: &ConvertArgs) -> Result<Layout, Failure> {
    let ending = args.paths.output.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let layout = match (args.to, ending) {
        (Some(layout), _) => layout,
        (None, "gguf") => Layout::Gguf,
        (None, "st" | "safetensors") => Layout::St,
        (None, _) => {
            let out = args.paths.output.display();
            return Err(Failure::Usage(format!(
                "{out}: the name does not tell the layout; end it with .gguf or .st, or say --to gguf or --to st"
            )));
        }
    };
    match (layout, args.float, &args.vocab.vocab) {
        (Layout::St, Some(float), _) if float != anser_convert::FloatType::F16 => Err(Failure::Usage(format!(
            "--type {float}: web-rwkv's .st files are F16; leave --type out, or convert to GGUF"
        ))),
        (Layout::St, _, Some(_)) => {
            Err(Failure::Usage("--vocab: web-rwkv's .st files carry no tokens; leave --vocab out".into()))
        }
        (Layout::Gguf | Layout::St, _, _) => Ok(layout),
    }
}

/// Opens the model, and checks that the output is none of the files that are read.
fn open(paths: &PathsArgs, others: &[(&str, &Path)]) -> Result<Arc<ModelFile>, Failure> {
    files::check_output(&paths.output, others)?;
    if paths.input.as_os_str() == "demo" {
        return Ok(load(&paths.input, &not_run())?.file().clone());
    }
    about_to_open(&paths.input);
    let file = ModelFile::open(&paths.input).map_err(anser::Error::from)?;
    let parts: Vec<_> = file.part_names().map(|part| ("the model", Path::new(part))).collect();
    files::check_output(&paths.output, &parts)?;
    Ok(file)
}

fn vocabulary(args: &VocabArgs) -> Result<Option<Vocabulary>, Failure> {
    let Some(path) = &args.vocab else { return Ok(None) };
    if path.as_os_str() == NO_VOCABULARY {
        return Ok(Some(Vocabulary::None));
    }
    let tokenizer = anser::read_vocabulary(path)?;
    match Vocabulary::of_tokenizer(tokenizer) {
        Some(vocabulary) => Ok(Some(vocabulary)),
        None => Err(Failure::about(
            path.display(),
            "this vocabulary is a byte-level BPE, which GGUF files of RWKV models do not have; name one like rwkv_vocab_v20230424.txt",
        )),
    }
}

/// Notes the signals that end a process, so that the unfinished file is removed first.
#[derive(Default)]
pub(super) struct EndSignals(Arc<AtomicUsize>);

impl EndSignals {
    /// From now on SIGTERM and SIGHUP are noted. If the system refuses, they keep their action.
    #[cfg(unix)]
    pub(super) fn note() -> EndSignals {
        use signal_hook::consts::{SIGHUP, SIGTERM};
        let signals = EndSignals::default();
        for signal in [SIGTERM, SIGHUP] {
            let _ = signal_hook::flag::register_usize(signal, signals.0.clone(), signal as usize);
        }
        signals
    }

    /// Other systems have no such signals.
    #[cfg(not(unix))]
    pub(super) fn note() -> EndSignals {
        EndSignals::default()
    }

    /// The number of the signal that came; 0 if none did.
    pub(super) fn seen(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Writes the output to `path`, which appears when it is complete. Ctrl-C, SIGTERM and SIGHUP end it without a trace.
fn write(output: &Output, path: &Path, what: &'static str) -> Result<(), Failure> {
    let cancel = CancelToken::default();
    let _armed = interrupt::arm(&cancel);
    let signals = EndSignals::note();
    let mut progress = Progress::new(what);
    let mut failed = None;
    let written = files::write_with(path, |out| {
        let on_progress = |n_bytes: u64, total: u64| {
            progress.update((n_bytes >> 20) as usize, (total >> 20) as usize);
            let is_over = cancel.is_cancelled() || signals.seen() != 0;
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match output.write(out, on_progress) {
            Ok(_) => Ok(()),
            Err(ConvertError::Io(error)) => Err(error),
            Err(error) => {
                let told = io::Error::other(error.to_string());
                failed = Some(error);
                Err(told)
            }
        }
    });
    drop(progress);
    match failed {
        // As shells count it. The unfinished file is gone.
        Some(ConvertError::Cancelled) if signals.seen() != 0 => std::process::exit(128 + signals.seen() as i32),
        Some(error) => Err(error.into()),
        None => Ok(written?),
    }
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Failure {
        match error {
            ConvertError::Cancelled => Failure::Interrupted,
            ConvertError::Rule { rule, problem } => Failure::Usage(format!("--tensor {rule}: {problem}")),
            other => Failure::Run(other.to_string()),
        }
    }
}
