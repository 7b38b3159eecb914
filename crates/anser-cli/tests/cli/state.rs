//! `anser state` and `--from`: going on from a state equals never having stopped.

use crate::harness::{fixture, run};

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
