//! The commands that look at GPUs, on the first adapter there is: Mesa's software one where there is no hardware.
//!
//! Graphics drivers write to standard error as they please, so that only standard output and our own line count.

use crate::harness::{Ran, fixture, run};

/// Standard output of a run that ended with `code`.
#[track_caller]
fn stdout(ran: &Ran, code: i32) -> String {
    assert_eq!(ran.code, Some(code), "{}", ran.stderr);
    String::from_utf8(ran.stdout.clone()).unwrap()
}

#[test]
fn devices_are_listed_for_people_and_for_scripts() {
    let text = stdout(&run(&["devices"]), 0);
    assert!(text.starts_with("cpu ") && text.contains("gpu:0 "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&stdout(&run(&["devices", "--json"]), 0)).unwrap();
    let first = &json[0];
    assert_eq!(first["device"], "gpu:0");
    assert!(text.contains(first["name"].as_str().unwrap()), "{text}");
    assert!(first["max_binding_n_bytes"].as_u64().unwrap() >= 128 << 20);
}

#[test]
fn the_plan_is_compared_operation_by_operation() {
    let model = fixture("tiny/tiny-v7.st").display().to_string();
    let args = |device| ["debug-plan", "-m", &model, "--device", device, "--tokens", "5,9,200,7"];
    let agreed = stdout(&run(&args("gpu:0")), 0);
    assert!(agreed.contains("values agree"), "{agreed}");
    // Two orders of summation never agree in every last bit: with a bound of zero some operation is the first to differ.
    let all = run(&[&args("gpu:0")[..], &["--all", "--bound", "0"]].concat());
    assert!(stdout(&all, 1).contains("blocks.2.att.wkv"));
    assert!(all.stderr.contains("first operation that differs"), "{}", all.stderr);
    let refused = run(&args("cpu")).failure(2);
    assert!(refused.contains("gpu"), "{refused}");
}

#[test]
fn a_profile_lists_kernels_with_their_share() {
    let model = fixture("tiny/tiny-v7.st").display().to_string();
    let table = stdout(&run(&["bench", "--profile", "-m", &model, "--device", "gpu:0", "--prompt", "12"]), 0);
    assert!(table.contains("one step of 1 tokens") && table.contains("one step of 12 tokens"), "{table}");
    let sums: Vec<&str> = table.lines().filter(|line| line.starts_with("all ")).collect();
    assert!(sums.len() == 2 && sums.iter().all(|line| line.ends_with("100.0%")), "{table}");
}

#[test]
fn bench_tells_what_the_device_holds() {
    let args = ["bench", "--device", "gpu:0", "--prompt", "8", "--gen", "8", "--runs", "1"];
    let json: serde_json::Value = serde_json::from_str(&stdout(&run(&[&args[..], &["--json"]].concat()), 0)).unwrap();
    let [weights, states, scratch] =
        ["weights", "states", "scratch"].map(|of| json[format!("gpu_{of}_mib")].as_f64().unwrap());
    // 43 MB with the embedding table; a state of 0.4 MB. Scratch is held to a bound where steps are tested.
    assert!(30.0 < weights && weights < 50.0, "{json}");
    assert!(0.3 < states && states < 10.0 && 0.0 < scratch && scratch < 50.0, "{json}");
    assert!(json["gpu_reserved_mib"].as_f64().unwrap() >= weights + states + scratch - 0.01, "{json}");
    let list: serde_json::Value = serde_json::from_str(&stdout(&run(&["devices", "--json"]), 0)).unwrap();
    for (of_bench, of_devices) in [("device_name", "name"), ("backend", "backend"), ("driver", "driver")] {
        assert_eq!(json[of_bench], list[0][of_devices]);
    }
    // A software adapter's ceilings are the processor's.
    assert_eq!(json.get("decode_of_copy").is_some(), json.get("prefill_of_gemm").is_some());
    let table = stdout(&run(&args), 0);
    for figure in ["gpu_weights_mib", "gpu_states_mib", "gpu_scratch_mib", "gpu_reserved_mib"] {
        assert!(table.lines().any(|line| line.starts_with(figure)), "{figure}: {table}");
    }
}

#[test]
fn a_memory_budget_changes_no_text() {
    let generate = |more: &[&str]| {
        let args = ["generate", "--device", "gpu:0", "-n", "6", "--temperature", "0", "Once upon a time"];
        stdout(&run(&[&args, more].concat()), 0)
    };
    assert_eq!(generate(&["--gpu-memory", "6M"]), generate(&[]));
    let few = run(&["generate", "--device", "gpu:0", "--gpu-memory", "100K", "a"]);
    assert!(few.code == Some(1) && few.stderr.contains("takes at least"), "{}", few.stderr);
    run(&["generate", "--gpu-memory", "much", "a"]).failure(2);
}
