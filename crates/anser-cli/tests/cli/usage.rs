//! Help, completions, and arguments that cannot be followed.

use crate::harness::{anser, fixture, run};

const COMMANDS: &[&str] = &[
    "generate",
    "chat",
    #[cfg(feature = "serve")]
    "serve",
    "tokenize",
    "logits",
    "embed",
    "rerank",
    "state",
    "perplexity",
    "compare",
    "inspect",
    "convert",
    "quantize",
    "imatrix",
    "bench",
    "tune",
    "devices",
    "self-test",
    "debug-plan",
    "completions",
];

#[test]
fn help_lists_the_commands_in_this_order() {
    let help = run(&["--help"]).text();
    let listed = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, [COMMANDS, &["help"]].concat());
    assert!(help.contains("Exit codes:") && help.contains("130"), "{help}");
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in COMMANDS {
        let help = run(&[*command, "--help"]).text();
        assert!(help.contains("Example") && help.contains(&format!("anser {command} ")), "{command}: {help}");
        assert!(!help.contains('\x1b'), "no colours in a pipe");
        assert_eq!(run(&["help", *command]).text(), help);
    }
}

#[test]
fn the_version_tells_commit_features_and_devices() {
    let short = run(&["-V"]).text();
    assert_eq!(short, concat!("anser ", env!("CARGO_PKG_VERSION"), "\n"));
    let long = run(&["--version"]).text();
    let begin = format!("{short}commit {}\nfeatures embedded-model, hub, serve\ntarget ", env!("ANSER_COMMIT"));
    assert!(long.starts_with(&begin), "{long}");
    assert!(long.contains("\ndevice cpu: "), "{long}");
    let devices = run(&["devices", "--json"]).json();
    for device in devices.as_array().unwrap() {
        let line = format!("\ndevice {}: {} (", device["device"].as_str().unwrap(), device["name"].as_str().unwrap());
        assert!(long.contains(&line), "{line}: {long}");
    }
}

#[test]
fn the_self_test_passes_on_the_processor() {
    let report = run(&["self-test", "--device", "cpu"]).text();
    assert!(report.starts_with(&run(&["--version"]).text()), "{report}");
    // Six prompts in floats and with rounded activations, and the tokens that follow three of them.
    assert!(report.contains("all 15 checks passed") && report.matches("  ok ").count() == 15, "{report}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    run(&["pages", "man", folder.path().to_str().unwrap()]).quiet();
    for command in COMMANDS {
        let page = std::fs::read_to_string(folder.path().join(format!("anser-{command}.1"))).unwrap();
        assert!(page.contains(".SH OPTIONS") && page.contains("Example"), "{command}: {page}");
    }
    assert!(!folder.path().join("anser-pages.1").exists(), "it is no command for people");
}

/// After a change to a command's help, `anser pages markdown docs/commands` writes its page anew.
#[test]
fn the_book_has_the_help_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    run(&["pages", "markdown", folder.path().to_str().unwrap()]).quiet();
    let book = fixture("../docs/commands");
    for command in COMMANDS {
        let name = format!("{command}.md");
        let page = std::fs::read_to_string(folder.path().join(&name)).unwrap();
        let committed =
            std::fs::read_to_string(book.join(&name)).unwrap_or_else(|e| panic!("docs/commands/{name}: {e}"));
        assert!(page == committed, "docs/commands/{name} is not the help of this command");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), COMMANDS.len());
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
        (&["generate", "-n", "-2", "a"], "expected a whole number from 0, or -1 for no limit"),
        (&["chat", "-n", ""], "--max-tokens"),
        (&["generate", "--top-k", "-1", "a"], "'--top-k <K>': expected a whole number from 0"),
        (&["generate", "--seed", "-1", "a"], "'--seed <S>': expected a whole number from 0"),
        (&["generate", "--temperature", "warm", "a"], "expected a number"),
        (&["generate", "--threads", "-1", "a"], "expected a whole number from 1 to "),
        (&["generate", "--gpu-memory", "-1", "a"], "like 500M or 4G"),
        (&["generate", "--device", "", "a"], "--device"),
        (&["logits", "ab"], "--text, or token ids with --tokens"),
        (&["state", "--out", "s", "ab"], "--text, or token ids with --tokens"),
        (&["debug-plan", "ab"], "--text, or token ids with --tokens"),
        (&["perplexity", "book.txt"], "--file"),
        (&["chat", "Hello!"], "standard input"),
        (&["logits", "--tokens", "1,,2"], "after the first 1"),
        (&["logits", "--tokens", ",1"], "at the beginning of the list"),
        (&["logits", "--tokens", "1,"], "after the first 1"),
        (&["logits", "--tokens", "1", "--top", "-1"], "expected a whole number from 0"),
        (&["debug-plan", "--tokens", "1", "--bound", "nan"], "expected a number from 0"),
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
        (&["embed", "rerank", "--pooling", "max", "a"], "last, mean"),
        (&["state", "--text", "a"], "--out"),
        (&["bench", "--runs", "0"], "--runs"),
        (&["bench", "--compare", "a.json"], "--compare"),
        (&["bench", "--compare", "a.json", "b.json", "--runs", "2"], "--runs"),
        (&["bench", "--compare", "a.json", "b.json", "-m", "model.gguf"], "--model"),
        (&["bench", "--compare", "a.json", "b.json", "--noise", "100"], "less than 100"),
        (&["bench", "--noise", "3"], "--compare"),
        (&["completions", "cmd"], "bash"),
        (&["inspect"], "MODEL"),
        (&["convert", "in.pth"], "OUT"),
        (&["quantize", "in.pth", "out.gguf"], "--type"),
        (&["quantize", "in.pth", "out.gguf", "--type", "Q8_0", "--tensor", "Q8_0"], "equals sign"),
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
        let folder = fixture("tiny");
        let found = run(&[&[command, "-m", folder.to_str().unwrap()], text].concat()).failure(1);
        assert!(found.contains("the folder") && found.contains("name one"), "{found}");
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

#[test]
fn the_last_of_a_repeated_option_counts() {
    let logits = |more: &[&str]| run(&[&["logits"], more].concat()).json();
    assert_eq!(
        logits(&["--tokens", "1", "--tokens", "2", "--top", "3", "--top", "2"]),
        logits(&["--tokens", "2", "--top", "2"])
    );
    assert_eq!(logits(&["--tokens", "1", "-m", "/no/such/model", "--model", "demo"]), logits(&["--tokens", "1"]));
    let args =
        ["generate", "--temperature", "1.5", "-n", "9", "--json", "--json", "x", "--temperature", "0", "-n", "2"];
    let found = run(&args).json();
    assert_eq!(found["tokens"], run(&["generate", "--temperature", "0", "-n", "2", "--json", "x"]).json()["tokens"]);
    // Options that are lists collect all values.
    let text = |more: &[&str]| run(&[&["generate", "--temperature", "0", "-n", "2", "x"], more].concat()).text();
    assert_eq!(text(&["--logit-bias", "45=100", "--logit-bias", "5=1"]), ",,");
    // Options that exclude each other still do.
    run(&["logits", "--text", "a", "--tokens", "1"]).failure(2);
}

#[test]
fn no_limit_is_minus_one() {
    // Token 0, which ends the document, is drawn at once.
    let found = run(&["generate", "-n", "-1", "--temperature", "0", "--logit-bias", "0=100", "--json", "x"]).json();
    assert_eq!((&found["finish_reason"], &found["n_generated"]), (&"stop".into(), &0.into()));
    let args =
        ["generate", "-n", "-1", "--temperature", "0", "--logit-bias", "45=100", "--stop", ",,,,", "--json", "x"];
    assert_eq!(run(&args).json()["n_generated"], 4);
}

#[test]
fn switches_of_the_environment_have_one_rule() {
    let logits = |value: Option<&str>, more: &[&str]| {
        let mut command = anser();
        command.args(["logits", "--text", "Once upon a time"]).args(more);
        command.envs(value.map(|value| ("ANSER_EXACT", value)));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (on, off) = (logits(None, &["--exact"]), logits(None, &[]));
    assert_ne!(on.1, off.1);
    for value in ["1", "true", "Yes", "ON"] {
        assert_eq!(logits(Some(value), &[]), on, "{value:?}");
    }
    for value in ["", "0", "FALSE", "no", "off"] {
        assert_eq!(logits(Some(value), &[]), off, "{value:?}");
        assert_eq!(logits(Some(value), &["--exact"]), on, "{value:?}");
    }
    let (code, _, message) = logits(Some("ture"), &[]);
    assert!(
        code == Some(2) && message.contains("ANSER_EXACT: expected 1, true") && message.contains("\"ture\""),
        "{message}"
    );
}

#[test]
fn a_wrong_variable_is_named_unless_the_option_is_given() {
    for (name, value, option) in [
        ("ANSER_DEVICE", "abacus", ["--device", "cpu"]),
        ("ANSER_GPU_MEMORY", "much", ["--gpu-memory", "4G"]),
        ("ANSER_GPU_NO_F16", "ture", ["--device", "cpu"]),
    ] {
        let run = |more: &[&str]| {
            let mut command = anser();
            if name == "ANSER_GPU_NO_F16" {
                command.env_remove("ANSER_DEVICE");
            }
            command.env(name, value).args(["logits", "--tokens", "1"]).args(more).output().unwrap()
        };
        let wrong = run(&[]);
        let message = String::from_utf8(wrong.stderr).unwrap();
        assert!(wrong.status.code() == Some(2) && message.contains(name) && message.contains(value), "{message}");
        assert_eq!(run(&option).status.code(), Some(0), "{name}");
    }
}

#[test]
fn help_shows_variables_by_name_and_no_escapes() {
    for command in COMMANDS {
        let help = anser().args([command, "--help"]).env("ANSER_DEVICE", "abacus").env("ANSER_EXACT", "x").output();
        let help = String::from_utf8(help.unwrap().stdout).unwrap();
        assert!(!help.contains("\\\"") && !help.contains("abacus") && !help.contains("=]"), "{command}: {help}");
        if help.contains("--gpu-memory <SIZE>") {
            for name in ["[env: ANSER_DEVICE]", "[env: ANSER_GPU_MEMORY]", "ANSER_EXACT"] {
                assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(name), "{command}: {name}");
            }
        }
    }
    assert!(run(&["help", "logits"]).text().contains(r#"{"n": tokens read"#));
}

#[test]
fn a_server_without_a_desktop_hears_nothing_of_it() {
    for variable in ["XDG_RUNTIME_DIR", "NODEVICE_SELECT", "MESA_VK_DEVICE_SELECT"] {
        let mut command = anser();
        command.env_remove("XDG_RUNTIME_DIR").env_remove("NODEVICE_SELECT").env_remove("MESA_VK_DEVICE_SELECT");
        let output = command.arg("devices").env(variable, "").output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !message.contains("XDG_RUNTIME_DIR"), "{variable}: {message}");
    }
}

#[test]
fn texts_may_begin_with_a_dash() {
    let args = ["generate", "--temperature", "0", "--logit-bias", "46=100", "-n", "9", "--json", "--stop", "---", "x"];
    assert_eq!(run(&args).json()["n_generated"], 3);
    let dash = run(&["tokenize", "--", "- a"]).json().to_string();
    assert_eq!(run(&["logits", "--text", "- a"]).json(), run(&["logits", "--tokens", &dash]).json());
}

#[cfg(unix)]
#[test]
fn an_option_that_is_not_utf8_is_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for bytes in [&b"--stop=\xff"[..], b"--system=\xff"] {
        let name = std::str::from_utf8(&bytes[..bytes.len() - 2]).unwrap();
        let message = run(&[OsStr::new("chat"), OsStr::from_bytes(bytes)]).failure(2);
        assert!(message.contains(&format!("the value of {name},")), "{message}");
        let message = run(&[OsStr::new("chat"), OsStr::new(name), OsStr::from_bytes(b"\xff")]).failure(2);
        assert!(message.contains(&format!("the value of {name},")), "{message}");
    }
}
