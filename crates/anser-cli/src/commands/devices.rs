//! `anser devices`

use crate::args::DevicesArgs;
use crate::output::Output;
use crate::report::Failure;
use anser::{AdapterReport, GpuDevice};
use serde::Serialize;

/// The JSON object of an adapter.
#[derive(Serialize)]
struct Adapter<'a> {
    device: String,
    name: &'a str,
    kind: &'static str,
    backend: &'static str,
    driver: &'a str,
    f16: bool,
    subgroups: bool,
    subgroup_size: [u32; 2],
    coop_matrix: bool,
    timestamps: bool,
    max_binding_n_bytes: u64,
    max_buffer_n_bytes: u64,
    max_bindings: u32,
    max_workgroup_len: u32,
    max_workgroup_n_bytes: u32,
}

pub(crate) fn run(args: &DevicesArgs) -> Result<(), Failure> {
    let found = GpuDevice::list();
    let mut output = Output::new();
    if args.json {
        return output.write_json(&found.iter().map(adapter).collect::<Vec<_>>());
    }
    let mut text = String::from("cpu    the processor\n");
    for a in &found {
        let features =
            [(a.f16, "f16"), (a.subgroups, "subgroups"), (a.coop_matrix, "matrix cores"), (a.timestamps, "timestamps")];
        let features: Vec<&str> = features.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        text += &format!("gpu:{:<2} {} ({}, {}, {})\n", a.number, a.name, a.kind.name(), a.backend, a.driver);
        text += &format!(
            "       {}; subgroups of {} to {}; bindings of {} MiB, buffers of {} MiB\n",
            features.join(", "),
            a.subgroup_size[0],
            a.subgroup_size[1],
            a.max_binding_n_bytes >> 20,
            a.max_buffer_n_bytes >> 20,
        );
    }
    if found.is_empty() {
        text += "no GPU: no driver offers one\n";
    }
    output.write(text)
}

fn adapter(report: &AdapterReport) -> Adapter<'_> {
    let AdapterReport { number, name, kind, backend, driver, f16, subgroups, subgroup_size, .. } = report;
    let AdapterReport { coop_matrix, timestamps, max_binding_n_bytes, max_buffer_n_bytes, max_bindings, .. } = *report;
    Adapter {
        device: format!("gpu:{number}"),
        name,
        kind: kind.name(),
        backend,
        driver,
        f16: *f16,
        subgroups: *subgroups,
        subgroup_size: *subgroup_size,
        coop_matrix,
        timestamps,
        max_binding_n_bytes,
        max_buffer_n_bytes,
        max_bindings,
        max_workgroup_len: report.max_workgroup_len,
        max_workgroup_n_bytes: report.max_workgroup_n_bytes,
    }
}
