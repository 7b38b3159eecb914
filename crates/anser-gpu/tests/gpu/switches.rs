//! Environment variables that switch features off. They are read when a device is opened, so each is set for a child
//! process: this test program again, asked for one test.

use crate::harness::open;
use anser_gpu::{AdapterReport, Device};
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

#[test]
fn switches_turn_features_off() {
    let program = std::env::current_exe().unwrap();
    for (name, _) in SWITCHES {
        let mut child = Command::new(&program);
        child.args(["--exact", "switches::a_device_reports_what_the_environment_leaves"]).env(name, "1");
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{name}: {text}");
    }
}
