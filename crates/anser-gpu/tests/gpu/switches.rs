//! Environment variables that switch features off. They are read when a device is opened, so each is set for a child
//! process: this test program again, asked for one test.

use crate::harness::open;
use anser_gpu::{AdapterReport, Device, DeviceChoice, GpuError};
use std::process::Command;

type Feature = (&'static str, fn(&AdapterReport) -> bool);

const SWITCHES: [Feature; 3] = [
    ("ANSER_GPU_NO_F16", |report| report.f16),
    ("ANSER_GPU_NO_SUBGROUPS", |report| report.subgroups),
    ("ANSER_GPU_NO_COOPMAT", |report| report.coop_matrix),
];

#[test]
fn a_device_reports_what_the_environment_leaves() {
    let device = open();
    let adapter = &Device::list()[device.report().number];
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| value == "1");
    for (name, has) in SWITCHES {
        // Matrices need both other features.
        let needed = SWITCHES.iter().any(|(other, _)| is_set(other)) && name == "ANSER_GPU_NO_COOPMAT";
        assert_eq!(has(device.report()), has(adapter) && !is_set(name) && !needed, "{name}");
    }
}

/// Runs the test called `test` in a process where the variable `name` is `value`.
#[track_caller]
fn run_with(name: &str, value: &str, test: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", &format!("switches::{test}")]).env(name, value);
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{name}={value:?}: {text}");
}

#[test]
fn switches_turn_features_off() {
    for (name, _) in SWITCHES {
        run_with(name, "1", "a_device_reports_what_the_environment_leaves");
    }
    for value in ["", "0", "No"] {
        run_with("ANSER_GPU_NO_F16", value, "a_device_reports_what_the_environment_leaves");
    }
}

/// What the environment says of `ANSER_TEST_SWITCH`, which the test below sets; here it is not set.
#[test]
fn a_switch_is_as_the_environment_says() {
    let expected = match std::env::var("ANSER_TEST_SWITCH").as_deref() {
        Ok("1" | "true" | "YES" | "On") => Ok(true),
        Err(_) | Ok("" | "0" | "False" | "no" | "OFF") => Ok(false),
        Ok(found) => Err(GpuError::Switch { name: "ANSER_TEST_SWITCH", found: found.into() }),
    };
    assert_eq!(anser_gpu::switch("ANSER_TEST_SWITCH"), expected);
}

#[test]
fn switches_have_one_rule() {
    for value in ["1", "true", "YES", "On", "", "0", "False", "no", "OFF", "ture", "2", " 1"] {
        run_with("ANSER_TEST_SWITCH", value, "a_switch_is_as_the_environment_says");
    }
}

/// Opening a device where `ANSER_GPU_NO_COOPMAT` is misspelt; the test below sets it so.
#[test]
fn a_misspelt_switch_opens_no_device() {
    match Device::open(&DeviceChoice::Number(0)) {
        Err(GpuError::Switch { name, .. }) => assert_eq!(name, "ANSER_GPU_NO_COOPMAT"),
        opened => {
            assert!(opened.is_ok() && std::env::var_os("ANSER_GPU_NO_COOPMAT").is_none_or(|v| v != "ture"));
        }
    }
}

#[test]
fn misspelt_switches_are_refused() {
    run_with("ANSER_GPU_NO_COOPMAT", "ture", "a_misspelt_switch_opens_no_device");
}
