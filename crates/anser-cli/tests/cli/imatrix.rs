//! `anser imatrix`: files that llama-quantize reads, that appear whole, and that can be gone on with and merged.

use crate::harness::{anser, fixture, run};
use anser_convert::ImportanceMatrix;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

fn text() -> OsString {
    fixture("expected/perplexity.txt").into()
}

fn arguments(out: &Path, options: &[&str]) -> Vec<OsString> {
    let fixed = ["imatrix".into(), "--file".into(), text(), "--out".into(), out.into()];
    fixed.into_iter().chain(options.iter().map(|&option| option.into())).collect()
}

/// The largest relative difference between the entries of two matrices.
fn difference(a: &Path, b: &Path) -> f64 {
    let [a, b] = [a, b].map(|path| ImportanceMatrix::open(path).unwrap());
    assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>());
    assert_eq!(a.n_chunks(), b.n_chunks());
    let pairs = a.names().flat_map(|name| a.get(name).unwrap().iter().zip(b.get(name).unwrap()).collect::<Vec<_>>());
    pairs.map(|(&a, &b)| f64::from((a - b).abs()) / f64::from(a.abs().max(1e-20))).fold(0.0, f64::max)
}

#[test]
fn a_matrix_is_made_gone_on_with_merged_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (whole, part, dat) = (path("whole.gguf"), path("part.gguf"), path("whole.dat"));
    let report = run(&arguments(&whole, &["--chunk", "40", "--chunks", "3", "--json"])).json();
    assert_eq!((&report["n_chunks"], &report["n_tokens"]), (&3.into(), &120.into()));
    // 6 layers of 6 matrices and 8 low-rank ones, of which the first layer lacks two, and the head.
    assert_eq!(report["n_entries"], 6 * 14 - 2 + 1);
    let matrix = ImportanceMatrix::open(&whole).unwrap();
    assert_eq!(matrix.get("blk.3.channel_mix_value.weight").unwrap().len(), 1024);

    // The first piece, then the rest: the sums but for the rounding of the file's numbers.
    run(&arguments(&part, &["--chunk", "40", "--chunks", "1"])).text();
    let report = run(&arguments(&part, &["--chunk", "40", "--chunks", "3", "--resume", "--json"])).json();
    assert_eq!((&report["n_chunks"], &report["n_tokens"]), (&3.into(), &80.into()));
    assert!(difference(&whole, &part) < 1e-5);
    run(&arguments(&dat, &["--chunk", "40", "--chunks", "3", "--format", "dat"])).text();
    assert!(difference(&whole, &dat) < 1e-5);
    let refused = run(&arguments(&part, &["--chunk", "30", "--resume"])).failure(1);
    assert!(refused.contains("40 tokens"), "{refused}");

    // A matrix merged with itself has the same means and twice the pieces.
    let merged = path("merged.gguf");
    let merge = |files: &[&Path], more: &[&str]| {
        let files = files.iter().map(|file| file.as_os_str().to_owned());
        let fixed: [OsString; 4] = ["imatrix".into(), "merge".into(), "--out".into(), merged.clone().into()];
        run(&fixed.into_iter().chain(files).chain(more.iter().map(|&m| m.into())).collect::<Vec<_>>())
    };
    let report = merge(&[&whole, &dat], &["--chunk", "40", "--json"]).json();
    assert_eq!((&report["n_chunks"], &report["n_entries"]), (&6.into(), &(6 * 14 - 1).into()));
    let of = |path: &Path| ImportanceMatrix::open(path).unwrap().get("output.weight").unwrap().to_vec();
    assert!(of(&merged).iter().zip(of(&whole)).all(|(a, b)| (a / b - 1.0).abs() < 1e-5));
    assert!(merge(&[&whole, &dat], &[]).failure(1).contains("--chunk"));
    assert!(merge(&[&whole], &[]).failure(2).contains("FILE"));

    let out = path("q.gguf");
    let options = ["--type", "Q4_K_M", "--imatrix", whole.to_str().unwrap()];
    let fixed: [OsString; 3] = ["quantize".into(), fixture("unpacked/demo-f16.gguf").into(), out.clone().into()];
    run(&fixed.into_iter().chain(options.map(OsString::from)).collect::<Vec<_>>()).text();
    let report = run(&["inspect".as_ref(), out.as_os_str(), "--json".as_ref()]).json();
    assert_eq!(report["metadata"]["quantize.imatrix.chunks_count"], 3);
}

#[test]
fn what_cannot_be_done_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m.gguf");
    let empty = folder.path().join("empty.txt");
    std::fs::write(&empty, "").unwrap();
    let with = |arguments: &[&str]| run(&[&["imatrix", "--out", out.to_str().unwrap()], arguments].concat());
    let text = text();
    let text = text.to_str().unwrap();
    for (code, arguments, words) in [
        (1, &["--file", empty.to_str().unwrap()][..], "at least 1 token"),
        (1, &["--file", "/no/such.txt"], "/no/such.txt"),
        (2, &["--file", text, "--chunk", "0"], "--chunk"),
        (2, &["--file", text, "--resume", "--format", "dat"], "--format dat"),
        (2, &["--file", text, "--device", "gpu"], "--device"),
        (2, &[], "--file"),
    ] {
        let told = with(arguments).failure(code);
        assert!(told.contains(words), "{words:?} is not in: {told}");
        assert!(!out.exists(), "{arguments:?}");
    }
    // The text is not overwritten.
    let told = run(&["imatrix", "--file", text, "--out", text]).failure(1);
    assert!(told.contains("that is read"), "{told}");
}

/// Ctrl-C keeps the pieces that were read, as a whole file.
#[cfg(unix)]
#[test]
fn an_interrupted_matrix_can_be_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m.gguf");
    // 4,000 pieces of one token: some seconds, so that the signal comes in between.
    let mut child =
        anser().args(arguments(&out, &["--chunk", "1"])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(600));
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).output().unwrap();
    let code = child.wait().unwrap().code();
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    match code {
        // Before the first piece: nothing is there.
        Some(130) if !out.exists() => assert!(names.is_empty(), "{names:?}"),
        Some(130 | 0) => {
            assert_eq!(names, ["m.gguf"]);
            let n_chunks = ImportanceMatrix::open(&out).unwrap().n_chunks().unwrap();
            let most = (n_chunks + 1).to_string();
            let report = run(&arguments(&out, &["--chunk", "1", "--chunks", &most, "--resume", "--json"]));
            assert!(code == Some(0) || report.json()["n_tokens"] == 1);
        }
        code => panic!("{code:?}"),
    }
}
