//! `anser pages`: the help of all commands as manual pages, or as pages of the book.

use crate::args::{Cli, PageForm, PagesArgs};
use crate::report::Failure;
use anser::files;
use clap::{Command, CommandFactory};
use std::path::Path;

/// The columns of the help in the book.
const N_COLUMNS: usize = 110;

pub(crate) fn run(args: &PagesArgs) -> Result<(), Failure> {
    let about_folder = |error: std::io::Error| Failure::about(args.folder.display(), error);
    std::fs::create_dir_all(&args.folder).map_err(about_folder)?;
    match args.form {
        PageForm::Man => clap_mangen::generate_to(Cli::command(), &args.folder).map_err(about_folder),
        PageForm::Markdown => write_markdown(&args.folder),
    }
}

/// Writes a page for each command that the help lists, with the help of its own commands below.
fn write_markdown(folder: &Path) -> Result<(), Failure> {
    let mut root = Cli::command().term_width(N_COLUMNS);
    root.build();
    for command in listed(&root) {
        let text = markdown(command, &format!("anser {}", command.get_name()), 1);
        let path = folder.join(format!("{}.md", command.get_name()));
        files::write_with(&path, |out| out.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// The commands that the help of `command` lists, without `help` itself.
fn listed(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help")
}

/// The help of `command`, called `name`, below a heading of level `level`.
fn markdown(command: &Command, name: &str, level: usize) -> String {
    let help = command.clone().render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let mut text = format!("{} {name}\n\n```text\n{}\n```\n", "#".repeat(level), lines.join("\n").trim_end());
    for below in listed(command) {
        text += &format!("\n{}", markdown(below, &format!("{name} {}", below.get_name()), level + 1));
    }
    text
}
