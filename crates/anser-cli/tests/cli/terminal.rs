//! The bytes that the command sends to a terminal, and the modes in which it leaves it.

use crate::harness::{anser, ids, run};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};

/// A command that runs at a terminal of its own.
struct AtTerminal {
    child: Child,
    terminal: File,
    /// All that the command has written.
    seen: Vec<u8>,
}

impl AtTerminal {
    fn spawn(command: &mut Command) -> AtTerminal {
        let pair = openpty(None, None).unwrap();
        let end = || pair.slave.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        // `command` keeps its own ends open: reading would go on after the child is gone.
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        AtTerminal { child, terminal: pair.master.into(), seen: vec![] }
    }

    fn mode(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }

    fn type_in(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until the command has written `text`.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.seen().contains(text) {
            let n = self.terminal.read(&mut bytes).unwrap_or(0);
            assert!(n > 0, "the command ended without {text:?}: {:?}", self.seen());
            self.seen.extend_from_slice(&bytes[..n]);
        }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until the command has ended; returns how, and everything it has written.
    fn finish(mut self) -> (ExitStatus, String) {
        // The read fails once no process has the other end open any more.
        let _ = self.terminal.read_to_end(&mut self.seen);
        (self.child.wait().unwrap(), self.seen())
    }
}

/// What `command` writes at a terminal, all of it.
fn written(command: &mut Command) -> String {
    let (status, seen) = AtTerminal::spawn(command).finish();
    assert!(status.success(), "{seen}");
    seen
}

#[test]
fn text_of_a_model_does_not_steer_the_terminal() {
    let text = "a\u{1b}]0;t\u{7}\u{9b}2J\u{202e}\n\tb می\u{200c}خواهم";
    let ids = run(&["tokenize", text]).json().to_string();
    assert_eq!(run(&["tokenize", "--decode", &ids]).quiet(), text.as_bytes(), "a pipe gets the bytes");
    let seen = written(anser().args(["tokenize", "--decode", &ids]));
    assert_eq!(seen, "a\\u{1b}]0;t\\u{7}\\u{9b}2J\\u{202e}\r\n\tb می\u{200c}خواهم\r\n");

    // Token 28 is the byte of the escape character.
    let args = ["generate", "--temperature", "0", "--logit-bias", "28=100", "-n", "2", "--echo", "x\u{9b}"];
    assert_eq!(run(&args).quiet(), "x\u{9b}\u{1b}\u{1b}".as_bytes());
    let seen = written(anser().env("TERM", "dumb").args(args));
    assert!(seen.contains("x\\u{9b}\\u{1b}\\u{1b}\r\n") && !seen.contains(['\u{1b}', '\u{9b}']), "{seen:?}");
    let mut chat = anser();
    chat.env("TERM", "dumb").args(["chat", "--temperature", "0", "--logit-bias", "28=100", "-n", "2"]);
    let mut chat = AtTerminal::spawn(&mut chat);
    chat.type_in("Hello!\n/exit\n");
    let (status, seen) = chat.finish();
    assert!(status.success() && seen.contains("\\u{1b}\\u{1b}") && !seen.contains('\u{1b}'), "{seen:?}");
}

/// Where standard error is a pipe, nothing is said: other tests run the command so and want it empty.
#[test]
fn a_person_is_told_once_that_the_demo_model_answers() {
    let remark = "the built-in demo model answers";
    let seen = written(anser().args(["generate", "-n", "2", "x"]));
    assert_eq!(seen.matches(remark).count(), 1, "{seen}");
    let model = crate::harness::fixture("../models/demo-q8_0.gguf");
    let seen = written(anser().args(["generate", "-n", "2", "-m"]).arg(model).arg("x"));
    assert_eq!(seen.matches(remark).count(), 0, "{seen}");
}

#[test]
fn half_a_character_is_a_byte_in_a_pipe_and_a_replacement_at_a_terminal() {
    // Token 227 is byte 0xe2, the first one of a character of three.
    let args = ["generate", "--temperature", "0", "--logit-bias", "227=100", "-n", "2", "x"];
    assert_eq!(run(&args).quiet(), b"\xe2\xe2");
    assert!(written(anser().args(args)).contains("\u{fffd}\u{fffd}"));
    let json = run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!((json["text"].as_str(), ids(&json["tokens"])), (Some("\u{fffd}\u{fffd}"), vec![227, 227]));
}

#[test]
fn json_escapes_what_would_steer_and_means_the_same() {
    let text = "\u{7f}\u{85}\u{9b}\u{202e}\u{e0041}\u{1b} é 👩\u{200d}💻";
    let ids = run(&["tokenize", text]).json().to_string();
    let line = run(&["tokenize", "--decode", "--json", &ids]).text();
    assert!(line.contains(r"\u007f\u0085\u009b\u202e\udb40\udc41\u001b é 👩"), "{line}");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["text"], text);
}

#[test]
fn names_and_metadata_are_shown_and_not_sent() {
    let evil = "\u{9b}31m\u{9d}0;t\u{9c}\u{7f}\u{85}\u{202e}\u{feff}\u{1b}]x\u{7}";
    let shown = "\\u{9b}31m\\u{9d}0;t\\u{9c}\\u{7f}\\u{85}\\u{202e}\\u{feff}";
    let header = serde_json::json!({
        "__metadata__": { (format!("key {evil}")): format!("value {evil}") },
        (format!("tensor {evil}")): { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] },
    });
    let header = header.to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("evil.safetensors");
    let n_header = (header.len() as u64).to_le_bytes();
    std::fs::write(&file, [&n_header, header.as_bytes(), &[0; 4]].concat()).unwrap();
    let listing = run(&["inspect", file.to_str().unwrap(), "--tensors"]).text();
    for what in ["key", "value", "tensor"] {
        assert!(listing.contains(&format!("{what} {shown}")), "{what}: {listing}");
    }
    let steering = |c: char| c != '\n' && c.is_control() || matches!(c, '\u{202e}' | '\u{feff}');
    assert!(!listing.contains(steering), "{listing:?}");
    let message = run(&["generate", "-m", &format!("/no/such/{evil}"), "a"]).failure(1);
    assert!(message.contains(shown) && !message.contains(steering), "{message:?}");
}

#[test]
fn a_terminal_without_a_name_is_sent_text_alone() {
    for term in [None, Some(""), Some("dumb")] {
        let mut command = anser();
        match term {
            Some(name) => command.env("TERM", name),
            None => command.env_remove("TERM"),
        };
        let mut chat = AtTerminal::spawn(command.args(["chat", "-n", "3"]));
        chat.type_in("Hello!\n/frobnicate\n/exit\n");
        let (status, seen) = chat.finish();
        assert!(status.success() && seen.contains("/frobnicate is no command"), "{term:?}: {seen:?}");
        assert!(!seen.contains('\u{1b}'), "{term:?}: {seen:?}");
    }
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let seen = |name: &str, value: &str| {
        let mut command = anser();
        command.env_remove("NO_COLOR").env("TERM", "xterm").env(name, value).args(["generate", "-n", "1", "x"]);
        written(&mut command)
    };
    assert!(seen("TERM", "xterm").contains('\u{1b}'));
    assert!(!seen("NO_COLOR", "1").contains('\u{1b}'));
    assert!(!seen("TERM", "dumb").contains('\u{1b}'));
}

#[test]
fn signals_leave_the_terminal_as_the_chat_found_it() {
    for (name, number) in [("TERM", 15), ("HUP", 1)] {
        let mut command = anser();
        let mut chat = AtTerminal::spawn(command.env("TERM", "xterm").arg("chat"));
        let before = chat.mode();
        assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        // Bracketed paste is switched on once the terminal is raw.
        chat.wait_for("\u{1b}[?2004h");
        assert!(!chat.mode().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO));
        let id = chat.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
        chat.wait_for("\u{1b}[?2004l");
        let status = chat.child.wait().unwrap();
        assert_eq!(status.code(), Some(128 + number), "{name}");
        assert_eq!(chat.mode(), before, "{name}");
    }
}

#[test]
fn a_chat_is_left_with_a_word() {
    for word in ["/exit", "/quit", "/bye"] {
        let mut command = anser();
        let mut chat = AtTerminal::spawn(command.env("TERM", "xterm").arg("chat"));
        chat.wait_for("> ");
        chat.type_in(&format!("{word}\r"));
        let (status, seen) = chat.finish();
        assert!(status.success(), "{word}: {seen}");
    }
}

#[test]
fn a_narrow_terminal_is_no_trouble() {
    let mut command = anser();
    let mut chat = AtTerminal::spawn(command.env("TERM", "xterm").env("COLUMNS", "20").args(["chat", "-n", "2"]));
    chat.wait_for("> ");
    chat.type_in("Tell me a story that is longer than the line.\r");
    chat.wait_for("ended after --max-tokens");
    chat.type_in("/exit\r");
    assert!(chat.finish().0.success());
    assert!(written(anser().env("COLUMNS", "20").args(["generate", "--help"])).contains("--temperature"));
}
