//! What `anser --version` prints, and what a report of `anser self-test` begins with: everything that tells this build and machine from another.

use crate::printable::printable;
use anser::GpuDevice;

/// The features of this build, in the order of the manifest.
fn features() -> String {
    let all = [
        (cfg!(feature = "embedded-model"), "embedded-model"),
        (cfg!(feature = "hub"), "hub"),
        (cfg!(feature = "serve"), "serve"),
    ];
    let names: Vec<&str> = all.into_iter().filter_map(|(is_in, name)| is_in.then_some(name)).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Version, commit, features, target and devices, a line each; the first line is that of `anser -V`.
pub(crate) fn long() -> String {
    let mut text = format!(
        "anser {}\ncommit {}\nfeatures {}\ntarget {}\n",
        env!("CARGO_PKG_VERSION"),
        env!("ANSER_COMMIT"),
        features(),
        env!("ANSER_TARGET"),
    );
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    text +=
        &format!("device cpu: {} ({n_cores} threads)\n", processor_name().unwrap_or_else(|| "the processor".into()));
    for a in GpuDevice::list() {
        let name = printable(&a.name);
        text +=
            &format!("device gpu:{}: {name} ({}, {}, {})\n", a.number, a.kind.name(), a.backend, printable(&a.driver));
    }
    text
}

/// The name of the first processor, as Linux has it.
pub(crate) fn processor_name() -> Option<String> {
    let processors = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) = processors.lines().find(|line| line.starts_with("model name"))?.split_once(':')?;
    Some(printable(name.trim()))
}
