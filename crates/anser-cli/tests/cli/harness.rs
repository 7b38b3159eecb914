//! Runs the command and checks its outputs and its exit code.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The command on the CPU, without variables of the environment that could change its behaviour.
pub(crate) fn anser() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anser"));
    command.env("ANSER_DEVICE", "cpu").stdin(Stdio::null());
    for name in ["COLUMNS", "ANSER_EXACT", "ANSER_GPU_MEMORY", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(name);
    }
    command
}

/// A file of the fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures")).join(name)
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Standard output of a run that succeeded and wrote nothing to standard error.
    #[track_caller]
    pub(crate) fn quiet(self) -> Vec<u8> {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", String::from_utf8_lossy(&self.stdout));
        self.stdout
    }

    /// [`Ran::quiet`] as text.
    #[track_caller]
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.quiet()).unwrap()
    }

    /// [`Ran::quiet`] as one line of JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let text = self.text();
        assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// The line that a failed run ended with; nothing else was printed.
    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(String::from_utf8_lossy(&self.stdout), "");
        let line = self.stderr.strip_suffix('\n').unwrap_or(&self.stderr);
        assert!(!line.contains(['\n', '\x1b']), "one plain line: {line:?}");
        line.strip_prefix("anser: ").unwrap_or_else(|| panic!("{line:?}")).to_owned()
    }
}

/// Runs the command with these arguments.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Ran {
    run_with(arguments, b"")
}

/// Runs the command with these arguments and with `stdin` on standard input.
pub(crate) fn run_with<S: AsRef<OsStr>>(arguments: &[S], stdin: &[u8]) -> Ran {
    run_command(anser(), arguments, stdin)
}

/// Runs `command` with these arguments and with `stdin` on standard input.
pub(crate) fn run_command<S: AsRef<OsStr>>(mut command: Command, arguments: &[S], stdin: &[u8]) -> Ran {
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut to_child = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // A command that fails early does not read its input, so this write may fail; the test checks the message.
    let writer = std::thread::spawn(move || {
        let _ = to_child.write_all(&stdin);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran { code: output.status.code(), stdout: output.stdout, stderr: String::from_utf8(output.stderr).unwrap() }
}

/// The values that independent programs computed with the demo model for the prompt called `name`.
pub(crate) fn expected(name: &str) -> Value {
    let file: Value = serde_json::from_slice(&std::fs::read(fixture("expected/expected.json")).unwrap()).unwrap();
    let prompts = file["prompts"].as_array().unwrap();
    prompts.iter().find(|p| p["name"] == name).unwrap().clone()
}

/// The ids in a JSON array.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The numbers in a JSON array.
pub(crate) fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// The f32 numbers of tensor `name` in a safetensors file.
pub(crate) fn tensor(file: &str, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(fixture(file)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    le_floats(tensors.tensor(name).unwrap().data())
}

pub(crate) fn le_floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Shape and numbers of a .npy file, read as the format's specification says.
pub(crate) fn read_npy(path: &std::path::Path) -> (String, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let n_header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + n_header]).unwrap();
    assert!(header.contains("'descr': '<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once("'shape': ").unwrap().1.split_once(')').unwrap().0;
    (format!("{shape})"), le_floats(&bytes[10 + n_header..]))
}

/// Σ (found − expected)² / Σ expected²
pub(crate) fn nmse(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = found.iter().zip(expected).map(|(f, e)| square(f - e)).sum();
    error / expected.iter().map(|&e| square(e)).sum::<f64>()
}
