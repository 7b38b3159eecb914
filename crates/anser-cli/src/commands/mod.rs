//! One file per command.

mod bench;
mod chat;
mod completions;
mod debug_plan;
mod devices;
mod embed;
mod generate;
mod inspect;
mod logits;
mod perplexity;
mod state;
mod tokenize;

use crate::args::{Cli, Command};
use crate::report::Failure;
use crate::term::Progress;
use anser::{Session, Want};
use std::ops::ControlFlow;

/// Runs what was asked for; nothing if it was help.
pub(crate) fn run(cli: Option<Cli>) -> Result<(), Failure> {
    let Some(cli) = cli else { return Ok(()) };
    match cli.command {
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::State(args) => state::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::DebugPlan(args) => debug_plan::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Reads `tokens` with progress; afterwards the session knows the last one's logits.
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
