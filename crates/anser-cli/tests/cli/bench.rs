//! `anser bench --compare`: what it prints of two files of results, and its exit codes.

use crate::harness::{Ran, run};
use serde_json::{Value, json};
use std::path::Path;

/// A result as `anser bench --json` prints it, with `prefill_tps` as given.
fn result(n_prompt: usize, [median, min, max]: [f64; 3]) -> Value {
    json!({
        "model": "tiny.gguf", "title": "rwkv7 L6", "device": "CPU, 2 threads: asked for", "version": "0.1.0",
        "commit": "0123456789ab", "date": "2026-11-29T00:00:00Z", "device_name": "Processor", "backend": null,
        "driver": null, "model_n_bytes": 1000, "dtype": "Q8_0", "n_prompt": n_prompt, "n_gen": 4, "n_runs": 3,
        "prefill_tps": { "median": median, "min": min, "max": max },
        "load_ms": { "median": 5.0, "min": 4.5, "max": 6.0 },
        "peak_rss_mib": 70.5,
    })
}

/// Writes each result as a line of `name` in `folder`; the path of the file.
fn write(folder: &Path, name: &str, results: &[Value]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, results.iter().map(|result| format!("{result}\n")).collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn compare(more: &[&str]) -> Ran {
    run(&[&["bench", "--compare"], more].concat())
}

#[test]
fn a_loss_above_the_noise_has_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let a = write(folder.path(), "a.json", &[result(8, [100.0, 98.0, 102.0])]);
    let b = write(folder.path(), "b.json", &[result(8, [90.0, 89.0, 91.0])]);

    let same = compare(&[&a, &a]).text();
    assert!(same.contains("commit 0123456789ab") && same.contains("rwkv7 L6 in Q8_0, prompt 8"), "{same}");
    let lost = compare(&[&a, &b]);
    assert_eq!(lost.code, Some(3));
    assert_eq!(lost.stderr, "anser: 1 of 2 figures are worse in B: prefill_tps (0.900)\n");
    let table = String::from_utf8(lost.stdout).unwrap();
    let row = table.lines().find(|line| line.starts_with("prefill_tps")).unwrap();
    let shown: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(shown, ["prefill_tps", "100.00", "90.00", "0.900", "(0.873", "to", "0.929)", "4.0", "%", "loss"]);
    assert!(compare(&[&b, &a]).text().contains("gain"));
    assert!(compare(&[&a, &b, "--noise", "12.5"]).text().contains("0.900"));
}

#[test]
fn files_that_cannot_be_compared_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let base = result(8, [100.0, 98.0, 102.0]);
    let a = write(folder.path(), "a.json", &[base.clone(), result(16, [100.0, 98.0, 102.0])]);
    let b = write(folder.path(), "b.json", std::slice::from_ref(&base));
    let told = compare(&[&a, &b]).failure(1);
    assert!(told.contains("only") && told.contains("a.json has rwkv7 L6 in Q8_0, prompt 16, generate 4"), "{told}");

    let mut without_load = base;
    without_load.as_object_mut().unwrap().remove("load_ms");
    let c = write(folder.path(), "c.json", &[without_load]);
    let told = compare(&[&c, &b]).failure(1);
    assert!(told.contains("b.json has load_ms"), "{told}");

    let other = write(folder.path(), "other.json", &[json!({ "perplexity": 2.0 })]);
    let told = compare(&[&b, &other]).failure(1);
    assert!(told.contains("other.json") && told.contains("anser bench --json"), "{told}");
    assert!(compare(&[&b, "/no/such/results.json"]).failure(1).contains("/no/such/results.json"));
}

#[test]
fn what_bench_prints_can_be_compared() {
    let folder = tempfile::tempdir().unwrap();
    let measured = run(&["bench", "--prompt", "4", "--gen", "2", "--runs", "1", "--json"]).json();
    let file = write(folder.path(), "measured.json", &[measured]);
    let table = compare(&[&file, &file]).text();
    let n_judged = table.lines().filter(|line| line.ends_with(" -")).count();
    assert_eq!(n_judged, 14, "{table}");
    assert!(!table.contains("loss") && !table.contains("gain"), "{table}");
}

/// A server of its own is measured over HTTP, and one that is there already.
#[cfg(feature = "serve")]
#[test]
fn servers_are_measured_with_some_numbers_of_clients() {
    let sizes = ["--prompt", "12", "--gen", "5", "--runs", "2", "--requests", "2", "--clients", "1,3", "--turns", "3"];
    let bench = |more: &[&str]| run(&[&["bench", "serve", "--json", "--device", "cpu"], &sizes[..], more].concat());
    let check = |found: &serde_json::Value| {
        let names = ["tps", "first_token_p50_ms", "first_token_p99_ms", "between_p50_ms", "between_p99_ms"];
        let of_clients = [1, 3].into_iter().flat_map(|n| names.map(|name| format!("clients_{n}_{name}")));
        for name in of_clients.chain(["turn_1_first_token_ms".into(), "turn_3_first_token_ms".into()]) {
            let [min, median, max] = ["min", "median", "max"].map(|of| found[&name][of].as_f64().unwrap());
            assert!(0.0 < min && min <= median && median <= max, "{name}: {found}");
        }
    };
    check(&bench(&[]).json());

    let server = crate::serve::Running::start(&["--port", "0", "--device", "cpu"]);
    let url = format!("http://{}/v1", server.address);
    let found = bench(&["--url", &url]).json();
    assert_eq!(found["device"], url.as_str());
    check(&found);
    let told = bench(&["--url", &url, "--name", "other"]).failure(1);
    assert!(told.contains("404") && told.contains("other"), "{told}");
    drop(server);
    let told = bench(&["--url", &url]).failure(1);
    assert!(told.starts_with(&url), "{told}");
}

/// Clients are served, and the result can be compared.
#[test]
fn an_engine_is_measured_with_some_numbers_of_clients() {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::harness::fixture("tiny/tiny-v7.st");
    let sizes = ["--prompt", "12", "--gen", "5", "--runs", "2", "--requests", "2", "--clients", "1,3"];
    let model = ["-m", model.to_str().unwrap(), "--device", "cpu", "--threads", "1"];
    let found = run(&[&["bench", "engine", "--json"], &sizes[..], &model[..]].concat()).json();
    assert_eq!((&found["n_prompt"], &found["n_gen"], &found["n_runs"]), (&12.into(), &5.into(), &2.into()));
    let names = ["tps", "first_token_p50_ms", "first_token_p99_ms", "between_p50_ms", "between_p99_ms"];
    let of_clients = [1, 3].into_iter().flat_map(|n| names.map(|name| format!("clients_{n}_{name}")));
    for name in of_clients.chain([1, 3].map(|n| format!("batch_{n}_tps"))) {
        let figure = &found[&name];
        let [min, median, max] = ["min", "median", "max"].map(|of| figure[of].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{name}: {figure}");
    }
    let file = write(folder.path(), "a.json", &[found]);
    assert!(compare(&[&file, &file]).text().contains("clients_3_tps"));
}
