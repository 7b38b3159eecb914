//! `anser completions`

use crate::args::{Cli, CompletionsArgs};
use crate::output::Output;
use crate::report::Failure;
use clap::CommandFactory;

pub(crate) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Cli::command(), "anser", &mut script);
    Output::new().write(script)
}
