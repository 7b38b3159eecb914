//! The commands of a chat, which begin with a slash.

use crate::args::Think;
use crate::report::Failure;
use clap::ValueEnum;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
/system TEXT       start anew with these instructions; without TEXT: with none
/think on|off|fake whether the model thinks before it answers
/regen             answer the last message again
/reset             forget the conversation
/save FILE         save what the model remembers; /load FILE goes on from it
/exit              leave, as /quit and /bye do
/help              this list
Ctrl-C stops an answer; twice at the prompt, or Ctrl-D, leaves. To send a line that begins with /, begin it with a space.";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slash<'a> {
    Help,
    Exit,
    Regen,
    Reset,
    System(Option<&'a str>),
    Think(Think),
    Save(PathBuf),
    Load(PathBuf),
}

impl<'a> Slash<'a> {
    /// The command in `line`; `None` if it is a message.
    pub(super) fn parse(line: &'a str) -> Option<Result<Slash<'a>, Failure>> {
        let command = line.strip_prefix('/')?;
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let file = || file(rest).map_err(|what| Failure::Usage(format!("/{name} {what}")));
        Some(match name {
            "help" => Ok(Slash::Help),
            "exit" | "quit" | "bye" => Ok(Slash::Exit),
            "regen" => Ok(Slash::Regen),
            "reset" => Ok(Slash::Reset),
            "system" => Ok(Slash::System(Some(rest).filter(|text| !text.is_empty()))),
            "think" => Think::from_str(rest, false)
                .map(Slash::Think)
                .map_err(|_| Failure::Usage(format!("/think {rest}: expected on, off or fake"))),
            "save" => file().map(Slash::Save),
            "load" => file().map(Slash::Load),
            _ => Err(Failure::Usage(format!("/{name} is no command; /help lists them"))),
        })
    }
}

/// The file that `text` names, as in a shell: ~ is the user's home, and quotes around the name are removed. A name ends
/// at the end of the line, so only names that begin with ~ or a quote need quotes.
fn file(text: &str) -> Result<PathBuf, String> {
    if let Some(quote @ ('"' | '\'')) = text.chars().next() {
        return match text[1..].split_once(quote) {
            Some(("", "")) => Err("needs the name of a file between the quotes".into()),
            Some((name, "")) => Ok(name.into()),
            Some((_, after)) => Err(format!("needs one name: {after} follows the closing quote")),
            None => Err(format!("needs the name of a file: the quote {quote} is not closed")),
        };
    }
    match text.strip_prefix('~') {
        _ if text.is_empty() => Err("needs the name of a file".into()),
        Some(rest) if rest.is_empty() || rest.starts_with(std::path::is_separator) => {
            let home = etcetera::home_dir().map_err(|_| "needs a home folder for ~, and there is none".to_owned())?;
            Ok(home.join(rest.trim_start_matches(std::path::is_separator)))
        }
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Slash, Think, file};

    #[test]
    fn commands_are_read_with_what_follows_them() {
        let parsed = |line| Slash::parse(line).map(Result::ok);
        assert_eq!(parsed("Hello /help"), None);
        assert_eq!(parsed(" /help"), None);
        assert_eq!(parsed("/help"), Some(Some(Slash::Help)));
        assert_eq!(parsed("/system  Be brief.\nAnd kind. "), Some(Some(Slash::System(Some("Be brief.\nAnd kind.")))));
        assert_eq!(parsed("/system"), Some(Some(Slash::System(None))));
        assert_eq!(parsed("/think fake"), Some(Some(Slash::Think(Think::Fake))));
        assert_eq!(parsed("/save my chat.st"), Some(Some(Slash::Save("my chat.st".into()))));
        for leaving in ["/exit", "/quit", "/bye", "/bye  "] {
            assert_eq!(parsed(leaving), Some(Some(Slash::Exit)), "{leaving:?}");
        }
        for wrong in ["/", "/etc/passwd", "/think", "/think maybe", "/save", "/load  ", "/Help"] {
            assert_eq!(parsed(wrong), Some(None), "{wrong:?}");
        }
    }

    #[test]
    fn files_are_named_as_in_a_shell() {
        for (text, name) in [
            ("a b.st", "a b.st"),
            ("\"a b.st\"", "a b.st"),
            ("'~/x \"y\".st'", "~/x \"y\".st"),
            ("it's.st", "it's.st"),
            ("~x.st", "~x.st"),
            ("./~", "./~"),
        ] {
            assert_eq!(file(text), Ok(name.into()), "{text}");
        }
        let home = etcetera::home_dir().unwrap();
        assert_eq!(file("~/a b.st"), Ok(home.join("a b.st")));
        for wrong in ["", "\"", "\"a", "'a\"", "''", "\"a\" b", "'a''b'"] {
            assert!(file(wrong).is_err(), "{wrong}");
        }
    }
}
