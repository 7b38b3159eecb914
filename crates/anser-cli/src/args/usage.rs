//! Reads the command line, and reports errors in it in one line.

use super::Cli;
use crate::output::Output;
use crate::report::Failure;
use crate::version;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};
use std::ffi::OsString;

/// Reads the arguments, of which the first is the name of the program. Prints help or version if the arguments ask for them, and returns `Ok(None)` then.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Option<Cli>, Failure> {
    let error = match Cli::try_parse_from(&arguments) {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayVersion if arguments.iter().any(|argument| argument == "--version") => {
            Output::new().write(version::long())?;
            Ok(None)
        }
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
            let told = match kind {
                ErrorKind::InvalidUtf8 => not_utf8(&arguments),
                _ => one_line(&error.to_string()),
            };
            let command = command_in_question(&arguments);
            let tip = match (error.get(ContextKind::InvalidArg), &command) {
                (Some(ContextValue::String(arg)), Some(command))
                    if kind == ErrorKind::UnknownArgument && !arg.starts_with('-') =>
                {
                    tip(command)
                }
                _ => "",
            };
            let advice = match command {
                Some(command) => format!("see `anser {} --help`", command.get_name()),
                None => "see `anser --help`".into(),
            };
            Err(Failure::Usage(format!("{told}{tip}; {advice}")))
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

/// A message that names the options whose value is not UTF-8, since clap does not tell which one is wrong. Options that take file
/// names accept any bytes, but are named, too, if their value is not UTF-8.
fn not_utf8(arguments: &[OsString]) -> String {
    let mut options = vec![];
    let mut before = String::new();
    for argument in arguments.iter().skip(1) {
        let text = argument.to_string_lossy().into_owned();
        if argument.to_str().is_none() {
            match text.split_once('=') {
                Some((option, _)) if option.starts_with('-') => options.push(option.to_owned()),
                _ if before.starts_with('-') => options.push(before),
                _ => {}
            }
        }
        before = text;
    }
    match options.is_empty() {
        true => "expected arguments in UTF-8, found one that is not".into(),
        false => format!("expected UTF-8 as the value of {}, found other bytes", options.join(" or ")),
    }
}

/// The command that `arguments`, after the name of the program, begin with.
fn command_in_question(arguments: &[OsString]) -> Option<Command> {
    let name = arguments.get(1)?;
    Cli::command().find_subcommand(name).cloned()
}

/// Advice for an argument that `command` does not take: the way in which the command gets its text.
fn tip(command: &Command) -> &'static str {
    let takes = |name: &str| command.get_arguments().any(|arg| arg.get_id() == name);
    let is_positional = |name: &str| command.get_positionals().any(|arg| arg.get_id() == name);
    if is_positional("prompt") || is_positional("text") {
        "; a text of several words needs quotes"
    } else if takes("tokens") {
        "; give a text with --text, or token ids with --tokens"
    } else if takes("file") {
        "; give the file that holds the text with --file"
    } else if takes("system") {
        "; a chat reads its messages from the terminal or standard input"
    } else {
        ""
    }
}
