//! The commands, one file each.

mod bench;
mod chat;
mod compare;
mod completions;
mod convert;
mod debug_plan;
mod devices;
mod embed;
mod generate;
mod imatrix;
mod inspect;
mod logits;
mod mix;
mod pages;
mod perplexity;
mod rerank;
mod self_test;
#[cfg(feature = "serve")]
mod serve;
mod state;
mod tokenize;
mod tune;

use crate::args::{Cli, Command, ModelArgs};
use crate::printable::printable;
use crate::report::Failure;
use crate::term::{self, Progress};
use anser::{Model, Session, StateOrigin, Want};
use std::ops::ControlFlow;
use std::path::Path;

/// Runs the command; does nothing if the arguments asked for help.
pub(crate) fn run(cli: Option<Cli>) -> Result<(), Failure> {
    let Some(mut cli) = cli else { return Ok(()) };
    bring(&mut cli.command)?;
    match cli.command {
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Rerank(args) => rerank::run(&args),
        Command::State(args) => state::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Convert(args) => convert::convert(&args),
        Command::Quantize(args) => convert::quantize(&args),
        Command::Imatrix(args) => imatrix::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::SelfTest(args) => self_test::run(&args),
        Command::DebugPlan(args) => debug_plan::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Pages(args) => pages::run(&args),
    }
}

#[cfg(feature = "hub")]
use crate::hub::bring;

/// Refuses names of models on a hub.
#[cfg(not(feature = "hub"))]
fn bring(command: &mut Command) -> Result<(), Failure> {
    match command.models().0.iter().any(|model| model.to_string_lossy().starts_with("hf:")) {
        true => Err(Failure::Usage(
            "this build has no downloads; build it with the feature hub, or name a model file with --model".into(),
        )),
        false => Ok(()),
    }
}

/// Loads the model of a command, and checks that the file `out` which the command writes, if it does, is none of the
/// model's files.
fn load_for(model: &ModelArgs, out: Option<&Path>) -> Result<Model, Failure> {
    if let Some(out) = out {
        model.check_output(out)?;
    }
    let model = model.load()?;
    if let Some(out) = out {
        // The model may consist of more files than the one that was named.
        model.check_output(out)?;
    }
    Ok(model)
}

/// Writes a remark to standard error if a state may be another model's.
fn tell_origin(file: impl AsRef<Path>, origin: StateOrigin) {
    if let Some(remark) = origin.remark() {
        term::note(&printable(&format!("{}: {remark}", file.as_ref().display())));
    }
}

/// Reads `tokens` and shows the progress. Afterwards the session has the logits of the last token.
fn read(session: &mut Session, tokens: &[u32]) -> Result<(), Failure> {
    if tokens.is_empty() {
        return Ok(());
    }
    let mut progress = Progress::new("reading");
    session.feed_for(tokens, Want::LOGITS, |done, total| {
        progress.update(done, total);
        ControlFlow::Continue(())
    })?;
    Ok(())
}
