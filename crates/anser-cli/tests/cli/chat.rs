//! `anser chat` through a pipe: every line is a turn, every answer ends with a blank line.

use crate::harness::{Ran, expected, ids, run, run_with};

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
    for command in ["/help", "/system", "/think", "/regen", "/reset", "/save", "/load"] {
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
