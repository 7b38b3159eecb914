//! `anser chat` through a pipe: every line is a turn, every answer ends with a blank line.

use crate::harness::{Ran, anser, expected, ids, run, run_with};
use std::io::Write;
use std::process::Stdio;

fn chat(more: &[&str], lines: &str) -> Ran {
    run_with(&[&["chat", "--temperature", "0", "-n", "40"], more].concat(), lines.as_bytes())
}

/// The oracle's answer to a prompt that ends with `Assistant:`: its greedy text up to the blank line.
fn answer(name: &str) -> String {
    let tokens = ids(&expected(name)["dequant-q8_0"]["greedy"]);
    let text = run(&["tokenize", "--decode", &serde_json::to_string(&tokens).unwrap()]).text();
    text.split("\n\n").next().unwrap().trim().to_owned()
}

#[test]
fn an_answer_is_that_of_the_oracle() {
    let found = chat(&[], "What is the capital of Norway?\n").text();
    assert_eq!(found, format!("{}\n\n", answer("chat")));
}

#[test]
fn the_conversation_is_remembered_until_it_is_reset() {
    let prompt = expected("chat-memory");
    let turns: Vec<&str> = prompt["text"].as_str().unwrap().split("\n\n").collect();
    let said = |turn: &&&str| turn.starts_with("User: ");
    let first = turns.iter().find(said).unwrap().strip_prefix("User: ").unwrap();
    let name = first.strip_prefix("My name is ").and_then(|rest| rest.split(' ').next()).unwrap();
    let remembered = chat(&[], &format!("{first}\nWhat is my name?\n")).text();
    assert!(remembered.trim_end().rsplit("\n\n").next().unwrap().contains(name), "{remembered}");
    let forgotten = chat(&[], &format!("{first}\n/reset\nWhat is my name?\n")).text();
    assert!(!forgotten.trim_end().rsplit("\n\n").next().unwrap().contains(name), "{forgotten}");
}

#[test]
fn empty_lines_are_ignored_and_the_last_line_needs_no_end() {
    let plain = chat(&[], "What is the capital of Norway?\n").text();
    assert_eq!(chat(&[], "\n  \n\r\nWhat is the capital of Norway?").text(), plain);
    assert_eq!(chat(&[], "").text(), "");
}

#[test]
fn another_answer_follows_the_same_message() {
    let once = chat(&[], "What is the capital of Norway?\n").text();
    assert_eq!(
        chat(&[], "What is the capital of Norway?\n/regen\n").text(),
        once.repeat(2),
        "greedy answers are equal"
    );
}

#[test]
fn a_saved_conversation_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my chat.safetensors");
    let file = file.to_str().unwrap();
    let introduction = "My name is Zelda and I have a cat named Moon.";
    let whole = chat(&[], &format!("{introduction}\n/save {file}\nWhat is my name?\n")).text();
    let last = whole.trim_end().rsplit("\n\n").next().unwrap().to_owned();
    assert_eq!(chat(&["--from", file], "What is my name?\n").text().trim_end(), last);
    assert_eq!(
        chat(&[], &format!("Hello!\n/load {file}\nWhat is my name?\n")).text().trim_end().rsplit("\n\n").next(),
        Some(&*last)
    );
}

#[test]
fn wrong_commands_are_told_and_the_chat_goes_on() {
    let found =
        chat(&[], "/frobnicate\n/load /no/such/state\n/think maybe\n/save\n/regen\nWhat is the capital of Norway?\n");
    assert_eq!(String::from_utf8(found.stdout).unwrap(), format!("{}\n\n", answer("chat")));
    assert_eq!(found.code, Some(1), "a script sees that something failed");
    for told in [
        "/frobnicate is no command; /help",
        "/no/such/state",
        "on, off or fake",
        "/save needs",
        "no message to answer again",
    ] {
        assert!(found.stderr.contains(told), "{told}: {}", found.stderr);
    }
}

#[test]
fn help_is_not_an_answer() {
    let found = chat(&[], "/help\n");
    assert_eq!((found.code, found.stdout.len()), (Some(0), 0));
    for command in ["/help", "/system", "/think", "/regen", "/reset", "/save", "/load", "/exit", "/quit", "/bye"] {
        assert!(found.stderr.contains(command), "{command}");
    }
}

#[test]
fn instructions_and_thoughts_change_what_is_read() {
    let plain = chat(&[], "Tell me a story.\n").text();
    assert_eq!(
        chat(&[], "/system Speak of whales.\n/system\nTell me a story.\n").text(),
        plain,
        "without a text: with none"
    );
    let by_flag = chat(&["--system", "Speak of whales."], "Tell me a story.\n").text();
    assert_eq!(chat(&[], "/system Speak of whales.\nTell me a story.\n").text(), by_flag);
    assert_eq!(
        chat(&["--system", "Speak of whales."], "Hello!\n/reset\nTell me a story.\n")
            .text()
            .split_once("\n\n")
            .unwrap()
            .1,
        by_flag
    );
    assert_eq!(chat(&["--think", "fake"], "Hello!\n").text(), chat(&[], "/think fake\nHello!\n").text());
}

#[test]
fn text_that_is_not_utf8_is_taken_as_well_as_it_can_be() {
    let found = run_with(&["chat", "--temperature", "0", "-n", "5"], b"Hello \xff\xff!\n");
    assert_eq!(found.code, Some(0), "{}", found.stderr);
}

#[test]
fn a_word_leaves_the_chat() {
    let answered = chat(&[], "What is the capital of Norway?\n").text();
    for word in ["/exit", "/quit", "/bye"] {
        let found = chat(&[], &format!("What is the capital of Norway?\n{word}\nTell me a story.\n"));
        assert_eq!(found.text(), answered, "{word}");
    }
}

#[test]
fn files_are_named_as_in_a_shell() {
    let home = tempfile::tempdir().unwrap();
    let lines = "/save ~/x.st\n/save \"~ b.st\"\n/load '~ b.st'\n/load ~/x.st\n/save \"open\n/save \"a\" b\n";
    let mut command = anser();
    command.arg("chat").current_dir(home.path()).env("HOME", home.path()).env("USERPROFILE", home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("is not closed") && message.contains("2 of the lines failed"), "{message}");
    let mut names: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.retain(|name| name.to_str().is_some_and(|name| name.ends_with(".st")));
    names.sort();
    assert_eq!(names, ["x.st", "~ b.st"]);
}

#[test]
fn a_command_that_is_not_utf8_is_refused() {
    let found = run_with(&["chat"], b"/save \xff.st\n");
    assert!(found.code == Some(1) && found.stderr.contains("must be UTF-8"), "{}", found.stderr);
}
