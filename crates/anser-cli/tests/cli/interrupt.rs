//! Closed pipes and Ctrl-C.

use crate::harness::anser;
use std::io::Read;
use std::process::{Command, Stdio};

/// A generation that does not end by itself.
fn endless() -> Command {
    story("1000000")
}

/// A text of `n` tokens.
fn story(n: &str) -> Command {
    let mut command = anser();
    command.args(["generate", "--logit-bias", "0=-inf", "--seed", "1", "Once upon a time", "-n", n]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr_of(child: &mut std::process::Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_closed_pipe_ends_the_command_quietly() {
    let mut child = endless().spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(stderr_of(&mut child), "");
}

#[cfg(unix)]
mod ctrl_c {
    use super::{Stdio, anser, endless, stderr_of, story};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Child, Command};

    fn press(child: &Child) {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    }

    #[test]
    fn generate_keeps_what_it_has_and_exits_with_130() {
        let mut child = endless().spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut text = vec![0];
        stdout.read_exact(&mut text).unwrap();
        press(&child);
        stdout.read_to_end(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let whole = story("40").output().unwrap().stdout;
        let n = text.len().min(whole.len());
        assert!(n > 0);
        assert_eq!(
            String::from_utf8_lossy(&text[..n]),
            String::from_utf8_lossy(&whole[..n]),
            "the same text, cut short"
        );
        assert_eq!(stderr_of(&mut child), "");
    }

    #[test]
    fn generate_as_json_says_that_it_was_cancelled() {
        // Nothing shows when the object is under way but the time it takes: the prompt alone is read for longer than
        // the signal takes to arrive, and until the model is loaded the signal ends the command, which is tried again.
        for delay_ms in [200, 400, 800, 1600, 3200] {
            let mut command = endless();
            let mut child = command.arg("--json").spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(delay_ms));
            press(&child);
            let mut text = String::new();
            child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(130));
            if !text.is_empty() {
                let found: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(found["finish_reason"], "cancelled");
                return;
            }
        }
        panic!("no object was printed");
    }

    #[test]
    fn chat_stops_the_answer_and_goes_on() {
        // A blank line within an answer looks like its end. Where the machine is so busy that the first answer reaches one before
        // it is stopped, the second signal comes before the second answer has begun, and ends the chat: then it is tried again.
        assert!((0..3).any(|_| stops_two_answers()), "a signal ended the chat three times");
    }

    /// Whether a chat whose two answers were both stopped ends as at the end of its input; otherwise a signal ended it.
    fn stops_two_answers() -> bool {
        let mut command = anser();
        command.args(["chat", "-n", "1000000", "--seed", "1"]);
        // Neither the end of a document nor a line end: the first answer cannot end by itself.
        for never in ["0=-inf", "11=-inf", "261=-inf"] {
            command.args(["--logit-bias", never]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        for message in ["Tell me a story about a fox.\n", "Tell me another one.\n"] {
            stdin.write_all(message.as_bytes()).unwrap();
            stdout.read_exact(&mut [0]).unwrap();
            press(&child);
            let mut line = String::new();
            while stdout.read_line(&mut line).unwrap() > 1 {
                line.clear();
            }
        }
        drop(stdin);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        match child.wait().unwrap().code() {
            Some(130) => false,
            code => {
                assert_eq!((code, rest.as_str()), (Some(0), ""));
                true
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = anser().args(["tokenize", "a"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("anser: standard output: "));
}

#[cfg(unix)]
#[test]
fn input_that_cannot_be_read_is_told() {
    let directory = std::fs::File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
    let output = anser().args(["tokenize", "-"]).stdin(directory).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("anser: standard input: cannot read"));
}
