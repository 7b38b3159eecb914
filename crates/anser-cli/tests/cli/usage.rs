//! Help, completions, and arguments that cannot be followed.

use crate::harness::{anser, fixture, run};

const COMMANDS: [&str; 12] = [
    "generate",
    "chat",
    "tokenize",
    "logits",
    "embed",
    "state",
    "perplexity",
    "inspect",
    "bench",
    "devices",
    "debug-plan",
    "completions",
];

#[test]
fn help_lists_the_commands_in_this_order() {
    let help = run(&["--help"]).text();
    let listed = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, [&COMMANDS[..], &["help"]].concat());
    assert!(help.contains("Exit codes:") && help.contains("130"), "{help}");
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in COMMANDS {
        let help = run(&[command, "--help"]).text();
        assert!(help.contains("Example") && help.contains(&format!("anser {command} ")), "{command}: {help}");
        assert!(!help.contains('\x1b'), "no colours in a pipe");
        assert_eq!(run(&["help", command]).text(), help);
    }
    assert!(run(&["--version"]).text().starts_with("anser "));
}

#[test]
fn completions_know_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]).text();
        assert!(script.contains("perplexity") && script.contains("logit-bias"), "{shell}");
    }
}

#[test]
fn arguments_that_cannot_be_followed_are_named_in_one_line() {
    let cases: &[(&[&str], &str)] = &[
        (&["frobnicate"], "frobnicate"),
        (&["generate", "--temprature", "0"], "--temperature"),
        (&["generate", "two", "words"], "quotes"),
        (&["generate", "-n", "many", "a"], "many"),
        (&["generate", "-n", "-1", "a"], "-1"),
        (&["generate", "--device", "abacus", "a"], "abacus"),
        (&["generate", "--threads", "0", "a"], "--threads"),
        (&["generate", "--threads", "20000", "a"], "--threads"),
        (&["generate", "--stop", "", "a"], "--stop"),
        (&["generate", "--top-p", "1.5", "a"], "--top-p: expected 0 to 1, found 1.5"),
        (&["generate", "--temperature", "-1", "a"], "--temperature"),
        (&["generate", "--temperature", "nan", "a"], "--temperature"),
        (&["generate", "--repetition-penalty", "0", "a"], "--repetition-penalty"),
        (&["generate", "--logit-bias", "65536=1", "a"], "--logit-bias"),
        (&["generate", "--logit-bias", "5=1000", "a"], "--logit-bias"),
        (&["generate", "--logit-bias", "5", "a"], "ID=BIAS"),
        (&["generate", "--seed", "x", "a"], "--seed"),
        (&["chat", "--think", "maybe"], "on, off, fake"),
        (&["embed"], "TEXT"),
        (&["embed", "--pooling", "max", "a"], "last, mean"),
        (&["state", "--text", "a"], "--out"),
        (&["bench", "--runs", "0"], "--runs"),
        (&["completions", "cmd"], "bash"),
        (&["inspect"], "MODEL"),
    ];
    for (arguments, named) in cases {
        let message = run(arguments).failure(2);
        assert!(message.contains(named), "{arguments:?}: {message}");
    }
}

#[test]
fn no_command_shows_the_help() {
    let output = anser().output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Commands:"));
}

#[test]
fn the_device_can_be_named_in_the_environment() {
    let with = |device: &str| anser().env("ANSER_DEVICE", device).args(["logits", "--tokens", "1"]).output().unwrap();
    assert_eq!(with("cpu").status.code(), Some(0));
    assert_eq!(with("").status.code(), Some(0), "empty counts as not set");
    let wrong = with("abacus");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("abacus"));
}

#[test]
fn the_environment_says_how_many_threads() {
    let with = |name: &str, n_threads: &str| {
        let mut command = anser();
        command.env_remove("ANSER_THREADS").env_remove("OMP_NUM_THREADS").env(name, n_threads);
        command.args(["logits", "--tokens", "1"]).output().unwrap()
    };
    for name in ["ANSER_THREADS", "OMP_NUM_THREADS"] {
        assert_eq!(with(name, "1").status.code(), Some(0));
        assert_eq!(with(name, "").status.code(), Some(0), "empty counts as not set");
        let wrong = with(name, "20000");
        assert_eq!(wrong.status.code(), Some(2));
        let told = String::from_utf8(wrong.stderr).unwrap();
        assert!(told.contains(&format!("{name}: expected a number of threads from 1 to ")), "{told}");
    }
}

#[test]
fn models_that_cannot_be_loaded_are_named() {
    for command in ["generate", "logits", "embed"] {
        let text: &[&str] = if command == "logits" { &["--text", "a"] } else { &["a"] };
        let missing = run(&[&[command, "-m", "/no/such/model.gguf"], text].concat()).failure(1);
        assert!(missing.contains("/no/such/model.gguf"), "{missing}");
        let directory = fixture("tiny");
        let found = run(&[&[command, "-m", directory.to_str().unwrap()], text].concat()).failure(1);
        assert!(found.contains("directory"), "{found}");
    }
    // Cut off in the middle of the data.
    let directory = tempfile::tempdir().unwrap();
    let cut = directory.path().join("cut.gguf");
    let bytes = std::fs::read(fixture("tiny/tiny-v7mini-f16.gguf")).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert!(run(&["generate", "-m", cut.to_str().unwrap(), "a"]).failure(1).contains("cut.gguf"));
}

#[test]
fn control_characters_of_a_name_do_not_reach_the_terminal() {
    let message = run(&["generate", "-m", "/no/such/\x1b[31mmodel\n", "a"]).failure(1);
    assert!(message.contains("model"), "{message}");
}
