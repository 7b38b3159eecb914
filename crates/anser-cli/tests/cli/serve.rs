//! `anser serve`: what it refuses to do, and how it begins and ends. What it answers is tested in `anser-serve`.

use crate::harness::{anser, fixture, run};

#[test]
fn others_need_a_key_unless_the_user_says_otherwise() {
    let told = run(&["serve", "--host", "0.0.0.0", "--port", "0"]).failure(2);
    assert!(told.contains("--api-key-file") && told.contains("--no-key"), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "# none\n").unwrap();
    let told = run(&["serve", "--port", "0", "--api-key-file", keys.to_str().unwrap()]).failure(2);
    assert!(told.contains("keys:") && told.contains("none"), "{told}");
    let told = run(&["serve", "--port", "0", "--api-key-file", "no-such-file"]).failure(1);
    assert!(told.starts_with("no-such-file:"), "{told}");
}

#[test]
fn what_cannot_be_followed_is_named() {
    for (arguments, told) in [
        (["--cors", "*"], "origin"),
        (["--cors", "https://app.example/path"], "origin"),
        (["--host", "here"], "--host"),
        (["--port", "70000"], "--port"),
        (["--max-n", "0"], "--max-n"),
        (["--drain", "-1"], "--drain"),
        (["--alias", ""], "--alias"),
        (["-m", "no-such-model.gguf"], "no-such-model.gguf"),
    ] {
        let code = if arguments[0] == "-m" { 1 } else { 2 };
        let message = run(&[["serve", "--port", "0"].as_slice(), arguments.as_slice()].concat()).failure(code);
        assert!(message.contains(told), "{arguments:?}: {message}");
    }
    let tiny = fixture("tiny/tiny-v7mini-f16.gguf");
    let of_two = |more: &[&str]| {
        run(&[&["serve", "--port", "0", "-m", "demo", "-m", tiny.to_str().unwrap()], more].concat()).failure(2)
    };
    let told = of_two(&["--alias", "chat"]);
    assert!(told.contains("NAME=MODEL") && told.contains("\"tiny-v7mini-f16\""), "{told}");
    assert!(of_two(&["--alias", "tiny-v7mini-f16=demo"]).contains("two models are called"));
    assert!(of_two(&["-m", "demo"]).contains("two models are called \"demo\""));
    let told = of_two(&["--adapter", "poet=poet.pth"]);
    assert!(told.contains("poet@MODEL=FILE") && told.contains("several models"), "{told}");
    let told = of_two(&["--adapter", "poet@cook=poet.pth"]);
    assert!(told.contains("\"demo\"") && told.contains("\"tiny-v7mini-f16\""), "{told}");
    let adapter = |text: &str, code| run(&["serve", "--port", "0", "--adapter", text]).failure(code);
    assert!(adapter("poet", 2).contains("NAME=FILE"));
    assert!(adapter("a poet=poet.pth", 2).contains("letters, digits"));
    assert!(adapter("poet=poet.pth:alpha=x", 2).contains("alpha=x"));
    assert!(adapter("poet=no-such-adapter.pth", 1).contains("no-such-adapter.pth"));
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    assert!(run(&["serve", "--port", &port]).failure(1).contains(&format!("127.0.0.1:{port}")));
}

/// A server that runs until it is dropped.
pub(crate) struct Running {
    child: std::process::Child,
    /// Address and port.
    pub(crate) address: String,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Running {
        let mut command = anser();
        command.env_remove("ANSER_API_KEY").arg("serve").args(arguments).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.take().unwrap()), &mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split("/v1").next());
        let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        Running { child, address }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[cfg(unix)]
mod running {
    use super::anser;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::process::{Child, Command, Stdio};

    /// A server, and the first line that it writes.
    fn start(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStderr>, String) {
        let mut command = anser();
        command.env_remove("ANSER_API_KEY").arg("serve").args(arguments).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        (child, stderr, line)
    }

    fn signal(child: &Child, name: &str) {
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    }

    fn health(stream: impl Read + Write) -> String {
        get(stream, "/health")
    }

    fn get(mut stream: impl Read + Write, path: &str) -> String {
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn signals_end_it_with_0() {
        for name in ["-TERM", "-INT"] {
            let (mut child, mut stderr, line) = start(&["--port", "0", "--log"]);
            let address = line.split("http://").nth(1).and_then(|rest| rest.split("/v1").next());
            let address = address.unwrap_or_else(|| panic!("{line}"));
            assert!(health(std::net::TcpStream::connect(address).unwrap()).starts_with("HTTP/1.1 200"));
            signal(&child, name);
            assert_eq!(child.wait().unwrap().code(), Some(0));
            let mut rest = String::new();
            stderr.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "");
        }
    }

    #[test]
    fn the_page_is_named_unless_there_is_none() {
        for (arguments, has_page) in [(&["--port", "0"][..], true), (&["--port", "0", "--no-page"], false)] {
            let (mut child, _stderr, line) = start(arguments);
            assert_eq!(line.contains("its page is http://127.0.0.1:"), has_page, "{line}");
            signal(&child, "-INT");
            assert_eq!(child.wait().unwrap().code(), Some(0));
        }
    }

    #[test]
    fn several_models_are_chosen_by_name() {
        let tiny = super::fixture("tiny/tiny-v7mini-f16.gguf");
        let two = ["-m", "demo", "-m", tiny.to_str().unwrap(), "--alias", "small=tiny-v7mini-f16"];
        let (mut child, _stderr, line) = start(&[two.as_slice(), &["--port", "0", "--device", "cpu"]].concat());
        assert!(line.contains("demo on CPU") && line.contains("small on CPU"), "{line}");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split("/v1").next()).unwrap();
        let connect = || std::net::TcpStream::connect(address).unwrap();
        let models = get(connect(), "/v1/models");
        for name in ["\"demo\"", "\"small\"", "\"tiny-v7mini-f16\""] {
            assert!(models.contains(name), "{models}");
        }
        // Both have the same vocabulary, and only one has the width that its embeddings have.
        let n_values = |model: &str| {
            let body = format!(r#"{{"model": "{model}", "input": "A fox"}}"#);
            let mut stream = connect();
            let head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
            write!(stream, "{head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let json: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
            json["data"][0]["embedding"].as_array().unwrap().len()
        };
        assert_eq!(n_values("small"), n_values("tiny-v7mini-f16"));
        assert_ne!(n_values("demo"), n_values("small"));
        signal(&child, "-TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn a_second_signal_ends_it_at_once() {
        let (mut child, _stderr, line) = start(&["--port", "0", "--drain", "600"]);
        let address = line.split("http://").nth(1).and_then(|rest| rest.split("/v1").next()).unwrap().to_owned();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let body = r#"{"prompt": "Once", "max_tokens": 100000, "logit_bias": {"0": -100}, "stream": true}"#;
        let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream.read_exact(&mut [0; 400]).unwrap();
        signal(&child, "-INT");
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(child.try_wait().unwrap(), None, "it completes what runs");
        signal(&child, "-INT");
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }

    #[test]
    fn a_socket_takes_the_place_of_one_that_was_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anser.sock");
        let name = path.to_str().unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (mut child, _stderr, line) = start(&["--socket", name]);
        assert!(line.contains(name), "{line}");
        assert!(health(UnixStream::connect(&path).unwrap()).starts_with("HTTP/1.1 200"));
        assert!(super::run(&["serve", "--socket", name]).failure(1).contains("another process"));
        signal(&child, "-TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
