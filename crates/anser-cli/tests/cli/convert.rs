//! `anser convert` and `anser quantize`: outputs that appear whole or not at all, and errors that say what to do.

use crate::harness::{anser, fixture, run};
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

fn formats(name: &str) -> OsString {
    fixture("unpacked/formats").join(name).into()
}

/// The names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn arguments(command: &str, input: impl Into<OsString>, output: &Path, options: &[&str]) -> Vec<OsString> {
    let options = options.iter().map(|&option| option.into());
    [command.into(), input.into(), output.into()].into_iter().chain(options).collect()
}

#[test]
fn a_converted_model_generates_the_text_of_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let text = |model: &Path| {
        let model = model.as_os_str();
        run(&[
            "generate".as_ref(),
            "-n".as_ref(),
            "20".as_ref(),
            "--temperature".as_ref(),
            "0".as_ref(),
            "--exact".as_ref(),
            "-m".as_ref(),
            model,
            "Once".as_ref(),
        ])
        .text()
    };
    let source = fixture("unpacked/demo-f16.gguf");
    let [st, gguf] = ["a.st", "b.gguf"].map(|name| folder.path().join(name));
    assert_eq!(run(&arguments("convert", &source, &st, &[])).text(), "");
    assert_eq!(run(&arguments("convert", &st, &gguf, &[])).text(), "");
    assert_eq!(text(&st), text(&source));
    assert_eq!(text(&gguf), text(&source));
    assert_eq!(names(folder.path()), ["a.st", "b.gguf"]);
    // The same again, over the file that is there.
    let before = std::fs::read(&gguf).unwrap();
    assert_eq!(run(&arguments("convert", &st, &gguf, &[])).text(), "");
    assert!(std::fs::read(&gguf).unwrap() == before);
}

#[test]
fn a_model_is_quantized_from_every_kind_of_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    for input in ["hf/fla", "gguf/f7-f16.gguf", "pth/torch-bf16.pth"] {
        let options = ["--type", "q8_0", "--vocab", "none"];
        assert_eq!(run(&arguments("quantize", formats(input), &output, &options)).text(), "", "{input}");
        let report = run(&["inspect".as_ref(), output.as_os_str(), "--json".as_ref()]).json();
        assert_eq!(report["metadata"]["general.file_type"], 7, "{input}");
        assert!(report["model"]["title"].as_str().unwrap().starts_with("rwkv7"), "{input}");
    }
    let imatrix = formats("quant/q7-imatrix.dat");
    let options = ["--type", "Q4_K_M", "--tensor", "output.weight=Q8_0", "--imatrix", imatrix.to_str().unwrap()];
    assert_eq!(run(&arguments("quantize", formats("quant/q7-f16.gguf"), &output, &options)).text(), "");
    let report = run(&["inspect".as_ref(), output.as_os_str(), "--json".as_ref(), "--tensors".as_ref()]).json();
    let dtype = |name: &str| {
        let tensors = report["tensors"].as_array().unwrap();
        tensors.iter().find(|tensor| tensor["name"] == name).unwrap()["dtype"].clone()
    };
    assert_eq!((dtype("output.weight"), dtype("token_embd.weight")), ("Q8_0".into(), "Q4_K".into()));
    assert_eq!(report["metadata"]["quantize.imatrix.entries_count"], 6);
}

#[test]
fn a_vocabulary_is_written_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (vocab, output) = (folder.path().join("vocab.txt"), folder.path().join("out.gguf"));
    let bytes: String = (0..256).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect();
    std::fs::write(&vocab, format!("{bytes}257 'AB' 2\n")).unwrap();
    let options = ["--vocab", vocab.to_str().unwrap()];
    assert_eq!(run(&arguments("convert", fixture("tiny/tiny-v7mini.pth"), &output, &options)).text(), "");
    let ids = run(&["tokenize".as_ref(), "-m".as_ref(), output.as_os_str(), "AAB".as_ref()]).json();
    assert_eq!(ids, serde_json::json!([66, 257]));
}

/// One line that says what to do, exit code 1 or 2, and no file.
#[test]
fn what_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = |name: &str| folder.path().join(name);
    let cases: [(i32, Vec<OsString>, &str); 10] = [
        (1, arguments("convert", formats("m4.pth"), &output("a.gguf"), &[]), "RWKV-4 has no form in GGUF"),
        (1, arguments("convert", formats("m6.pth"), &output("a.gguf"), &[]), "--vocab none"),
        (1, arguments("convert", formats("pth/hand/zip_cd_beyond.pth"), &output("a.gguf"), &[]), "zip_cd_beyond.pth"),
        (1, arguments("convert", "nowhere.pth", &output("a.gguf"), &[]), "nowhere.pth"),
        (1, arguments("convert", formats("m6.pth"), &output("missing/a.st"), &[]), "a.st"),
        (2, arguments("convert", formats("m6.pth"), &output("a.bin"), &[]), "--to gguf or --to st"),
        (2, arguments("convert", formats("m6.pth"), &output("a.st"), &["--type", "bf16"]), ".st files are F16"),
        (2, arguments("quantize", formats("m6.pth"), &output("a.gguf"), &["--type", "Q9"]), "Q4_K_M"),
        (
            2,
            arguments(
                "quantize",
                formats("gguf/f7-f16.gguf"),
                &output("a.gguf"),
                &["--type", "Q8_0", "--tensor", "no=F16"],
            ),
            "no=F16",
        ),
        (
            1,
            arguments(
                "quantize",
                formats("gguf/f7-f16.gguf"),
                &output("a.gguf"),
                &["--type", "Q8_0", "--imatrix", "no.dat"],
            ),
            "no.dat",
        ),
    ];
    for (code, arguments, words) in cases {
        let message = run(&arguments).failure(code);
        assert!(message.contains(words), "{words:?} is not in: {message}");
        assert_eq!(names(folder.path()), Vec::<String>::new(), "{arguments:?}");
    }
}

#[test]
fn no_file_that_is_read_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let to = folder.path().join(Path::new(name).file_name().unwrap());
        std::fs::copy(formats(name), &to).unwrap();
        to
    };
    let parts = ["gguf/f7-split-00001-of-00002.gguf", "gguf/f7-split-00002-of-00002.gguf"].map(copy);
    let message = run(&arguments("quantize", &parts[0], &parts[1], &["--type", "Q8_0"])).failure(1);
    assert!(message.contains("this is the model that is read"), "{message}");
    let (model, matrix) = (copy("quant/q7-f16.gguf"), copy("quant/q7-imatrix.gguf"));
    let options = ["--type", "Q4_0", "--imatrix", matrix.to_str().unwrap()];
    let message = run(&arguments("quantize", &model, &matrix, &options)).failure(1);
    assert!(message.contains("the importance matrix that is read"), "{message}");
}

/// An interrupted conversion ends with the exit code of one, and leaves the old file and nothing else.
#[cfg(unix)]
#[test]
fn an_interrupted_conversion_leaves_nothing() {
    for (signal, exit_code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.gguf");
        std::fs::write(&output, "old").unwrap();
        let mut command = anser();
        command.args(arguments("quantize", fixture("unpacked/demo-f16.gguf"), &output, &["--type", "Q2_K"]));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The new file is there as soon as writing begins.
        while names(folder.path()).len() < 2 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let sent = std::process::Command::new("kill").args([signal, &child.id().to_string()]).output();
        sent.unwrap();
        let ended = child.wait_with_output().unwrap();
        match ended.status.code() {
            Some(code) if code == exit_code => assert_eq!(std::fs::read_to_string(&output).unwrap(), "old"),
            // The work was done before the signal came.
            code => assert_eq!(code, Some(0), "{signal}"),
        }
        assert_eq!(names(folder.path()), ["out.gguf"], "{signal}");
    }
}
