//! What can be asked for in a chat besides an answer.

use crate::args::Think;
use crate::report::Failure;
use clap::ValueEnum;

pub(super) const HELP: &str = "\
/system TEXT       start anew with these instructions; without TEXT: with none
/think on|off|fake whether the model thinks before it answers
/regen             answer the last message again
/reset             forget the conversation
/save FILE         save what the model remembers; /load FILE goes on from it
/help              this list
Ctrl-C stops an answer; twice at the prompt, or Ctrl-D, leaves. To send a line that begins with /, begin it with a space.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slash<'a> {
    Help,
    Regen,
    Reset,
    System(Option<&'a str>),
    Think(Think),
    Save(&'a str),
    Load(&'a str),
}

impl<'a> Slash<'a> {
    /// The command in `line`; `None` if it is a message.
    pub(super) fn parse(line: &'a str) -> Option<Result<Slash<'a>, Failure>> {
        let command = line.strip_prefix('/')?;
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let file = || match rest {
            "" => Err(Failure::Usage(format!("/{name} needs the name of a file"))),
            file => Ok(file),
        };
        Some(match name {
            "help" => Ok(Slash::Help),
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

#[cfg(test)]
mod tests {
    use super::{Slash, Think};

    #[test]
    fn commands_are_read_with_what_follows_them() {
        let parsed = |line| Slash::parse(line).map(Result::ok);
        assert_eq!(parsed("Hello /help"), None);
        assert_eq!(parsed(" /help"), None);
        assert_eq!(parsed("/help"), Some(Some(Slash::Help)));
        assert_eq!(parsed("/system  Be brief.\nAnd kind. "), Some(Some(Slash::System(Some("Be brief.\nAnd kind.")))));
        assert_eq!(parsed("/system"), Some(Some(Slash::System(None))));
        assert_eq!(parsed("/think fake"), Some(Some(Slash::Think(Think::Fake))));
        assert_eq!(parsed("/save my chat.st"), Some(Some(Slash::Save("my chat.st"))));
        for wrong in ["/", "/etc/passwd", "/think", "/think maybe", "/save", "/load  ", "/Help"] {
            assert_eq!(parsed(wrong), Some(None), "{wrong:?}");
        }
    }
}
