//! Models by name: every command takes hf:OWNER/REPO, downloads once, and tells in one line what fails. The hub is on this
//! machine.

#[path = "../../../anser-hub/tests/server/mod.rs"]
mod server;

use crate::harness::{Ran, anser, fixture, run, run_command};
use server::{Faults, TOKEN, TestHub};
use tempfile::TempDir;

struct Setup {
    server: TestHub,
    home: TempDir,
}

impl Setup {
    fn new() -> Setup {
        let read = |name: &str| std::fs::read(fixture(name)).expect("run scripts/prepare");
        let mut files = vec![
            ("mini-F16.gguf", read("tiny/tiny-v7mini-f16.gguf")),
            ("mini.pth", read("tiny/tiny-v7mini.pth")),
            ("hf/config.json", read("unpacked/formats/hf/rwkv7-hf/config.json")),
            ("hf/model.safetensors", read("unpacked/formats/hf/rwkv7-hf/model.safetensors")),
        ];
        // The same model as of other storage types.
        files.push(("mini-Q8_0.gguf", files[0].1.clone()));
        Setup { server: TestHub::start(&files), home: tempfile::tempdir().unwrap() }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_in(arguments, &[])
    }

    fn run_in(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = anser();
        command.env("HF_ENDPOINT", &self.server.endpoint).env("HF_HOME", self.home.path());
        for name in [
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        run_command(command, arguments, b"")
    }
}

#[test]
fn every_command_takes_a_name_and_downloads_once() {
    let setup = Setup::new();
    let path = fixture("tiny/tiny-v7mini-f16.gguf");
    let of = |model: &str, rest: &[&str]| {
        [&["logits", "--tokens", "5,6,7", "-m", model], rest].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>()
    };
    let by_path = run(&of(path.to_str().unwrap(), &[])).text();
    let first = setup.run(&["logits", "--tokens", "5,6,7", "-m", "hf:ann/geese:F16"]);
    assert_eq!(first.stderr, "downloading mini-F16.gguf (0.2 MiB)\n");
    assert_eq!((first.code, String::from_utf8(first.stdout).unwrap()), (Some(0), by_path.clone()));
    setup.server.asked(1);
    assert_eq!(setup.run(&["logits", "--tokens", "5,6,7", "-m", "hf:ann/geese:F16"]).text(), by_path);
    let inspected = setup.run(&["inspect", "--json", "hf:ann/geese:mini-F16.gguf"]).json();
    assert_eq!(inspected["model"]["n_embd"], 64);
    setup.run(&["generate", "-m", "hf:ann/geese:f16", "-n", "1", "--seed", "1"]).quiet();
    setup.run(&["tokenize", "-m", "hf:ann/geese:f16", "--decode", "65"]).quiet();
    assert_eq!(setup.server.asked(1), [], "nothing is downloaded twice");
    // Without the hub, too.
    let args = ["logits", "--tokens", "5,6,7", "--offline", "-m", "hf:ann/geese:F16"];
    assert_eq!(setup.run_in(&args, &[("HF_ENDPOINT", "http://127.0.0.1:9")]).text(), by_path);
    assert_eq!(setup.run_in(&args[..3], &[]).code, Some(0), "the built-in model asks no hub");
}

#[test]
fn a_choice_is_told_and_folders_come_whole() {
    let setup = Setup::new();
    let chosen = setup.run(&["inspect", "hf:ann/geese"]);
    assert!(
        chosen.stderr.contains("took mini-Q8_0.gguf (") && chosen.stderr.contains("hf:ann/geese:F16"),
        "{}",
        chosen.stderr
    );
    let folder = fixture("unpacked/formats/hf/rwkv7-hf");
    let arguments = |model: &str| ["logits", "--tokens", "1,2,3", "-m", model].map(str::to_owned);
    let by_path = run(&arguments(folder.to_str().unwrap())).text();
    let by_name = setup.run(&["logits", "--tokens", "1,2,3", "-m", "hf:ann/geese:hf/model.safetensors"]);
    assert_eq!(by_name.code, Some(0), "{}", by_name.stderr);
    assert_eq!(String::from_utf8(by_name.stdout).unwrap(), by_path);
    let torch = setup.run(&["inspect", "hf:ann/geese:mini.pth"]);
    assert!(String::from_utf8_lossy(&torch.stdout).contains("PyTorch"), "{}", torch.stderr);
}

#[test]
fn failures_are_one_line_and_tell_what_to_do() {
    let setup = Setup::new();
    for (name, code, part) in [
        ("hf:geese", 2, "hf:OWNER/REPO[:FILE][@REVISION]"),
        ("hf:ann/geese:../x", 2, "\"..\""),
        ("hf:ann/geese@", 2, "revision"),
        ("hf:ann/ducks", 1, "no such repository"),
        ("hf:ann/geese@v9", 1, "no revision \"v9\""),
        ("hf:ann/geese:Q2_K", 1, "no model \"Q2_K\""),
    ] {
        let failure = setup.run(&["logits", "--tokens", "1", "-m", name]).failure(code);
        assert!(failure.contains(part), "{name}: {failure}");
    }
    let offline = setup.run_in(&["logits", "--tokens", "1", "-m", "hf:ann/geese:F16"], &[("HF_HUB_OFFLINE", "1")]);
    assert!(offline.failure(1).contains("not in the cache"));
    let endpoint = [("HF_ENDPOINT", "hub.example")];
    let wrong = setup.run_in(&["inspect", "hf:ann/geese"], &endpoint).failure(2);
    assert!(wrong.contains("HF_ENDPOINT"), "{wrong}");
}

#[test]
fn tokens_come_from_the_environment_or_the_tools_own_file() {
    let setup = Setup::new();
    setup.server.set(Faults { is_private: true, ..Faults::default() });
    let arguments = ["inspect", "--json", "hf:ann/geese:F16"];
    let failure = setup.run(&arguments).failure(1);
    assert!(failure.contains("HF_TOKEN"), "{failure}");
    let wrong = setup.run_in(&arguments, &[("HF_TOKEN", "hf_other")]).failure(1);
    assert!(wrong.contains("token") && !wrong.contains("hf_other"), "{wrong}");
    std::fs::write(setup.home.path().join("token"), format!("{TOKEN}\n")).unwrap();
    assert_eq!(setup.run(&arguments).code, Some(0));
}
