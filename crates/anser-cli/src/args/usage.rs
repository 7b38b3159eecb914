//! Reading the command line, and errors in it as one line.

use super::Cli;
use crate::report::Failure;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Reads the arguments. Help and version are printed, and give `Ok(None)`.
pub(crate) fn parse() -> Result<Option<Cli>, Failure> {
    let error = match Cli::try_parse() {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::PipeClosed),
            Err(e) => Err(Failure::about("standard output", e)),
            Ok(()) => Ok(None),
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print(); // The help, on stderr.
            Err(Failure::Usage("no command given".into()))
        }
        kind => {
            let tip = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(arg)) if kind == ErrorKind::UnknownArgument && !arg.starts_with('-') => {
                    "; a text of several words needs quotes"
                }
                _ => "",
            };
            Err(Failure::Usage(format!("{}{tip}; {}", one_line(&error.to_string()), advice())))
        }
    }
}

/// The message and its tips, without the usage that follows them.
fn one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let lines = message.lines().map(str::trim);
    let told = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let paragraphs = told.fold(vec![String::new()], |mut paragraphs, line| {
        match paragraphs.last_mut() {
            Some(last) if !line.is_empty() => {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(line);
            }
            _ => paragraphs.push(String::new()),
        }
        paragraphs
    });
    let paragraphs: Vec<String> = paragraphs.into_iter().filter(|p| !p.is_empty()).collect();
    paragraphs.join("; ")
}

/// Where the help for the command in question is.
fn advice() -> String {
    let commands = <Cli as clap::CommandFactory>::command();
    let named =
        std::env::args_os().nth(1).and_then(|name| commands.find_subcommand(name).map(|c| c.get_name().to_owned()));
    match named {
        Some(command) => format!("see `anser {command} --help`"),
        None => "see `anser --help`".into(),
    }
}
