//! `anser state` and `--from`: continuing from a state gives the same text as reading without a break.

use crate::harness::{fixture, run, run_with};

/// Token boundaries fall between these parts in the whole text too.
const PARTS: [&str; 3] = ["User: What is the capital", " of Norway?", "\n\nAssistant:"];

fn greedy(more: &[&str]) -> serde_json::Value {
    run(&[&["generate", "--temperature", "0", "-n", "12", "--json"], more].concat()).json()
}

#[test]
fn going_on_equals_never_having_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (first, second) = (file("first.safetensors"), file("second.safetensors"));
    assert_eq!(run(&["state", "--text", PARTS[0], "--out", &first]).text(), "");
    let middle = run(&["tokenize", PARTS[1]]).json().to_string();
    assert_eq!(run(&["state", "--from", &first, "--tokens", &middle, "--out", &second]).text(), "");

    let whole = greedy(&[&PARTS.concat()]);
    let continued = greedy(&["--from", &second, PARTS[2]]);
    assert_eq!((&continued["text"], &continued["tokens"]), (&whole["text"], &whole["tokens"]));

    let third = file("third.safetensors");
    run(&["state", "--from", &second, "--text", PARTS[2], "--out", &third]).quiet();
    assert_eq!(greedy(&["--from", &third])["text"], whole["text"], "the state knows the last token's logits");
    run(&["state", "--from", &third, "--text", "", "--out", &first]).quiet();
    assert_eq!(greedy(&["--from", &first])["text"], whole["text"], "nothing read changes nothing");
}

#[test]
fn the_file_holds_the_state_by_part() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("s.safetensors");
    let model = fixture("tiny/tiny-v7.st");
    let arguments = ["state", "-m", model.to_str().unwrap(), "--tokens", "1,2,3", "--out", file.to_str().unwrap()];
    run(&arguments).quiet();
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape) in [("att_shift", &[3, 192][..]), ("wkv", &[3, 3, 64, 64]), ("ffn_shift", &[3, 192])] {
        assert_eq!(tensors.tensor(name).unwrap().shape(), shape, "{name}");
    }
}

#[test]
fn wrong_files_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tiny.safetensors");
    let state = file.to_str().unwrap();
    let model = fixture("tiny/tiny-v7mini-f16.gguf");
    run(&["state", "-m", model.to_str().unwrap(), "--text", "a", "--out", state]).quiet();
    let other_model = run(&["generate", "--from", state, "a"]).failure(1);
    assert!(other_model.contains("tiny.safetensors") && other_model.contains("another model"), "{other_model}");
    let no_state = run(&["generate", "--from", model.to_str().unwrap(), "a"]).failure(1);
    assert!(no_state.contains("not a state file"), "{no_state}");
    assert!(run(&["generate", "--from", "/no/such/state", "a"]).failure(1).contains("/no/such/state"));
    assert!(run(&["state", "--text", "a", "--out", "/no/such/dir/s"]).failure(1).contains("/no/such/dir/s"));
    run(&["state", "--text", "a"]).failure(2);
}

/// A tiny model in a folder of its own, and its name.
fn tiny_in(folder: &std::path::Path) -> String {
    let model = folder.join("m.gguf");
    std::fs::copy(fixture("tiny/tiny-v7mini-f16.gguf"), &model).unwrap();
    model.to_str().unwrap().to_owned()
}

#[test]
fn no_output_overwrites_what_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (model, vocabulary, state) = (tiny_in(directory.path()), file("v.txt"), file("s"));
    let lines: String = (0..=255).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect();
    std::fs::write(&vocabulary, &lines).unwrap();
    run(&["state", "-m", &model, "--text", "a", "--out", &state]).quiet();
    let before = [&model, &vocabulary, &state].map(|path| std::fs::read(path).unwrap());
    std::fs::hard_link(&model, file("hard")).unwrap();
    let commands = [
        ["state", "--tokens", "97", "--from", &state],
        ["logits", "--tokens", "97", "--vocab", &vocabulary],
        ["embed", "a", "--normalize", "--vocab", &vocabulary],
    ];
    for command in commands {
        for out in [&model, &file("hard"), &file("./m.gguf")] {
            let line = run(&[&command[..], &["-m", &model, "--out", out]].concat()).failure(1);
            assert!(line.contains(out) && line.contains("this is the model that is read"), "{line}");
        }
        let input = command[4];
        let line = run(&[&command[..], &["-m", &model, "--out", input]].concat()).failure(1);
        let what = if input == state { "the state" } else { "the vocabulary" };
        assert!(line.contains(input) && line.contains(&format!("this is {what} that is read")), "{line}");
    }
    assert_eq!([&model, &vocabulary, &state].map(|path| std::fs::read(path).unwrap()), before);
    // A chat has read its state, and may save over it.
    let chat = ["chat", "-m", &model, "--from", &state, "-n", "1"];
    run_with(&chat, format!("/save {state}\n").as_bytes()).quiet();
    let ran = run_with(&chat, format!("/save {model}\n/load /dev/zero\n/save {state}\n").as_bytes());
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("this is the model that is read") && ran.stderr.contains("/dev/zero"),
        "{}",
        ran.stderr
    );
    assert_eq!(std::fs::read(&model).unwrap(), before[0]);
}

#[test]
fn a_state_of_another_file_is_remarked_on() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("s").to_str().unwrap().to_owned();
    let model = tiny_in(directory.path());
    let converted = fixture("tiny/tiny-v7mini.st").to_str().unwrap().to_owned();
    run(&["state", "-m", &model, "--tokens", "97,98", "--out", &state]).quiet();
    let next = directory.path().join("t").to_str().unwrap().to_owned();
    let ran = run(&["state", "-m", &converted, "--from", &state, "--tokens", "1", "--out", &next]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(&state) && ran.stderr.contains("another model file"), "{}", ran.stderr);
    run(&["state", "-m", &model, "--from", &state, "--tokens", "1", "--out", &next]).quiet();
}
